package embedded_test

import (
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

func TestMachineClass(t *testing.T) {
	s := start(t, embedded.Config{Machines: []embedded.Machine{
		{ID: machineA},
		{ID: "large-1", Labels: map[string]string{"size": "large"}},
		{ID: "large-2", Labels: map[string]string{"size": "large"}, Off: true},
	}})
	st, ctx := operator(t, s), testContext(t)

	class := omni.NewMachineClass("large")
	class.TypedSpec().Value.MatchLabels = []string{"size = large"}
	must(t, st.Create(ctx, class))

	syncTemplate(t, st, strings.Replace(clusterTemplate, "machines:\n  - "+machineB, "machineClass:\n  name: large\n  size: 2", 1))

	node := waitFor(t, st, omni.NewMachineSetNode("large-1", newSet("", "", "")).Metadata(), func(r *omni.MachineSetNode) bool {
		return r.Metadata().Phase() == resource.PhaseRunning
	})

	if _, ok := node.Metadata().Labels().Get(omni.LabelManagedByMachineSetNodeController); !ok || node.Metadata().Owner() != "" {
		t.Errorf("a node of a class has labels %v and owner %q", node.Metadata().Labels(), node.Metadata().Owner())
	}

	must(t, s.AddMachine(ctx, embedded.Machine{ID: "large-3", Labels: map[string]string{"size": "large"}}))
	waitReady(t, st, "blue", 3)

	// Scaled down, the set gives a machine back.
	must(t, update(ctx, st, newSet("", "blue-workers", ""), func(r *omni.MachineSet) { r.TypedSpec().Value.MachineAllocation.MachineCount = 1 }))
	waitGone(t, st, omni.NewClusterMachine("large-3").Metadata())
	waitFor(t, st, omni.NewMachineStatus("large-3").Metadata(), func(r *omni.MachineStatus) bool {
		_, available := r.Metadata().Labels().Get(omni.MachineStatusLabelAvailable)

		return available
	})
}

// MachineLabels did not label a machine, so a class that matches them never found it.
func TestMachineLabels(t *testing.T) {
	s := start(t, embedded.Config{Machines: []embedded.Machine{{ID: machineA}, {ID: "m", Labels: map[string]string{"size": "small", "rack": "r1"}}}})
	st, ctx := operator(t, s), testContext(t)

	class := omni.NewMachineClass("large")
	class.TypedSpec().Value.MatchLabels = []string{"size = large"}
	must(t, st.Create(ctx, class))

	syncTemplate(t, st, strings.Replace(clusterTemplate, "machines:\n  - "+machineB, "machineClass:\n  name: large\n  size: unlimited", 1))

	labels := omni.NewMachineLabels("m")
	labels.Metadata().Labels().Set("size", "large")
	labels.Metadata().Labels().Set(omni.MachineStatusLabelCores, "no")
	must(t, st.Create(ctx, labels))

	waitFor(t, st, omni.NewMachineSetNode("m", newSet("", "", "")).Metadata(), func(*omni.MachineSetNode) bool { return true })

	labelled := func(want map[string]string) {
		t.Helper()
		waitFor(t, st, omni.NewMachineStatus("m").Metadata(), func(r *omni.MachineStatus) bool {
			for key, value := range want {
				if got, _ := r.Metadata().Labels().Get(key); got != value {
					return false
				}
			}

			return true
		})
	}

	labelled(map[string]string{"size": "large", "rack": "r1", omni.MachineStatusLabelCores: "4"})

	// The machine stays where it is when its labels change, and gets those of its image back.
	_, err := st.Teardown(ctx, labels.Metadata())
	must(t, err)
	labelled(map[string]string{"size": "small", "rack": "r1", omni.LabelCluster: "blue"})
	wantCode(t, getOf(omni.NewMachineSetNode("m", newSet("", "", "")))(ctx, st), codes.OK)
}
