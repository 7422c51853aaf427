package sync

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/render"
)

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

		if restless := b.advance("s", "3"); len(restless) != 1 {
			t.Errorf("%s: a target that is at work is carried over", name)
		}

		b.planned(pass("3"), &diff.Plan{})
		end(b, pass("3"))

		if restless := b.advance("s", "4"); (len(restless) == 0) != (name == "synced") {
			t.Errorf("%s: restless with a revision that changes nothing for it: %v", name, restless)
		} else if len(restless) > 0 {
			continue
		}

		if r := b.get(key); r.Revision != "4" || !r.Settled {
			t.Errorf("%s: a revision was carried over, and it is %+v", name, r.TargetStatus)
		}

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

// A reader is told of a change once.
func TestBoard_ToldOnce(t *testing.T) {
	b := newTestBoard("s")
	b.ensure(Key{"s", "a"})

	first, _ := b.read(0)
	if again, _ := b.read(first.Version); len(first.Targets) != 1 || len(again.Targets) != 0 || len(again.Sources) != 0 {
		t.Errorf("first %d targets, then %d and %d sources", len(first.Targets), len(again.Targets), len(again.Sources))
	}
}
