package conformance

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func TestRefusalsOfCluster(t *testing.T) {
	t.Parallel()

	o := newTenant(t)
	blue := o.cluster("blue")
	o.make(blue)

	created := func(talos, kubernetes string) call {
		return create(with(o.cluster("x"), versions(talos, kubernetes)))
	}

	// What an update is compared with; a controller writes it.
	await(o, omni.NewClusterConfigVersion(blue.Metadata().ID()), func(r *omni.ClusterConfigVersion) bool { return true })

	encrypted := features(func(f *specs.ClusterSpec_Features) { f.DiskEncryption = true })
	rows := []row{
		{"unknown Talos", created("1.0.99", o.kubernetes), refused, "1.0.99"},
		{"unknown Kubernetes", created(o.talos, "1.0.99"), refused, "not compatible"},
		{"Kubernetes too new for its Talos", created(o.talos, o.kubernetesTwoUp), refused, "not compatible"},
		{"version that is none", created("v1", "v1"), refused, "version"},
		{"no versions", create(omni.NewCluster(o.id("x"))), refused, "version"},
		{"bad name", create(o.cluster("a.b")), refused, "name"},
		{"frequent backups", create(with(o.cluster("x"), backups(time.Minute))), refused, "backup interval"},
		{"rare backups", create(with(o.cluster("x"), backups(1000*time.Hour))), refused, "backup interval"},
		{"backups without an interval", create(with(o.cluster("x"), backups(0))), refused, "backup interval"},
		{"backups", create(with(o.cluster("x"), backups(time.Hour))), accepted, ""},

		{"Talos minor downgrade", change(blue, versions(o.talosDown, o.kubernetes)), updateRefused, "downgrad"},
		{"unknown Talos in an update", change(blue, versions("1.0.99", o.kubernetes)), updateRefused, "1.0.99"},
		{"Kubernetes two minors up", change(blue, versions(o.talosUp, o.kubernetesTwoUp)), updateRefused, "kubernetes"},
		{"Kubernetes minor down", change(blue, versions(o.talos, o.kubernetesDown)), updateRefused, "kubernetes"},
		{"Kubernetes too new for its Talos in an update", change(blue, versions(o.talos, o.kubernetesTwoUp)), updateRefused, "kubernetes"},
		{"encryption switched on", change(blue, encrypted), updateRefused, "encryption"},
		{"frequent backups in an update", change(blue, backups(time.Minute)), updateRefused, "backup interval"},
		{"upgrade of both", change(blue, versions(o.talosUp, o.kubernetesUp)), accepted, ""},
		{"Talos back to the minor it began with", change(blue, versions(o.talosPatch, o.kubernetesUp)), accepted, ""},
		{"nothing changed", change(blue, func(*omni.Cluster) {}), accepted, ""},
		{"encrypted", create(with(o.cluster("y"), encrypted)), accepted, ""},
		{"encryption switched off", change(o.cluster("y"), features(func(f *specs.ClusterSpec_Features) { f.DiskEncryption = false })), updateRefused, "encryption"},
	}

	if o.talosDeprecated != "" {
		rows = append(rows, row{"deprecated Talos", created(o.talosDeprecated, o.kubernetes), refused, "deprecated|no longer supported"})
	}

	check(t, o.st, rows)
}

func TestRefusalsOfMachineSet(t *testing.T) {
	t.Parallel()

	o := newTenant(t)
	large, small := o.class("large"), o.class("small")
	full, empty := o.workers("blue", "full"), o.workers("blue", "empty")
	byClass := with(o.workers("blue", "class"), allocation(large.Metadata().ID()))
	o.make(large, small, o.cluster("blue"), o.controlPlane("blue"), full, empty, byClass, o.node(full, "m"), o.cluster("red"))

	bootstrap := func(s *omni.MachineSet) {
		s.TypedSpec().Value.BootstrapSpec = &specs.MachineSetSpec_BootstrapSpec{ClusterUuid: "nobody's", Snapshot: "x"}
	}

	check(t, o.st, []row{
		{"no such cluster", create(o.workers("nowhere", "x")), refused, "does not exist"},
		{"no cluster label", create(omni.NewMachineSet(o.id("blue-x"))), refused, omni.LabelCluster},
		{"no role", create(newSet(o.id("blue"), o.id("blue-x"), "x")), refused, omni.LabelControlPlaneRole},
		{"another prefix", create(newSet(o.id("blue"), o.id("red-x"), omni.LabelWorkerRole)), refused, "prefix|must begin"},
		{"second control plane", create(newSet(o.id("blue"), o.id("blue-more"), omni.LabelControlPlaneRole)), refused, "control.plane"},
		{"worker in the control plane's place", create(newSet(o.id("red"), o.id("red-control-planes"), omni.LabelWorkerRole)), refused, "control.plane|worker"},
		{"no such class", create(with(o.workers("blue", "x"), allocation(o.id("nothing")))), refused, "machine class"},
		{"class without a name", create(with(o.workers("blue", "x"), allocation(""))), refused, "machine"},
		{"count without the static type", create(with(with(o.workers("blue", "x"), allocation(o.id("large"))), func(s *omni.MachineSet) {
			s.TypedSpec().Value.MachineAllocation.AllocationType = specs.MachineSetSpec_MachineAllocation_Unlimited
		})), refused, "count"},
		{"bootstrap of workers", create(with(o.workers("blue", "x"), bootstrap)), refused, "bootstrap"},
		{"bootstrap from nobody's backup", create(with(o.controlPlane("red"), bootstrap)), refused, "UUID"},

		{"from machines to a class", change(full, allocation(large.Metadata().ID())), updateRefused, "machine"},
		{"without machines, to a class that does not exist", change(empty, allocation(o.id("nothing"))), accepted, ""},
		{"from a class that does not exist to one that does", change(empty, allocation(small.Metadata().ID())), accepted, ""},
		{"to another class that does not exist", change(byClass, allocation(o.id("nothing"))), updateRefused, "machine class"},
		{"to another class", change(byClass, allocation(small.Metadata().ID())), accepted, ""},
		{"bootstrap changed", change(o.controlPlane("blue"), bootstrap), updateRefused, "bootstrap"},
		{"moved to another cluster", change(full, func(s *omni.MachineSet) { s.Metadata().Labels().Set(omni.LabelCluster, o.id("red")) }), updateRefused, omni.LabelCluster},
		{"role taken away", change(full, func(s *omni.MachineSet) { s.Metadata().Labels().Delete(omni.LabelWorkerRole) }), updateRefused, omni.LabelWorkerRole},
	})
}

func TestRefusalsOfMachineSetNode(t *testing.T) {
	t.Parallel()

	o := newTenant(t)
	class := o.class("large")
	workers, more := o.workers("blue", "workers"), o.workers("blue", "more")
	byClass := with(o.workers("blue", "class"), allocation(class.Metadata().ID()))
	o.make(class, o.cluster("blue"), o.controlPlane("blue"), workers, more, byClass, o.cluster("red"), o.node(workers, "w"), o.node(o.controlPlane("blue"), "cp"))

	w, cp := o.node(workers, "w"), o.node(o.controlPlane("blue"), "cp")
	lock := func(r *omni.MachineSetNode) { annotate(omni.MachineLocked, "")(r) }
	relabel := func(key, value string) func(*omni.MachineSetNode) {
		return func(r *omni.MachineSetNode) { r.Metadata().Labels().Set(key, value) }
	}

	check(t, o.st, []row{
		{"machine that is not there yet", create(o.node(workers, "m")), accepted, ""},
		{"no such set", create(o.node(o.workers("blue", "nothing"), "x")), refused, "does not exist"},
		{"into a class's set", create(o.node(byClass, "x")), refused, "class|automated"},
		{"no labels", create(with(o.node(workers, "x"), func(r *omni.MachineSetNode) { r.Metadata().Labels().Delete(omni.LabelMachineSet) })), refused, omni.LabelMachineSet},
		{"locked in the control plane", create(with(o.node(o.controlPlane("blue"), "x"), lock)), refused, "lock"},
		{"control plane locked", change(cp, lock), updateRefused, "lock"},
		{"moved to another set", change(w, relabel(omni.LabelMachineSet, more.Metadata().ID())), updateRefused, omni.LabelMachineSet},
		{"moved to another cluster", change(w, relabel(omni.LabelCluster, o.id("red"))), updateRefused, omni.LabelCluster},
		{"label taken away", change(w, func(r *omni.MachineSetNode) { r.Metadata().Labels().Delete(omni.LabelCluster) }), updateRefused, omni.LabelCluster},
		{"locked", change(w, lock), accepted, ""},
		{"locked and changed", change(w, touch[*omni.MachineSetNode]), accepted, ""},
		{"locked and torn down", teardown(w), refused, "locked"},
		{"locked and destroyed", destroy(w), refused, "locked"},
		{"set torn down", teardown(workers), accepted, ""},
	})

	// A lock does not hold a machine in a set that goes.
	o.awaitGone(w, workers)
}

func TestRefusalsOfTheRest(t *testing.T) {
	t.Parallel()

	o := newTenant(t)
	used, unused := o.class("used"), o.class("unused")
	o.make(used, unused, o.cluster("blue"), with(o.workers("blue", "class"), allocation(used.Metadata().ID())))

	args := func(args ...string) func(*omni.KernelArgs) {
		return func(r *omni.KernelArgs) { r.TypedSpec().Value.Args = args }
	}
	labels := func(key, value string) *omni.MachineLabels {
		return with(omni.NewMachineLabels(o.id("x")), func(r *omni.MachineLabels) { r.Metadata().Labels().Set(key, value) })
	}
	matching := func(selectors ...string) *omni.MachineClass {
		return with(o.class("x"), func(r *omni.MachineClass) { r.TypedSpec().Value.MatchLabels = selectors })
	}
	health := func(name, job string, interval time.Duration) *omni.KubernetesHealthCheck {
		res := omni.NewKubernetesHealthCheck(o.id(name))
		res.Metadata().Labels().Set(omni.LabelCluster, o.id("blue"))
		res.TypedSpec().Value.Job, res.TypedSpec().Value.Interval = job, durationpb.New(interval)

		return res
	}

	const job = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: x}\nspec:\n  template:\n    spec:\n      restartPolicy: Never\n      containers: [{name: x, image: x}]\n"

	check(t, o.st, []row{
		{"extensions of no such cluster", create(o.extensions("nowhere", "x", o.extension)), refused, "does not exist"},
		{"extensions of no cluster", create(with(o.extensions("", "x", o.extension), func(r *omni.ExtensionsConfiguration) {
			r.Metadata().Labels().Delete(omni.LabelCluster)
		})), refused, "cluster"},
		{"extension that is not in the catalogue", create(o.extensions("blue", "x", "siderolabs/no-such-thing")), refused, "no-such-thing"},
		{"extension listed twice", create(o.extensions("blue", "x", o.extension, o.extension)), refused, "once|twice"},
		{"extension listed twice, once by its short name", create(o.extensions("blue", "x", o.extension, strings.TrimPrefix(o.extension, "siderolabs/"))), refused, "once|twice"},
		{"no extensions of no such cluster", create(o.extensions("nowhere", "none")), accepted, ""},
		{"extensions", create(o.extensions("blue", "ext", o.extension, o.extension2)), accepted, ""},
		{"extensions changed to one not in the catalogue", change(o.extensions("blue", "ext"), func(r *omni.ExtensionsConfiguration) {
			r.TypedSpec().Value.Extensions = []string{"siderolabs/no-such-thing"}
		}), updateRefused, "no-such-thing"},

		{"class in use torn down", teardown(used), refused, "in use"},
		{"class in use destroyed", destroy(used), refused, "in use"},
		{"class in use changed", change(used, touch[*omni.MachineClass]), accepted, ""},
		{"class not in use torn down", teardown(unused), accepted, ""},
		{"class of everything", create(matching()), refused, "match labels"},
		{"class of a bad selector", create(matching("a in (")), refused, ""},
		{"class of machines that are not to be picked", create(matching(omni.LabelNoManualAllocation)), refused, omni.LabelNoManualAllocation},
		{"class of both kinds", create(with(o.class("x"), func(r *omni.MachineClass) {
			r.TypedSpec().Value.AutoProvision = &specs.MachineClassSpec_Provision{ProviderId: "x"}
		})), refused, "auto.?provision"},
		{"class of no provider", create(with(matching(), func(r *omni.MachineClass) {
			r.TypedSpec().Value.MatchLabels = nil
			r.TypedSpec().Value.AutoProvision = &specs.MachineClassSpec_Provision{ProviderId: o.id("nobody")}
		})), refused, "provider"},

		{"patch that is no YAML", create(data(o.patch("blue", "x"), "machine: [")), refused, ""},
		{"patch that is no configuration", create(data(o.patch("blue", "x"), "something: {}\n")), refused, ""},
		{"patch of what belongs to Omni", create(data(o.patch("blue", "x"), "cluster:\n  clusterName: x\n")), refused, "not allowed"},
		{"patch that deletes", create(data(o.patch("blue", "delete"), "machine:\n  sysctls:\n    $patch: delete\n")), accepted, ""},
		{"empty patch", create(data(o.patch("blue", "x"), "")), refused, ""},
		{"patch of a cluster that is not there yet", create(o.patch("later", "early")), accepted, ""},
		{"patch changed to no configuration", change(o.patch("later", "early"), func(r *omni.ConfigPatch) { data(r, "something: {}\n") }), updateRefused, ""},

		{"kernel arguments", create(o.kernelArgs("k", "console=ttyS0")), accepted, ""},
		{"a kernel argument too long", change(o.kernelArgs("k"), args(strings.Repeat("a", 257))), updateRefused, "(?i)kernel arg|args"},
		{"too many kernel arguments", change(o.kernelArgs("k"), args(make([]string, 65)...)), updateRefused, "(?i)kernel arg|args"},
		{"a kernel argument of two lines", create(o.kernelArgs("k2", "a\nb")), refused, "control character"},
		{"kernel arguments at their bounds", change(o.kernelArgs("k"), args(make([]string, 64)...)), accepted, ""},

		{"manifests without a mode", create(with(o.manifests("blue", "x"), func(r *omni.KubernetesManifestGroup) {
			r.TypedSpec().Value.Mode = specs.KubernetesManifestGroupSpec_UNKNOWN
		})), refused, "mode"},
		{"manifests of no cluster", create(with(o.manifests("blue", "x"), func(r *omni.KubernetesManifestGroup) {
			r.Metadata().Labels().Delete(omni.LabelCluster)
		})), refused, omni.LabelCluster},
		{"manifests of the system", create(with(o.manifests("blue", "x"), func(r *omni.KubernetesManifestGroup) {
			r.Metadata().Labels().Set(omni.LabelSystemManifest, "")
		})), refused, "system manifests"},
		{"manifests of a cluster that is not there yet", create(o.manifests("later", "manifests")), accepted, ""},

		{"health check", create(health("h", job, 0)), accepted, ""},
		{"health check without a job", create(health("x", "", 0)), refused, "job"},
		{"health check whose job is none", create(health("x", "{", 0)), refused, "job"},
		{"health check that runs all the time", create(health("x", job, time.Second)), refused, "interval"},
		{"health check whose ID is no name", create(health("X_", job, 0)), refused, ""},

		{"backup of another time", create(with(omni.NewEtcdManualBackup(o.id("blue")), func(r *omni.EtcdManualBackup) {
			r.TypedSpec().Value.BackupAt = timestamppb.New(time.Now().Add(-time.Hour))
		})), refused, ""},

		{"long ID", create(o.patch("blue", strings.Repeat("a", 1024))), refused, "bytes"},
		{"ID of two lines", create(o.patch("blue", "a\nb")), refused, "control characters"},
		{"label without a key", create(labels("", "x")), refused, "empty"},
		{"long label", create(labels(strings.Repeat("a", 1025), "x")), refused, "bytes"},
		{"long label value", create(labels("a", strings.Repeat("a", 16<<10+1))), refused, "bytes"},
		{"label value of two lines", create(labels("a", "a\nb")), refused, "control characters"},
		{"too many labels", create(with(omni.NewMachineLabels(o.id("x")), func(r *omni.MachineLabels) {
			for range 257 {
				r.Metadata().Labels().Set(random(4), "")
			}
		})), refused, "labels"},
		{"annotation of two lines", create(with(o.patch("blue", "x"), func(r *omni.ConfigPatch) { annotate("a", "a\nb")(r) })), refused, "control characters"},
	})
}

func TestLocks(t *testing.T) {
	t.Parallel()

	o := newTenant(t)
	cluster, workers := o.cluster("blue"), o.workers("blue", "workers")
	machine, patch, ext, manifests := o.node(workers, "m"), o.patch("blue", "patch"), o.extensions("blue", "ext", o.extension), o.manifests("blue", "manifests")
	o.make(cluster, o.controlPlane("blue"), workers, machine, patch, ext, manifests)

	// The lock is looked at in a teardown only once there is a status.
	await(o, omni.NewClusterStatus(cluster.Metadata().ID()), func(*omni.ClusterStatus) bool { return true })

	lock := change(cluster, func(c *omni.Cluster) { annotate(omni.ClusterLocked, "")(c) })

	check(t, o.st, []row{
		{"locked", lock, accepted, ""},
		{"locked again", lock, updateRefused, "locked"},
		{"cluster changed", change(cluster, touch[*omni.Cluster]), updateRefused, "locked"},
		{"cluster torn down", teardown(cluster), refused, "locked"},
		{"cluster destroyed", destroy(cluster), refused, "locked"},
		{"machine set added", create(o.workers("blue", "more")), refused, "locked"},
		{"machine set changed", change(workers, touch[*omni.MachineSet]), updateRefused, "locked"},
		{"machine set torn down", teardown(workers), refused, "locked"},
		{"machine set destroyed", destroy(workers), refused, "locked"},
		{"machine added", create(o.node(workers, "x")), refused, "locked"},
		{"machine changed", change(machine, touch[*omni.MachineSetNode]), updateRefused, "locked"},
		{"machine torn down", teardown(machine), refused, "locked"},
		{"patch added", create(o.patch("blue", "another")), accepted, ""},
		{"patch changed", change(patch, touch[*omni.ConfigPatch]), accepted, ""},
		{"patch torn down", teardown(patch), accepted, ""},
		{"extensions changed", change(ext, touch[*omni.ExtensionsConfiguration]), accepted, ""},
		{"extensions torn down", teardown(ext), accepted, ""},
		{"manifests added", create(o.manifests("blue", "more-manifests")), accepted, ""},
		{"manifests changed", change(manifests, touch[*omni.KubernetesManifestGroup]), accepted, ""},
		{"manifests torn down", teardown(manifests), accepted, ""},
		{"unlocked with a change that is refused", change(cluster, func(c *omni.Cluster) {
			c.Metadata().Annotations().Delete(omni.ClusterLocked)
			versions("1.0.99", o.kubernetes)(c)
		}), updateRefused, "1.0.99"},
		{"unlocked with a change", change(cluster, func(c *omni.Cluster) {
			c.Metadata().Annotations().Delete(omni.ClusterLocked)
			touch(resource.Resource(c))
		}), accepted, ""},
		{"cluster changed after that", change(cluster, touch[*omni.Cluster]), accepted, ""},
		{"locked with a change", change(cluster, func(c *omni.Cluster) {
			annotate(omni.ClusterLocked, "")(c)
			versions(o.talosPatch, o.kubernetes)(c)
		}), accepted, ""},
		{"locked, whatever the value", change(cluster, func(c *omni.Cluster) { annotate(omni.ClusterLocked, "false")(c) }), updateRefused, "locked"},
	})
}

// TestFormerClass: a machine set may leave its class while it has no machines, but then its end never comes: the controller
// of classes does not look at it any more, and its finalizer stays. A person can take that away, as this test does.
func TestFormerClass(t *testing.T) {
	t.Parallel()

	const (
		controller = "MachineSetNodeController"
		another    = "MachineSetStatusController" // lets go once nothing is left to do
	)

	o := newTenant(t)
	class := o.class("large")
	set := with(o.workers("blue", "class"), allocation(class.Metadata().ID()))
	o.make(class, o.cluster("blue"), o.controlPlane("blue"), set)

	await(o, set, func(r *omni.MachineSet) bool { return r.Metadata().Finalizers().Has(controller) })
	o.do(change(set, func(r *omni.MachineSet) { r.TypedSpec().Value.MachineAllocation = nil }))
	t.Cleanup(func() {
		_ = o.st.RemoveFinalizer(context.WithoutCancel(t.Context()), set.Metadata(), controller) // it is gone if the test passed
	})

	o.do(teardown(set))
	await(o, set, func(r *omni.MachineSet) bool {
		return r.Metadata().Finalizers().Has(controller) && !r.Metadata().Finalizers().Has(another)
	})

	must(t, o.st.RemoveFinalizer(testContext(t), set.Metadata(), controller))
	o.awaitGone(set)
}
