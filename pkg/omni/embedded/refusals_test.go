package embedded_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

// fleet fills a server without controllers: cluster blue with a control plane, workers of two machines, a set of a machine class
// without machines; cluster locked with the same, locked afterwards.
func fleet(t *testing.T, config embedded.Config) (*embedded.Server, state.State) {
	t.Helper()

	config.NoControllers = true
	config.Machines = []embedded.Machine{{ID: "new-talos", TalosVersion: "1.13.0"}, {ID: "old-talos", TalosVersion: "1.11.0"}}
	s := start(t, config)
	st, ctx := operator(t, s), testContext(t)

	class := omni.NewMachineClass("large")
	class.TypedSpec().Value.MatchLabels = []string{"size = large"}
	must(t, st.Create(ctx, class))

	unused := omni.NewMachineClass("unused")
	unused.TypedSpec().Value.MatchLabels = []string{"size = small"}
	must(t, st.Create(ctx, unused))

	deprecated := omni.NewTalosVersion("1.8.0")
	deprecated.TypedSpec().Value.Deprecated = true
	deprecated.TypedSpec().Value.CompatibleKubernetesVersions = []string{"1.34.0"}
	must(t, s.State().Create(ctx, deprecated))

	for _, name := range []string{"blue", "locked"} {
		must(t, st.Create(ctx, newCluster(name)))
		must(t, st.Create(ctx, newPatch(name, name+"-patch")))
		must(t, st.Create(ctx, newSet(name, name+"-control-planes", omni.LabelControlPlaneRole)))
		must(t, st.Create(ctx, newSet(name, name+"-workers", omni.LabelWorkerRole)))
		must(t, st.Create(ctx, omni.NewMachineSetNode(name+"-w1", newSet(name, name+"-workers", omni.LabelWorkerRole))))

		auto := newSet(name, name+"-auto", omni.LabelWorkerRole)
		auto.TypedSpec().Value.MachineAllocation = &specs.MachineSetSpec_MachineAllocation{Name: "large", MachineCount: 2}
		must(t, st.Create(ctx, auto))
	}

	first := omni.NewClusterConfigVersion("blue")
	first.TypedSpec().Value.Version = "v1.12.0"
	must(t, s.State().Create(ctx, first))

	must(t, update(ctx, st, newCluster("locked"), func(c *omni.Cluster) { c.Metadata().Annotations().Set(omni.ClusterLocked, "") }))

	return s, st
}

// update tries again when a controller was quicker.
func update[T resource.Resource](ctx context.Context, st state.State, like T, change func(T)) error {
	for {
		res, err := st.Get(ctx, like.Metadata())
		if err != nil {
			return err
		}

		change(res.(T)) //nolint:forcetypeassert

		if err = st.Update(ctx, res); code(err) != codes.FailedPrecondition {
			return err
		}
	}
}

func updateOf[T resource.Resource](like T, change func(T)) func(context.Context, state.State) error {
	return func(ctx context.Context, st state.State) error { return update(ctx, st, like, change) }
}

func with[T resource.Resource](res T, change func(T)) T {
	change(res)

	return res
}

func node(cluster, set, id string) *omni.MachineSetNode {
	return omni.NewMachineSetNode(id, newSet(cluster, set, omni.LabelWorkerRole))
}

func versions(talos, kubernetes string) func(*omni.Cluster) {
	return func(c *omni.Cluster) {
		c.TypedSpec().Value.TalosVersion, c.TypedSpec().Value.KubernetesVersion = talos, kubernetes
	}
}

func allocation(class string) func(*omni.MachineSet) {
	return func(s *omni.MachineSet) {
		s.TypedSpec().Value.MachineAllocation = &specs.MachineSetSpec_MachineAllocation{Name: class, MachineCount: 1}
	}
}

func TestRefusals(t *testing.T) {
	s, st := fleet(t, embedded.Config{})

	blue, workers := newCluster("blue"), newSet("blue", "blue-workers", omni.LabelWorkerRole)
	workersID := "blue-workers"
	noChange := func(*omni.Cluster) {}

	backup := func(interval time.Duration) func(*omni.Cluster) {
		return func(c *omni.Cluster) {
			c.TypedSpec().Value.BackupConfiguration = &specs.EtcdBackupConf{Enabled: true, Interval: durationpb.New(interval)}
		}
	}

	extension := func(cluster string, names ...string) *omni.ExtensionsConfiguration {
		res := omni.NewExtensionsConfiguration("ext-" + cluster + strings.Join(names, ""))
		res.Metadata().Labels().Set(omni.LabelCluster, cluster)
		res.TypedSpec().Value.Extensions = names

		return res
	}

	type row struct {
		name string
		call func(context.Context, state.State) error
		says string // "" is accepted
	}

	for _, test := range []row{
		{"cluster of an unknown Talos", createOf(with(newCluster("x"), versions("1.12.99", "1.34.0"))), `talos version "1.12.99" is unknown`},
		{"cluster of a deprecated Talos", createOf(with(newCluster("x"), versions("1.8.0", "1.34.0"))), "deprecated"},
		{"cluster of an unknown Kubernetes", createOf(with(newCluster("x"), versions("1.12.0", "1.34.99"))), "not compatible"},
		{"cluster of a Kubernetes too new for its Talos", createOf(with(newCluster("x"), versions("1.12.0", "1.36.1"))), "not compatible"},
		{"cluster without versions", createOf(omni.NewCluster("x")), "version is required"},
		{"cluster of a bad name", createOf(newCluster("a.b")), "name should only"},
		{"cluster with frequent backups", createOf(with(newCluster("x"), backup(time.Minute))), "backup interval"},
		{"cluster with rare backups", createOf(with(newCluster("x"), backup(48*time.Hour))), "backup interval"},
		{"cluster with backups", createOf(with(newCluster("x"), backup(time.Hour))), ""},
		{"Talos minor downgrade", updateOf(blue, versions("1.11.5", "1.34.0")), "cannot be downgraded"},
		{"Kubernetes two minors up", updateOf(blue, versions("1.13.5", "1.36.1")), "one minor version up"},
		{"Kubernetes minor down", updateOf(blue, versions("1.12.0", "1.33.5")), "one minor version up"},
		{"upgrade of both", updateOf(blue, versions("1.12.8", "1.35.5")), ""},
		{"upgrade back", updateOf(blue, func(c *omni.Cluster) { c.TypedSpec().Value.TalosVersion = "1.12.0" }), ""},
		{"encryption switched on", updateOf(blue, func(c *omni.Cluster) {
			c.TypedSpec().Value.Features = &specs.ClusterSpec_Features{DiskEncryption: true}
		}), "disk encryption"},
		{"cluster unchanged", updateOf(blue, noChange), ""},

		{"machine set without a cluster", createOf(newSet("nowhere", "nowhere-workers", omni.LabelWorkerRole)), "does not exist"},
		{"machine set without a label", createOf(omni.NewMachineSet("blue-x")), "is missing or empty"},
		{"machine set without a role", createOf(with(newSet("blue", "blue-x", "x"), func(*omni.MachineSet) {})), "role label"},
		{"machine set of a missing class", createOf(with(newSet("blue", "blue-x", omni.LabelWorkerRole), allocation("nothing"))), `machine class "nothing" does not exist`},
		{"machine set of another prefix", createOf(newSet("blue", "red-x", omni.LabelWorkerRole)), "must begin with"},
		{"second control plane", createOf(newSet("blue", "blue-more", omni.LabelControlPlaneRole)), "one control plane"},
		{"from machines to a class", updateOf(workers, allocation("large")), "cannot switch"},
		{"from a class to machines, without any", updateOf(newSet("blue", "blue-auto", ""), func(r *omni.MachineSet) {
			r.TypedSpec().Value.MachineAllocation = nil
		}), ""},
		{"and back", updateOf(newSet("blue", "blue-auto", ""), allocation("large")), ""},
		{"bootstrap spec changed", updateOf(newSet("blue", "blue-control-planes", ""), func(r *omni.MachineSet) {
			r.TypedSpec().Value.BootstrapSpec = &specs.MachineSetSpec_BootstrapSpec{Snapshot: "x"}
		}), "cannot change"},
		{"bootstrap spec of workers", createOf(with(newSet("blue", "blue-y", omni.LabelWorkerRole), func(r *omni.MachineSet) {
			r.TypedSpec().Value.BootstrapSpec = &specs.MachineSetSpec_BootstrapSpec{}
		})), "only a control plane"},
		{"machine set moved", updateOf(workers, func(r *omni.MachineSet) { r.Metadata().Labels().Set(omni.LabelCluster, "locked") }), "cannot change"},

		{"machine into a missing set", createOf(node("blue", "blue-none", "m")), "does not exist"},
		{"machine into a class's set", createOf(node("blue", "blue-auto", "m")), "from a machine class"},
		{"machine of a newer Talos", createOf(node("blue", workersID, "new-talos")), "downgraded"},
		{"machine of an older Talos", createOf(node("blue", workersID, "old-talos")), ""},
		{"machine that is not there yet", createOf(node("blue", workersID, "not-there")), ""},
		{"machine moved to another set", updateOf(node("", "", "blue-w1"), func(r *omni.MachineSetNode) {
			r.Metadata().Labels().Set(omni.LabelMachineSet, "blue-auto")
		}), "cannot change"},
		{"machine moved to another cluster", updateOf(node("", "", "blue-w1"), func(r *omni.MachineSetNode) {
			r.Metadata().Labels().Set(omni.LabelCluster, "locked")
		}), "cannot change"},
		{"locked control plane machine", createOf(with(node("blue", "blue-control-planes", "cp"), func(r *omni.MachineSetNode) {
			r.Metadata().Annotations().Set(omni.MachineLocked, "")
		})), "cannot be locked"},

		{"extensions of a missing cluster", createOf(extension("nowhere", "siderolabs/zfs")), "does not exist"},
		{"unknown extension", createOf(extension("blue", "siderolabs/nope")), "not in the catalogue"},
		{"extension twice", createOf(extension("blue", "siderolabs/zfs", "zfs")), "twice"},
		{"extensions", createOf(extension("blue", "siderolabs/zfs", "drbd")), ""},

		{"class in use", teardownOf(omni.NewMachineClass("large")), "in use"},
		{"class in use, destroyed", destroyOf(omni.NewMachineClass("large")), "in use"},
		{"class not in use", destroyOf(omni.NewMachineClass("unused")), ""},
		{"class of everything", createOf(omni.NewMachineClass("all")), "needs match labels"},

		{"patch that is no configuration", createOf(with(newPatch("blue", "bad"), func(r *omni.ConfigPatch) {
			must(t, r.TypedSpec().Value.SetUncompressedData([]byte("machine: [")))
		})), "refused"},
		{"patch of a forbidden field", createOf(with(newPatch("blue", "bad"), func(r *omni.ConfigPatch) {
			must(t, r.TypedSpec().Value.SetUncompressedData([]byte("cluster:\n  clusterName: x\n")))
		})), "not allowed in the config patch"},
		{"patch before its cluster", createOf(newPatch("later", "early")), ""},
		{"kernel arguments too long", createOf(with(omni.NewKernelArgs("m"), func(r *omni.KernelArgs) {
			r.TypedSpec().Value.Args = []string{strings.Repeat("a", 300)}
		})), "kernel argument"},
		{"manifests without a mode", createOf(omni.NewKubernetesManifestGroup("g")), "no mode"},
		{"health check without a job", createOf(omni.NewKubernetesHealthCheck("h")), "no job"},
		{"label of control characters", createOf(with(newCluster("x2"), func(c *omni.Cluster) { c.Metadata().Labels().Set("a", "b\n") })), "control characters"},
		{"long ID", createOf(newPatch("blue", strings.Repeat("a", 2000))), "bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.call(testContext(t), st)
			if test.says == "" {
				wantCode(t, err, codes.OK)

				return
			}

			wantCode(t, err, codes.InvalidArgument)

			if err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("the error does not say %q: %v", test.says, err)
			}
		})
	}

	// A second control plane under the right ID, once etcd was bootstrapped.
	bootstrapped := omni.NewClusterBootstrapStatus("blue")
	bootstrapped.TypedSpec().Value.Bootstrapped = true
	must(t, s.State().Create(testContext(t), bootstrapped))
	must(t, st.Destroy(testContext(t), newSet("blue", "blue-control-planes", "").Metadata()))
	wantCode(t, st.Create(testContext(t), newSet("blue", "blue-control-planes", omni.LabelControlPlaneRole)), codes.InvalidArgument)
}

func TestLocks(t *testing.T) {
	_, st := fleet(t, embedded.Config{})

	annotate := func(key string) func(resource.Resource) {
		return func(r resource.Resource) { r.Metadata().Annotations().Set(key, "x") }
	}

	cluster, patch := resource.Resource(newCluster("locked")), resource.Resource(newPatch("locked", "locked-patch"))
	workers, machine := resource.Resource(newSet("locked", "locked-workers", "")), resource.Resource(node("", "", "locked-w1"))

	for _, test := range []struct {
		name string
		call func(context.Context, state.State) error
		want codes.Code
	}{
		{"cluster changed", updateOf(cluster, annotate("a")), codes.InvalidArgument},
		{"cluster torn down", teardownOf(cluster), codes.InvalidArgument},
		{"cluster destroyed", destroyOf(cluster), codes.InvalidArgument},
		{"machine set added", createOf(newSet("locked", "locked-more", omni.LabelWorkerRole)), codes.InvalidArgument},
		{"machine set changed", updateOf(workers, annotate("a")), codes.InvalidArgument},
		{"machine set torn down", teardownOf(workers), codes.InvalidArgument},
		{"machine added", createOf(node("locked", "locked-workers", "w2")), codes.InvalidArgument},
		{"machine changed", updateOf(machine, annotate("a")), codes.InvalidArgument},
		{"machine torn down", teardownOf(machine), codes.InvalidArgument},
		{"patch added", createOf(newPatch("locked", "locked-another")), codes.OK},
		{"patch changed", updateOf(patch, annotate("a")), codes.OK},
		{"patch torn down", teardownOf(patch), codes.OK},
		{"lock taken away, with a change", updateOf(cluster, func(r resource.Resource) {
			r.Metadata().Annotations().Delete(omni.ClusterLocked)
			r.Metadata().Annotations().Set("a", "b")
		}), codes.OK},
		{"cluster changed after that", updateOf(cluster, annotate("c")), codes.OK},
		{"machine locked", updateOf(machine, annotate(omni.MachineLocked)), codes.OK},
		{"locked machine changed", updateOf(machine, annotate("a")), codes.OK},
		{"locked machine torn down", teardownOf(machine), codes.InvalidArgument},
		{"its set torn down", teardownOf(workers), codes.OK},
		{"locked machine of a leaving set torn down", teardownOf(machine), codes.OK},
	} {
		t.Run(test.name, func(t *testing.T) { wantCode(t, test.call(testContext(t), st), test.want) })
	}
}
