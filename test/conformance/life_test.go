package conformance

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/google/go-cmp/cmp"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// TestChurn: controllers write to what a user creates, and leave alone what the user wrote.
func TestChurn(t *testing.T) {
	t.Parallel()

	o := newTenant(t)

	cluster := with(o.cluster("blue"), func(c *omni.Cluster) {
		c.Metadata().Labels().Set("team", "a")
		c.Metadata().Annotations().Set("note", "b")
	})

	must(t, o.st.Create(testContext(t), cluster))

	if version := cluster.Metadata().Version().Value(); version != 1 {
		t.Errorf("Create leaves version %d in the resource, want 1", version)
	}

	now := await(o, cluster, func(r *omni.Cluster) bool { return r.Metadata().Version().Value() >= 14 })

	if len(*now.Metadata().Finalizers()) != 13 {
		t.Errorf("an idle cluster of version 14 has the finalizers %v, want 13", *now.Metadata().Finalizers())
	}

	if diff := cmp.Diff(cluster.TypedSpec().Value, now.TypedSpec().Value, protocmp.Transform()); diff != "" {
		t.Errorf("the spec changed:\n%s", diff)
	}

	if diff := cmp.Diff(cluster.Metadata().Labels().Raw(), now.Metadata().Labels().Raw()); diff != "" {
		t.Errorf("the labels changed:\n%s", diff)
	}

	if diff := cmp.Diff(cluster.Metadata().Annotations().Raw(), now.Metadata().Annotations().Raw()); diff != "" {
		t.Errorf("the annotations changed:\n%s", diff)
	}

	if now.Metadata().Owner() != "" || now.Metadata().Phase() != resource.PhaseRunning {
		t.Errorf("it is %v", now.Metadata())
	}

	// The version a writer holds is old by then, and an update leaves the new one in the resource.
	touch(cluster)
	expect(t, o.st.Update(testContext(t), cluster), stale)

	before := now.Metadata().Version().Value()
	touch(now)
	must(t, o.st.Update(testContext(t), now))

	if version := now.Metadata().Version().Value(); version != before+1 {
		t.Errorf("Update leaves version %d in the resource, want %d", version, before+1)
	}

	// The status of a cluster without machines.
	await(o, omni.NewClusterStatus(cluster.Metadata().ID()), func(r *omni.ClusterStatus) bool {
		return !r.TypedSpec().Value.GetReady() && r.Metadata().Owner() != ""
	})
}

// TestMachinesThatAreNotThere: a cluster of machines that never connected comes to be, and waits.
func TestMachinesThatAreNotThere(t *testing.T) {
	t.Parallel()

	o := newTenant(t)
	cp, workers := o.controlPlane("blue"), o.workers("blue", "workers")
	m1, m2 := o.node(cp, "m1"), o.node(workers, "m2")
	o.make(o.cluster("blue"), cp, workers, m1, m2)

	for _, node := range []*omni.MachineSetNode{m1, m2} {
		await(o, node, func(r *omni.MachineSetNode) bool { return !r.Metadata().Finalizers().Empty() })
	}

	for _, set := range []*omni.MachineSet{cp, workers} {
		await(o, omni.NewMachineSetStatus(set.Metadata().ID()), func(r *omni.MachineSetStatus) bool {
			spec := r.TypedSpec().Value

			return spec.GetPhase() == specs.MachineSetPhase_ScalingUp && spec.GetMachines().GetRequested() == 1 && !spec.GetReady()
		})
	}

	await(o, omni.NewClusterStatus(o.id("blue")), func(r *omni.ClusterStatus) bool {
		spec := r.TypedSpec().Value

		return spec.GetPhase() == specs.ClusterStatusSpec_SCALING_UP && !spec.GetReady() && !spec.GetAvailable() &&
			spec.GetMachines().GetRequested() == 2 && spec.GetMachines().GetTotal() == 0
	})
	expect(t, get(omni.NewClusterMachine(m1.Metadata().ID()))(testContext(t), o.st), missing)

	// Nothing holds a machine that never came.
	o.do(teardown(m2))
	o.awaitGone(m2)
}

// TestEmptyMachineSets: what is left when the machines are refused after the rest of a cluster was made.
func TestEmptyMachineSets(t *testing.T) {
	t.Parallel()

	o := newTenant(t)
	cp, workers := o.controlPlane("blue"), o.workers("blue", "workers")
	o.make(o.cluster("blue"), cp, workers)

	await(o, omni.NewMachineSetStatus(cp.Metadata().ID()), func(r *omni.MachineSetStatus) bool {
		return r.TypedSpec().Value.GetPhase() == specs.MachineSetPhase_Failed && r.TypedSpec().Value.GetError() != "" && !r.TypedSpec().Value.GetReady()
	})
	await(o, omni.NewMachineSetStatus(workers.Metadata().ID()), func(r *omni.MachineSetStatus) bool {
		return r.TypedSpec().Value.GetPhase() == specs.MachineSetPhase_Running && r.TypedSpec().Value.GetReady()
	})
	await(o, omni.NewClusterStatus(o.id("blue")), func(r *omni.ClusterStatus) bool {
		return r.TypedSpec().Value.GetPhase() == specs.ClusterStatusSpec_RUNNING && !r.TypedSpec().Value.GetReady()
	})
}

// TestByProducts: what a controller makes beside a user's resources has an owner and its cluster's label, and cannot be written.
func TestByProducts(t *testing.T) {
	t.Parallel()

	o := newTenant(t)
	cluster := with(o.cluster("blue"), features(func(f *specs.ClusterSpec_Features) {
		f.DiskEncryption, f.UseEmbeddedDiscoveryService, f.EnableWorkloadProxy = true, true, true
	}))
	o.make(cluster, o.controlPlane("blue"))

	owned := func(r resource.Resource) bool {
		name, _ := r.Metadata().Labels().Get(omni.LabelCluster)

		return r.Metadata().Owner() != "" && name == cluster.Metadata().ID()
	}

	for _, res := range []resource.Resource{
		omni.NewConfigPatch("950-" + cluster.Metadata().ID() + "-encryption"),
		omni.NewConfigPatch("950-discovery-service-" + cluster.Metadata().ID()),
		omni.NewKubernetesManifestGroup("cluster-" + cluster.Metadata().ID() + "-workload-proxy"),
	} {
		await(o, res, owned)

		changed := notOwner
		if res.Metadata().Type() == omni.KubernetesManifestGroupType {
			changed = updateRefused // that it is one of the system's comes first
		}

		check(t, o.st, []row{
			{res.Metadata().ID() + " changed", change(res, touch[resource.Resource]), changed, ""},
			{res.Metadata().ID() + " torn down", teardown(res), notOwner, ""},
			{res.Metadata().ID() + " destroyed", destroy(res), notOwner, ""},
		})
	}

	status := omni.NewClusterStatus(cluster.Metadata().ID())
	await(o, status, func(r *omni.ClusterStatus) bool { return r.Metadata().Owner() != "" })
	check(t, o.st, []row{
		{"status changed", change(status, touch[*omni.ClusterStatus]), writeDenied, ""},
		{"status torn down", teardown(status), writeDenied, ""},
	})

	// A feature that is switched off takes its by-product along.
	o.do(change(cluster, features(func(f *specs.ClusterSpec_Features) { f.UseEmbeddedDiscoveryService = false })))
	o.awaitGone(omni.NewConfigPatch("950-discovery-service-" + cluster.Metadata().ID()))
}

// TestByProductsWithoutOwner: what a machine booted with stays as a patch of nobody's.
func TestByProductsWithoutOwner(t *testing.T) {
	t.Parallel()

	o := newTenant(t)

	patches, err := safe.StateListAll[*omni.ConfigPatch](testContext(t), o.st, state.WithLabelQuery(resource.LabelExists(omni.LabelMachine)))
	must(t, err)

	found := false

	for patch := range patches.All() {
		machine, _ := patch.Metadata().Labels().Get(omni.LabelMachine)
		if patch.Metadata().ID() != "000-initial-machine-config-"+machine {
			continue
		}

		found = true

		if _, inCluster := patch.Metadata().Labels().Get(omni.LabelCluster); inCluster || patch.Metadata().Owner() != "" {
			t.Errorf("%s has the owner %q and labels %v", patch.Metadata().ID(), patch.Metadata().Owner(), patch.Metadata().Labels().Raw())
		}
	}

	if !found {
		t.Skip("no machine has connected to this Omni with a configuration of its own")
	}
}

// TestTeardownOfCluster: it takes along everything with the cluster's label, workers first, and the server destroys all of it.
func TestTeardownOfCluster(t *testing.T) {
	t.Parallel()

	o := newTenant(t)
	cluster, cp, workers := o.cluster("blue"), o.controlPlane("blue"), o.workers("blue", "workers")
	mine, ui := o.patch("blue", "200-patch"), o.patch("blue", "500-made-in-the-ui")
	stays, machines := o.patch("red", "stays"), o.patch("", "of-a-machine")
	machines.Metadata().Labels().Delete(omni.LabelCluster)
	machines.Metadata().Labels().Set(omni.LabelMachine, o.id("m"))

	// These have nothing to do with a cluster, whatever their labels and names.
	args, labels, backup := o.kernelArgs("m", "a=b"), omni.NewMachineLabels(o.id("m")), omni.NewEtcdManualBackup(cluster.Metadata().ID())
	args.Metadata().Labels().Set(omni.LabelCluster, cluster.Metadata().ID())
	labels.Metadata().Labels().Set(omni.LabelCluster, cluster.Metadata().ID())
	backup.TypedSpec().Value.BackupAt = timestamppb.Now()

	rest := []resource.Resource{
		cp, workers, o.node(cp, "cp"), o.node(workers, "m"), mine, ui, o.extensions("blue", "ext", o.extension), o.manifests("blue", "manifests"),
	}
	o.make(append([]resource.Resource{cluster, stays, machines, args, labels, backup}, rest...)...)
	o.hold(ui)
	o.hold(workers)

	for _, res := range []resource.Resource{cp, workers} {
		await(o, res, func(r resource.Resource) bool { return len(*r.Metadata().Finalizers()) > 1 })
	}

	sets, ctx := make(chan state.Event), testContext(t)
	must(t, o.st.WatchKind(ctx, cp.Metadata(), sets, state.WatchWithLabelQuery(resource.LabelEqual(omni.LabelCluster, cluster.Metadata().ID()))))

	ready, err := o.st.Teardown(testContext(t), cluster.Metadata())
	must(t, err)

	if ready {
		t.Error("Teardown says that a new cluster is ready to be destroyed")
	}

	check(t, o.st, []row{
		{"a cluster of the same name", create(cluster), exists, ""},
		{"cluster changed", change(cluster, touch[*omni.Cluster]), updateRefused, ""},
		{"cluster destroyed", destroy(cluster), held, ""},
		{"machine set added", create(o.workers("blue", "more")), refused, "tearing down|being deleted"},
		{"patch added", create(o.patch("blue", "late")), refused, "tearing down|being deleted"},
	})

	await(o, workers, func(r *omni.MachineSet) bool { return r.Metadata().Phase() == resource.PhaseTearingDown })
	check(t, o.st, []row{
		{"machine added", create(o.node(workers, "late")), refused, "tearing down|being deleted"},
		{"patch of a machine set added", create(with(o.patch("later", "late"), func(r *omni.ConfigPatch) {
			r.Metadata().Labels().Set(omni.LabelMachineSet, workers.Metadata().ID())
		})), refused, "tearing down|being deleted"},
		{"control plane, while workers are left", func(ctx context.Context, st state.State) error {
			return running(ctx, st, cp)
		}, accepted, ""},
	})
	o.release(workers)

	for workersGone := false; ; {
		var event state.Event

		select {
		case event = <-sets:
		case <-ctx.Done():
			t.Fatal("the control plane was not torn down")
		}

		if event.Resource == nil {
			t.Fatalf("the watch ended: %v", event.Error)
		}

		workersGone = workersGone || event.Type == state.Destroyed && event.Resource.Metadata().ID() == workers.Metadata().ID()
		if event.Resource.Metadata().ID() == cp.Metadata().ID() && event.Resource.Metadata().Phase() == resource.PhaseTearingDown {
			if !workersGone {
				t.Error("the control plane was torn down before the workers were gone")
			}

			break
		}
	}

	// A patch that someone holds holds its cluster.
	await(o, ui, func(r *omni.ConfigPatch) bool { return r.Metadata().Phase() == resource.PhaseTearingDown })
	expect(t, get(cluster)(testContext(t), o.st), accepted)
	o.release(ui)

	o.awaitGone(append(rest, cluster)...)
	o.awaitGone(omni.NewClusterStatus(cluster.Metadata().ID()))

	for _, res := range []resource.Resource{stays, machines, args, labels, backup} {
		expect(t, running(testContext(t), o.st, res), accepted)
	}

	o.make(cluster) // the name is free again
}

// running fails if a resource is torn down or gone.
func running(ctx context.Context, st state.State, res resource.Resource) error {
	now, err := st.Get(ctx, res.Metadata())
	if err == nil && now.Metadata().Phase() != resource.PhaseRunning {
		err = fmt.Errorf("%s is torn down", res.Metadata())
	}

	return err
}

// TestTeardownOfMachineSet: it takes its machines along, and the patches and extensions that have its label, and leaves the rest of its cluster alone.
func TestTeardownOfMachineSet(t *testing.T) {
	t.Parallel()

	o := newTenant(t)
	workers := o.workers("blue", "workers")
	a, b := o.node(workers, "a"), o.node(workers, "b")
	ofSet := with(o.patch("blue", "of-the-set"), func(r *omni.ConfigPatch) {
		r.Metadata().Labels().Set(omni.LabelMachineSet, workers.Metadata().ID())
	})
	ofMachine := with(o.patch("blue", "of-a-machine"), func(r *omni.ConfigPatch) {
		r.Metadata().Labels().Set(omni.LabelClusterMachine, a.Metadata().ID())
	})
	cp, cpNode := o.controlPlane("blue"), o.node(o.controlPlane("blue"), "cp")
	extOfSet := with(o.extensions("blue", "ext", o.extension), func(r *omni.ExtensionsConfiguration) {
		r.Metadata().Labels().Set(omni.LabelMachineSet, workers.Metadata().ID())
	})
	ofCluster := o.patch("blue", "of-the-cluster")
	o.make(o.cluster("blue"), cp, cpNode, workers, a, b, ofSet, extOfSet, ofMachine, ofCluster)
	o.hold(ofSet)

	await(o, workers, func(r *omni.MachineSet) bool { return !r.Metadata().Finalizers().Empty() })
	o.do(teardown(workers))
	o.awaitGone(a, b, extOfSet)

	// What it takes along holds it.
	await(o, ofSet, func(r *omni.ConfigPatch) bool { return r.Metadata().Phase() == resource.PhaseTearingDown })
	expect(t, get(workers)(testContext(t), o.st), accepted)
	o.release(ofSet)
	o.awaitGone(ofSet, workers)

	// The patch of a machine goes with it only if the machine came to be a part of the cluster; these never existed.
	for _, res := range []resource.Resource{o.cluster("blue"), cp, cpNode, ofMachine, ofCluster} {
		expect(t, running(testContext(t), o.st, res), accepted)
	}
}

// TestServerDestroys: what a user tore down goes by itself, once nobody holds it, of every type that templates and people write.
func TestServerDestroys(t *testing.T) {
	t.Parallel()

	o := newTenant(t)
	labels := omni.NewMachineLabels(o.id("m"))
	labels.Metadata().Labels().Set("a", "b")

	all := []resource.Resource{
		o.class("any"), o.patch("none", "orphan"), labels, o.kernelArgs("m", "a=b"), o.extensions("none", "ext"), o.manifests("none", "manifests"),
		omni.NewInfraMachineConfig(o.id("m")),
	}
	o.make(all...)

	for _, res := range all {
		o.hold(res)
		o.do(teardown(res))
		expect(t, destroy(res)(testContext(t), o.st), held)
		o.release(res)
		o.awaitGone(res)
	}

	// A client may do both.
	o.make(all...)

	for _, res := range slices.Backward(all) {
		o.do(func(ctx context.Context, st state.State) error {
			if err := st.TeardownAndDestroy(ctx, res.Metadata()); err != nil && outcomeOf(err) != missing { // the server was quicker
				return err
			}

			return nil
		})
		o.awaitGone(res)
	}
}
