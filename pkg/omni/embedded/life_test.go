package embedded_test

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/template/operations"
	"google.golang.org/grpc/codes"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

func TestTemplateBecomesReadyCluster(t *testing.T) {
	s := start(t, embedded.Config{HealthyMachines: true})
	st := operator(t, s)

	syncTemplate(t, st, clusterTemplate)
	waitReady(t, st, "blue", 2)

	var diff bytes.Buffer

	root, err := os.OpenRoot(t.TempDir())
	must(t, err)

	defer root.Close() //nolint:errcheck

	must(t, operations.DiffTemplate(testContext(t), strings.NewReader(clusterTemplate), &diff, st, root))

	if diff.Len() > 0 {
		t.Errorf("upstream sees a difference after its own sync:\n%s", diff.String())
	}

	cluster := waitFor(t, st, omni.NewCluster("blue").Metadata(), func(r *omni.Cluster) bool {
		return r.Metadata().Version().Value() == 14
	})

	if n := len(*cluster.Metadata().Finalizers()); n != 13 {
		t.Errorf("an idle cluster has %d finalizers, want 13", n)
	}
}

func TestByProducts(t *testing.T) {
	s := start(t, embedded.Config{HealthyMachines: true})
	st, ctx := operator(t, s), testContext(t)

	syncTemplate(t, st, strings.Replace(clusterTemplate, "patches:\n", "features:\n  diskEncryption: true\n  useEmbeddedDiscoveryService: true\n  enableWorkloadProxy: true\npatches:\n", 1))
	waitReady(t, st, "blue", 2)

	for id, owned := range map[string]bool{
		"950-blue-encryption":                        true,
		"950-discovery-service-blue":                 true,
		"900-cm-" + machineA + "-kubernetes-upgrade": true,
		"000-initial-machine-config-" + machineB:     false,
	} {
		patch, err := st.Get(ctx, omni.NewConfigPatch(id).Metadata())
		must(t, err)

		cluster, _ := patch.Metadata().Labels().Get(omni.LabelCluster)

		if got := patch.Metadata().Owner() != ""; got != owned || (cluster == "blue") != owned {
			t.Errorf("patch %s has owner %q and cluster %q", id, patch.Metadata().Owner(), cluster)
		}
	}

	group, err := st.Get(ctx, omni.NewKubernetesManifestGroup("cluster-blue-workload-proxy").Metadata())
	must(t, err)

	if group.Metadata().Owner() == "" {
		t.Error("the workload proxy's manifests have no owner")
	}

	must(t, update(ctx, st, newCluster("blue"), func(c *omni.Cluster) { c.TypedSpec().Value.Features.EnableWorkloadProxy = false }))
	waitGone(t, st, group.Metadata())
}

func TestTeardownOfCluster(t *testing.T) {
	s := start(t, embedded.Config{HealthyMachines: true})
	st, ctx := operator(t, s), testContext(t)

	syncTemplate(t, st, clusterTemplate)
	must(t, st.Create(ctx, newPatch("blue", "500-made-in-the-ui")))
	must(t, st.Create(ctx, newPatch("red", "500-of-another-cluster")))
	waitReady(t, st, "blue", 2)
	must(t, s.State().AddFinalizer(ctx, newPatch("", "500-made-in-the-ui").Metadata(), "test"))

	// The order: no control plane is torn down while a worker set is there.
	sets := make(chan state.Event, 1000)
	must(t, s.State().WatchKind(ctx, newSet("", "", "").Metadata(), sets))

	_, err := st.Teardown(ctx, newCluster("blue").Metadata())
	must(t, err)
	wantCode(t, st.Create(ctx, newPatch("blue", "too-late")), codes.InvalidArgument)

	// A finalizer that is not the controllers' holds its resource, and so the cluster.
	waitFor(t, st, newPatch("", "500-made-in-the-ui").Metadata(), func(r *omni.ConfigPatch) bool {
		return r.Metadata().Phase() == resource.PhaseTearingDown
	})
	wantCode(t, getOf(newCluster("blue"))(ctx, st), codes.OK)
	must(t, s.State().RemoveFinalizer(ctx, newPatch("", "500-made-in-the-ui").Metadata(), "test"))
	waitGone(t, st, newCluster("blue").Metadata())

	for workersGone := false; ; {
		event := receive(t, sets)
		id := event.Resource.Metadata().ID()

		if id == "blue-workers" && event.Type == state.Destroyed {
			workersGone = true
		}

		if id == "blue-control-planes" && event.Resource.Metadata().Phase() == resource.PhaseTearingDown {
			if !workersGone {
				t.Error("the control plane was torn down before the workers were gone")
			}

			break
		}
	}

	waitGone(t, st, omni.NewClusterStatus("blue").Metadata())

	for typ, want := range map[resource.Type]string{
		omni.MachineSetType: "", omni.MachineSetNodeType: "", omni.ClusterMachineType: "", omni.ExtensionsConfigurationType: "",
		omni.ConfigPatchType: "000-initial-machine-config-" + machineA + " 000-initial-machine-config-" + machineB + " 500-of-another-cluster",
	} {
		if got := strings.Join(list(t, s.State(), typ), " "); got != want {
			t.Errorf("left of %s: %q, want %q", typ, got, want)
		}
	}

	syncTemplate(t, st, clusterTemplate) // the name and the machines are free again
	waitReady(t, st, "blue", 2)
}

// TestUpstreamDeletes: omnictl's own deletion gets along with a server that destroys what was torn down.
func TestUpstreamDeletes(t *testing.T) {
	s := start(t, embedded.Config{HealthyMachines: true})
	st := operator(t, s)

	syncTemplate(t, st, clusterTemplate)
	waitReady(t, st, "blue", 2)

	root, err := os.OpenRoot(t.TempDir())
	must(t, err)

	defer root.Close() //nolint:errcheck

	must(t, operations.DeleteTemplate(testContext(t), strings.NewReader(clusterTemplate), io.Discard, st, operations.SyncOptions{}, root))
	waitGone(t, st, newCluster("blue").Metadata())
}

func TestTeardownOfMachineSet(t *testing.T) {
	s := start(t, embedded.Config{HealthyMachines: true})
	st, ctx := operator(t, s), testContext(t)

	syncTemplate(t, st, clusterTemplate)
	waitReady(t, st, "blue", 2)

	_, err := st.Teardown(ctx, newSet("", "blue-workers", "").Metadata())
	must(t, err)
	waitGone(t, st, newSet("", "blue-workers", "").Metadata())

	if got := strings.Join(list(t, st, omni.MachineSetNodeType), " "); got != machineA {
		t.Errorf("left are %s, want only the control plane's", got)
	}

	waitReady(t, st, "blue", 1)
}

func TestMachineLeavesAfterItsNode(t *testing.T) {
	s := start(t, embedded.Config{HealthyMachines: true})
	st, ctx := operator(t, s), testContext(t)

	syncTemplate(t, st, clusterTemplate)
	waitReady(t, st, "blue", 2)
	must(t, s.SetMachinePower(ctx, machineB, false))

	// A patch that has the machine's label goes with it.
	patch := newPatch("blue", "of-the-machine")
	patch.Metadata().Labels().Set(omni.LabelClusterMachine, machineB)
	must(t, st.Create(ctx, patch))

	_, err := st.Teardown(ctx, omni.NewMachineSetNode(machineB, newSet("blue", "blue-workers", "")).Metadata())
	must(t, err)
	waitGone(t, st, omni.NewMachineSetNode(machineB, newSet("blue", "blue-workers", "")).Metadata())

	waitFor(t, st, omni.NewClusterStatus("blue").Metadata(), func(r *omni.ClusterStatus) bool {
		return r.TypedSpec().Value.GetPhase() == specs.ClusterStatusSpec_SCALING_DOWN
	})
	waitGone(t, st, patch.Metadata())
	wantCode(t, getOf(omni.NewClusterMachine(machineB))(ctx, st), codes.OK)

	must(t, s.SetMachinePower(ctx, machineB, true))
	waitGone(t, st, omni.NewClusterMachine(machineB).Metadata())
	waitReady(t, st, "blue", 1)
}

// TestMachinesOff: a cluster whose machines are off stays in its teardown until they are back.
func TestMachinesOff(t *testing.T) {
	s := start(t, embedded.Config{HealthyMachines: true})
	st, ctx := operator(t, s), testContext(t)

	syncTemplate(t, st, clusterTemplate)
	waitReady(t, st, "blue", 2)

	must(t, s.SetMachinePower(ctx, machineB, false))

	waitFor(t, st, omni.NewClusterStatus("blue").Metadata(), func(r *omni.ClusterStatus) bool {
		return !r.TypedSpec().Value.GetReady() && r.TypedSpec().Value.GetPhase() == specs.ClusterStatusSpec_RUNNING
	})

	_, err := st.Teardown(ctx, newCluster("blue").Metadata())
	must(t, err)

	held := waitFor(t, st, omni.NewClusterMachine(machineB).Metadata(), func(r *omni.ClusterMachine) bool {
		return r.Metadata().Phase() == resource.PhaseTearingDown
	})
	if held.Metadata().Finalizers().Empty() {
		t.Error("nothing holds the machine that is off")
	}

	// The nodes are gone at once, the sets wait for the machine.
	waitGone(t, st, omni.NewMachineSetNode(machineB, newSet("blue", "blue-workers", "")).Metadata())

	if got := list(t, st, omni.MachineSetType); len(got) != 2 {
		t.Errorf("sets left: %v, want both", got)
	}

	if err = st.Destroy(ctx, newCluster("blue").Metadata()); code(err) != codes.FailedPrecondition {
		t.Errorf("destroying what is held: %v", err)
	}

	must(t, s.SetMachinePower(ctx, machineB, true))
	waitGone(t, st, newCluster("blue").Metadata())
}

func TestUnknownMachinesAreWaitedFor(t *testing.T) {
	s := start(t, embedded.Config{Machines: []embedded.Machine{{ID: machineA}}})
	st, ctx := operator(t, s), testContext(t)

	syncTemplate(t, st, clusterTemplate)

	waitFor(t, st, omni.NewMachineSetStatus("blue-control-planes").Metadata(), func(r *omni.MachineSetStatus) bool {
		return r.TypedSpec().Value.GetReady()
	})
	waitFor(t, st, omni.NewClusterStatus("blue").Metadata(), func(r *omni.ClusterStatus) bool {
		return r.TypedSpec().Value.GetPhase() == specs.ClusterStatusSpec_SCALING_UP
	})

	must(t, s.AddMachine(ctx, embedded.Machine{ID: machineB}))
	waitReady(t, st, "blue", 2)
}

func TestStatusesOnTheWayUp(t *testing.T) {
	s := start(t, embedded.Config{HealthyMachines: true, Step: 50 * time.Millisecond}) // longer than it takes to write the template
	st, ctx := operator(t, s), testContext(t)

	events := make(chan state.Event, 10000)
	must(t, s.State().WatchKind(ctx, omni.NewClusterStatus("").Metadata(), events))

	syncTemplate(t, st, clusterTemplate)

	var seen []string

	for {
		spec := receive(t, events).Resource.(*omni.ClusterStatus).TypedSpec().Value //nolint:forcetypeassert

		entry := spec.GetPhase().String()
		if spec.GetReady() {
			entry += " ready"
		}

		if len(seen) == 0 || seen[len(seen)-1] != entry {
			seen = append(seen, entry)
		}

		if spec.GetReady() {
			break
		}
	}

	if got := strings.Join(seen, ", "); !strings.HasSuffix(got, "SCALING_UP, RUNNING, RUNNING ready") {
		t.Errorf("the cluster went through %s", got)
	}
}

func TestUpgrades(t *testing.T) {
	s := start(t, embedded.Config{HealthyMachines: true})
	st, ctx := operator(t, s), testContext(t)

	syncTemplate(t, st, clusterTemplate)

	kubernetes := func(phase specs.KubernetesUpgradeStatusSpec_Phase, last string) {
		t.Helper()
		waitFor(t, st, omni.NewKubernetesUpgradeStatus("blue").Metadata(), func(r *omni.KubernetesUpgradeStatus) bool {
			return r.TypedSpec().Value.GetPhase() == phase && r.TypedSpec().Value.GetLastUpgradeVersion() == last
		})
	}

	talos := func(phase specs.TalosUpgradeStatusSpec_Phase, last string) {
		t.Helper()
		waitFor(t, st, omni.NewTalosUpgradeStatus("blue").Metadata(), func(r *omni.TalosUpgradeStatus) bool {
			return r.TypedSpec().Value.GetPhase() == phase && r.TypedSpec().Value.GetLastUpgradeVersion() == last
		})
	}

	kubernetes(specs.KubernetesUpgradeStatusSpec_Done, "1.34.3")
	talos(specs.TalosUpgradeStatusSpec_Done, "1.12.8")

	must(t, update(ctx, st, newCluster("blue"), func(c *omni.Cluster) { versions("1.13.5", "1.35.5")(c) }))

	kubernetes(specs.KubernetesUpgradeStatusSpec_Done, "1.35.5")
	talos(specs.TalosUpgradeStatusSpec_Done, "1.13.5")
	waitFor(t, st, omni.NewMachineStatus(machineA).Metadata(), func(r *omni.MachineStatus) bool {
		return r.TypedSpec().Value.GetTalosVersion() == "v1.13.5"
	})
	waitReady(t, st, "blue", 2)

	wantCode(t, update(ctx, st, newCluster("blue"), versions("1.11.5", "1.35.5")), codes.InvalidArgument)
}

// TestServerDestroysWhatWasTornDown: also what is in no cluster, and only once nothing holds it.
func TestServerDestroysWhatWasTornDown(t *testing.T) {
	s := start(t, embedded.Config{})
	st, ctx := operator(t, s), testContext(t)

	class := omni.NewMachineClass("any")
	class.TypedSpec().Value.MatchLabels = []string{"a = b"}

	for _, res := range []resource.Resource{class, newPatch("nowhere", "orphan"), omni.NewMachineLabels("m")} {
		must(t, st.Create(ctx, res))
		must(t, s.State().AddFinalizer(ctx, res.Metadata(), "someone"))

		ready, err := st.Teardown(ctx, res.Metadata())
		must(t, err)

		if ready {
			t.Errorf("%s is ready with a finalizer", res.Metadata())
		}

		wantCode(t, getOf(res)(ctx, st), codes.OK)
		must(t, s.State().RemoveFinalizer(ctx, res.Metadata(), "someone"))
		waitGone(t, st, res.Metadata())
	}
}

// TestControllersSurviveRestore: the cluster is finished from wherever the backup had it.
func TestControllersSurviveRestore(t *testing.T) {
	s := start(t, embedded.Config{HealthyMachines: true})
	ctx := testContext(t)

	syncTemplate(t, operator(t, s), clusterTemplate)

	backup, err := s.Backup(ctx)
	must(t, err)

	waitReady(t, s.State(), "blue", 2)
	must(t, s.Restore(ctx, backup))
	waitReady(t, s.State(), "blue", 2)

	_, err = operator(t, s).Teardown(ctx, newCluster("blue").Metadata())
	must(t, err)
	waitGone(t, s.State(), newCluster("blue").Metadata())
}
