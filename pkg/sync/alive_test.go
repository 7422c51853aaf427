package sync

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	gosync "sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// loop runs the queue of an engine with some workers and its heartbeat until stop. Its
// source s has the targets a, b and c, all of them queued.
func loop(t *testing.T, e *Engine, workers int, reconcile func(context.Context, *target) error) (stop func()) {
	t.Helper()

	ctx, cancel := context.WithCancel(t.Context())

	var group gosync.WaitGroup

	for range workers {
		group.Go(func() { _ = e.work(ctx, func(t *target) error { return reconcile(ctx, t) }) })
	}

	group.Go(func() { _ = e.beat(ctx) })

	targets := targets{{Name: "a"}, {Name: "b"}, {Name: "c"}}
	e.sources.get("s").desired.Store(&desired{revision: "r", targets: targets})

	for _, target := range targets {
		e.queue.Add(Key{"s", target.Name})
	}

	return func() {
		cancel()
		e.queue.ShutDown()
		group.Wait()
	}
}

// One worker that never comes back is no reason to restart the daemon (G6), all of them are.
func TestAlive_HungWorkers(t *testing.T) {
	for workers, want := range map[int]bool{4: true, 3: false} {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := idleEngine()
				release := make(chan struct{})
				stop := loop(t, e, workers, func(context.Context, *target) error { <-release; return nil })

				time.Sleep(e.Timeout + aliveSlack - time.Second)

				if err := e.Alive(); err != nil {
					t.Error("before its time: ", err)
				}

				time.Sleep(time.Minute)

				if err := e.Alive(); (err == nil) != want {
					t.Errorf("%d workers, 3 of them hang: alive is %v", workers, err)
				}

				close(release)
				time.Sleep(2 * beatEvery)

				if err := e.Alive(); err != nil {
					t.Error("it does not come back to life: ", err)
				}

				stop()
			})
		})
	}
}

// An Omni that answers nothing keeps every worker busy, and the loop alive, however long a
// single pass takes.
func TestAlive_OmniHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _ := inMemory(func(state.State) state.State { return silent{} })
		change := &diff.Change{Action: diff.Create, New: marked("a", resource.PhaseRunning)}
		stop := loop(t, e, 1, func(ctx context.Context, t *target) error {
			var errs []error
			for range 10 {
				errs = append(errs, e.write(ctx, t, change))
			}

			return joined(errs)
		})

		for range 1000 {
			time.Sleep(time.Second)

			if err := e.Alive(); err != nil {
				t.Fatal(err)
			}
		}

		stop()
	})
}

type silent struct{ state.State }

func (silent) Create(ctx context.Context, _ resource.Resource, _ ...state.CreateOption) error {
	<-ctx.Done()

	return ctx.Err()
}

// An engine without anything to do moves, and one that does not run yet is not dead.
func TestAlive_Idle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := idleEngine()
		time.Sleep(time.Hour)

		if err := e.Alive(); err != nil || !e.Moved().IsZero() {
			t.Error("before it runs: ", err, e.Moved())
		}

		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)

		go func() { done <- e.Run(ctx) }()

		time.Sleep(time.Hour)

		if err := e.Alive(); err != nil || time.Since(e.Moved()) > beatEvery {
			t.Error("while it runs: ", err, e.Moved())
		}

		stop()

		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A lock that is never given back is found, although the workers may still be busy.
func TestAlive_Locks(t *testing.T) {
	e := idleEngine()
	defer e.queue.ShutDown()

	for name, lock := range map[string]gosync.Locker{
		"the turn of the sources": &e.sources.turn, "the board": &e.board.mu, "the blocked": &e.blocked.mu, "the journal": &e.journal.mu,
	} {
		t.Run(name, func(t *testing.T) {
			lock.Lock()

			done := make(chan struct{})

			go func() {
				defer close(done)

				e.touch()
			}()

			for e.pulse.touching.Load() == nil {
				runtime.Gosched()
			}

			if err := e.pulse.alive(time.Now().Add(time.Minute-time.Second), time.Minute); err != nil {
				t.Error("before its time: ", err)
			}

			if e.pulse.alive(time.Now().Add(time.Minute+time.Second), time.Minute) == nil {
				t.Error("the loop counts as alive")
			}

			lock.Unlock()
			<-done

			if e.pulse.touching.Load() != nil {
				t.Error("the heartbeat is still under way")
			}
		})
	}
}

func TestResultOf(t *testing.T) {
	for want, err := range map[Result]error{
		ResultSuccess: nil,
		ResultRequeue: errAgain,
		ResultWait:    fmt.Errorf("x: %w", &WaitError{Reason: "locked"}),
		ResultRetry:   &RetryError{Err: errors.New("x")},
		ResultStalled: joined([]error{&StalledError{errors.New("x")}}),
		ResultUnread:  errNotReady{errors.New("x")},
	} {
		if got := resultOf(err); got != want {
			t.Errorf("%v is %s, want %s", err, got, want)
		}
	}
}

// meter writes down what it is told.
type meter struct{ told []string }

func (m *meter) Reconciled(key Key, result Result, took time.Duration) {
	m.told = append(m.told, fmt.Sprint(key, " ", result, " ", took))
}

func (m *meter) Wrote(key Key, action diff.Action, result Result, drift bool) {
	m.told = append(m.told, fmt.Sprint(key, " ", action, " ", result, " drift ", drift))
}

// The meter hears of every pass and of every write that was sent, and of no others.
func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &meter{}
		e, seen := inMemory(nil)
		defer e.queue.ShutDown()

		e.Meter = m
		seen.from.revision, seen.from.targets = "main@1", targets{{Name: "a"}}
		e.board.updateSource("s", func(*SourceStatus) {})
		e.board.planned(seen, &diff.Plan{}) // so that it is about a revision

		change := &diff.Change{Action: diff.Create, New: marked("a", resource.PhaseRunning)}
		write := func(ctx context.Context) func(*target) error {
			return func(t *target) error { time.Sleep(time.Second); return e.write(ctx, t, change) }
		}
		stopped, stop := context.WithCancel(t.Context())
		stop()

		e.process(t.Context(), seen.Key, write(t.Context()))
		e.process(t.Context(), seen.Key, write(t.Context())) // exists
		e.process(t.Context(), seen.Key, func(*target) error { return &WaitError{Reason: "locked"} })
		e.process(t.Context(), Key{"other", "a"}, write(t.Context())) // is not known
		e.process(stopped, seen.Key, write(stopped))
		e.process(t.Context(), seen.Key, write(stopped)) // not sent

		want := []string{
			"{s a} create success drift false", "{s a} success 1s",
			"{s a} create retry drift true", "{s a} retry 1s",
			"{s a} wait 0s",
			"{s a} retry 1s",
		}
		if got := m.told; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	})
}
