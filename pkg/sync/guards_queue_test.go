package sync

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/render"
)

func (unreadable) Get(context.Context, resource.Pointer, ...state.GetOption) (resource.Resource, error) {
	return nil, errors.New("the connection is down")
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
				e.board.refuse(key, "step", "no")
				e.process(t.Context(), key, func(*target) error { return test.reconcile(e) })

				if again := e.board.get(key).refused == ""; again != strings.HasSuffix(name, "it lacked came") {
					t.Errorf("what was refused is sent again: %v", again)
				}

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

				failed := strings.HasPrefix(name, "a failure") || strings.HasPrefix(name, "a refusal") && test.settled
				if r := e.board.get(key); (r.Operation == Failed) != failed {
					t.Errorf("operation %q", r.Operation)
				}
			})
		})
	}
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
			synctest.Test(t, func(t *testing.T) {
				e := idleEngine()
				defer e.queue.ShutDown()

				key := Key{"s", "a"}
				revision(e, "s", "1", map[string]string{"a": "1"})
				drain(e)
				test.before(e, key)
				waits := e.board.get(key).Settled
				e.notice(test.notice)
				time.Sleep(time.Minute) // what was refused comes back with backoff

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

// What waits for something that ends by itself goes on with the operation that it began; what
// a guard holds has ended it.
func TestHistory_EndsWithTheGuard(t *testing.T) {
	for blocked, want := range map[bool]int{true: 1, false: 0} {
		var entries recorder

		e := idleEngine()
		e.journal = newJournal(&entries)
		revision(e, "s", "1", map[string]string{"a": "1"})

		key := drain(e)
		e.journal.wrote(e.lookup(key), &diff.Change{Action: diff.Create, New: omnires.NewCluster("a")}, "")
		e.process(t.Context(), key, func(*target) error { return &WaitError{Reason: "because", Blocked: blocked} })

		if len(entries) != want {
			t.Errorf("blocked %v: %d entries", blocked, len(entries))
		}
	}
}

// G10: what carries the mark of a source and is not known of is dealt with as what left Git;
// nothing else becomes a target, and none comes back from the dead.
func TestG10_WhatAppears(t *testing.T) {
	patch := func(annotations ...string) resource.Resource {
		r := omnires.NewConfigPatch("400-x")
		r.Metadata().Labels().Set(omnires.LabelCluster, "old")

		for _, a := range annotations {
			r.Metadata().Annotations().Set(a, "s")
		}

		return r
	}

	for name, test := range map[string]struct {
		appears resource.Resource
		want    []Key
	}{
		"a cluster of ours":    {marked("old", resource.PhaseRunning), []Key{{"s", "old"}}},
		"a cluster of nobody":  {omnires.NewCluster("old"), nil},
		"a manifest of ours":   {patch(diff.MarkSource, diff.MarkFleet), []Key{{"s", ""}}},
		"a part of a cluster":  {patch(diff.MarkSource), nil},
		"a manifest of nobody": {patch(), nil},
	} {
		t.Run(name, func(t *testing.T) {
			e := idleEngine()
			defer e.queue.ShutDown()

			e.Snapshot.Subscribe(e.notice)
			e.blocked.add(Key{"s", "gone"}, test.appears) // it went while it waited
			put(e, test.appears)

			if got := e.board.keys("s"); !slices.Equal(got, test.want) || e.queue.Len() != len(test.want) {
				t.Errorf("targets %v, queued: %d", got, e.queue.Len())
			}
		})
	}
}

// G1: the fleet resources of a source are those that carry its mark and the mark of a
// manifest; and whatever stands where it wants to write one, whoever made that.
func TestG1_LiveFleet(t *testing.T) {
	e := idleEngine()

	for id, annotations := range map[string][2]string{
		"ours": {"s", "fleet"}, "theirs": {"other", "fleet"}, "of a cluster": {"s", ""}, "nobody's": {}, "wanted": {}, "wanted, theirs": {"other", "fleet"},
	} {
		r := omnires.NewConfigPatch(id)
		if annotations[0] != "" {
			r.Metadata().Annotations().Set(diff.MarkSource, annotations[0])
		}

		if annotations[1] != "" {
			r.Metadata().Annotations().Set(diff.MarkFleet, "")
		}

		put(e, r)
	}

	seen := &target{Key: Key{"s", ""}, desired: &render.Target{Resources: []resource.Resource{
		omnires.NewConfigPatch("wanted"), omnires.NewConfigPatch("wanted, theirs"), omnires.NewConfigPatch("new"),
	}}}

	var got []string
	for _, r := range e.liveFleet(seen) {
		got = append(got, r.Metadata().ID())
	}

	slices.Sort(got)

	if want := []string{"ours", "wanted", "wanted, theirs"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A look at the health of a cluster that was due when it was gone already brought it back to the board: "deleted" was
// logged a second time.
func TestGone_IsNotLookedAt(t *testing.T) {
	e := idleEngine()
	leavingTarget(e)

	looked := false
	e.process(t.Context(), Key{"s", "a"}, func(*target) error { looked = true; return nil })

	if looked || e.board.has(Key{"s", "a"}) {
		t.Errorf("looked: %t, on the board: %t", looked, e.board.has(Key{"s", "a"}))
	}

	e.board.ensure(Key{"s", "a"}) // as for what was found in Omni
	e.process(t.Context(), Key{"s", "a"}, func(*target) error { looked = true; return nil })

	if !looked {
		t.Error("what was found in Omni was not looked at")
	}
}
