package diff_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// world is an Omni without a mind: what a plan writes is what it holds.
type world map[[2]string]resource.Resource

func (w world) key(r resource.Resource) [2]string {
	return [2]string{r.Metadata().Type(), r.Metadata().ID()}
}

func (w world) live() resources {
	var all resources
	for _, r := range w {
		all = append(all, r)
	}

	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })

	return all
}

// apply does what a plan says; finalizers go between two passes.
func (w world) apply(t *testing.T, plan *diff.Plan) {
	t.Helper()

	for i := range plan.Changes {
		change := &plan.Changes[i]

		switch change.Action {
		case diff.Create:
			if w[w.key(change.New)] != nil {
				t.Fatalf("%s exists already", diff.Name(change.New))
			}

			w[w.key(change.New)] = change.New
		case diff.Destroy:
			if diff.SourceOf(change.Old) != self {
				t.Fatalf("%s is destroyed and not ours", diff.Name(change.Old))
			}

			if change.Old.Metadata().Phase() == resource.PhaseTearingDown && !change.Old.Metadata().Finalizers().Empty() {
				t.Fatalf("%s is destroyed with finalizers", diff.Name(change.Old))
			}

			w.tearDown(change.Old)

			for _, r := range change.Cascade {
				w.tearDown(r)
			}
		default:
			if change.Old.Metadata().Owner() != "" {
				t.Fatalf("%s belongs to a controller", diff.Name(change.Old))
			}

			if source := diff.SourceOf(change.Old); source != "" && source != self {
				t.Fatalf("%s belongs to another source", diff.Name(change.Old))
			}

			w[w.key(change.New)] = change.New
		}
	}
}

func (w world) tearDown(r resource.Resource) {
	if r.Metadata().Phase() == resource.PhaseTearingDown {
		delete(w, w.key(r))

		return
	}

	r = r.DeepCopy()
	r.Metadata().SetPhase(resource.PhaseTearingDown)
	w[w.key(r)] = r
}

// letGo lets what is torn down lose its finalizers; foreign things in that state go.
func (w world) letGo() {
	for key, r := range w {
		if r.Metadata().Phase() != resource.PhaseTearingDown {
			continue
		}

		if diff.SourceOf(r) != self {
			delete(w, key)

			continue
		}

		r = r.DeepCopy()
		r.Metadata().Finalizers().Set(nil)
		w[key] = r
	}
}

// some returns a random part of a cluster's resources, each in a random state.
func some(r *rand.Rand, states ...func() option) resources {
	all := resources{
		cluster("1.34.3"), patch("200-a", "a: 1"), patch("200-b", "b: 1"), machineSet("one-control-planes"),
		machineSet("one-workers"), node("one-workers"), kernelArgs(),
	}

	var chosen resources

	for _, res := range all {
		if r.IntN(4) == 0 {
			continue
		}

		if res.Metadata().Type() == omni.MachineSetNodeType && r.IntN(3) == 0 {
			res = node("one-control-planes")
		}

		for _, state := range states {
			with(res, state())
		}

		chosen = append(chosen, res)
	}

	return chosen
}

func nothing(resource.Resource) {}

// G1, G4, G11: from whatever is live to whatever is wanted it takes a few passes; nothing
// that is not ours is destroyed or taken over on the way; and then nothing is left to do.
func TestG4_EveryStateConverges(t *testing.T) {
seeds:
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		pick := func(options ...option) func() option {
			return func() option { return options[r.IntN(len(options))] }
		}

		desired := some(r, pick(nothing, label("env", "prod"), note("x", "1")), pick(nothing, note(omni.ResourceManagedByClusterTemplates, "")))
		live := world{}

		for _, res := range some(r, pick(ours, ours, ours, nothing), pick(served, nothing), pick(nothing, label("old", "1"), note("omni.sidero.dev/x", "1")),
			pick(nothing, nothing, nothing, tearingDown("X"), tearingDown())) {
			live[live.key(res)] = res
		}

		in, keep := diff.Input{Source: self, Target: "one", Desired: desired, Removed: r.IntN(5) == 0}, ""
		if in.Removed {
			in.Desired = nil
			keep = []string{"", "prune is off"}[r.IntN(2)]
			in.Fate = fates(keep)
		}

		before := len(live)

		for pass := 0; ; pass++ {
			in.Live = live.live()
			plan := diff.Compute(in)

			if keep != "" && plan.Count(diff.Destroy) > 0 {
				for i := range plan.Changes {
					if c := &plan.Changes[i]; c.Action == diff.Destroy && c.Old.Metadata().Phase() == resource.PhaseRunning {
						t.Fatalf("seed %d: %s is destroyed although %s", seed, diff.Name(c.Old), keep)
					}
				}
			}

			if len(plan.Conflicts) > 0 {
				// Only a machine of somebody else's that would have to leave its machine set.
				if name := diff.Name(plan.Conflicts[0].Resource); name != "MachineSetNode "+machine || len(plan.Conflicts) > 1 {
					t.Fatalf("seed %d: %v", seed, summarize(plan))
				}

				continue seeds
			}

			if len(plan.Changes) == 0 && len(plan.Waiting) == 0 {
				break
			}

			if pass > 20 {
				t.Fatalf("seed %d: no end after %d passes over %d resources: %v", seed, pass, before, summarize(plan))
			}

			live.apply(t, plan)
			live.letGo()
		}

		for _, want := range desired {
			have := live[live.key(want)]
			if in.Removed || have == nil {
				if !in.Removed {
					t.Fatalf("seed %d: %s is missing in the end", seed, diff.Name(want))
				}

				continue
			}

			if diff.SourceOf(have) != self || have.Metadata().Phase() != resource.PhaseRunning {
				t.Fatalf("seed %d: %s is not as wanted in the end", seed, diff.Name(want))
			}
		}
	}
}

// G1: of two sources that look at the same live state, at most one may act on a resource.
func TestG1_TwoSourcesNeverShare(t *testing.T) {
	for seed := range uint64(1000) {
		r := rand.New(rand.NewPCG(seed, 2))
		pick := func(options ...option) func() option {
			return func() option { return options[r.IntN(len(options))] }
		}
		live := some(r, pick(ours, note(diff.MarkSource, "other"), owned), pick(served, nothing), pick(nothing, nothing, tearingDown("X"), tearingDown()))

		touched := map[string]string{}

		for _, source := range []string{self, "other"} {
			for _, removed := range []bool{false, true} {
				in := diff.Input{Source: source, Target: "one", Live: live, Removed: removed, Fate: fates("")}
				if !removed {
					in.Desired = some(r)
				}

				plan := diff.Compute(in)

				for i := range plan.Changes {
					c := &plan.Changes[i]
					if c.Action == diff.Create {
						continue
					}

					name := diff.Name(c.Old)
					if by := touched[name]; by != "" && by != source || c.Old.Metadata().Owner() != "" {
						t.Fatalf("seed %d: %s %s by %s: it is %s's", seed, c.Action, name, source, by+c.Old.Metadata().Owner())
					}

					touched[name] = source
				}
			}
		}
	}
}

// G7: whatever a plan holds, what a resource needs is there before it and leaves after it.
func TestG7_PhasesInOrder(t *testing.T) {
	stage := map[diff.Action]int{diff.Create: 0, diff.Adopt: 1, diff.Update: 1, diff.Release: 1, diff.Destroy: 2}

	for seed := range uint64(1000) {
		r := rand.New(rand.NewPCG(seed, 3))
		pick := func(options ...option) func() option {
			return func() option { return options[r.IntN(len(options))] }
		}
		plan := diff.Compute(diff.Input{
			Source: self, Target: "one", Desired: some(r, pick(nothing, label("a", "b"))), Live: some(r, pick(ours, nothing), pick(nothing, nothing, tearingDown())),
		})

		last := ""

		for _, phase := range plan.Phases() {
			if s := stage[phase[0].Action]; slices.ContainsFunc(phase, func(c diff.Change) bool { return stage[c.Action] != s }) {
				t.Fatalf("seed %d: a phase of different actions", seed)
			}

			now := fmt.Sprint(stage[phase[0].Action])
			if now < last {
				t.Fatalf("seed %d: stage %s after %s", seed, now, last)
			}

			last = now
		}
	}
}

// G4: what leaves the manifest of a machine's labels leaves Omni: labels are all it is.
func TestG4_FleetLabelLeaves(t *testing.T) {
	labels := func(options ...option) resource.Resource { return with(omni.NewMachineLabels(machine), options...) }

	first := diff.Compute(diff.Input{Source: self, Desired: resources{labels(label("rack", "r1"), label("gpu", "yes"))}})
	live := with(first.Changes[0].New, label("theirs", "1"))

	plan := diff.Compute(diff.Input{Source: self, Desired: resources{labels(label("rack", "r1"))}, Live: resources{live}})
	if plan.Empty() {
		t.Fatal("the label that left Git stays")
	}

	want := map[string]string{"rack": "r1", "theirs": "1"}
	if got := plan.Changes[0].New.Metadata().Labels().Raw(); !maps.Equal(got, want) {
		t.Errorf("labels %v, want %v", got, want)
	}
}

// G4: a machine changes the machine set inside its cluster: Omni lets nobody change that
// label, so it has to leave and come back.
func TestG4_MachineChangesSet(t *testing.T) {
	plan := diff.Compute(diff.Input{
		Source: self, Target: "one",
		Desired: resources{cluster("1.34.3"), machineSet("one-new"), node("one-new")},
		Live:    resources{cluster("1.34.3", ours), machineSet("one-old", ours), node("one-old", ours)},
	})

	for i := range plan.Changes {
		if c := &plan.Changes[i]; c.Action == diff.Update && c.Old.Metadata().Type() == omni.MachineSetNodeType {
			t.Errorf("%s is updated: %v", diff.Name(c.Old), c.Fields)
		}
	}
}
