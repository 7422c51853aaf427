package diff_test

import (
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// Each case here is one that a single wrong line in a guard gets wrong, and that no other
// test looks at.
func TestG1_Guards(t *testing.T) {
	const set = "one-workers"

	handover := note(diff.AnnotationHandover, "other")

	for _, test := range []struct {
		name string
		in   diff.Input
		want []string
	}{
		{
			name: "letting go is for a cluster that left Git, not for what leaves a template",
			in: diff.Input{
				Target:  "one",
				Desired: resources{cluster("1.34.3")}, Fate: func(resource.Resource) diff.Fate { return diff.Fate{Step: diff.StepRelease} },
				Live: resources{cluster("1.34.3", ours), patch("200-a", "a: 1", ours)},
			},
			want: []string{"destroy ConfigPatch 200-a"},
		},
		{
			name: "what is torn down already is not handed over, and gets its last push",
			in: diff.Input{
				Target:  "one",
				Removed: true,
				Live:    resources{cluster("1.34.3", ours, handover), patch("200-a", "a: 1", ours, tearingDown())},
			},
			want: []string{"release Cluster one  released: it left Git and stays in Omni", "destroy ConfigPatch 200-a"},
		},
		{
			name: "what others made in a cluster that is handed over stays, also where it would be pruned",
			in: diff.Input{
				Target:  "one",
				Removed: true, PruneForeign: true,
				Live: resources{cluster("1.34.3", ours, handover), patch("500-ui", "a: 1")},
			},
			want: []string{"release Cluster one  released: it left Git and stays in Omni", "foreign ConfigPatch 500-ui"},
		},
		{
			name: "a fleet resource of nobody is nobody's business",
			in:   diff.Input{PruneForeign: true, Live: resources{class()}},
		},
		{
			name: "a machine set that a controller made takes nothing along",
			in: diff.Input{
				Target:  "one",
				Desired: resources{cluster("1.34.3")},
				Live:    resources{cluster("1.34.3", ours), machineSet(set, ours, owned), node(set, ours)},
			},
			want: []string{"destroy MachineSetNode " + machine},
		},
		{
			name: "a source that does not prune still destroys what leaves a template that stays",
			in: diff.Input{
				Target:  "one",
				Desired: resources{cluster("1.34.3")}, Fate: fates("prune is off for this source"),
				Live: resources{cluster("1.34.3", ours), patch("200-a", "a: 1", ours)},
			},
			want: []string{"destroy ConfigPatch 200-a"},
		},
		{
			name: "a cluster whose template announces a hand-over is ours until the template leaves",
			in: diff.Input{
				Target:  "one",
				Desired: resources{cluster("1.34.3", handover)},
				Live:    resources{cluster("1.34.3", ours, handover), machineSet(set, ours), node(set, ours)},
			},
			want: []string{"destroy MachineSet one-workers  and 1 more that belong to it"},
		},
		{
			name: "only the source of a cluster hands it over",
			in: diff.Input{
				Target:  "one",
				Removed: true,
				Live:    resources{cluster("1.34.3", handover), patch("200-a", "a: 1", ours)},
			},
			want: []string{"foreign Cluster one", "kept ConfigPatch 200-a"},
		},
		{
			name: "a cluster cannot be handed over to the source that it is in",
			in: diff.Input{
				Target: "one", Removed: true,
				Live: resources{cluster("1.34.3", ours, note(diff.AnnotationHandover, self))},
			},
			want: []string{"destroy Cluster one"},
		},
		{
			name: "a template takes from the source that it names and from no other",
			in: diff.Input{
				Target: "one", Desired: resources{cluster("1.34.3", note(diff.AnnotationHandover, "other")), patch("200-a", "a: 1")},
				Live: resources{patch("200-a", "a: 1", note(diff.MarkSource, "third"))},
			},
			want: []string{"create Cluster one", "conflict ConfigPatch 200-a: it is managed by the source third"},
		},
		{
			name: "a template does not wait for what a manifest of the same source says of another cluster",
			in: diff.Input{
				Target: "one", Desired: resources{patch("200-a", "a: 1")},
				Live: resources{patch("200-a", "a: 1", fleetMark, label(omni.LabelCluster, "two"))},
			},
			want: []string{"conflict ConfigPatch 200-a: it belongs to the cluster two"},
		},
		{
			name: "kernel arguments belong to a machine, whatever cluster somebody wrote on them",
			in: diff.Input{
				Target: "one", Desired: resources{kernelArgs()},
				Live: resources{kernelArgs(ours, label(omni.LabelCluster, "two"))},
			},
		},
		{
			name: "kernel arguments that somebody tears down cannot be let go any more",
			in: diff.Input{
				Target: "one", Desired: resources{cluster("1.34.3")},
				Live: resources{cluster("1.34.3", ours), kernelArgs(ours, tearingDown("controller"))},
			},
		},
		{
			name: "the file is noted on the cluster and nowhere else",
			in: diff.Input{
				Target: "one", File: func(*resource.Metadata) string { return "clusters/one.yaml" }, Desired: resources{cluster("1.34.3"), machineSet(set)},
				Live: resources{cluster("1.34.3", ours), machineSet(set, ours)},
			},
			want: []string{"mark Cluster one  marked: only a mark of omni-syncd changes"},
		},
		{
			name: "a manifest moves its patch to another cluster",
			in: diff.Input{
				Desired: resources{patch("200-a", "a: 1", label(omni.LabelCluster, "two"))},
				Live:    resources{patch("200-a", "a: 1", fleetMark, note(diff.MarkApplied, `["label/omni.sidero.dev/cluster"]`))},
			},
			want: []string{"update ConfigPatch 200-a  metadata.labels[omni.sidero.dev/cluster]: one → two"},
		},
		{
			name: "a broken memory of what came from Git takes nothing away",
			in: diff.Input{
				Desired: resources{class()},
				Live:    resources{class(fleetMark, label("team", "infra"), note(diff.MarkApplied, `["label/team", 1]`))},
			},
			want: []string{"mark MachineClass small  marked: only a mark of omni-syncd changes"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.in.Source = self
			if test.in.Fate == nil {
				test.in.Fate = fates("")
			}

			if d := gocmp.Diff(test.want, summarize(diff.Compute(test.in))); d != "" {
				t.Errorf("plan (-want +got):\n%s", d)
			}
		})
	}
}

// G8: a lock of a machine that Git sets is remembered as Git's, goes with its line in Git, and
// comes back if it is set again.
func TestG8_MachineLockIsRemembered(t *testing.T) {
	const set = "one-workers"

	locked := note(omni.MachineLocked, "")
	step := func(live resources, options ...option) (resource.Resource, bool) {
		plan := diff.Compute(diff.Input{Source: self, Target: "one", Desired: resources{node(set, options...)}, Live: live})
		if len(plan.Changes) != 1 {
			t.Fatalf("plan: %v", summarize(plan))
		}

		now := plan.Changes[0].New
		_, isLocked := now.Metadata().Annotations().Get(omni.MachineLocked)

		return now, isLocked
	}

	now, isLocked := step(nil, locked)
	if !isLocked {
		t.Fatal("the lock of the template is not set")
	}

	now, isLocked = step(resources{now})
	if isLocked {
		t.Fatal("the lock left the template and stays")
	}

	if _, isLocked = step(resources{now}, locked); !isLocked {
		t.Fatal("the lock does not come back")
	}
}

// G1: what is let go carries no mark of ours any more: one that stays could have it taken
// for ours, kept or unlocked later.
func TestG1_ReleaseLeavesNoMark(t *testing.T) {
	marks := []option{ours, note("own", "1")}
	for _, mark := range []string{
		"omni-syncd/path", diff.MarkOrigin, string(diff.Kept), diff.MarkConfirmed, diff.MarkFleet, diff.MarkApplied, diff.MarkLocked, diff.MarkGitOps, omni.ResourceManagedByClusterTemplates,
	} {
		marks = append(marks, note(mark, ""))
	}

	live := cluster("1.34.3", append(marks, note(diff.AnnotationHandover, "other"))...)
	live.Metadata().Annotations().Delete(diff.MarkFleet)

	plan := diff.Compute(diff.Input{Source: self, Target: "one", Removed: true, Live: resources{live}, Fate: fates("")})
	if len(plan.Changes) != 1 || plan.Changes[0].Action != diff.Release {
		t.Fatalf("plan: %v", summarize(plan))
	}

	want := map[string]string{"own": "1"}
	if d := gocmp.Diff(want, plan.Changes[0].New.Metadata().Annotations().Raw()); d != "" {
		t.Errorf("annotations (-want +got):\n%s", d)
	}
}

// G1: an update leaves the finalizers to the controllers that set them.
func TestG1_UpdateKeepsFinalizers(t *testing.T) {
	live := cluster("1.34.3", ours, served)

	plan := diff.Compute(diff.Input{Source: self, Target: "one", Desired: resources{cluster("1.35.0")}, Live: resources{live}})
	if d := gocmp.Diff(*live.Metadata().Finalizers(), *plan.Changes[0].New.Metadata().Finalizers()); d != "" {
		t.Errorf("finalizers (-want +got):\n%s", d)
	}
}

// A plan that is not done yet, or never will be, is not empty: a dry run says so.
func TestPlan_Empty(t *testing.T) {
	r := class()

	for name, plan := range map[string]*diff.Plan{
		"a change":   {Changes: []diff.Change{{Action: diff.Destroy, Old: r}}},
		"a wait":     {Waiting: []diff.Waiting{{Resource: r}}},
		"a conflict": {Conflicts: []diff.Conflict{{Resource: r}}},
		"kept":       {Left: []diff.Left{{Resource: r}}},
	} {
		if plan.Empty() {
			t.Errorf("%s: the plan is empty", name)
		}
	}

	if plan := (&diff.Plan{Foreign: resources{r}, Locked: true}); !plan.Empty() {
		t.Error("what is none of our business is no plan")
	}
}

// G8: only the lock of a machine that came from Git is taken off.
func TestG8_Unlocked(t *testing.T) {
	locked, fromGit := note(omni.MachineLocked, ""), note(diff.MarkLocked, "")

	for name, test := range map[string]struct {
		r    resource.Resource
		want bool
	}{
		"from Git":       {node("one-workers", ours, locked, fromGit), true},
		"from Omni's UI": {node("one-workers", ours, locked), false},
		"no machine":     {patch("200-a", "a: 1", ours, locked, fromGit), false},
	} {
		unlocked, ok := diff.Unlocked(test.r)
		if ok != test.want {
			t.Errorf("%s: %v", name, ok)
		}

		if _, still := test.r.Metadata().Annotations().Get(omni.MachineLocked); !still {
			t.Errorf("%s: the live resource was changed", name)
		}

		if ok {
			if _, still := unlocked.Metadata().Annotations().Get(omni.MachineLocked); still {
				t.Errorf("%s: it is still locked", name)
			}
		}
	}
}
