package sync

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/history"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/render"
	sourcerev "github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// idleEngine returns an engine that runs nothing and has the source s.
func idleEngine() *Engine {
	return New(Config{
		Sources:  []SourceConfig{{Name: "s", Source: idle{}}},
		Snapshot: omni.NewSnapshot(omni.SnapshotConfig{Relist: time.Hour, Kinds: Kinds()}),
	})
}

// put brings a resource into the snapshot of an engine, as one that it has just created.
func put(e *Engine, r resource.Resource) {
	version, _ := resource.ParseVersion("1")
	r.Metadata().SetVersion(version)
	e.Snapshot.Put(r)
}

// member returns a machine of the cluster a.
func member(id string, phase resource.Phase, controlPlane bool) resource.Resource {
	r := omnires.NewMachineSetNode(id, omnires.NewMachineSet("a-x"))
	r.Metadata().Labels().Set(omnires.LabelCluster, "a")
	r.Metadata().SetPhase(phase)

	if controlPlane {
		r.Metadata().Labels().Set(omnires.LabelControlPlaneRole, "")
	}

	return r
}

// G11: n/2+1 of n members must stay; what comes is there before what leaves has gone, and
// what is on its way out anyway neither counts nor is asked for.
func TestG11_QuorumArithmetic(t *testing.T) {
	for _, test := range []struct {
		stay, leave, create, gone, workers int
		refused                            bool
	}{
		{stay: 3},
		{stay: 2, leave: 1},
		{stay: 1, leave: 2, refused: true},
		{stay: 3, leave: 2},
		{stay: 2, leave: 3, refused: true},
		{stay: 3, leave: 1},
		{stay: 2, leave: 2, refused: true}, // 2 of 4 are no majority
		{stay: 4, leave: 3},
		{stay: 3, leave: 4, refused: true},
		{stay: 1, leave: 1},
		{leave: 2, refused: true},
		{leave: 1, refused: true},
		{leave: 1, create: 1}, // one of two
		{leave: 2, create: 2, refused: true},
		{leave: 1, create: 2},
		{stay: 1, leave: 2, create: 2}, // 3 of 5
		{stay: 2, gone: 3},
		{stay: 1, leave: 1, gone: 1},
		{stay: 1, workers: 5},
		{stay: 3, leave: 1, workers: 5},
	} {
		t.Run(fmt.Sprintf("%+v", test), func(t *testing.T) {
			e := idleEngine()
			plan := &diff.Plan{Target: "a"}
			machines := 0

			add := func(n int, phase resource.Phase, controlPlane bool, action diff.Action) {
				for range n {
					machines++
					r := member(fmt.Sprintf("m%02d", machines), phase, controlPlane)

					if action != diff.Create {
						put(e, r)
					}

					switch action {
					case diff.Destroy:
						plan.Changes = append(plan.Changes, diff.Change{Action: action, Old: r})
					case diff.Create:
						plan.Changes = append(plan.Changes, diff.Change{Action: action, New: r})
					}
				}
			}

			add(test.stay, resource.PhaseRunning, true, "")
			add(test.leave, resource.PhaseRunning, true, diff.Destroy)
			add(test.create, resource.PhaseRunning, true, diff.Create)
			add(test.gone, resource.PhaseTearingDown, true, diff.Destroy)
			add(test.workers, resource.PhaseRunning, false, diff.Destroy)
			put(e, controlPlaneSet())

			src := e.sources.get("s")
			if why := src.quorum(plan, e.controlPlane("a")); (why != "") != test.refused {
				t.Errorf("refused %v: %q", why != "", why)
			}

			if plan.Removed = true; src.quorum(plan, e.controlPlane("a")) != "" {
				t.Error("the deletion of a cluster is guarded as such")
			}
		})
	}
}

// controlPlaneSet is no machine, although it has the role of one.
func controlPlaneSet() resource.Resource {
	r := omnires.NewMachineSet("a-control-planes")
	r.Metadata().Labels().Set(omnires.LabelCluster, "a")
	r.Metadata().Labels().Set(omnires.LabelControlPlaneRole, "")

	return r
}

// G11: a digest stands for one deletion: of these names, of this kind, in this source. The
// order of the names does not matter.
func TestG11_DigestNamesTheDeletion(t *testing.T) {
	digests := map[string]string{}

	for name, digest := range map[string]string{
		"two":                digestOf("s", "clusters", []string{"a", "b"}),
		"another name":       digestOf("s", "clusters", []string{"a", "c"}),
		"one more":           digestOf("s", "clusters", []string{"a", "b", "c"}),
		"one less":           digestOf("s", "clusters", []string{"a"}),
		"joined":             digestOf("s", "clusters", []string{"ab"}),
		"another source":     digestOf("s2", "clusters", []string{"a", "b"}),
		"a control plane":    digestOf("s", "control plane of a", []string{"a", "b"}),
		"of another cluster": digestOf("s", "control plane of b", []string{"a", "b"}),
	} {
		if other, ok := digests[digest]; ok {
			t.Errorf("%s and %s have the same digest", name, other)
		}

		digests[digest] = name
	}

	if digestOf("s", "clusters", []string{"b", "a"}) != digestOf("s", "clusters", []string{"a", "b"}) {
		t.Error("the digest depends on the order")
	}
}

// G11: the confirmation of a control plane is for the one cluster that it was given for.
func TestG11_QuorumConfirmedForOneCluster(t *testing.T) {
	plan := func(cluster string) *diff.Plan {
		return &diff.Plan{Target: cluster, Changes: []diff.Change{
			{Action: diff.Destroy, Old: member("m1", resource.PhaseRunning, true)},
			{Action: diff.Destroy, Old: member("m2", resource.PhaseRunning, true)},
		}}
	}

	src := newSourceState(SourceConfig{Name: "s", Confirm: []string{digestOf("s", "control plane of a", []string{"m1", "m2"})}}, &confirmations{})

	if why := src.quorum(plan("a"), 3); why != "" {
		t.Errorf("confirmed, and refused: %s", why)
	}

	if src.quorum(plan("b"), 3) == "" {
		t.Error("what was confirmed for a holds for b")
	}
}

// G11: maxDelete clusters may go, and no more.
func TestG11_MaxDeleteBoundary(t *testing.T) {
	for _, test := range []struct {
		maxDelete, left int
		refused         bool
	}{{0, 0, false}, {0, 1, true}, {1, 1, false}, {1, 2, true}, {3, 3, false}, {3, 4, true}} {
		src := newSourceState(SourceConfig{Name: "s", MaxDelete: test.maxDelete}, &confirmations{})
		left := map[string]bool{}

		for i := range test.left {
			left[fmt.Sprint(i)] = true
		}

		if why := src.tooMany(left); (why != "") != test.refused {
			t.Errorf("%+v: %q", test, why)
		}
	}
}

// G12: what a reader of the network may make the daemon remember has a bound, and what is
// remembered already costs nothing.
func TestG12_Confirmations(t *testing.T) {
	var c confirmations

	for i := range maxConfirmations {
		if !c.add(fmt.Sprint(i)) {
			t.Fatalf("no %d is refused", i)
		}
	}

	if c.add("one more") || c.has("one more") {
		t.Error("there is no bound")
	}

	if !c.add("0") || len(c.digests) != maxConfirmations {
		t.Error("the same confirmation counts twice")
	}

	e := idleEngine()
	e.sources.get("s").confirmations.digests = c.digests

	if e.Confirm("s", "one more") == nil {
		t.Error("a confirmation that is not remembered is not refused")
	}
}

// G12: the writes of a target are remembered up to a bound, and those of old are forgotten.
func TestG12_WritesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, key := newTestBoard("s"), Key{"s", "a"}

		for i := range 10 * maxAttempts {
			b.wrote(key, fmt.Sprint(i), time.Minute)

			if n := len(b.get(key).written); n > maxAttempts {
				t.Fatalf("%d writes are remembered", n)
			}
		}
	})
}

// G3: the pause before a write that somebody undoes doubles up to its limit, however often
// that happens, and begins anew after a time of peace.
func TestG3_BackoffOfAFight(t *testing.T) {
	const least, limit = time.Second, time.Minute

	synctest.Test(t, func(t *testing.T) {
		b, key := newTestBoard("s"), Key{"s", "a"}
		left := func() time.Duration {
			r := b.get(key)

			return r.backoff("step", least, limit)
		}

		if left() != 0 {
			t.Error("the first write waits")
		}

		for i := range 100 {
			b.wrote(key, "step", limit)

			want := limit
			if i < 6 {
				want = least << i
			}

			if got := left(); got != want {
				t.Fatalf("after %d writes: %s, want %s", i+1, got, want)
			}

			time.Sleep(left())

			if got := left(); got > 0 {
				t.Fatalf("after the pause: %s more", got)
			}
		}

		time.Sleep(2*limit + 1)

		if got := left(); got != 0 {
			t.Errorf("after a time of peace: %s", got)
		}

		b.wrote(key, "step", limit)

		if got := left(); got != least {
			t.Errorf("after a time of peace it begins with %s, want %s", got, least)
		}
	})
}

// Omni gets its time to end a deletion once: not anew with every look, but anew for another
// deletion, and none is given to a plan that is no deletion.
func TestGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, key := newTestBoard("s"), Key{"s", "a"}
		look := func(finishing string, want time.Duration) {
			t.Helper()

			if left := max(b.grace(key, finishing, 2*time.Second), 0); left != want {
				t.Errorf("%q has %s left, want %s", finishing, left, want)
			}
		}

		look("", 0)
		look("x", 2*time.Second)
		time.Sleep(time.Second)
		look("x", time.Second)
		look("", 0)
		look("x", 2*time.Second)
		time.Sleep(time.Second)
		look("y", 2*time.Second)
		time.Sleep(2 * time.Second)
		look("y", 0)
	})
}

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

// A refused step is not sent again while the target is stalled, and nothing else is held.
func TestG3_RefusedOnce(t *testing.T) {
	e := idleEngine()
	key := Key{"s", "a"}
	seen := &target{Key: key, src: e.sources.get("s"), from: &desired{}}
	plan := &diff.Plan{Changes: []diff.Change{{Action: diff.Create, New: omnires.NewCluster("a")}}}

	e.board.refuse(key, "step", "no such version")

	if err := e.hold(seen, plan, "step"); err != nil {
		t.Errorf("not stalled, and held: %v", err)
	}

	e.board.failed(seen, "no such version", true)

	var stalled *StalledError
	if err := e.hold(seen, plan, "step"); !errors.As(err, &stalled) {
		t.Errorf("the refused step is sent again: %v", err)
	}

	if err := e.hold(seen, plan, "another step"); err != nil {
		t.Errorf("another step is held: %v", err)
	}

	e.board.reopen(key)

	if err := e.hold(seen, plan, "step"); err != nil {
		t.Errorf("something changed, and the step is held: %v", err)
	}

	// What was written meanwhile may be what it lacked.
	e.board.refuse(key, "step", "no such version")
	e.board.wrote(key, "another step", time.Minute)
	e.board.failed(seen, "unrelated", true)

	if err := e.hold(seen, plan, "step"); err != nil {
		t.Errorf("something was written, and the step is held: %v", err)
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

// Settled and Synced are said of the whole: one part that is not makes the whole not.
func TestStatus_OfTheWhole(t *testing.T) {
	whole := func() Status {
		return Status{
			Ready: true, Sources: []SourceStatus{{Name: "s", Fetched: true}},
			Targets: []TargetStatus{{Sync: Synced, Settled: true}, {Sync: Synced, Settled: true}},
		}
	}

	for name, test := range map[string]struct {
		breaks          func(*Status)
		settled, synced bool
	}{
		"whole":             {func(*Status) {}, true, true},
		"Omni not read":     {func(s *Status) { s.Ready = false }, false, true},
		"not fetched":       {func(s *Status) { s.Sources[0].Fetched = false }, false, false},
		"a failed fetch":    {func(s *Status) { s.Sources[0].Error = "down" }, true, false},
		"a broken file":     {func(s *Status) { s.Sources[0].Problems = append(s.Sources[0].Problems, problem) }, true, false},
		"a target at work":  {func(s *Status) { s.Targets[1].Settled = false }, false, true},
		"a target that not": {func(s *Status) { s.Targets[1].Sync = OutOfSync }, true, false},
	} {
		s := whole()
		test.breaks(&s)

		if s.Settled() != test.settled || s.Synced() != test.synced {
			t.Errorf("%s: settled %v, synced %v", name, s.Settled(), s.Synced())
		}
	}
}

// A pass that began with an older revision settles nothing, whatever its outcome.
func TestStatus_OnlyTheAwaitedRevisionSettles(t *testing.T) {
	for name, end := range map[string]func(*board, *target){
		"synced":  func(b *board, t *target) { b.succeeded(t) },
		"waiting": func(b *board, t *target) { b.waiting(t, "a lock", true) },
		"stalled": func(b *board, t *target) { b.failed(t, "refused", true) },
	} {
		b, key := newTestBoard("s"), Key{"s", "a"}
		pass := func(revision string) *target { return &target{Key: key, from: &desired{revision: revision}} }

		b.pending(key, "a.yaml", "2")

		if end(b, pass("1")); b.get(key).Settled {
			t.Errorf("%s: an older pass settles", name)
		}

		if b.remove(pass("1")) {
			t.Errorf("%s: an older pass removes", name)
		}

		if end(b, pass("2")); !b.get(key).Settled {
			t.Errorf("%s: the awaited pass does not settle", name)
		}

		b.pending(key, "a.yaml", "3")
		b.carryOver(key, "4")

		if end(b, pass("4")); !b.get(key).Settled {
			t.Errorf("%s: a revision that was carried over is awaited", name)
		}
	}

	b, key := newTestBoard("s"), Key{"s", "a"}
	seen := &target{Key: key, from: &desired{revision: "1"}}

	if b.failed(seen, "down", false); b.get(key).Settled {
		t.Error("a failure that is tried again settles")
	}

	if b.waiting(seen, "a teardown", false); b.get(key).Settled {
		t.Error("a teardown that is under way settles")
	}
}

// What one revision left behind (a refusal, a request, a fight) is no matter to the next.
func TestNewerWins_ForgetsTheLastRevision(t *testing.T) {
	b, key := newTestBoard("s"), Key{"s", "a"}
	seen := &target{Key: key, from: &desired{revision: "1"}}

	b.request(key)
	b.wrote(key, "step", time.Minute)
	b.refuse(key, "step", "no")
	b.failed(seen, "no", true)
	b.pending(key, "a.yaml", "2")

	if r := b.get(key); r.requested || r.stalled || r.refused != "" || len(r.written) > 0 || r.Settled {
		t.Errorf("the new revision inherits %+v", r)
	}

	b.wrote(key, "step", time.Minute)
	b.refuse(key, "step", "no")
	b.failed(seen, "no", true)
	b.request(key)

	if r := b.get(key); !r.requested || r.refused != "" || len(r.written) > 0 || r.Settled {
		t.Errorf("a request leaves %+v", r)
	}
}

// The status of a target tells its state: not that it is stalled when it waits or is done,
// nor that it is as Git says when that is not known.
func TestStatus_Transitions(t *testing.T) {
	b, key := newTestBoard("s"), Key{"s", "a"}
	seen := &target{Key: key, from: &desired{revision: "1"}, desired: &render.Target{Path: "a.yaml"}}

	b.planned(seen, &diff.Plan{})
	b.failed(seen, "no", true)

	if len(b.stalled("s")) != 1 || len(b.stalled("other")) != 0 {
		t.Error("a refused target is not stalled")
	}

	b.waiting(seen, "a lock", true)

	if r := b.get(key); r.stalled || !r.waits || r.Sync != OutOfSync {
		t.Errorf("waiting: %+v", r)
	}

	b.failed(seen, "down", false)

	if r := b.get(key); r.stalled || r.waits || r.Sync != OutOfSync || r.Operation != Failed {
		t.Errorf("failed: %+v", r)
	}

	b.failed(seen, "no", true)
	b.request(key)
	b.succeeded(seen)

	if r := b.get(key); r.stalled || r.waits || r.requested || r.Sync != Synced || r.synced != "1" || r.Operation != Succeeded {
		t.Errorf("synced: %+v", r)
	}

	b.unread(seen, "Omni cannot be read")

	if r := b.get(key); r.Sync != Unknown || r.Settled {
		t.Errorf("unread: %+v", r)
	}

	broken := *seen
	broken.broken = errors.New("a typo")

	if b.failed(&broken, "a typo", true); b.get(key).Sync != Unknown {
		t.Errorf("a broken template: %+v", b.get(key))
	}
}

// A teardown changes what it waits for many times a second: only the first is a log line.
func TestStatus_WaitsAreNewsOnce(t *testing.T) {
	b := newTestBoard("s")
	seen := &target{Key: Key{"s", "a"}, from: &desired{revision: "1"}}

	for i, want := range []bool{true, false, false} {
		if got := b.waiting(seen, fmt.Sprint(i), false); got != want {
			t.Errorf("wait %d is news: %v", i, got)
		}
	}

	if !b.waiting(seen, "a lock", true) {
		t.Error("a lock is no news")
	}

	b.failed(seen, "down", false)

	if !b.waiting(seen, "again", false) {
		t.Error("a new wait is no news")
	}

	b.succeeded(seen)

	if !b.waiting(seen, "and again", false) {
		t.Error("a new wait is no news")
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

// problem is one of many.
var problem = template.Problem{Message: "no"}

type recorder []history.Entry

func (r *recorder) Add(entry history.Entry) { *r = append(*r, entry) }

// inMemory returns an engine that writes to a state in memory, and a target of it.
func inMemory(wrap func(state.State) state.State) (*Engine, *target) {
	e := idleEngine()
	e.State = state.WrapCore(inmem.NewState("default"))

	if wrap != nil {
		e.State = wrap(e.State)
	}

	return e, &target{Key: Key{"s", "a"}, src: e.sources.get("s"), from: &desired{}}
}

// watchedCreate tells a test in which context a resource is created.
type watchedCreate struct {
	state.State

	fn func(ctx context.Context)
}

func (s watchedCreate) Create(ctx context.Context, r resource.Resource, opts ...state.CreateOption) error {
	s.fn(ctx)

	if err := ctx.Err(); err != nil {
		return err
	}

	return s.State.Create(ctx, r, opts...)
}

// G10: a stop in the middle of a write leaves none in doubt, lets none begin, and no write
// takes longer than its bound.
func TestG10_StopInMidWrite(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())

	e, seen := inMemory(func(s state.State) state.State {
		return watchedCreate{s, func(ctx context.Context) {
			cancel()

			if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > 30*time.Second {
				t.Errorf("the write ends at %s (%v)", deadline, ok)
			}
		}}
	})

	if err := e.write(ctx, seen, &diff.Change{Action: diff.Create, New: omnires.NewCluster("a")}); err != nil {
		t.Errorf("the write was cut off: %v", err)
	}

	if _, err := e.State.Get(t.Context(), omnires.NewCluster("a").Metadata()); err != nil {
		t.Error(err)
	}

	if err := e.write(ctx, seen, &diff.Change{Action: diff.Create, New: omnires.NewCluster("b")}); err == nil {
		t.Error("a write began after the stop")
	}
}

// G12: so many writes of a phase run at the same time, and no more.
func TestG12_WritesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int64

		e, seen := inMemory(func(s state.State) state.State {
			return watchedCreate{s, func(context.Context) {
				most.Store(max(most.Load(), now.Add(1)))
				time.Sleep(time.Second) // of the test's own clock: until all that can have begun
				now.Add(-1)
			}}
		})
		defer e.queue.ShutDown()

		var phase []diff.Change
		for i := range 5 * e.Writes {
			phase = append(phase, diff.Change{Action: diff.Create, New: omnires.NewCluster(fmt.Sprint(i))})
		}

		if err := e.writeAll(t.Context(), seen, phase); err != nil || most.Load() != int64(e.Writes) {
			t.Errorf("%d writes at once, want %d; %v", most.Load(), e.Writes, err)
		}
	})
}

// G4: what was written is in the snapshot when the write comes back, so that the next plan
// does not write it again, and the status counts it.
func TestG4_OwnWritesAreSeen(t *testing.T) {
	e, seen := inMemory(nil)

	write := func(change *diff.Change) {
		t.Helper()

		if err := e.write(t.Context(), seen, change); err != nil {
			t.Fatal(err)
		}
	}

	held := func() (*omnires.Cluster, bool) {
		r, ok := e.Snapshot.Get(omnires.ClusterType, "a")
		if !ok {
			return nil, false
		}

		return r.(*omnires.Cluster), true //nolint:forcetypeassert // it fails the test
	}

	write(&diff.Change{Action: diff.Create, New: omnires.NewCluster("a")})

	created, ok := held()
	if !ok {
		t.Fatal("what was created is not seen")
	}

	// Only the watch brings the time of the creation, which tells two lives of a name apart.
	now, err := e.State.Get(t.Context(), created.Metadata())
	if err != nil {
		t.Fatal(err)
	}

	now.Metadata().SetCreated(created.Metadata().Created())
	now.(*omnires.Cluster).TypedSpec().Value.KubernetesVersion = "1.35.0"
	write(&diff.Change{Action: diff.Update, Old: created, New: now})

	updated, _ := held()
	if updated.TypedSpec().Value.KubernetesVersion != "1.35.0" {
		t.Error("what was updated is not seen")
	}

	write(&diff.Change{Action: diff.Destroy, Old: updated})

	torn, ok := held()
	if !ok || torn.Metadata().Phase() != resource.PhaseTearingDown {
		t.Fatal("what was torn down is not seen")
	}

	write(&diff.Change{Action: diff.Destroy, Old: torn})

	if _, ok := held(); ok {
		t.Error("what was destroyed is still seen")
	}

	if done := e.board.get(seen.Key).Done; done != 4 {
		t.Errorf("%d writes are counted, want 4", done)
	}
}

// A resource that is gone already was destroyed with success, and is gone from the snapshot.
func TestG10_DestroyOfWhatIsGone(t *testing.T) {
	for _, phase := range []resource.Phase{resource.PhaseRunning, resource.PhaseTearingDown} {
		e, seen := inMemory(nil)
		gone := omnires.NewConfigPatch("400-x")
		put(e, gone)
		gone.Metadata().SetPhase(phase)

		if err := e.write(t.Context(), seen, &diff.Change{Action: diff.Destroy, Old: gone}); err != nil {
			t.Errorf("%s: %v", phase, err)
		}

		if _, ok := e.Snapshot.Get(omnires.ConfigPatchType, "400-x"); ok {
			t.Errorf("%s: it is still seen", phase)
		}
	}
}

// A controller that holds on to what is to be destroyed is part of normal work.
func TestG5_FinalizerBeforeDestroy(t *testing.T) {
	e, seen := inMemory(nil)

	held := omnires.NewConfigPatch("400-x")
	held.Metadata().Annotations().Set(diff.MarkSource, "s")

	if err := e.State.Create(t.Context(), held); err != nil {
		t.Fatal(err)
	}

	if _, err := e.State.Teardown(t.Context(), held.Metadata()); err != nil {
		t.Fatal(err)
	}

	planned, err := e.State.Get(t.Context(), held.Metadata())
	if err != nil {
		t.Fatal(err)
	}

	if err := e.State.AddFinalizer(t.Context(), held.Metadata(), "controller"); err != nil {
		t.Fatal(err)
	}

	var retry *RetryError
	if err := e.write(t.Context(), seen, &diff.Change{Action: diff.Destroy, Old: planned}); !errors.As(err, &retry) || !retry.Expected {
		t.Errorf("got %v", err)
	}
}

// G1: a destruction goes on as planned while its resource stays the same source's, and not
// once it is another's or came from a template to a manifest.
func TestG1_ChangedHands(t *testing.T) {
	for name, test := range map[string]struct {
		change func(resource.Resource)
		goes   bool
	}{
		"nothing":           {func(resource.Resource) {}, true},
		"a finalizer":       {func(r resource.Resource) { r.Metadata().Finalizers().Add("controller") }, true},
		"another source":    {func(r resource.Resource) { r.Metadata().Annotations().Set(diff.MarkSource, "other") }, false},
		"nobody's":          {func(r resource.Resource) { r.Metadata().Annotations().Delete(diff.MarkSource) }, false},
		"now of a manifest": {func(r resource.Resource) { r.Metadata().Annotations().Set(diff.MarkFleet, "") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			e, seen := inMemory(nil)

			planned := omnires.NewConfigPatch("400-x")
			planned.Metadata().Annotations().Set(diff.MarkSource, "s")

			if err := e.State.Create(t.Context(), planned); err != nil {
				t.Fatal(err)
			}

			if _, err := e.State.UpdateWithConflicts(t.Context(), planned.Metadata(), func(r resource.Resource) error {
				test.change(r)

				return nil
			}); err != nil {
				t.Fatal(err)
			}

			err := e.write(t.Context(), seen, &diff.Change{Action: diff.Destroy, Old: planned})
			if (err == nil) != test.goes {
				t.Errorf("error: %v", err)
			}

			now, err := e.State.Get(t.Context(), planned.Metadata())
			if err != nil {
				t.Fatal(err)
			}

			if torn := now.Metadata().Phase() == resource.PhaseTearingDown; torn != test.goes {
				t.Errorf("torn down: %v", torn)
			}
		})
	}
}

// unreadable is a state that cannot be read.
type unreadable struct{ state.State }

func (unreadable) Get(context.Context, resource.Pointer, ...state.GetOption) (resource.Resource, error) {
	return nil, errors.New("the connection is down")
}

// G1: without Omni's answer to whose a resource is, it is not destroyed.
func TestG1_NoAnswerNoDestroy(t *testing.T) {
	e, seen := inMemory(func(s state.State) state.State { return unreadable{s} })
	planned := omnires.NewConfigPatch("400-x")

	if err := e.State.Create(t.Context(), planned); err != nil {
		t.Fatal(err)
	}

	var retry *RetryError
	if err := e.write(t.Context(), seen, &diff.Change{Action: diff.Destroy, Old: planned}); !errors.As(err, &retry) {
		t.Errorf("got %v", err)
	}

	if destroyable, err := e.State.Teardown(t.Context(), planned.Metadata()); err != nil || !destroyable {
		t.Errorf("it is gone: %v", err)
	}
}

// Whatever waits for time to pass comes back by itself when it has passed, and not before.
func TestComesBackInTime(t *testing.T) {
	torn := omnires.NewConfigPatch("400-x")
	torn.Metadata().SetPhase(resource.PhaseTearingDown)

	deletion := &diff.Plan{Changes: []diff.Change{{Action: diff.Destroy, Old: torn}}}

	for name, test := range map[string]struct {
		wait  func(e *Engine, seen *target) error
		after func(e *Engine) time.Duration
	}{
		"a teardown to warn of": {
			func(e *Engine, seen *target) error {
				if said := e.takesLong(seen, true); said != "" {
					return errors.New(said)
				}

				return nil
			},
			func(e *Engine) time.Duration { return e.TeardownWarnAfter },
		},
		"a deletion that Omni ends": {
			func(e *Engine, seen *target) error {
				if err := e.hold(seen, deletion, "step"); err == nil {
					return errors.New("Omni gets no time")
				}

				return nil
			},
			func(e *Engine) time.Duration { return e.Grace },
		},
		"a fight": {
			func(e *Engine, seen *target) error {
				e.board.wrote(seen.Key, "step", e.RetryMax)

				if err := e.hold(seen, &diff.Plan{Changes: []diff.Change{{Action: diff.Create, New: torn}}}, "step"); err == nil {
					return errors.New("the fight goes on")
				}

				return nil
			},
			func(e *Engine) time.Duration { return e.RetryMin },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, seen := inMemory(nil)
				defer e.queue.ShutDown()

				if err := test.wait(e, seen); err != nil {
					t.Fatal(err)
				}

				time.Sleep(test.after(e) - time.Millisecond)
				synctest.Wait()

				if e.queue.Len() != 0 {
					t.Error("it comes back too early")
				}

				time.Sleep(2 * time.Millisecond)
				synctest.Wait()

				if e.queue.Len() != 1 {
					t.Error("it does not come back")
				}
			})
		})
	}
}

// A teardown that takes long is warned of once.
func TestTeardownIsWarnedOfOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, seen := inMemory(nil)
		defer e.queue.ShutDown()

		core, logs := observer.New(zap.WarnLevel)
		e.Logger = zap.New(core)

		e.takesLong(seen, true)

		if logs.Len() != 0 {
			t.Error("warned at once")
		}

		time.Sleep(e.TeardownWarnAfter)

		for range 3 {
			if e.takesLong(seen, true) == "" {
				t.Error("nothing is said")
			}
		}

		if logs.Len() != 1 {
			t.Errorf("%d warnings", logs.Len())
		}
	})
}

// G2, G11: what an annotation in Omni says is a protection as long as nobody can tell what it
// means; also what the source says holds for a cluster that is gone from Git.
func TestG11_PolicyOfWhatLeftGit(t *testing.T) {
	for name, test := range map[string]struct {
		annotation string
		policy     Policy
		want       bool
	}{
		"protected":              {"protected", Policy{}, true},
		"allowed":                {"allowed", Policy{Protected: true}, false},
		"a typo":                 {"protectd", Policy{}, true},
		"nothing":                {"", Policy{}, false},
		"nothing, by the source": {"", Policy{Protected: true}, true},
	} {
		e, seen := inMemory(nil)
		seen.src.Policy = test.policy

		cluster := omnires.NewCluster("a")
		if test.annotation != "" {
			cluster.Metadata().Annotations().Set(AnnotationDeletion, test.annotation)
		}

		put(e, cluster)

		if policy, err := e.policy(seen); err != nil || policy.Protected != test.want {
			t.Errorf("%s: protected %v, %v", name, policy.Protected, err)
		}
	}
}

// G2: a template that cannot be used is still in Git.
func TestG2_BrokenIsNotRemoved(t *testing.T) {
	e := idleEngine()

	for _, name := range []string{"broken", "there", "gone", "other"} {
		cluster := omnires.NewCluster(name)
		if name != "other" {
			cluster.Metadata().Annotations().Set(diff.MarkSource, "s")
		}

		put(e, cluster)
	}

	removed := e.removedClusters(e.sources.get("s"), &desired{
		broken: map[string]error{"broken": errors.New("a typo")}, targets: map[string]*render.Target{"there": {}},
	})

	if len(removed) != 1 || removed[0].Metadata().ID() != "gone" {
		t.Errorf("removed: %v", removed)
	}
}

// revision accepts a revision of a source: names and digests of its targets.
func revision(e *Engine, source, id string, targets map[string]string) *desired {
	var rendered []*render.Target
	for name, digest := range targets {
		rendered = append(rendered, &render.Target{Name: name, Digest: digest})
	}

	src := e.sources.get(source)
	e.accept(src, sourcerev.Revision{ID: id}, &reading{set: &template.Set{}, targets: rendered})

	return src.desired.Load()
}

// Clusters are held back while the fleet resources of a revision, or of one before it, were
// not tried yet.
func TestG7_FleetBeforeClusters(t *testing.T) {
	for name, test := range map[string]struct {
		before, after map[string]string
		pending, want bool
	}{
		"the first": {nil, map[string]string{"": "1", "a": "1"}, false, true},
		"none":      {nil, map[string]string{"a": "1"}, false, false},
		"new":       {map[string]string{"a": "1"}, map[string]string{"": "1", "a": "1"}, false, true},
		"changed":   {map[string]string{"": "1"}, map[string]string{"": "2"}, false, true},
		"gone":      {map[string]string{"": "1", "a": "1"}, map[string]string{"a": "1"}, false, true},
		"unchanged": {map[string]string{"": "1"}, map[string]string{"": "1", "a": "1"}, false, false},
		"not yet":   {map[string]string{"": "1"}, map[string]string{"": "1", "a": "1"}, true, true},
	} {
		e := idleEngine()

		if test.before != nil {
			revision(e, "s", "1", test.before).fleetPending.Store(test.pending)
		}

		if got := revision(e, "s", "2", test.after).fleetPending.Load(); got != test.want {
			t.Errorf("%s: pending %v", name, got)
		}
	}
}

// G3: a revision brings work for what it changes, what left and what was not done yet; and
// for nothing else.
func TestG3_WhatARevisionTouches(t *testing.T) {
	e := idleEngine()
	passed := func(name string) {
		e.board.succeeded(&target{Key: Key{"s", name}, from: e.sources.get("s").desired.Load()})
	}

	revision(e, "s", "1", map[string]string{"same": "1", "new": "1", "left": "1", "open": "1", "skipped": "1"})

	for _, name := range []string{"same", "new", "left", "skipped"} {
		passed(name)
	}

	revision(e, "s", "2", map[string]string{"same": "1", "new": "1", "left": "1", "open": "1", "skipped": "2"})
	revision(e, "s", "3", map[string]string{"same": "1", "new": "2", "open": "1", "skipped": "2"})

	for name, settled := range map[string]bool{"same": true, "new": false, "left": false, "open": false, "skipped": false} {
		r := e.board.get(Key{"s", name})
		if r.Settled != settled || settled != (r.awaited == "") || settled != (r.Revision == "3") {
			t.Errorf("%s: settled %v, awaits %q, compared with %q", name, r.Settled, r.awaited, r.Revision)
		}
	}
}

// oddFiles fails to look at a file.
type oddFiles struct{ fs.FS }

func (oddFiles) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("i/o error")}
}

// G2, G11: what keeps a cluster that left Git, one guard at a time.
func TestG11_Keeps(t *testing.T) {
	for name, test := range map[string]struct {
		change func(e *Engine, seen *target)
		kept   bool
	}{
		"nothing":                       {func(*Engine, *target) {}, false},
		"prune is off":                  {func(_ *Engine, seen *target) { seen.src.Prune = false }, true},
		"not whole":                     {func(_ *Engine, seen *target) { seen.from.whole = false }, true},
		"protected":                     {func(_ *Engine, seen *target) { seen.policy.Protected = true }, true},
		"maxDelete is 0":                {func(_ *Engine, seen *target) { seen.src.MaxDelete = 0 }, true},
		"another one left":              {func(e *Engine, _ *target) { put(e, marked("b", resource.PhaseRunning)) }, true},
		"another one is on its way out": {func(e *Engine, _ *target) { put(e, marked("b", resource.PhaseTearingDown)) }, false},
		"another one left and was deleted by hand": {func(e *Engine, seen *target) {
			b := marked("b", resource.PhaseRunning)
			put(e, b)
			e.keep(seen)
			e.Snapshot.Removed(b.Metadata())
		}, true},
		"the fleet resources, beside clusters that are kept": {func(e *Engine, seen *target) {
			seen.Target = ""
			put(e, marked("b", resource.PhaseRunning))
		}, false},
		"its file is there":            {func(_ *Engine, seen *target) { seen.from.files = fstest.MapFS{"a.yaml": {}} }, true},
		"its file cannot be looked at": {func(_ *Engine, seen *target) { seen.from.files = oddFiles{} }, true},
		"its file is another's": {func(_ *Engine, seen *target) {
			seen.from.files = fstest.MapFS{"a.yaml": {}}
			seen.from.targets = map[string]*render.Target{"c": {Name: "c", Path: "a.yaml"}}
		}, false},
		"its file is there, beside others": {func(_ *Engine, seen *target) {
			seen.from.files = fstest.MapFS{"a.yaml": {}, "c.yaml": {}}
			seen.from.targets = map[string]*render.Target{"c": {Name: "c", Path: "c.yaml"}}
		}, true},
		"its file had a name that none can have": {func(e *Engine, _ *target) {
			odd := marked("a", resource.PhaseRunning)
			odd.Metadata().Annotations().Set(diff.MarkPath, "/../a.yaml")
			e.Snapshot.Removed(heldCluster(e).Metadata())
			put(e, odd)
		}, false},
		"a source was not read": {func(e *Engine, seen *target) {
			e.Reconfigure([]SourceConfig{seen.src.SourceConfig, {Name: "unread", Source: idle{}}})
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			e := idleEngine()
			src := e.sources.get("s")
			src.Prune, src.MaxDelete = true, 1
			seen := &target{Key: Key{"s", "a"}, src: src, from: &desired{whole: true, files: fstest.MapFS{}, left: map[string]bool{}}}
			src.desired.Store(seen.from)
			put(e, marked("a", resource.PhaseRunning))
			test.change(e, seen)

			if why := e.keep(seen); (why != "") != test.kept {
				t.Errorf("kept %v: %q", why != "", why)
			}
		})
	}
}

// marked returns a cluster of the source s.
func marked(name string, phase resource.Phase) resource.Resource {
	r := omnires.NewCluster(name)
	r.Metadata().Annotations().Set(diff.MarkSource, "s")
	r.Metadata().Annotations().Set(diff.MarkPath, name+".yaml")
	r.Metadata().SetPhase(phase)

	return r
}

// heldCluster returns the cluster a of the snapshot.
func heldCluster(e *Engine) resource.Resource {
	r, _ := e.Snapshot.Get(omnires.ClusterType, "a")

	return r
}

// G10, G11: a cluster is let go only to a source that describes it, only by a source that is
// known to have lost it, and only while there is something to let go.
func TestG11_LetsGo(t *testing.T) {
	for name, test := range map[string]struct {
		change func(e *Engine, seen *target)
		goes   bool
	}{
		"described by another":    {func(*Engine, *target) {}, true},
		"described here":          {func(_ *Engine, seen *target) { seen.desired = &render.Target{} }, false},
		"not whole":               {func(_ *Engine, seen *target) { seen.from.whole = false }, false},
		"described by nobody":     {func(e *Engine, _ *target) { revision(e, "other", "2", map[string]string{"b": "1"}) }, false},
		"broken in the other":     {func(e *Engine, _ *target) { broken(e, "other", "a") }, false},
		"on its way out":          {func(e *Engine, _ *target) { e.Snapshot.TearingDown(heldCluster(e).Metadata()) }, false},
		"gone":                    {func(e *Engine, _ *target) { e.Snapshot.Removed(heldCluster(e).Metadata()) }, false},
		"the fleet resources":     {func(e *Engine, seen *target) { seen.Target = ""; put(e, marked("", resource.PhaseRunning)) }, false},
		"the other was taken out": {func(e *Engine, seen *target) { e.Reconfigure([]SourceConfig{seen.src.SourceConfig}) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := idleEngine()
			e.Reconfigure([]SourceConfig{{Name: "s", Source: idle{}}, {Name: "other", Source: idle{}}})
			revision(e, "other", "1", map[string]string{"": "1", "a": "1"})

			seen := &target{Key: Key{"s", "a"}, src: e.sources.get("s"), from: &desired{whole: true}}
			seen.src.desired.Store(seen.from)
			put(e, marked("a", resource.PhaseRunning))
			test.change(e, seen)

			if got := e.letsGo(seen); got != test.goes {
				t.Errorf("lets go: %v", got)
			}
		})
	}
}

// broken makes a source describe a target in a broken file only.
func broken(e *Engine, source, name string) {
	e.sources.get(source).desired.Store(&desired{broken: map[string]error{name: errors.New("a typo")}})
}

// Every outcome of a pass says when the target comes back, and what is said of it.
func TestOutcomes(t *testing.T) {
	for name, test := range map[string]struct {
		reconcile func(e *Engine) error
		now       int // how many are queued at once
		later     int // and after RetryMin
		sync      SyncStatus
		settled   bool
	}{
		"something was written": {func(*Engine) error { return errAgain }, 1, 1, Unknown, false},
		"done":                  {func(*Engine) error { return nil }, 0, 0, Synced, true},
		"a failure":             {func(*Engine) error { return &RetryError{Err: errors.New("down")} }, 0, 1, Unknown, false},
		"a race":                {func(*Engine) error { return &RetryError{Err: errors.New("race"), Expected: true} }, 0, 1, Unknown, false},
		"a guard":               {func(*Engine) error { return &WaitError{Reason: "a lock", Blocked: true} }, 0, 0, Unknown, true},
		"a teardown":            {func(*Engine) error { return &WaitError{Reason: "a teardown"} }, 0, 0, Unknown, false},
		"Omni was not read":     {func(*Engine) error { return errNotReady{errors.New("not yet")} }, 0, 0, Unknown, false},
		"a refusal":             {func(*Engine) error { return &StalledError{errors.New("no")} }, 0, 0, Unknown, true},
		"a refusal, and what it lacked came": {func(e *Engine) error {
			e.notice(omni.Change{Type: omnires.MachineClassType, ID: "x"})

			return &StalledError{errors.New("no")}
		}, 0, 1, Unknown, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := idleEngine()
				defer e.queue.ShutDown()

				revision(e, "s", "1", map[string]string{"a": "1"})
				key := drain(e)
				e.process(t.Context(), key, func(*target) error { return test.reconcile(e) })

				if n := e.queue.Len(); n != test.now {
					t.Errorf("%d are queued at once, want %d", n, test.now)
				}

				time.Sleep(e.RetryMin)
				synctest.Wait()

				if n := e.queue.Len(); n != test.later {
					t.Errorf("%d are queued in the end, want %d", n, test.later)
				}

				if r := e.board.get(key); r.Sync != test.sync || r.Settled != test.settled {
					t.Errorf("%s, settled %v", r.Sync, r.Settled)
				}
			})
		})
	}
}

// drain takes all but the last from the queue and returns that.
func drain(e *Engine) (key Key) {
	for e.queue.Len() > 0 {
		key, _ = e.queue.Get()
		e.queue.Done(key)
	}

	return key
}

// A target that failed often and then succeeded begins anew with the shortest pause, and so
// does one that a new revision or a request comes for.
func TestNewerWins_ForgetsTheBackoff(t *testing.T) {
	for name, forget := range map[string]func(e *Engine, key Key){
		"a success":           func(e *Engine, key Key) { e.process(t.Context(), key, func(*target) error { return nil }) },
		"a wait":              func(e *Engine, key Key) { e.process(t.Context(), key, func(*target) error { return &WaitError{} }) },
		"a new revision":      func(e *Engine, _ Key) { revision(e, "s", "2", map[string]string{"a": "2"}) },
		"a request":           func(e *Engine, key Key) { _ = e.Reconcile(key) },
		"a new configuration": func(e *Engine, _ Key) { e.Reconfigure([]SourceConfig{{Name: "s", Source: idle{}, Prune: true}}) },
	} {
		t.Run(name, func(t *testing.T) {
			e := idleEngine()
			defer e.queue.ShutDown()

			revision(e, "s", "1", map[string]string{"a": "1"})
			key := drain(e)

			for range 10 {
				e.process(t.Context(), key, func(*target) error { return &RetryError{Err: errors.New("down")} })
			}

			if e.queue.NumRequeues(key) != 10 {
				t.Fatalf("%d failures are counted", e.queue.NumRequeues(key))
			}

			forget(e, key)

			if n := e.queue.NumRequeues(key); n != 0 {
				t.Errorf("%d failures are remembered", n)
			}
		})
	}
}

// A pass that a stop has cut short says nothing about its target.
func TestStatus_StopSaysNothing(t *testing.T) {
	e := idleEngine()
	revision(e, "s", "1", map[string]string{"a": "1"})
	key := drain(e)
	before := e.board.get(key).TargetStatus

	ctx, cancel := context.WithCancel(t.Context())
	e.process(ctx, key, func(*target) error { cancel(); return &StalledError{errors.New("cut short")} })

	if now := e.board.get(key).TargetStatus; now != before || e.queue.Len() != 0 {
		t.Errorf("%+v, queued: %d", now, e.queue.Len())
	}
}

// G7: clusters wait for the fleet resources, which are tried once whatever comes of it; then
// all of them have their turn.
func TestG7_FleetIsTriedFirst(t *testing.T) {
	for name, outcome := range map[string]error{
		"synced": nil, "refused": &StalledError{errors.New("no")}, "failed": &RetryError{Err: errors.New("down")}, "held": &WaitError{},
	} {
		t.Run(name, func(t *testing.T) {
			e := idleEngine()
			defer e.queue.ShutDown()

			revision(e, "s", "1", map[string]string{"": "1", "a": "1", "b": "1"})
			drain(e)
			e.process(t.Context(), Key{"s", "a"}, func(*target) error { t.Error("a cluster came first"); return nil })
			e.process(t.Context(), Key{"s", ""}, func(*target) error { return outcome })

			queued := map[string]bool{}

			for e.queue.Len() > 0 {
				key, _ := e.queue.Get()
				queued[key.Target] = true
				e.queue.Done(key)
			}

			if !queued["a"] || !queued["b"] {
				t.Errorf("queued: %v", queued)
			}

			tried := false
			e.process(t.Context(), Key{"s", "a"}, func(*target) error { tried = true; return nil })

			if !tried {
				t.Error("a cluster is held back for ever")
			}
		})
	}
}

// What a target waited for brings it back, once: whether it is a resource, a MachineClass, the
// readiness of Omni, or what another cluster has let go of.
func TestG4_NoticesBringBack(t *testing.T) {
	machine := omni.Change{Type: omnires.MachineSetNodeType, ID: "m1", Cluster: "b"}
	settle := func(e *Engine, key Key, end func(*target)) {
		end(&target{Key: key, src: e.sources.get("s"), from: e.sources.get("s").desired.Load()})
	}

	for name, test := range map[string]struct {
		before func(e *Engine, key Key)
		notice omni.Change
		comes  bool
	}{
		"its own resource":   {func(*Engine, Key) {}, omni.Change{Type: omnires.ConfigPatchType, ID: "x", Cluster: "a"}, true},
		"another's resource": {func(*Engine, Key) {}, machine, false},
		"another's resource that it waits for": {func(e *Engine, key Key) {
			e.blocked.add(key, omnires.NewMachineSetNode("m1", omnires.NewMachineSet("b-x")))
			settle(e, key, func(t *target) { e.board.waiting(t, "elsewhere", true) })
		}, machine, true},
		"a class, refused": {func(e *Engine, key Key) {
			settle(e, key, func(t *target) { e.board.failed(t, "no", true) })
		}, omni.Change{Type: omnires.MachineClassType, ID: "x"}, true},
		"a class, not refused": {func(*Engine, Key) {}, omni.Change{Type: omnires.MachineClassType, ID: "x"}, false},
		"Omni was read":        {func(*Engine, Key) {}, omni.Change{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			e := idleEngine()
			defer e.queue.ShutDown()

			key := Key{"s", "a"}
			revision(e, "s", "1", map[string]string{"a": "1"})
			drain(e)
			test.before(e, key)
			waits := e.board.get(key).Settled
			e.notice(test.notice)

			if came := e.queue.Len() == 1; came != test.comes {
				t.Errorf("queued: %d", e.queue.Len())
			}

			if waits && e.board.get(key).Settled {
				t.Error("it is settled, although it is about to be looked at")
			}

			drain(e)

			if len(e.blocked.take(machine.Type, machine.ID)) != 0 {
				t.Error("what came is waited for")
			}
		})
	}
}

// A MachineClass that Omni kept for a cluster's sake can go once the cluster is done with it.
func TestG4_ClusterFreesItsClass(t *testing.T) {
	for name, test := range map[string]struct {
		refused, gone, comes bool
	}{"refused": {true, false, true}, "refused, the cluster is gone": {true, true, true}, "not refused": {false, false, false}} {
		t.Run(name, func(t *testing.T) {
			e := idleEngine()
			defer e.queue.ShutDown()

			revision(e, "s", "1", map[string]string{"": "1", "a": "1"}).fleetPending.Store(false)

			fleet := e.lookup(Key{"s", ""})
			if test.refused {
				e.board.failed(fleet, "in use", true)
			}

			if test.gone {
				revision(e, "s", "2", map[string]string{"": "1"}).fleetPending.Store(false)
				e.board.failed(e.lookup(Key{"s", ""}), "in use", true)
			}

			drain(e)
			e.process(t.Context(), Key{"s", "a"}, func(*target) error { return nil })

			if came := e.queue.Len() == 1; came != test.comes || came && drain(e).Target != "" {
				t.Errorf("queued: %v", came)
			}

			if test.comes && e.board.get(Key{"s", ""}).Settled {
				t.Error("the fleet resources are settled, although they are about to be tried")
			}
		})
	}
}
