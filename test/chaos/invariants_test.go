package chaos

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/test/secrets"
)

const (
	// grace is how long a teardown may be under way after the daemon asked Omni whether
	// the resource still is what it was, while nothing is wrong with the network.
	grace = 3 * time.Second
	// leftover is how long a write of a killed daemon may be under way.
	leftover = time.Second
	// foreignPrefix starts the ID of everything that the UI made and Git never describes.
	foreignPrefix = "ui-"
)

// check asserts the invariants over the writes that arrived before a moment; younger ones
// are left for the next check, since the shadow may not have heard of their effects.
func (w *world) check(before time.Time) {
	w.t.Helper()

	w.mu.Lock()
	n := 0
	for n < len(w.writes) && w.writes[n].at.Before(before) {
		n++
	}
	writes := w.writes[:n:n]
	w.writes = w.writes[n:]
	past := past{heads: w.repo.heads, blind: slices.Clone(w.blind), known: maps.Clone(w.known), disowned: maps.Clone(w.disowned)}
	w.mu.Unlock()

	w.shadow.mu.Lock()
	past.lives = w.shadow.lives
	broken := slices.Clone(w.shadow.broken)

	for i := range writes {
		if problem := past.judge(&writes[i]); problem != "" {
			broken = append(broken, fmt.Sprintf("%s %s (cluster %q, answer %s) at %s: %s", writes[i].Verb, ref{writes[i].Type, writes[i].ID},
				writes[i].place.cluster, writes[i].Code, writes[i].at.Format("15:04:05.000"), problem))
		}
	}
	w.shadow.mu.Unlock()

	for i := range writes {
		w.count(&writes[i])
	}

	broken = append(broken, w.checkBegun(before, past.heads)...)

	if crash := w.daemon.log.crashed(); crash != "" {
		broken = append(broken, "the daemon crashed: "+crash)
	}

	if found := secrets.Find([]byte(w.daemon.log.tail())); found != "" {
		broken = append(broken, "a secret is in the daemon's log: "+found+"…")
	}

	if len(broken) > 0 {
		w.fail("an invariant is broken:\n  %s", strings.Join(broken, "\n  "))
	}
}

// past is what a write is judged by.
type past struct {
	lives map[ref]*life
	heads []*head
	blind []span
	// known is since when the daemon must know that a cluster is locked: it has answered
	// to a younger change of a Cluster.
	known map[string]time.Time
	// disowned is since when a resource is not ours, if nothing of the daemon's was under
	// way at that time.
	disowned map[ref]time.Time
}

// judge says what is wrong with a write of the daemon; "" if nothing is. The answer that
// the write got does not matter: it must not have been sent.
func (p *past) judge(w *write) string {
	key := ref{w.Type, w.ID}
	l := p.lives[key]

	if l == nil {
		l = &life{}
	}

	switch {
	case w.Verb == embedded.VerbCreate && l.now != nil:
		w.place = l.place // it may have been in another one before
	case w.Verb == embedded.VerbCreate && w.Code != codes.OK:
		w.place = place{} // for which one it was is not known
	case w.place.cluster == "":
		w.place, w.fleet = l.place, l.fleet
	}

	if w.forbidden != "" {
		return w.forbidden
	}

	if w.place.cluster == ownedByOther {
		return "it is part of a cluster of another source"
	}

	if strings.HasPrefix(w.ID, foreignPrefix) {
		return "it is foreign"
	}

	if strings.HasPrefix(w.place.cluster, secondPrefix) || w.place.cluster == alien {
		return "it came from another repository"
	}

	if since, locked := p.underLock(w); locked {
		return "its cluster is locked since " + since.Format("15:04:05.000") + ", and the daemon knows that"
	}

	switch w.Verb {
	case embedded.VerbCreate: // from a partial view (G2)
		if slices.ContainsFunc(l.running, func(s span) bool {
			return s.from.Before(w.born) && s.holds(w.at) && w.at.After(w.born.Add(leftover))
		}) {
			return "it has been there since before the daemon started"
		}

		return ""
	case embedded.VerbUpdate:
		return ""
	}

	if !p.wasOurs(l, w) {
		return "it does not carry our mark"
	}

	// Destroy ends what was torn down. It never begins a deletion.
	if w.Verb == embedded.VerbDestroy {
		return ""
	}

	if w.fleet || w.Type == omni.ClusterType {
		if problem := p.permitted(l, w); problem != "" {
			return problem
		}
	}

	if !slices.ContainsFunc(p.heads, func(h *head) bool { return !h.at.After(w.at) && p.allows(h, w, key) }) {
		return "no revision allows it"
	}

	return ""
}

// wasOurs reports whether a resource carried our mark when the daemon looked (G1). It asks
// Omni just before, so it need not have seen the last change: only a request that the
// network held back may be older.
func (p *past) wasOurs(l *life, w *write) bool {
	since, exact := p.disowned[ref{w.Type, w.ID}]
	exact = exact && !w.at.Before(since)

	return slices.ContainsFunc(l.ours, func(s span) bool {
		switch {
		case s.from.After(w.at):
			return false
		case s.to.IsZero() || s.to.After(w.at):
			return true
		case exact:
			return false
		default:
			return s.to.After(w.at.Add(-grace)) || p.blindWithin(s.to, w.at)
		}
	})
}

// allows reports whether a revision is a reason to tear something down (G2, G11).
func (p *past) allows(h *head, w *write, key ref) bool {
	where, described := h.keys[key]

	switch {
	case w.fleet || w.place.cluster == "": // whatever label it carries
		return h.whole && !described
	case h.targets[w.place.cluster] != nil && slices.Contains(controlPlane(w.place.cluster, false), w.ID) && len(controlPlane(w.place.cluster, false)) > 1:
		return false // etcd would lose its quorum: no revision drops just one of these
	case h.targets[w.place.cluster] != nil: // it left its template, or changes its machine set
		return key.typ != omni.ClusterType && (!described || where != w.place) && p.complete(h, w)
	default:
		return h.whole && !h.names[w.place.cluster]
	}
}

// complete reports whether everything that a revision describes of a cluster was there
// when something of the cluster was torn down: what is new comes first (G7). What others
// took away just before, or while the daemon saw nothing, counts.
func (p *past) complete(h *head, w *write) bool {
	newest := h.targets[w.place.cluster].For("v1.11.0").Resources

	for _, r := range h.targets[w.place.cluster].Resources {
		if !slices.ContainsFunc(newest, func(other resource.Resource) bool { return refOf(other) == refOf(r) }) {
			continue // which of the two it has to be depends on the Omni of that time
		}

		l := p.lives[refOf(r)]
		if l == nil || !slices.ContainsFunc(l.there, func(s span) bool {
			return s.from.Before(w.at.Add(shadowLag)) && (s.to.IsZero() || s.to.After(w.at.Add(-grace)) || p.blindWithin(s.to, w.at))
		}) {
			return false
		}
	}

	return true
}

// underLock reports whether a write went to a cluster whose lock the daemon knows of (G8),
// and since when it is locked. One that sees nothing later still remembers the lock, and
// one that starts anew reads it before it writes anything.
func (p *past) underLock(w *write) (time.Time, bool) {
	known, ok := p.known[w.place.cluster]
	l := p.lives[ref{omni.ClusterType, w.place.cluster}]

	if !ok || l == nil || w.at.Before(known) || !slices.Contains(lockable, w.Type) {
		return time.Time{}, false
	}

	for _, lock := range l.locked {
		if lock.holds(known) && lock.holds(w.at) {
			return lock.from, true
		}
	}

	return time.Time{}, false
}

// lockable are the types that a cluster's lock is about.
var lockable = []string{omni.ClusterType, omni.MachineSetType, omni.MachineSetNodeType, omni.ConfigPatchType, omni.ExtensionsConfigurationType}

// blindWithin reports whether the daemon may have been blind at some time from..to.
func (p *past) blindWithin(from, to time.Time) bool {
	return slices.ContainsFunc(p.blind, func(s span) bool {
		return !s.from.After(to) && (s.to.IsZero() || s.to.After(from))
	})
}

// count notes what was put to the test.
func (w *world) count(entry *write) {
	w.tally("write", entry.Verb+" "+entry.Code.String())

	if entry.Verb == embedded.VerbTeardown && entry.Type == omni.ClusterType {
		w.tally("write", "Teardown of a cluster")
	}
}
