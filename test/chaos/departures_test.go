package chaos

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

// departing is one version of the marks of what left Git. The database keeps them one after
// another, so that nothing about their order depends on what arrives here when.
type departing struct {
	at time.Time // when it was written

	diff.Departure

	// first is when this mark was written, whatever was written beside it later.
	first time.Time
	ours  bool
	place diff.Place
}

// begun is a deletion that began: a destroying mark that the daemon wrote.
type begun struct {
	key ref
	departing

	// others are the clusters that were about to leave as well.
	others []ref
}

const (
	// underWay is how long a write may take from the decision to the database.
	underWay = time.Second
	// blink is what two clocks of one machine may differ by.
	blink = 20 * time.Millisecond
)

// departs takes the marks of a version of a cluster or fleet resource. old is the version
// before it, nil if that is not known.
func (s *shadow) departs(key ref, l *life, old, r resource.Resource, at time.Time) {
	if key.typ != omni.ClusterType && !diff.IsFleet(r) {
		return
	}

	now := departing{at: at, first: at, Departure: diff.DepartureOf(r), ours: diff.SourceOf(r) == sourceName}
	if origin, ok := diff.OriginOf(r); ok {
		now.place = origin.Place
	}

	var before departing
	if n := len(l.marks); n > 0 {
		before = l.marks[n-1]
	}

	if before.State == now.State && before.ID == now.ID {
		now.first = before.first
	}

	l.marks = append(l.marks, now)

	if old != nil && old.Metadata().Phase() == resource.PhaseRunning && r.Metadata().Phase() != resource.PhaseRunning && !s.byUI[key] && !s.goesAlong(key, old) {
		s.torn(key, at)
	}

	if old == nil || now.State == before.State && now.ID == before.ID || !now.ours {
		return
	}

	if problem := s.judgeMark(key, old, before, now); problem != "" && (now.State != "" || locked(old)) {
		s.broken = append(s.broken, fmt.Sprintf("%s is marked %s at %s: %s", key, now.State, at.Format("15:04:05.000"), problem))
	}

	if now.State == diff.Destroying {
		s.begun = append(s.begun, begun{key, now, s.others(key, at)})
	}
}

// judgeMark says what is wrong with a mark that the daemon wrote over a version; "" if nothing.
// Nobody wrote in between: an update carries the version that it was made from.
func (s *shadow) judgeMark(key ref, old resource.Resource, before, now departing) string {
	switch {
	case key.typ == omni.ClusterType && locked(old):
		return "the cluster is locked"
	case old.Metadata().Phase() != resource.PhaseRunning:
		return "it is being torn down"
	case now.ID == "":
		return "the mark has no ID"
	case now.State != diff.Destroying:
		return ""
	case now.Confirmed != before.Confirmed && now.Confirmed:
		return "nobody confirmed it"
	case before.Confirmed:
		return ""
	case before.State != diff.Leaving:
		return fmt.Sprintf("it was not marked as leaving before, but as %q", before.State)
	case now.at.Sub(before.first) < deleteAfter-blink:
		return fmt.Sprintf("it was marked as leaving only %s before", now.at.Sub(before.first))
	case !now.place.Known():
		return "nobody knows where it came from"
	case !s.readsFrom(now.place, now.at):
		return "it came from " + now.place.String() + ", which the source did not read"
	default:
		return s.overBudget(key, now)
	}
}

// overBudget says why a deletion is one too many; "" if it is not. A daemon that starts
// begins to count anew.
func (s *shadow) overBudget(key ref, now departing) string {
	n := 1

	for _, b := range s.begun {
		if !b.Confirmed && b.key != key && (b.key.typ == omni.ClusterType) == (key.typ == omni.ClusterType) &&
			b.at.After(s.born()) && now.at.Sub(b.at) < deleteWindow-underWay {
			n++
		}
	}

	if limit := limitOf(key); n > limit {
		return fmt.Sprintf("it is the %d. without a confirmation within %s, and %d are allowed", n, deleteWindow, limit)
	}

	return ""
}

func limitOf(key ref) int {
	if key.typ == omni.ClusterType {
		return maxDelete
	}

	return 5 // the default of maxDeleteResources
}

// others returns the clusters that were about to leave without a confirmation when another
// one began to.
func (s *shadow) others(key ref, at time.Time) []ref {
	var others []ref

	for other, l := range s.lives {
		if other == key || other.typ != key.typ || l.now == nil || l.now.Metadata().Phase() != resource.PhaseRunning || len(l.marks) == 0 {
			continue
		}

		last := l.marks[len(l.marks)-1]
		waits := last.State == diff.Leaving || last.State == diff.Kept && last.Cause == keptBudget

		if last.ours && waits && !last.Confirmed && at.Sub(last.first) > underWay {
			others = append(others, other)
		}
	}

	return others
}

// keptBudget is the cause of a mark of what is kept because too much left at once.
const keptBudget = "budget"

// reading is where the source reads from, for a while.
type reading struct {
	span
	place diff.Place
}

// readsFrom reports whether the source reads from a place, or did a moment ago.
func (s *shadow) readsFrom(place diff.Place, at time.Time) bool {
	return slices.ContainsFunc(s.places, func(r reading) bool {
		return r.place.Equal(place) && !at.Before(r.from) && (r.to.IsZero() || at.Before(r.to.Add(underWay)))
	})
}

// reads notes where the source reads from, from now on.
func (s *shadow) reads(place diff.Place) {
	s.mu.Lock()
	defer s.mu.Unlock()

	now := time.Now()
	if n := len(s.places); n > 0 {
		s.places[n-1].to = now
	}

	s.places = append(s.places, reading{span{from: now}, place})
}

// judgeBegun says what is wrong with a deletion that began, by what the daemon knew; "" if
// nothing. moments are those of its log around that time.
func judgeBegun(b *begun, moments []moment, revisions map[string]*head, recent []*head) string {
	if b.Confirmed {
		return ""
	}

	for i, m := range moments {
		// The first was in force all along, and the last ones came too late to matter.
		if late := b.at.Add(-underWay); m.at.After(late) {
			break
		}

		switch h := revisions[m.hash]; {
		case m.what == ended:
			return fmt.Sprintf("the daemon was restarted %s before", b.at.Sub(m.at))
		case m.what == configured:
			return fmt.Sprintf("the daemon read its configuration again %s before", b.at.Sub(m.at))
		case h == nil:
		case !h.whole:
			return fmt.Sprintf("a revision that was not whole was in force (%d. of the last %s)", i, deleteAfter)
		case h.describes(b.key):
			return fmt.Sprintf("a revision that describes it was in force (%d. of the last %s)", i, deleteAfter)
		}
	}

	for _, other := range b.others {
		if b.key.typ == omni.ClusterType && goneFor(other, b.at, recent) {
			return fmt.Sprintf("%s left, too, and %d may go", other, maxDelete)
		}
	}

	return ""
}

// goneFor reports whether no revision has described something for long enough that the
// daemon must know.
func goneFor(key ref, at time.Time, recent []*head) bool {
	known := false

	for _, h := range recent {
		if h.at.After(at) {
			break
		}

		switch gone := h.whole && !h.describes(key); {
		case !gone:
			known = false
		case at.Sub(h.at) > grace:
			known = true
		}
	}

	return known
}

// describes reports whether a revision wants something, or does not clearly give it up.
func (h *head) describes(key ref) bool {
	if key.typ == omni.ClusterType {
		return h.names[key.id]
	}

	_, described := h.keys[key]

	return described
}

// checkBegun asserts what is to be said of the deletions that began before a moment.
func (w *world) checkBegun(before time.Time, recent []*head) (broken []string) {
	w.shadow.mu.Lock()
	all := slices.Clone(w.shadow.begun[w.shadow.judged:])
	w.shadow.mu.Unlock()

	for i := range all {
		b := &all[i]
		if !b.at.Before(before) {
			break
		}

		moments := w.daemon.log.since(b.at.Add(blink - deleteAfter))
		if problem := judgeBegun(b, moments, w.repo.revisions, recent); problem != "" {
			broken = append(broken, fmt.Sprintf("the deletion of %s begins at %s: %s", b.key, b.at.Format("15:04:05.000"), problem))
		}

		how := "unasked"
		if b.Confirmed {
			how = "confirmed"
		}

		w.tally("deletion", how)

		w.shadow.mu.Lock()
		w.shadow.judged++
		w.shadow.mu.Unlock()
	}

	return broken
}

// permitted says what the marks of a cluster or fleet resource lack when the daemon tears it
// down; "" if nothing (G11).
func (p *past) permitted(l *life, w *write) string {
	held := func(m departing, until time.Time) bool {
		return !m.at.After(w.at) && (until.IsZero() || until.After(w.at.Add(-grace)) || p.blindWithin(until, w.at))
	}

	problem := "it was not marked as destroying before"

	for i, m := range l.marks {
		var until time.Time
		if i+1 < len(l.marks) {
			until = l.marks[i+1].at
		}

		switch {
		case m.State != diff.Destroying || !held(m, until):
		case !m.ours:
			problem = "it does not carry our mark"
		case m.first.Before(w.born) && w.at.Sub(w.born) > leftover:
			problem = "another daemon marked it as destroying"
		default:
			return ""
		}
	}

	return problem
}

// goesAlong reports whether Omni tears something down with its cluster.
func (s *shadow) goesAlong(key ref, r resource.Resource) bool {
	cluster := clusterOf(r)
	if key.typ == omni.ClusterType || cluster == "" {
		return false
	}

	l := s.lives[ref{omni.ClusterType, cluster}]

	return l == nil || l.now == nil || l.now.Metadata().Phase() != resource.PhaseRunning
}

// tears notes that the UI is about to tear something down: that needs no mark.
func (s *shadow) tears(key ref) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.byUI[key] = true
}

// tore is a teardown of a cluster or fleet resource that the shadow saw. It has no RPC of its
// own: it is an update to another phase.
func (w *world) tore(key ref, at time.Time) {
	entry := write{Write: embedded.Write{Verb: embedded.VerbTeardown, Type: key.typ, ID: key.id, Identity: account}, at: at}
	entry.place, entry.fleet = w.shadow.lives[key].place, w.shadow.lives[key].fleet

	w.mu.Lock()
	defer w.mu.Unlock()

	entry.born, entry.forbidden = w.daemon.bornAt(), cmp.Or(w.forbidden, w.spared)
	w.writes = append(w.writes, entry)
}

// forget forgets at a quiet point what the test did.
func (s *shadow) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()

	clear(s.unlocking)
	clear(s.byUI)
}
