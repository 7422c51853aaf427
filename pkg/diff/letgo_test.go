package diff_test

import (
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// G10: a cluster that another source has now loses its marks from the parts to the whole, so
// that a stop in between leaves a cluster that is still known as the one that lets go.
func TestG10_LetGoReleasesClusterLast(t *testing.T) {
	const set = "one-workers"

	plan := diff.Compute(diff.Input{
		Source: self, Target: "one", Removed: true, Fate: func(resource.Resource) diff.Fate { return diff.Fate{Step: diff.StepRelease} },
		Live: resources{cluster("1.34.3", ours), machineSet(set, ours), node(set, ours), patch("200-a", "a: 1", ours)},
	})

	want := []string{
		"release MachineSetNode " + machine, "release MachineSet " + set, "release ConfigPatch 200-a", "release Cluster one",
	}

	var got []string
	for i := range plan.Changes {
		got = append(got, string(plan.Changes[i].Action)+" "+diff.Name(&plan.Changes[i]))
	}

	if d := gocmp.Diff(want, got); d != "" {
		t.Errorf("plan (-want +got):\n%s", d)
	}
}

// G4: the cluster label of a manifest's patch goes when it leaves Git, as any other label that came from there.
func TestG4_FleetClusterLabelLeaves(t *testing.T) {
	live := patch("200-a", "a: 1", fleetMark, note(diff.MarkApplied, `["label/omni.sidero.dev/cluster"]`))
	want := patch("200-a", "a: 1")
	want.Metadata().Labels().Delete(omni.LabelCluster)

	plan := diff.Compute(diff.Input{Source: self, Desired: resources{want}, Live: resources{live}})
	if len(plan.Changes) != 1 {
		t.Fatalf("plan: %v", summarize(plan))
	}

	if _, still := plan.Changes[0].New.Metadata().Labels().Get(omni.LabelCluster); still {
		t.Errorf("the label stays: %v", summarize(plan))
	}
}

// G1, G11: a patch of a manifest that lost its mark of a fleet resource was taken for a part of the cluster whose label it
// carries, and destroyed at once, without a wait.
func TestG1_ManifestWithoutItsFleetMark(t *testing.T) {
	lost := patch("400-x", "a: 1", fleetMark)
	lost.Metadata().Annotations().Delete(diff.MarkFleet)

	plan := diff.Compute(diff.Input{Source: self, Target: "one", Desired: resources{cluster("1.34.3")}, Live: resources{cluster("1.34.3", ours), lost}})
	if plan.Count(diff.Destroy) > 0 {
		t.Errorf("the cluster destroys it: %v", summarize(plan))
	}
}
