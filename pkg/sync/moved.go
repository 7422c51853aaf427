package sync

import (
	"maps"
	"reflect"
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
		if d := src.desired.Load(); name != key.Source && d != nil && d.targets.get(key.Target) != nil {
			return name
		}
	}

	return ""
}

// unread says which other source may have the template that a source lost: one that was
// not read yet, that cannot be read at the moment, or that has yet to take the revision
// of the repository that both read; "" if there is none.
func (e *Engine) unread(t *target) string {
	for _, name := range slices.Sorted(maps.Keys(e.sources.all())) {
		src := e.sources.get(name)
		if src == nil || name == t.Source {
			continue
		}

		switch d := src.desired.Load(); {
		case d == nil:
			return "the source " + name + " was not read yet"
		case e.board.source(name).Error != "":
			return "the source " + name + " cannot be read at the moment"
		case sameOrigin(src.Source, t.src.Source) && d.revision != t.from.revision:
			return "the source " + name + " has yet to take the revision"
		}
	}

	return ""
}

// sameOrigin reports whether two sources read one repository together.
func sameOrigin(a, b Source) bool {
	return reflect.TypeOf(a).Comparable() && reflect.TypeOf(b).Comparable() && a == b
}

// movedFleet returns what other sources describe of fleet resources.
func (e *Engine) movedFleet(source string) []resource.Resource {
	var all []resource.Resource

	for name, src := range e.sources.all() {
		d := src.desired.Load()
		if name == source || d == nil {
			continue
		}

		if fleet := d.targets.get(""); fleet != nil {
			all = append(all, fleet.Resources...)
		}
	}

	return all
}

// queueMoved queues what other sources lost: src, which was read, may have it now, or no
// longer holds it back.
func (e *Engine) queueMoved(src *sourceState) {
	for name, other := range e.sources.all() {
		d := other.desired.Load()
		if name == src.Name || d == nil {
			continue
		}

		lost := slices.DeleteFunc(e.board.restless(name), func(key Key) bool { return key.Target == "" || d.wants(key.Target) })
		if fleet := (Key{name, ""}); e.board.has(fleet) {
			lost = append(lost, fleet)
		}

		for _, key := range lost {
			e.board.reopen(key)
			e.queue.Add(key)
		}
	}
}
