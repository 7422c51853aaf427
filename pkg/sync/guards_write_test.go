package sync

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

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

// G1: the version that an update carries proves nothing once an older database was restored: a fleet resource that
// another source has in that one stays as it is.
func TestG1_UpdateOfAnotherHistory(t *testing.T) {
	e, seen := inMemory(nil)
	seen.Target = ""

	theirs := omnires.NewConfigPatch("x")
	theirs.Metadata().Annotations().Set(diff.MarkSource, "other")

	if err := e.State.Create(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}

	now, err := e.State.Get(t.Context(), theirs.Metadata())
	if err != nil {
		t.Fatal(err)
	}

	planned := now.DeepCopy()
	planned.Metadata().Annotations().Set(diff.MarkSource, "s")

	var retry *RetryError
	if err := e.write(t.Context(), seen, &diff.Change{Action: diff.Update, Old: planned, New: planned}); !errors.As(err, &retry) || !retry.Expected {
		t.Errorf("got %v", err)
	}

	if now, err = e.State.Get(t.Context(), theirs.Metadata()); err != nil || diff.SourceOf(now) != "other" {
		t.Errorf("it is %v, %v", now, err)
	}
}
