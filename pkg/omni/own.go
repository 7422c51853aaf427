package omni

import (
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
)

// ownWrite is what we did to one resource and the watch has not shown yet. It keeps what is older than our own write from
// undoing it. The rules are in the package documentation.
type ownWrite struct {
	seq uint64    // its place among our writes and the starts of bootstraps
	at  time.Time // when it was done

	version  uint64    // put: events below this version are older; 0 if there is nothing to wait for
	teardown bool      // torn down: shown as tearing down until the watch shows it
	removed  bool      // destroyed: everything up to the watch's Destroyed event is older
	created  time.Time // of the resource that was torn down or destroyed: tells it from a later one of the same ID
}

func (w *ownWrite) settled() bool { return w.version == 0 && !w.teardown && !w.removed }

// view is one kind's part of the snapshot: what the watch and we ourselves said about it. The Snapshot's lock guards it.
type view struct {
	kind  Kind
	index *index
	own   map[resource.ID]*ownWrite
}

func (v *view) get(id resource.ID) (resource.Resource, bool) { return v.index.get(v.kind.Type, id) }

// put takes the result of our own Create or Update.
func (v *view) put(r resource.Resource, seq uint64) []Change {
	md := r.Metadata()
	version := md.Version().Value()

	if held, ok := v.get(md.ID()); ok {
		// An equal or newer version is held already, or one of another life of the ID. After a Create the client has no
		// creation time, so what is written before the watch has shown the Create may be ignored here: only a lag.
		if version <= held.Metadata().Version().Value() || !md.Created().Equal(held.Metadata().Created()) {
			return nil
		}
	} else if version != 1 {
		// The result of an update (or of nothing) of what has been destroyed meanwhile.
		return nil
	}

	w := v.note(md.ID(), seq)
	w.version = version

	return v.index.put(r)
}

// tearingDown takes our own Teardown.
func (v *view) tearingDown(md *resource.Metadata, seq uint64) []Change {
	held, ok := v.get(md.ID())
	if !ok || !md.Created().Equal(held.Metadata().Created()) || held.Metadata().Phase() == resource.PhaseTearingDown {
		return nil
	}

	w := v.note(md.ID(), seq)
	w.teardown, w.created = true, md.Created()

	return v.index.put(torndown(held))
}

// removed takes our own Destroy.
func (v *view) removed(md *resource.Metadata, seq uint64) []Change {
	held, ok := v.get(md.ID())
	if !ok || !md.Created().Equal(held.Metadata().Created()) {
		return nil
	}

	w := v.note(md.ID(), seq)
	w.version, w.teardown, w.removed, w.created = 0, false, true, md.Created()

	return v.index.remove(v.kind.Type, md.ID())
}

// read takes what Omni answered for one resource.
func (v *view) read(before, now resource.Resource, seq uint64) []Change {
	either := now
	if either == nil {
		either = before
	}

	id := either.Metadata().ID()
	held, _ := v.get(id)

	switch {
	case held != before: // they are never changed in place
		return nil
	case now == nil:
		return v.removed(held.Metadata(), seq)
	case held != nil && sameState(held, now):
		return nil
	}

	w := v.note(id, seq)
	w.version, w.teardown, w.removed = now.Metadata().Version().Value(), false, false

	return v.index.put(now)
}

// sameState reports whether two copies of a resource have nothing to tell each other. After an own Create the held one
// has no time.
func sameState(held, now resource.Resource) bool {
	a, b := held.Metadata(), now.Metadata()

	return a.Version().Equal(b.Version()) && (a.Created().IsZero() || a.Created().Equal(b.Created())) && !differs(held, now)
}

func (v *view) note(id resource.ID, seq uint64) *ownWrite {
	w := v.own[id]
	if w == nil {
		w = &ownWrite{}
		v.own[id] = w
	}

	w.seq, w.at = seq, time.Now()

	return w
}

// stored takes a Created or Updated event of the watch.
func (v *view) stored(r resource.Resource) []Change {
	id := r.Metadata().ID()

	if w := v.own[id]; w != nil {
		if w.removed || r.Metadata().Version().Value() < w.version {
			return nil
		}

		w.version = 0
		r = v.overlay(id, w, r)
	}

	return v.index.put(r)
}

// destroyed takes a Destroyed event of the watch.
func (v *view) destroyed(id resource.ID) []Change {
	if w := v.own[id]; w != nil && w.removed {
		// What we destroyed ourselves. If the ID is held, we have created it again since.
		w.removed = false
		v.settle(id, w)

		return nil
	}

	delete(v.own, id)

	return v.index.remove(v.kind.Type, id)
}

// bootstrapped takes the complete contents as Omni held them at some moment after since.
func (v *view) bootstrapped(contents map[resource.ID]resource.Resource, since uint64) []Change {
	var changes []Change

	for id, r := range contents {
		w := v.own[id]

		switch {
		case w == nil || w.seq <= since:
			delete(v.own, id)
		case w.removed && w.created.Equal(r.Metadata().Created()), r.Metadata().Version().Value() < w.version:
			continue // older than what we did
		default:
			w.removed, w.version = false, 0
			w.teardown = w.teardown && w.created.Equal(r.Metadata().Created())
			r = v.overlay(id, w, r)
		}

		changes = append(changes, v.index.put(r)...)
	}

	for id := range v.index.types[v.kind.Type] {
		if _, there := contents[id]; there {
			continue
		}

		if w := v.own[id]; w != nil && w.seq > since && w.version > 0 {
			continue // created after that moment
		}

		changes = append(changes, v.index.remove(v.kind.Type, id)...)
	}

	for id, w := range v.own {
		if _, there := contents[id]; there {
			continue
		}

		w.removed, w.teardown = false, false // it is gone there too

		if _, held := v.get(id); !held {
			w.version = 0
		}

		v.settle(id, w)
	}

	return changes
}

// overlay shows a resource as tearing down if we tore it down and r does not know yet.
func (v *view) overlay(id resource.ID, w *ownWrite, r resource.Resource) resource.Resource {
	switch {
	case !w.teardown:
	case r.Metadata().Phase() == resource.PhaseTearingDown:
		w.teardown = false
	default:
		r = torndown(r)
	}

	v.settle(id, w)

	return r
}

func (v *view) settle(id resource.ID, w *ownWrite) {
	if w.settled() {
		delete(v.own, id)
	}
}

// oldest is the time of the oldest own write that the watch has not shown; false if there is none.
func (v *view) oldest() (at time.Time, ok bool) {
	for _, w := range v.own {
		if !ok || w.at.Before(at) {
			at, ok = w.at, true
		}
	}

	return at, ok
}

func torndown(r resource.Resource) resource.Resource {
	r = r.DeepCopy()
	r.Metadata().SetPhase(resource.PhaseTearingDown)

	return r
}
