package sync

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

const unlimited = -1

// planes says how a machine set of the cluster a gets its machines.
type planes struct {
	// class and size are those of a machine class; class is "" for listed machines.
	class string
	size  int
	// machines are there, or listed in Git; gone are being torn down.
	machines, gone []string
}

// resources returns the machine set and its machines, as Git describes them or as Omni holds them.
func (p planes) resources(id string, live bool) []resource.Resource {
	set := omnires.NewMachineSet(id)
	set.Metadata().Labels().Set(omnires.LabelCluster, "a")
	set.Metadata().Labels().Set(omnires.LabelControlPlaneRole, "")

	if id != "a-control-planes" {
		set.Metadata().Labels().Delete(omnires.LabelControlPlaneRole)
		set.Metadata().Labels().Set(omnires.LabelWorkerRole, "")
	}

	if p.class != "" {
		set.TypedSpec().Value.MachineAllocation = &specs.MachineSetSpec_MachineAllocation{Name: p.class, MachineCount: uint32(max(p.size, 0))}
		if p.size == unlimited {
			set.TypedSpec().Value.MachineAllocation.AllocationType = specs.MachineSetSpec_MachineAllocation_Unlimited
		}
	}

	all := []resource.Resource{ours(set, live)}

	for _, id := range slices.Concat(p.machines, p.gone) {
		n := omnires.NewMachineSetNode(id, set)

		switch {
		case slices.Contains(p.gone, id):
			n.Metadata().SetPhase(resource.PhaseTearingDown)
			n.Metadata().Finalizers().Add("MachineSetStatusController")
		case p.class != "":
			n.Metadata().Labels().Set(omnires.LabelManagedByMachineSetNodeController, "")
		}

		all = append(all, ours(n, live && p.class == ""))
	}

	return all
}

func ours(r resource.Resource, mark bool) resource.Resource {
	if mark {
		r.Metadata().Annotations().Set(diff.MarkSource, "s")
	}

	return r
}

// planOf plans the step from what Omni holds to what Git describes.
func planOf(before, after map[string]planes) (plan *diff.Plan, live []resource.Resource) {
	live, desired := []resource.Resource{ours(omnires.NewCluster("a"), true)}, []resource.Resource{omnires.NewCluster("a")}
	for id, p := range before {
		live = append(live, p.resources(id, true)...)
	}

	for id, p := range after {
		desired = append(desired, p.resources(id, false)...)
	}

	return diff.Compute(diff.Input{Source: "s", Target: "a", Desired: desired, Live: live}), live
}

// The guard counted listed machines only: a control plane of a machine class lost its quorum
// unasked.
func TestG11_LeavingMembers(t *testing.T) {
	abc, cp := []string{"x", "y", "z"}, func(size int, machines ...string) planes { return planes{class: "cp", size: size, machines: machines} }

	for _, test := range []struct {
		name          string
		before, after planes
		names         []string
		members, all  int
		lost          bool
	}{
		{"class 3 to 1", cp(3, abc...), cp(1), []string{"2 of 3 of the class cp"}, 3, 2, true},
		{"class 3 to 2", cp(3, abc...), cp(2), []string{"1 of 3 of the class cp"}, 3, 1, false},
		{"class 2 to 1", cp(2, "x", "y"), cp(1), []string{"1 of 2 of the class cp"}, 2, 1, false},
		{"class 1 to 0", cp(1, "x"), cp(0), []string{"1 of 1 of the class cp"}, 1, 1, true},
		{"class 1 to 3", cp(1, "x"), cp(3), nil, 1, 0, false},
		{"no machine found yet", cp(3), cp(1), []string{"2 of 3 of the class cp"}, 3, 2, true},
		{"Omni is still taking out", cp(1, abc...), cp(1), nil, 3, 0, false},
		{"and is told to take out less", cp(1, abc...), cp(2), nil, 3, 0, false},
		{"one is on its way out", planes{class: "cp", size: 3, machines: []string{"x", "y"}, gone: []string{"z"}}, cp(1), []string{"1 of 3 of the class cp", "z"}, 3, 1, true},
		{"and that is enough", planes{class: "cp", size: 3, machines: []string{"x", "y"}, gone: []string{"z"}}, cp(2), []string{"z"}, 3, 0, false},
		{"no limit to 1", cp(unlimited, abc...), cp(1), []string{"2 of 3 of the class cp"}, 3, 2, true},
		{"no limit to 5", cp(unlimited, abc...), cp(5), nil, 3, 0, false},
		{"1 to no limit", cp(1, "x"), cp(unlimited), nil, 1, 0, false},
		{"another class", cp(3, abc...), planes{class: "big", size: 3}, nil, 3, 0, false},
		{"another class and smaller", cp(3, abc...), planes{class: "big", size: 1}, []string{"2 of 3 of the class cp"}, 3, 2, true},
		{"class to others by name", cp(3, abc...), planes{machines: []string{"p", "q", "r"}}, []string{"3 of 3 of the class cp"}, 6, 3, true},
		{"class to the same by name", cp(3, abc...), planes{machines: abc}, nil, 3, 0, false},
		{"class to two of them by name", cp(3, abc...), planes{machines: []string{"x", "y"}}, []string{"1 of 3 of the class cp"}, 3, 1, false},
		{"no limit to one of them by name", cp(unlimited, abc...), planes{machines: []string{"x"}}, []string{"2 of 3 of the class cp"}, 3, 2, true},
		{"by name to a class", planes{machines: abc}, cp(3), abc, 3, 3, true},
		{"by name, 3 to 1", planes{machines: abc}, planes{machines: []string{"x"}}, []string{"y", "z"}, 3, 2, true},
		{"by name, one on its way out", planes{machines: []string{"x", "y"}, gone: []string{"z"}}, planes{machines: []string{"x"}}, []string{"y", "z"}, 3, 1, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			plan, live := planOf(map[string]planes{"a-control-planes": test.before, "a-workers": cp(20)}, map[string]planes{"a-control-planes": test.after, "a-workers": cp(15)})
			d := leavingMembers(plan, live)

			if !slices.Equal(d.names, test.names) || d.members != test.members || d.losesQuorum() != test.lost {
				t.Errorf("%v of %d, lost %v; want %v of %d, %v", d.names, d.members, d.losesQuorum(), test.names, test.members, test.lost)
			}

			if n, _ := machinesLeaving(plan, live); n != test.all+5 {
				t.Errorf("%d machines leave, want %d and 5 workers", n, test.all)
			}

			e := idleEngine()
			seen := &target{Key: Key{"s", "a"}, src: e.sources.get("s"), live: live}
			plan.Target = "a"

			if why, _ := e.protect(seen, plan); (why != "") != (test.lost && test.all > 0) {
				t.Errorf("refused: %q", why)
			}
		})
	}
}

// A whole cluster, and a machine set that leaves a cluster, take all their machines along, also
// those that a class gave and that carry no mark.
func TestMachinesLeaving_Whole(t *testing.T) {
	sets := map[string]planes{"a-control-planes": {class: "cp", size: 3, machines: []string{"x", "y"}}, "a-workers": {class: "w", size: unlimited, machines: []string{"p", "q"}}, "a-more": {machines: []string{"r", "s"}}}
	_, live := planOf(sets, nil)

	if n, _ := machinesLeaving(diff.Compute(diff.Input{
		Source: "s", Target: "a", Removed: true, Live: live, Fate: func(resource.Resource) diff.Fate { return diff.Fate{Step: diff.StepDestroy} },
	}), live); n != 7 {
		t.Errorf("of the cluster %d machines leave, want 7", n)
	}

	plan, live := planOf(sets, map[string]planes{"a-control-planes": {class: "cp", size: 3}})
	if n, _ := machinesLeaving(plan, live); n != 4 {
		t.Errorf("of the machine sets %d machines leave, want 4", n)
	}

	for _, r := range live {
		r.Metadata().Labels().Set(omnires.LabelCluster, "b")
	}

	if n, _ := machinesLeaving(plan, live); n != 0 {
		t.Errorf("%d machines of another cluster count", n)
	}
}

// A model of Omni takes machines out one by one, and what is left of it says the same.
func TestG11_LeavingMembers_Model(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)

	random := rand.New(rand.NewPCG(seed, 0))
	some := func(names []string) []string {
		picked := slices.Clone(names)
		random.Shuffle(len(picked), func(i, j int) { picked[i], picked[j] = picked[j], picked[i] })

		return picked[:random.IntN(len(picked)+1)]
	}

	form := func(machines []string) planes {
		switch random.IntN(3) {
		case 0:
			return planes{machines: machines}
		case 1:
			return planes{class: "cp", size: random.IntN(6), machines: machines}
		default:
			return planes{class: "cp", size: unlimited, machines: machines}
		}
	}

	for i := range 3000 {
		present := some([]string{"m1", "m2", "m3", "m4", "m5"})
		going := random.IntN(len(present) + 1)
		before := form(present[going:])
		before.gone = present[:going]

		after := form(nil)
		if after.class == "" {
			after.machines = some([]string{"m1", "m2", "m3", "m4", "m5", "m6", "m7"})
			after.machines = slices.DeleteFunc(after.machines, func(m string) bool { return slices.Contains(before.gone, m) })
		}

		plan, live := planOf(map[string]planes{"a-control-planes": before}, map[string]planes{"a-control-planes": after})
		d := leavingMembers(plan, live)
		count, _ := machinesLeaving(plan, live)
		members, leaving := model(before, after)

		if d.members != members || d.leaving != leaving || d.planned != leaving-going || count != d.planned {
			t.Fatalf("seed %d, %d: %+v → %+v: %+v, the model says %d of %d", seed, i, before, after, d, leaving, members)
		}
	}
}

// model returns how many machines a control plane has, with those that join before others leave,
// and how many leave.
func model(before, after planes) (members, leaving int) {
	running := slices.Clone(before.machines)
	for i := 0; before.class != "" && len(running)+len(before.gone) < before.size; i++ {
		running = append(running, fmt.Sprintf("yet to be found %d", i))
	}

	stays := func(m string) bool { return slices.Contains(after.machines, m) }
	members = len(running) + len(before.gone)

	for _, m := range after.machines {
		if !slices.Contains(running, m) {
			members++
		}
	}

	switch {
	case after.class == "", before.class == "":
		running = slices.DeleteFunc(running, func(m string) bool { return !stays(m) })
	case after.size == unlimited, before.size != unlimited && after.size >= before.size:
	default:
		for len(running) > after.size {
			running = running[1:]
		}
	}

	joined := len(slices.DeleteFunc(slices.Clone(after.machines), func(m string) bool { return slices.Contains(running, m) }))

	return members, members - len(running) - joined
}
