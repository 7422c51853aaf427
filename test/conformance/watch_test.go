package conformance

import (
	"context"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// bookmarkSize is that of etcd's revision, in bytes.
const bookmarkSize = 8

// stream is an aggregated watch of config patches.
type stream struct {
	t      *testing.T
	events chan []state.Event
	rest   []state.Event
}

// watchPatches watches those that a selector picks.
func (o *tenant) watchPatches(selector state.WatchKindOption, opts ...state.WatchKindOption) *stream {
	o.t.Helper()

	s := &stream{t: o.t, events: make(chan []state.Event)}
	must(o.t, o.st.WatchKindAggregated(testContext(o.t), omni.NewConfigPatch("").Metadata(), s.events, append(opts, selector)...))

	return s
}

// in selects the patches of one of the test's clusters.
func (o *tenant) in(cluster string) state.WatchKindOption {
	return state.WatchWithLabelQuery(resource.LabelEqual(omni.LabelCluster, o.id(cluster)))
}

// message returns the next message.
func (s *stream) message() []state.Event {
	s.t.Helper()

	select {
	case batch := <-s.events:
		return batch
	case <-testContext(s.t).Done():
		s.t.Fatal("no event came")

		return nil
	}
}

// expect returns the next event, which must be this one.
func (s *stream) expect(typ state.EventType, res resource.Resource) state.Event {
	s.t.Helper()

	if len(s.rest) == 0 {
		s.rest = s.message()
	}

	event := s.rest[0]
	s.rest = s.rest[1:]

	if event.Type != typ || res != nil && event.Resource.Metadata().ID() != res.Metadata().ID() {
		s.t.Fatalf("got %s of %v (%v), want %s of %v", event.Type, event.Resource, event.Error, typ, res)
	}

	if live := typ == state.Created || typ == state.Updated || typ == state.Destroyed; live && event.Bookmark != nil && len(event.Bookmark) != bookmarkSize {
		s.t.Errorf("%s of %v has the bookmark %x", typ, res, event.Bookmark)
	}

	return event
}

// bootstrap takes the first message, which must hold these, in any order, and the end of the bootstrap with its bookmark.
func (s *stream) bootstrap(all ...resource.Resource) state.Bookmark {
	s.t.Helper()

	batch := s.message()
	last := batch[len(batch)-1]

	if last.Type != state.Bootstrapped || len(last.Bookmark) != bookmarkSize {
		s.t.Fatalf("the first message ends in %s with the bookmark %x", last.Type, last.Bookmark)
	}

	left := map[resource.ID]bool{}
	for _, res := range all {
		left[res.Metadata().ID()] = true
	}

	for _, event := range batch[:len(batch)-1] {
		delete(left, event.Resource.Metadata().ID())

		if event.Type != state.Created || event.Bookmark != nil {
			s.t.Errorf("the bootstrap holds %s of %s with the bookmark %x", event.Type, event.Resource.Metadata().ID(), event.Bookmark)
		}
	}

	if len(left) > 0 {
		s.t.Errorf("the bootstrap lacks %v", left)
	}

	return last.Bookmark
}

func TestWatch(t *testing.T) {
	t.Parallel()

	o := newTenant(t)
	a, b, c, d := o.patch("blue", "a"), o.patch("blue", "b"), o.patch("red", "c"), o.patch("blue", "d")
	o.make(a, b, c)

	anything := func(*state.WatchKindOptions) {}
	o.watchPatches(anything, state.WithBootstrapContents(true)).bootstrap(a, b, c)

	blue := o.watchPatches(o.in("blue"), state.WithBootstrapContents(true))
	start := blue.bootstrap(a, b)
	red := o.watchPatches(o.in("red"), state.WithBootstrapContents(true))
	red.bootstrap(c)

	move := func(cluster string) func(*omni.ConfigPatch) {
		return func(r *omni.ConfigPatch) { r.Metadata().Labels().Set(omni.LabelCluster, o.id(cluster)) }
	}

	// An update that makes a selector match or not is the beginning or the end to its watch.
	o.do(change(a, move("red")))

	if left := blue.expect(state.Destroyed, a); left.Bookmark == nil {
		t.Error("the end of a match has no bookmark")
	}

	if came := red.expect(state.Created, a); came.Bookmark == nil {
		t.Error("the beginning of a match has no bookmark")
	}

	o.do(change(b, touch[*omni.ConfigPatch]))

	updated := blue.expect(state.Updated, b)
	if updated.Bookmark == nil || updated.Old == nil || updated.Old.Metadata().Version().Value() != 1 || updated.Resource.Metadata().Version().Value() != 2 {
		t.Errorf("an update has the bookmark %x, and goes from %v to %v", updated.Bookmark, updated.Old, updated.Resource)
	}

	o.make(d)
	blue.expect(state.Created, d)
	o.do(destroy(b))
	blue.expect(state.Destroyed, b)

	// A resumed watch gets what came after, and no bootstrap.
	fromStart := o.watchPatches(o.in("blue"), state.WithKindStartFromBookmark(start))
	fromStart.expect(state.Destroyed, a)
	fromStart.expect(state.Updated, b)
	fromStart.expect(state.Created, d)
	fromStart.expect(state.Destroyed, b)

	fromUpdate := o.watchPatches(o.in("blue"), state.WithKindStartFromBookmark(updated.Bookmark))
	fromUpdate.expect(state.Created, d)
	fromUpdate.expect(state.Destroyed, b)

	// A bookmark to begin with comes without a bootstrap, too.
	marked := o.watchPatches(o.in("blue"), state.WithBootstrapBookmark(true))
	mark := marked.expect(state.Noop, nil).Bookmark

	o.do(destroy(d))
	marked.expect(state.Destroyed, d)
	o.watchPatches(o.in("blue"), state.WithKindStartFromBookmark(mark)).expect(state.Destroyed, d)

	// From the future: accepted, and silent. That nothing comes can only be seen beside a watch to which something does.
	future := slices.Clone(mark)
	binary.BigEndian.PutUint64(future, binary.BigEndian.Uint64(future)+1_000_000)

	dead := o.watchPatches(o.in("blue"), state.WithKindStartFromBookmark(future))
	o.make(d)
	marked.expect(state.Created, d)

	select {
	case batch := <-dead.events:
		t.Errorf("a watch from the future got %v", batch)
	default:
	}

	check(t, o.st, []row{
		{"bookmark that is none", watch(a, state.WithKindStartFromBookmark([]byte("garbage"))), badBookmark, ""},
		{"bookmark too short", watch(a, state.WithKindStartFromBookmark(mark[1:])), badBookmark, ""},
		{"bookmark too long", watch(a, state.WithKindStartFromBookmark(append(slices.Clone(mark), 0))), badBookmark, ""},
		{"bookmark of the beginning of history", watch(a, state.WithKindStartFromBookmark(make([]byte, bookmarkSize))), accepted, ""},
		{"bookmark of one resource that is none", func(ctx context.Context, st state.State) error {
			return st.Watch(ctx, a.Metadata(), make(chan state.Event), state.WithStartFromBookmark([]byte("garbage")))
		}, badBookmark, ""},
		{"bookmark with a bootstrap", watch(a, state.WithKindStartFromBookmark(mark), state.WithBootstrapContents(true)), failed, "(?i)bootstrap"},
		{"tail", watch(a, state.WithKindTailEvents(1)), failed, "tail"},
		{"tail of one resource", func(ctx context.Context, st state.State) error {
			return st.Watch(ctx, a.Metadata(), make(chan state.Event), state.WithTailEvents(1))
		}, failed, "tail"},
	})
}

// TestWatchOfOne: a watch of one resource begins with what it is, also if it is nothing.
func TestWatchOfOne(t *testing.T) {
	t.Parallel()

	o := newTenant(t)
	a := o.patch("blue", "a")

	events := make(chan state.Event)
	must(t, o.st.Watch(testContext(t), a.Metadata(), events))

	next := func(want state.EventType) state.Event {
		t.Helper()

		select {
		case event := <-events:
			if event.Type != want {
				t.Fatalf("got %s of %v (%v), want %s", event.Type, event.Resource, event.Error, want)
			}

			return event
		case <-testContext(t).Done():
			t.Fatalf("no %s came", want)

			panic("unreachable")
		}
	}

	next(state.Destroyed)
	o.make(a)

	mark := next(state.Created).Bookmark
	if len(mark) != bookmarkSize {
		t.Errorf("the bookmark is %x", mark)
	}

	o.do(change(a, touch[*omni.ConfigPatch]))
	next(state.Updated)

	events = make(chan state.Event)
	must(t, o.st.Watch(testContext(t), a.Metadata(), events))
	next(state.Created)
	o.do(destroy(a))
	next(state.Destroyed)

	events = make(chan state.Event)
	must(t, o.st.Watch(testContext(t), a.Metadata(), events, state.WithStartFromBookmark(mark)))
	next(state.Updated)
	next(state.Destroyed)
}

// TestWatchUnaggregated: the same, one event a message.
func TestWatchUnaggregated(t *testing.T) {
	t.Parallel()

	o := newTenant(t)
	a, b := o.patch("blue", "a"), o.patch("blue", "b")
	o.make(a, b)

	events := make(chan state.Event)
	must(t, o.st.WatchKind(testContext(t), a.Metadata(), events, state.WithBootstrapContents(true), o.in("blue")))

	for _, want := range []state.EventType{state.Created, state.Created, state.Bootstrapped} {
		select {
		case event := <-events:
			if event.Type != want || (want == state.Bootstrapped) != (len(event.Bookmark) == bookmarkSize) {
				t.Fatalf("got %s with the bookmark %x, want %s", event.Type, event.Bookmark, want)
			}
		case <-testContext(t).Done():
			t.Fatalf("no %s came", want)
		}
	}
}
