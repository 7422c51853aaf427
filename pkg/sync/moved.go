package sync

import (
	"maps"
	"reflect"
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// A cluster or fleet resource changes hands only if the operator lets the taker have it (allow.takeFrom), and with the
// consent of the side that gives: its template there names the taker, or it is gone there. Within a daemon that decides who gets it, never
// whether it survives: what any source describes does not leave. For that nothing is deleted before every source was
// read, whichever comes first.

// mayTake reports whether a target may take over a live resource that carries the mark of another source. What is part of
// a cluster comes along with it.
func (e *Engine) mayTake(t *target, r resource.Resource) bool {
	if isRoot(r) {
		return e.consents(t, r)
	}

	cluster, ok := e.Snapshot.Get(omni.ClusterType, t.Target)
	if in := clusterLabel(r); !ok || in != "" && in != t.Target {
		return false
	}

	// The cluster itself is the last to change hands.
	switch from := diff.SourceOf(r); diff.SourceOf(cluster) {
	case from:
		return e.consents(t, cluster)
	case t.Source:
		return slices.Contains(t.src.Allow.TakeFrom, from)
	default:
		return false
	}
}

// consents reports whether the source that a cluster or fleet resource carries the mark of lets this one have it.
func (e *Engine) consents(t *target, r resource.Resource) bool {
	from := diff.SourceOf(r)

	if !slices.Contains(t.src.Allow.TakeFrom, from) {
		return false // whatever a repository says, the operator decides
	}

	// One of them has yet to take the revision: in that the taker may have lost it, too.
	giver := e.sources.get(from)
	if giver != nil && sameOrigin(giver.Source, t.src.Source) {
		if d := giver.desired.Load(); d == nil || d.revision != t.from.revision {
			return false
		}
	}

	if to, _ := r.Metadata().Annotations().Get(diff.AnnotationHandover); to == t.Source {
		return true // its template there says so
	}

	if giver == nil {
		return diff.DepartureOf(r).State == diff.Leaving // another daemon found that its template is gone
	}

	d := giver.desired.Load()

	return d != nil && d.whole && e.board.source(from).Error == "" && !d.has(r)
}

// describedBy returns another source that describes what left this one; "" if there is none.
func (e *Engine) describedBy(t *target, r resource.Resource) string {
	if !isRoot(r) {
		return ""
	}

	for _, name := range slices.Sorted(maps.Keys(e.sources.all())) {
		src := e.sources.get(name)
		if src == nil || name == t.Source {
			continue
		}

		if d := src.desired.Load(); d != nil && d.has(r) {
			return name
		}
	}

	return ""
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
// not read yet, that cannot be read at the moment or in part only, or that has yet to take the revision
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
		case !d.whole:
			return "the revision of the source " + name + " is not whole"
		case sameOrigin(src.Source, t.src.Source) && d.revision != t.from.revision, sameBranch(d.place, t.from.place) && d.revision != t.from.revision:
			return "the source " + name + " has yet to take the revision"
		}
	}

	return ""
}

// sameBranch reports whether two sources follow one branch, by whatever clone.
func sameBranch(a, b diff.Place) bool {
	return a.Known() && a.Repository == b.Repository && a.Ref != "" && a.Ref != diff.RefRelease && a.Ref == b.Ref
}

// sameOrigin reports whether two sources read one repository together.
func sameOrigin(a, b Source) bool {
	return reflect.TypeOf(a).Comparable() && reflect.TypeOf(b).Comparable() && a == b
}

// queueMoved queues what other sources lost: src, which was read, may have it now, or no
// longer holds it back. It queues what src lost itself, too: others may take that over now.
func (e *Engine) queueMoved(src *sourceState, gone []string) {
	for name, other := range e.sources.all() {
		d := other.desired.Load()
		if name == src.Name || d == nil {
			continue
		}

		lost := slices.DeleteFunc(e.board.restless(name), func(key Key) bool {
			return key.Target == "" || d.wants(key.Target) && !slices.Contains(gone, key.Target)
		})
		if fleet := (Key{name, ""}); e.board.has(fleet) {
			lost = append(lost, fleet)
		}

		for _, key := range lost {
			e.board.reopen(key)
			e.queue.Add(key)
		}
	}
}
