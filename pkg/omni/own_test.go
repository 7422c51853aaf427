package omni

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/google/go-cmp/cmp"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// TestOwnWrites plays what the watch says and what we do in every order that matters, for one resource, and looks at what
// is held. A step is written as who says what: "watch", "boot" (a bootstrap that was asked for just now), "late" (one that
// was asked for before the first step) or "own".
func TestOwnWrites(t *testing.T) {
	t.Parallel()

	var (
		first  = time.Unix(1_000, 0) // the ID's first life
		second = time.Unix(2_000, 0) // the ID's second life
	)

	patch := func(version uint64, created time.Time) resource.Resource {
		return at(newPatch("p", "c", fmt.Sprintf("%d in the life of %d", version, created.Unix())), version, created)
	}

	tearing := func(version uint64, created time.Time) resource.Resource {
		r := patch(version, created)
		r.Metadata().SetPhase(resource.PhaseTearingDown)

		return r
	}

	type step func(v *view, seq uint64) []Change

	watch := func(r resource.Resource) step { return func(v *view, _ uint64) []Change { return v.stored(r) } }
	gone := func(v *view, _ uint64) []Change { return v.destroyed("p") }
	boot := func(rs ...resource.Resource) step {
		return func(v *view, seq uint64) []Change { return v.bootstrapped(byID(rs), seq) }
	}
	late := func(rs ...resource.Resource) step {
		return func(v *view, _ uint64) []Change { return v.bootstrapped(byID(rs), 0) }
	}
	put := func(r resource.Resource) step { return func(v *view, seq uint64) []Change { return v.put(r, seq) } }
	teardown := func(r resource.Resource) step {
		return func(v *view, seq uint64) []Change { return v.tearingDown(r.Metadata(), seq) }
	}
	destroy := func(r resource.Resource) step {
		return func(v *view, seq uint64) []Change { return v.removed(r.Metadata(), seq) }
	}

	steps := func(s ...step) []step { return s }

	for name, test := range map[string]struct {
		steps   []step
		want    string // "" for nothing held, else version, life and phase
		pending bool   // an own write is still to come back
	}{
		"the watch is taken as it comes":         {steps(watch(patch(1, first)), watch(patch(2, first))), "2 first", false},
		"the watch may go backwards by itself":   {steps(watch(patch(7, first)), watch(patch(3, first))), "3 first", false},
		"a bootstrap may go backwards":           {steps(watch(patch(7, first)), boot(patch(3, first))), "3 first", false},
		"what a bootstrap lacks is gone":         {steps(watch(patch(7, first)), boot()), "", false},
		"an own update is held at once":          {steps(watch(patch(4, first)), put(patch(5, first))), "5 first", true},
		"older events do not undo it":            {steps(watch(patch(3, first)), put(patch(5, first)), watch(patch(4, first))), "5 first", true},
		"its echo settles it":                    {steps(watch(patch(4, first)), put(patch(5, first)), watch(patch(5, first))), "5 first", false},
		"what is newer settles it":               {steps(watch(patch(4, first)), put(patch(5, first)), watch(patch(6, first))), "6 first", false},
		"after its echo the watch is free again": {steps(watch(patch(4, first)), put(patch(5, first)), watch(patch(5, first)), watch(patch(2, first))), "2 first", false},
		"an update the watch has overtaken":      {steps(watch(patch(6, first)), put(patch(5, first))), "6 first", false},
		"an update of what is gone by now":       {steps(watch(patch(4, first)), gone, put(patch(5, first))), "", false},
		"an update of an earlier life":           {steps(watch(patch(2, second)), put(patch(9, first))), "2 second", false},
		"an own create is held at once":          {steps(put(patch(1, first))), "1 first", true},
		"the server's copy of it replaces ours":  {steps(put(patch(1, first)), watch(patch(1, second))), "1 second", false},
		"a create onto what is still held":       {steps(watch(tearing(7, first)), put(patch(1, second))), "7 first tearingDown", false},
		"created and gone before it is told":     {steps(put(patch(1, first)), watch(patch(1, second)), gone), "", false},
		"no version, no write":                   {steps(put(patch(0, first))), "", false},

		"an own teardown is shown at once":       {steps(watch(patch(4, first)), teardown(patch(4, first))), "4 first tearingDown", true},
		"older events do not hide it":            {steps(watch(patch(4, first)), teardown(patch(4, first)), watch(patch(5, first))), "5 first tearingDown", true},
		"its echo settles the teardown":          {steps(watch(patch(4, first)), teardown(patch(4, first)), watch(tearing(5, first))), "5 first tearingDown", false},
		"gone settles the teardown":              {steps(watch(patch(4, first)), teardown(patch(4, first)), gone), "", false},
		"a teardown of an earlier life":          {steps(watch(patch(1, second)), teardown(patch(4, first))), "1 second", false},
		"a teardown of nothing":                  {steps(teardown(patch(4, first))), "", false},
		"a late bootstrap does not hide it":      {steps(watch(patch(4, first)), teardown(patch(4, first)), late(patch(4, first))), "4 first tearingDown", true},
		"a later bootstrap does (restored)":      {steps(watch(patch(4, first)), teardown(patch(4, first)), boot(patch(4, first))), "4 first", false},
		"a late bootstrap of the next life does": {steps(watch(patch(4, first)), teardown(patch(4, first)), late(patch(1, second))), "1 second", false},

		"an own destroy is shown at once":        {steps(watch(tearing(4, first)), destroy(tearing(4, first))), "", true},
		"older events do not resurrect it":       {steps(watch(tearing(4, first)), destroy(tearing(4, first)), watch(tearing(5, first))), "", true},
		"its echo settles the destroy":           {steps(watch(tearing(4, first)), destroy(tearing(4, first)), gone), "", false},
		"created again by others after the echo": {steps(watch(tearing(4, first)), destroy(tearing(4, first)), gone, watch(patch(1, second))), "1 second", false},
		"a late bootstrap does not resurrect it": {steps(watch(tearing(4, first)), destroy(tearing(4, first)), late(tearing(4, first))), "", true},
		"a later bootstrap does (restored)!":     {steps(watch(tearing(4, first)), destroy(tearing(4, first)), boot(patch(4, first))), "4 first", false},
		"a late bootstrap with the next life":    {steps(watch(tearing(4, first)), destroy(tearing(4, first)), late(patch(1, second))), "1 second", false},
		"a late bootstrap without it settles":    {steps(watch(tearing(4, first)), destroy(tearing(4, first)), late()), "", false},
		"a destroy of an earlier life":           {steps(watch(patch(1, second)), destroy(tearing(4, first))), "1 second", false},
		"destroyed and created again by us": {
			steps(watch(tearing(4, first)), destroy(tearing(4, first)), put(patch(1, second)), watch(tearing(5, first)), gone), "1 second", true,
		},
		"and then the watch catches up": {
			steps(watch(tearing(4, first)), destroy(tearing(4, first)), put(patch(1, second)), gone, watch(patch(1, second))), "1 second", false,
		},

		"a late bootstrap does not undo an update":  {steps(watch(patch(4, first)), put(patch(5, first)), late(patch(4, first))), "5 first", true},
		"a late bootstrap that has it settles it":   {steps(watch(patch(4, first)), put(patch(5, first)), late(patch(5, first))), "5 first", false},
		"a late bootstrap that lacks a create":      {steps(put(patch(1, first)), late()), "1 first", true},
		"a later bootstrap that lacks a create":     {steps(put(patch(1, first)), boot()), "", false},
		"a later bootstrap undoes it (restored)":    {steps(watch(patch(4, first)), put(patch(5, first)), boot(patch(2, first))), "2 first", false},
		"gone after an update is gone":              {steps(watch(patch(4, first)), put(patch(5, first)), watch(patch(5, first)), gone), "", false},
		"a late bootstrap that lacks the torn down": {steps(watch(patch(4, first)), teardown(patch(4, first)), late()), "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			v := &view{kind: Kind{Type: omni.ConfigPatchType}, index: newIndex(patchPhase), own: map[resource.ID]*ownWrite{}}
			shadow := map[Change]resource.Resource{} // what somebody who only follows the changes has seen last

			for i, do := range test.steps {
				for _, change := range do(v, uint64(i+1)) {
					shadow[change], _ = v.get(change.ID)
				}
			}

			got := ""

			if r, ok := v.get("p"); ok {
				got = fmt.Sprintf("%d %s", r.Metadata().Version().Value(), map[int64]string{1_000: "first", 2_000: "second"}[r.Metadata().Created().Unix()])
				if r.Metadata().Phase() == resource.PhaseTearingDown {
					got += " tearingDown"
				}
			}

			if got != test.want {
				t.Errorf("held %q, want %q", got, test.want)
			}

			if pending := len(v.own) > 0; pending != test.pending {
				t.Errorf("own writes pending: %v, want %v", pending, test.pending)
			}

			held, _ := v.get("p")
			if seen := shadow[Change{omni.ConfigPatchType, "p", "c"}]; (held == nil) != (seen == nil) || held != nil && differs(held, seen) {
				t.Errorf("a change was not told: last told %v, held %v", seen, held)
			}
		})
	}
}

func byID(rs []resource.Resource) map[resource.ID]resource.Resource {
	m := map[resource.ID]resource.Resource{}
	for _, r := range rs {
		m[r.Metadata().ID()] = r
	}

	return m
}

func TestIndex(t *testing.T) {
	t.Parallel()

	var (
		x    = newIndex(patchPhase)
		then = time.Unix(1_000, 0)
	)

	told := func(what string, changes []Change, want ...Change) {
		t.Helper()

		if diff := cmp.Diff(want, changes); diff != "" {
			t.Errorf("%s told (-want +got):\n%s", what, diff)
		}
	}

	clusterIDs := func(name string) (ids []string) {
		for _, r := range x.clusters.list(name) {
			ids = append(ids, r.Metadata().ID())
		}

		return ids
	}

	kernelArgs := at(omni.NewKernelArgs("m1"), 1, then)

	told("a new cluster", x.put(at(newCluster("a"), 1, then)), Change{omni.ClusterType, "a", "a"})
	told("KernelArgs of a free machine", x.put(kernelArgs), Change{omni.KernelArgsType, "m1", ""})
	told("a machine that joins", x.put(at(newNode("m1", "a"), 1, then)), Change{omni.MachineSetNodeType, "m1", "a"})
	told("the same once more", x.put(at(newNode("m1", "a"), 1, then)))

	kernelArgs = at(omni.NewKernelArgs("m1"), 2, then)
	kernelArgs.TypedSpec().Value.Args = []string{"quiet"}

	told("KernelArgs of its machine", x.put(kernelArgs), Change{omni.KernelArgsType, "m1", "a"})
	told("a patch", x.put(at(newPatch("p", "a", "x"), 1, then)), Change{omni.ConfigPatchType, "p", "a"})
	told("a patch of no cluster", x.put(at(newPatch("free", "", "x"), 1, then)), Change{omni.ConfigPatchType, "free", ""})

	// Bumped: stored, since a write needs the version, but not told.
	bumped := at(newPatch("p", "a", "x"), 2, then)
	bumped.Metadata().Finalizers().Add("controller")
	told("a bump of version, time and finalizers", x.put(bumped))

	if r, _ := x.get(omni.ConfigPatchType, "p"); r.Metadata().Version().Value() != 2 {
		t.Errorf("the bumped version is not held: %v", r.Metadata())
	}

	told("a patch that moves", x.put(at(newPatch("p", "b", "x"), 3, then)),
		Change{omni.ConfigPatchType, "p", "a"}, Change{omni.ConfigPatchType, "p", "b"})

	for name, change := range map[string]func(*omni.ConfigPatch){
		"annotation": func(r *omni.ConfigPatch) { r.Metadata().Annotations().Set("a", "b") },
		"label":      func(r *omni.ConfigPatch) { r.Metadata().Labels().Set("a", "b") },
		"owner":      func(r *omni.ConfigPatch) { _ = r.Metadata().SetOwner("controller") },
		"phase":      func(r *omni.ConfigPatch) { r.Metadata().SetPhase(resource.PhaseTearingDown) },
		"spec":       func(r *omni.ConfigPatch) { setData(r, "y") },
	} {
		changed := at(newPatch("p", "b", "x"), 4, then)
		change(changed)
		told("a new "+name, x.put(changed), Change{omni.ConfigPatchType, "p", "b"})
		x.put(at(newPatch("p", "b", "x"), 3, then))
	}

	tearing := at(newPatch("p", "b", "x"), 5, then)
	tearing.Metadata().SetPhase(resource.PhaseTearingDown)
	tearing.Metadata().Finalizers().Add("controller")
	x.put(tearing)

	released := at(newPatch("p", "b", "x"), 6, then)
	released.Metadata().SetPhase(resource.PhaseTearingDown)
	told("a finalizer that goes in a deletion", x.put(released), Change{omni.ConfigPatchType, "p", "b"})

	if got, want := clusterIDs("a"), []string{"a", "m1"}; !slices.Equal(got, want) {
		t.Errorf("cluster a holds %q, want %q", got, want)
	}

	told("a resource that goes", x.remove(omni.ConfigPatchType, "p"), Change{omni.ConfigPatchType, "p", "b"})
	told("nothing that goes", x.remove(omni.ConfigPatchType, "p"))
	told("a machine that leaves", x.remove(omni.MachineSetNodeType, "m1"), Change{omni.MachineSetNodeType, "m1", "a"})
	told("KernelArgs of a machine that left", x.remove(omni.KernelArgsType, "m1"), Change{omni.KernelArgsType, "m1", ""})
	x.remove(omni.ClusterType, "a")
	x.remove(omni.ConfigPatchType, "free")

	if len(x.types)+len(x.clusters)+len(x.tags)+len(x.machines) != 0 {
		t.Errorf("an empty index holds on to %v %v %v %v", x.types, x.clusters, x.tags, x.machines)
	}
}
