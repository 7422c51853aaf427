package embedded_test

import (
	"context"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

var patchKind = resource.NewMetadata(resources.DefaultNamespace, omni.ConfigPatchType, "", resource.VersionUndefined)

// watcher is an aggregated watch of config patches through a client that does not resume by itself: the streams of a test end
// before they have a bookmark to resume from, or in an error that is not retried.
type watcher struct {
	t      *testing.T
	events chan []state.Event
	rest   []state.Event
}

func watchPatches(t *testing.T, st state.State, opts ...state.WatchKindOption) *watcher {
	t.Helper()

	w := &watcher{t: t, events: make(chan []state.Event)}
	must(t, st.WatchKindAggregated(testContext(t), patchKind, w.events, opts...))

	return w
}

// batch returns the next message.
func (w *watcher) batch() []state.Event {
	w.t.Helper()

	select {
	case batch := <-w.events:
		return batch
	case <-testContext(w.t).Done():
		w.t.Fatal("no event came")

		return nil
	}
}

// next returns the next event.
func (w *watcher) next() state.Event {
	w.t.Helper()

	if len(w.rest) == 0 {
		w.rest = w.batch()
	}

	event := w.rest[0]
	w.rest = w.rest[1:]

	return event
}

func (w *watcher) expect(typ state.EventType, id resource.ID) state.Event {
	w.t.Helper()

	event := w.next()
	if event.Type != typ || id != "" && event.Resource.Metadata().ID() != id {
		w.t.Fatalf("got %s of %v (%v), want %s of %q", event.Type, event.Resource, event.Error, typ, id)
	}

	return event
}

// silent proves that nothing arrived: another watch has seen what happened after, and a round trip went by.
func (w *watcher) silent(after func()) {
	w.t.Helper()

	after()

	select {
	case batch := <-w.events:
		w.t.Errorf("a dead watch got %v", batch)
	default:
	}
}

func TestWatch(t *testing.T) {
	s := start(t, embedded.Config{NoControllers: true})
	st, ctx := operator(t, s), testContext(t)

	must(t, st.Create(ctx, newPatch("blue", "a")))
	must(t, st.Create(ctx, newPatch("blue", "b")))
	must(t, st.Create(ctx, newPatch("red", "c")))

	w := watchPatches(t, st, state.WithBootstrapContents(true))

	bootstrap := w.batch()
	if len(bootstrap) != 4 {
		t.Fatalf("the bootstrap is %d events in one message, want 4: %v", len(bootstrap), bootstrap)
	}

	for i, event := range bootstrap {
		if last := i == len(bootstrap)-1; last != (event.Type == state.Bootstrapped) || last == (event.Bookmark == nil) {
			t.Errorf("event %d is %s with bookmark %x", i, event.Type, event.Bookmark)
		}
	}

	// With a label selector an update that stops matching is a Destroyed.
	blue := watchPatches(t, st, state.WithBootstrapContents(true), state.WatchWithLabelQuery(resource.LabelEqual(omni.LabelCluster, "blue")))
	blue.expect(state.Created, "a")
	blue.expect(state.Created, "b")
	blue.expect(state.Bootstrapped, "")

	must(t, update(ctx, st, newPatch("", "a"), func(r *omni.ConfigPatch) { r.Metadata().Labels().Set(omni.LabelCluster, "red") }))
	blue.expect(state.Destroyed, "a")

	if updated := w.expect(state.Updated, "a"); updated.Bookmark == nil || updated.Old == nil {
		t.Errorf("an update has bookmark %x and old version %v", updated.Bookmark, updated.Old)
	}

	// Resume from the bootstrap's bookmark, and from an event's.
	resumed := watchPatches(t, st, state.WithKindStartFromBookmark(bootstrap[3].Bookmark))
	mark := resumed.expect(state.Updated, "a").Bookmark

	must(t, st.Destroy(ctx, newPatch("", "b").Metadata()))
	watchPatches(t, st, state.WithKindStartFromBookmark(mark)).expect(state.Destroyed, "b")
	resumed.expect(state.Destroyed, "b")

	t.Run("garbage bookmark", func(t *testing.T) {
		for _, garbage := range [][]byte{[]byte("garbage"), {1}, slices.Repeat([]byte{255}, 8), make([]byte, 16)} {
			err := st.WatchKindAggregated(testContext(t), patchKind, make(chan []state.Event), state.WithKindStartFromBookmark(garbage))
			if !state.IsInvalidWatchBookmarkError(err) {
				t.Errorf("bookmark %x: %v", garbage, err)
			}
		}
	})

	t.Run("bookmark from the future", func(t *testing.T) {
		future := slices.Clone(mark)
		binary.BigEndian.PutUint64(future, binary.BigEndian.Uint64(future)+100)

		dead := watchPatches(t, st, state.WithKindStartFromBookmark(future))
		dead.silent(func() {
			must(t, st.Create(ctx, newPatch("blue", "d")))
			resumed.expect(state.Created, "d")
		})
	})

	t.Run("tailEvents", func(t *testing.T) {
		if err := st.WatchKindAggregated(testContext(t), patchKind, make(chan []state.Event), state.WithKindTailEvents(1)); err == nil {
			t.Error("tailEvents was accepted")
		}
	})

	t.Run("bookmark with bootstrap", func(t *testing.T) {
		err := st.WatchKindAggregated(testContext(t), patchKind, make(chan []state.Event), state.WithKindStartFromBookmark(mark), state.WithBootstrapContents(true))
		if err == nil {
			t.Error("a bookmark together with a bootstrap was accepted")
		}
	})

	t.Run("single resource", func(t *testing.T) {
		events := make(chan state.Event)
		must(t, st.Watch(testContext(t), newPatch("", "x").Metadata(), events))

		if event := receive(t, events); event.Type != state.Destroyed {
			t.Errorf("the first event of a missing resource is %s", event.Type)
		}

		must(t, st.Create(ctx, newPatch("blue", "x")))

		if event := receive(t, events); event.Type != state.Created || len(event.Bookmark) != 8 {
			t.Errorf("got %s with bookmark %x", event.Type, event.Bookmark)
		}
	})
}

func receive[T any](t *testing.T, ch <-chan T) T {
	t.Helper()

	select {
	case v := <-ch:
		return v
	case <-testContext(t).Done():
		t.Fatal("nothing came")

		panic("unreachable")
	}
}

// TestCompactedHistory: a bookmark older than the history is accepted, and an Errored event says that it is gone.
func TestCompactedHistory(t *testing.T) {
	s := start(t, embedded.Config{NoControllers: true})
	st, ctx := operator(t, s), testContext(t)

	must(t, st.Create(ctx, newPatch("blue", "a")))

	w := watchPatches(t, st, state.WithBootstrapContents(true))
	w.expect(state.Created, "a")
	w.expect(state.Bootstrapped, "")

	must(t, st.Create(ctx, newPatch("blue", "b")))
	mark := w.expect(state.Created, "b").Bookmark

	must(t, st.Create(ctx, newPatch("blue", "c")))

	backup, err := s.Backup(ctx)
	must(t, err)
	must(t, s.Restore(ctx, backup)) // keeps no history

	st = operator(t, s)
	old := watchPatches(t, st, state.WithKindStartFromBookmark(mark))
	old.expect(state.Errored, "")
	old.silent(func() {
		probe := watchPatches(t, st, state.WithBootstrapContents(true))
		must(t, st.Create(context.WithoutCancel(ctx), newPatch("blue", "d")))

		for probe.next().Type != state.Bootstrapped {
		}

		probe.expect(state.Created, "d")
	})
}
