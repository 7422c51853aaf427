package sync

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/history"
)

// Only a plan of nothing but torn down and free resources is Omni's to finish.
func TestFinishing(t *testing.T) {
	torn, there := omnires.NewConfigPatch("a"), omnires.NewConfigPatch("b")
	torn.Metadata().SetPhase(resource.PhaseTearingDown)

	destroyTorn := diff.Change{Action: diff.Destroy, Old: torn}

	for name, other := range map[string]diff.Change{
		"not torn down": {Action: diff.Destroy, Old: there},
		"an update":     {Action: diff.Update, Old: torn, New: torn},
	} {
		if finishing(&diff.Plan{Changes: []diff.Change{destroyTorn, other}}) != "" {
			t.Errorf("%s: left to Omni", name)
		}
	}

	if finishing(&diff.Plan{Changes: []diff.Change{destroyTorn}}) == "" {
		t.Error("a deletion is not left to Omni")
	}
}

// A step is known by all it does: the action, the resource, its phase and the change.
func TestSignature(t *testing.T) {
	a, b, torn := omnires.NewConfigPatch("a"), omnires.NewConfigPatch("b"), omnires.NewConfigPatch("a")
	torn.Metadata().SetPhase(resource.PhaseTearingDown)

	seen := map[string]int{}

	for i, change := range []diff.Change{
		{Action: diff.Create, New: a}, {Action: diff.Create, New: b}, {Action: diff.Destroy, Old: a}, {Action: diff.Destroy, Old: torn},
		{Action: diff.Update, Old: a, New: a, Fields: []diff.Field{{Path: "x", Old: "1", New: "2"}}},
		{Action: diff.Update, Old: a, New: a, Fields: []diff.Field{{Path: "x", Old: "1", New: "3"}}},
	} {
		s := signature([]diff.Change{change})
		if other, ok := seen[s]; ok {
			t.Errorf("steps %d and %d have the same signature", other, i)
		}

		seen[s] = i
	}
}

// G4: what changed between the plan and the moment at which somebody waits for it is planned
// again: the notice of the change is gone, and nothing else would bring the target back.
func TestG4_ChangedBeforeTheWait(t *testing.T) {
	e := idleEngine()
	seen := &target{Key: Key{"s", "a"}, src: e.sources.get("s"), from: &desired{}}

	gone := omnires.NewConfigPatch("400-x")
	replaced, held := omnires.NewConfigPatch("400-y"), omnires.NewConfigPatch("400-z")
	gone.Metadata().SetVersion(gone.Metadata().Version().Next()) // both were live
	replaced.Metadata().SetVersion(gone.Metadata().Version())
	put(e, replaced)
	put(e, held)

	now, ok := e.Snapshot.Get(omnires.ConfigPatchType, "400-z")
	if !ok {
		t.Fatal("the snapshot holds nothing")
	}

	for name, test := range map[string]struct {
		planned resource.Resource
		again   bool
	}{
		"gone": {gone, true}, "another version": {replaced, true}, "as planned": {now, false},
	} {
		for what, plan := range map[string]*diff.Plan{
			"conflict": {Conflicts: []diff.Conflict{{Resource: test.planned, Reason: "it is another's"}}},
			"waiting":  {Waiting: []diff.Waiting{{Resource: test.planned, Elsewhere: true}}},
		} {
			err := e.guard(seen, plan)
			if what == "waiting" {
				err = e.awaited(seen, plan)
			}

			if errors.Is(err, errAgain) != test.again {
				t.Errorf("%s, %s: %v", what, name, err)
			}

			if keys := e.blocked.take(test.planned.Metadata().Type(), test.planned.Metadata().ID()); len(keys) != 1 {
				t.Errorf("%s, %s: nobody waits for it", what, name)
			}
		}
	}
}

// G4: what one target waits for elsewhere may never come; what it waits for at home does.
func TestStatus_WaitingAtHomeIsNotTheEnd(t *testing.T) {
	e := idleEngine()
	seen := &target{Key: Key{"s", "a"}, src: e.sources.get("s"), from: &desired{}}

	waiting := func(elsewhere ...bool) *diff.Plan {
		plan := &diff.Plan{}

		for i, elsewhere := range elsewhere {
			r := omnires.NewConfigPatch(fmt.Sprint(i))
			put(e, r)

			now, _ := e.Snapshot.Get(omnires.ConfigPatchType, fmt.Sprint(i))
			plan.Waiting = append(plan.Waiting, diff.Waiting{Resource: now, Elsewhere: elsewhere})
		}

		return plan
	}

	for _, test := range []struct {
		elsewhere []bool
		blocked   bool
	}{{[]bool{true}, true}, {[]bool{false}, false}, {[]bool{true, false}, false}, {[]bool{false, true}, false}} {
		var wait *WaitError
		if err := e.awaited(seen, waiting(test.elsewhere...)); !errors.As(err, &wait) || wait.Blocked != test.blocked {
			t.Errorf("%v: %v, blocked %v", test.elsewhere, err, wait != nil && wait.Blocked)
		}
	}
}

// An error of a phase says whether time heals it: one that does decides, and it is expected
// only if it is all there is.
func TestJoined(t *testing.T) {
	expected, retry, stalled := &RetryError{Err: errors.New("race"), Expected: true}, &RetryError{Err: errors.New("down")}, &StalledError{errors.New("no")}

	for name, test := range map[string]struct {
		errs            []error
		retry, expected bool
	}{
		"a race":               {[]error{expected}, true, true},
		"a race and a refusal": {[]error{expected, stalled}, true, false},
		"a race and a failure": {[]error{expected, retry}, true, false},
		"a refusal":            {[]error{stalled, stalled}, false, false},
		"a failure, a refusal": {[]error{stalled, retry}, true, false},
	} {
		var got *RetryError
		if ok := errors.As(joined(test.errs), &got); ok != test.retry || ok && got.Expected != test.expected {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// An Omni that went away was told 38 times in one cell of `status`.
func TestJoinedSaysItOnce(t *testing.T) {
	away := func(resource string) error {
		return classified(status.Error(codes.Unavailable, "connection refused"), "create", resource)
	}
	errs := []error{away("ConfigPatch a"), away("ConfigPatch b"), &StalledError{errors.New("no")}, classified(status.Error(codes.Internal, "no space left"), "create", "ConfigPatch c"), away("ConfigPatch d")}

	const want = "create ConfigPatch a: connection refused (and 2 more like it)\nno\ncreate ConfigPatch c: no space left"

	var retry *RetryError
	if err := joined(errs); err.Error() != want || !errors.As(err, &retry) {
		t.Errorf("%v, want %q", err, want)
	}
}

// G12: an entry of the history holds so many operations, and counts the rest.
func TestG12_JournalEntry(t *testing.T) {
	var entries recorder

	j := newJournal(&entries)
	seen := &target{Key: Key{"s", "a"}, from: &desired{revision: "1"}}

	for range history.MaxOperations + 3 {
		j.wrote(seen, &diff.Change{Action: diff.Create, New: omnires.NewCluster("a")}, "")
	}

	j.ended(seen, history.Succeeded, "")

	if e := entries[0]; len(e.Operations) != history.MaxOperations || e.Omitted != 3 {
		t.Errorf("%d operations, %d omitted", len(e.Operations), e.Omitted)
	}

	j.ended(seen, history.Succeeded, "")

	if len(entries) != 1 {
		t.Errorf("%d entries for one operation", len(entries))
	}

	// A daemon without a history remembers nothing either.
	j = newJournal(nil)
	j.wrote(seen, &diff.Change{Action: diff.Create, New: omnires.NewCluster("a")}, "")
	j.refused(seen, "no", "")
	j.ended(seen, history.Failed, "no")

	if len(j.open) != 0 {
		t.Error("an entry for nobody")
	}
}

// G5: a conflict is called one, and is tried again like every failure that time heals.
func TestG5_ConflictIsCalledOne(t *testing.T) {
	e, seen := inMemory(nil)
	if err := e.State.Create(t.Context(), omnires.NewCluster("a")); err != nil {
		t.Fatal(err)
	}

	var retry *RetryError

	err := e.write(t.Context(), seen, &diff.Change{Action: diff.Create, New: omnires.NewCluster("a")})
	if !errors.As(err, &retry) || !strings.Contains(err.Error(), "somebody else changed it meanwhile") {
		t.Errorf("got %v", err)
	}
}

// G8, G10: the lock of a machine that leaves is taken off once, before it is torn down; one
// that is torn down or gone needs none taken off.
func TestG8_UnlockOnTheWayOut(t *testing.T) {
	for name, prepare := range map[string]func(e *Engine, node resource.Resource) error{
		"there": func(e *Engine, node resource.Resource) error { return e.State.Create(t.Context(), node) },
		"torn down": func(e *Engine, node resource.Resource) error {
			if err := e.State.Create(t.Context(), node); err != nil {
				return err
			}

			if _, err := e.State.Teardown(t.Context(), node.Metadata()); err != nil {
				return err
			}

			node.Metadata().SetPhase(resource.PhaseTearingDown)

			return nil
		},
		"gone": func(*Engine, resource.Resource) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			e, seen := inMemory(nil)

			node := lockedNode(resource.PhaseRunning)
			if err := prepare(e, node); err != nil {
				t.Fatal(err)
			}

			if err := e.write(t.Context(), seen, &diff.Change{Action: diff.Destroy, Old: node}); err != nil {
				t.Error(err)
			}

			now, err := e.State.Get(t.Context(), node.Metadata())
			if name != "there" {
				if err == nil {
					t.Error("it is still there")
				}

				return
			}

			if _, locked := now.Metadata().Annotations().Get(omnires.MachineLocked); locked || now.Metadata().Phase() != resource.PhaseTearingDown {
				t.Errorf("locked %v, %s", locked, now.Metadata().Phase())
			}
		})
	}
}

// refusing is a state that refuses every update, and counts them.
type refusing struct {
	state.State

	asked *int
}

func (r refusing) Update(context.Context, resource.Resource, ...state.UpdateOption) error {
	*r.asked++

	return status.Error(codes.InvalidArgument, "no such version")
}

// A refused change is stalled, and waits for what it was about to change; if that has changed
// already, it is planned again.
func TestG4_RefusedMayChange(t *testing.T) {
	for outdated, name := range map[bool]string{true: "changed meanwhile", false: "as planned"} {
		asked := 0
		e, seen := inMemory(func(s state.State) state.State { return refusing{s, &asked} })
		seen.src.desired.Store(seen.from)

		cluster := marked("a", resource.PhaseRunning)
		put(e, cluster)

		old := heldCluster(e)
		if outdated {
			old = cluster
		}

		plan := &diff.Plan{Target: "a", Changes: []diff.Change{{Action: diff.Update, Old: old, New: cluster}}}
		err := e.apply(t.Context(), seen, plan)

		var retry *RetryError
		if errors.As(err, &retry) != outdated {
			t.Errorf("%s: %v", name, err)
		}

		if len(e.blocked.take(omnires.ClusterType, "a")) != 1 {
			t.Errorf("%s: nobody waits for it", name)
		}

		// The next look finds the same, and does not ask again.
		e.board.failed(seen, "no such version", true)

		var stalled *StalledError
		if err := e.apply(t.Context(), seen, plan); !errors.As(err, &stalled) || err.Error() == "" || asked != 1 {
			t.Errorf("%s: asked %d times, %v", name, asked, err)
		}
	}
}

// G3: what was written and has to be written again waits; G7: a step is one phase of the plan.
func TestG3_AStepThatIsUndone(t *testing.T) {
	e, seen := inMemory(nil)
	defer e.queue.ShutDown()

	seen.src.desired.Store(seen.from)

	plan := &diff.Plan{Target: "a", Changes: []diff.Change{
		{Action: diff.Create, New: omnires.NewCluster("a")}, {Action: diff.Create, New: omnires.NewMachineSet("a-x")},
	}}

	if err := e.apply(t.Context(), seen, plan); !errors.Is(err, errAgain) {
		t.Fatalf("got %v", err)
	}

	if _, err := e.State.Get(t.Context(), omnires.NewMachineSet("a-x").Metadata()); err == nil {
		t.Error("two phases were written at once")
	}

	if err := e.State.Destroy(t.Context(), omnires.NewCluster("a").Metadata()); err != nil {
		t.Fatal(err)
	}

	var wait *WaitError
	if err := e.apply(t.Context(), seen, plan); !errors.As(err, &wait) {
		t.Errorf("got %v", err)
	}

	if _, err := e.State.Get(t.Context(), omnires.NewCluster("a").Metadata()); err == nil {
		t.Error("the fight goes on at full speed")
	}
}
