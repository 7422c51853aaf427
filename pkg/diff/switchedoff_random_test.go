package diff_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// F9: the engine writes one phase of a plan and plans again. What was created just then must not change what the rest does to patches
// that are off: a patch came back on that the plan showed as off.
func TestF9_SwitchedOffByPhases(t *testing.T) {
	for name, test := range map[string]struct{ desired, live resources }{
		"one that is off is doubled": {
			resources{patch("200-cluster-one-b", "k: new"), patch("201-cluster-one-b", "k: new")},
			resources{patch("200-cluster-one-b", "k: old", ours, off)},
		},
		"two of a name, and one in front": {
			resources{patch("200-cluster-one-n", "k: 5"), patch("201-cluster-one-a", "k: 3"), patch("202-cluster-one-a", "k: 6")},
			resources{patch("200-cluster-one-a", "k: 4", ours, off), patch("201-cluster-one-a", "k: 1", ours)},
		},
		"changed to what one says that is off": {
			resources{patch("200-cluster-one-a", "k: 2"), patch("201-cluster-one-d", "k: 2")},
			resources{patch("200-cluster-one-a", "k: 0", ours), patch("201-cluster-one-g", "k: 2", ours, off)},
		},
	} {
		if problem := phases(test.desired, test.live); problem != "" {
			t.Errorf("%s: %s", name, problem)
		}
	}
}

// F9: random patches, switched on and off by people and changed in Git, names and documents repeated in half of the runs. The plan is
// the same whatever the order of its lists, comes out the same phase by phase, ends, and keeps off what is off and on what is on where
// names and documents tell.
func TestF9_SwitchedOffRandom(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 7))
		unique := seed%2 == 0
		git := newPatches(rng, unique)

		var live resources

		for step := range 4 {
			desired := git.render()

			if problem := phases(desired, live); problem != "" {
				t.Fatalf("seed %d, step %d: %s", seed, step, problem)
			}

			after := written(live, plan(desired, live))
			shuffle := func(list resources) resources {
				list = slices.Clone(list)
				rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })

				return list
			}

			if a, b := describe(after), describe(written(live, plan(shuffle(desired), shuffle(live)))); a != b {
				t.Fatalf("seed %d, step %d: the order decides:\n%sand\n%s", seed, step, a, b)
			}

			was := map[string]bool{}
			for _, r := range live {
				was[nameAndText(r)] = isOff(r)
			}

			for _, r := range after {
				if before, known := was[nameAndText(r)]; unique && known && before != isOff(r) {
					t.Fatalf("seed %d, step %d: %s flipped\n%sand\n%s", seed, step, r.Metadata().ID(), describe(live), describe(after))
				}
			}

			live = after

			for _, r := range live {
				switch {
				case rng.IntN(4) > 0:
				case isOff(r):
					r.Metadata().Labels().Delete(disabled)
				default:
					off(r)
				}
			}

			git.change(rng, unique, step)
		}
	}
}

func plan(desired, live resources) *diff.Plan {
	return diff.Compute(diff.Input{Source: self, Target: "one", Desired: desired, Live: live})
}

// phases applies a plan one phase at a time, planning again after each, as the engine does. It returns "" if that ends where the
// first plan said, and how it differs if not.
func phases(desired, live resources) string {
	whole, now := written(live, plan(desired, live)), live

	for range 9 {
		next := plan(desired, now)
		if next.Empty() {
			if a, b := describe(whole), describe(now); a != b {
				return fmt.Sprintf("from\n%sthe plan makes\n%sand phase by phase it becomes\n%s", describe(live), a, b)
			}

			return ""
		}

		next.Changes = next.Phases()[0]
		now = written(now, next)
	}

	return fmt.Sprintf("from\n%sit never ends:\n%s", describe(live), describe(now))
}

// written is what is live once a plan has been written, by ID.
func written(live resources, plan *diff.Plan) resources {
	byID := map[resource.ID]resource.Resource{}
	for _, r := range live {
		byID[r.Metadata().ID()] = r
	}

	for i := range plan.Changes {
		if c := &plan.Changes[i]; c.New == nil {
			delete(byID, c.Old.Metadata().ID())
		} else {
			byID[c.New.Metadata().ID()] = c.New
		}
	}

	var after resources
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		after = append(after, byID[id].DeepCopy())
	}

	return after
}

func isOff(r resource.Resource) bool {
	_, is := r.Metadata().Labels().Get(disabled)

	return is
}

func nameAndText(r resource.Resource) string {
	data, err := r.(*omni.ConfigPatch).TypedSpec().Value.GetUncompressedData() //nolint:forcetypeassert // all are
	if err != nil {
		panic(err)
	}

	return r.Metadata().ID()[len("200-"):] + " " + string(data.Data())
}

func describe(list resources) string {
	var text strings.Builder
	for _, r := range list {
		fmt.Fprintf(&text, "    %s off=%v: %s\n", r.Metadata().ID(), isOff(r), nameAndText(r))
	}

	return text.String()
}

// commit is the patches of a template, in order.
type commit []struct{ name, text string }

func newPatches(rng *rand.Rand, unique bool) commit {
	all := make(commit, 1+rng.IntN(4))
	names, texts := rng.Perm(7), rng.Perm(7)

	for i := range all {
		if !unique {
			names[i], texts[i] = rng.IntN(3), rng.IntN(3)
		}

		all[i].name, all[i].text = string(rune('a'+names[i])), fmt.Sprintf("k: %d", texts[i])
	}

	return all
}

func (c commit) render() resources {
	var all resources
	for i, one := range c {
		all = append(all, patch(fmt.Sprintf("%d-cluster-one-%s", 200+i, one.name), one.text))
	}

	return all
}

// change makes the next one.
func (c *commit) change(rng *rand.Rand, unique bool, step int) {
	*c = slices.Clone(*c)
	i := rng.IntN(len(*c))

	switch rng.IntN(5) {
	case 0:
		front := newPatches(rng, unique)[:1]
		if unique {
			front[0].name, front[0].text = fmt.Sprintf("n%d", step), fmt.Sprintf("k: n%d", step)
		}

		*c = append(front, *c...)
	case 1:
		if len(*c) > 1 {
			*c = slices.Delete(*c, i, i+1)
		}
	case 2:
		rng.Shuffle(len(*c), func(i, j int) { (*c)[i], (*c)[j] = (*c)[j], (*c)[i] })
	case 3:
		(*c)[i].text = fmt.Sprintf("k: c%d", step)
		if !unique {
			(*c)[i].text = fmt.Sprintf("k: %d", rng.IntN(3))
		}
	default:
		*c = newPatches(rng, unique)
	}
}
