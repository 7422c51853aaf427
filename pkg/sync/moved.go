package sync

import (
	"maps"
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// A template that moves from one source of the daemon to another takes its cluster along,
// without a word in the template: the old source lets go of what the new one describes.
// For that a cluster is deleted only when every source was read, whichever comes first.

// letsGo reports whether a target that left Git is released instead of destroyed. A
// deletion that has begun is ended all the same: what is left of a cluster that is gone
// can be neither changed nor taken over.
func (e *Engine) letsGo(t *target) bool {
	if t.desired != nil || t.Target == "" || !t.from.whole || e.movedTo(t.Key) == "" {
		return false
	}

	cluster, ok := e.Snapshot.Get(omni.ClusterType, t.Target)

	return ok && cluster.Metadata().Phase() == resource.PhaseRunning
}

// movedTo returns another source that describes a cluster; "" if there is none.
func (e *Engine) movedTo(key Key) string {
	for name, src := range e.sources.all() {
		if d := src.desired.Load(); name != key.Source && d != nil && d.targets[key.Target] != nil {
			return name
		}
	}

	return ""
}

// unread returns a source that has not delivered a revision yet; "" if there is none.
func (e *Engine) unread() string {
	for _, name := range slices.Sorted(maps.Keys(e.sources.all())) {
		if src := e.sources.get(name); src != nil && src.desired.Load() == nil {
			return name
		}
	}

	return ""
}

// queueMoved queues what other sources lost, if a new revision of src may have it or is the
// first one.
func (e *Engine) queueMoved(src *sourceState, previous, next *desired) {
	for name, other := range e.sources.all() {
		d := other.desired.Load()
		if name == src.Name || d == nil {
			continue
		}

		for _, key := range e.board.keys(name) {
			if !d.wants(key.Target) && (previous.revision == "" || changed(previous.targets[key.Target], next.targets[key.Target])) {
				e.board.reopen(key)
				e.queue.Add(key)
			}
		}
	}
}
