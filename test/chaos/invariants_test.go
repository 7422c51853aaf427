package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

const (
	// grace is how long a write may be under way, or a change in Omni on its way to the
	// daemon, while nothing is wrong with the network.
	grace = 3 * time.Second
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
	blind := slices.Clone(w.blind)
	w.mu.Unlock()

	past := past{heads: w.repo.heads, blind: blind}

	w.shadow.mu.Lock()
	past.lives = w.shadow.lives
	broken := slices.Clone(w.shadow.broken)

	for i := range writes {
		if problem := past.judge(&writes[i]); problem != "" {
			broken = append(broken, fmt.Sprintf("%s %s (cluster %q, answer %s) at %s: %s", writes[i].Verb, ref{writes[i].Type, writes[i].ID},
				writes[i].cluster, writes[i].Code, writes[i].at.Format("15:04:05.000"), problem))
		}

		w.count(&writes[i], &past)
	}
	w.shadow.mu.Unlock()

	if crash := w.daemon.log.crashed(); crash != "" {
		broken = append(broken, "the daemon crashed: "+crash)
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
}

// judge says what is wrong with a write of the daemon; "" if nothing is. The answer that
// the write got does not matter: it must not have been sent.
func (p *past) judge(w *write) string {
	key := ref{w.Type, w.ID}
	l := p.lives[key]

	if l == nil {
		l = &life{}
	}

	if w.cluster == "" {
		w.cluster, w.set = l.cluster, l.set
	}

	if strings.HasPrefix(w.ID, foreignPrefix) {
		return "it is foreign"
	}

	if since, locked := p.underLock(w); locked {
		return "its cluster was locked " + w.at.Sub(since).String() + " before"
	}

	if w.Verb == embedded.VerbCreate || w.Verb == embedded.VerbUpdate {
		return ""
	}

	// Ownership (G1). A mark that was taken off a moment ago, or while the daemon could
	// not see it, counts.
	wasOurs := slices.ContainsFunc(l.ours, func(s span) bool {
		return !s.from.After(w.at) && (s.to.IsZero() || s.to.After(w.at.Add(-grace)) || p.blindWithin(s.to, w.at))
	})
	if !wasOurs {
		return "it does not carry our mark"
	}

	// Destroy ends what was torn down. It never begins a deletion.
	if w.Verb == embedded.VerbDestroy {
		return ""
	}

	if !slices.ContainsFunc(p.heads, func(h *head) bool { return !h.at.After(w.at) && p.allows(h, w, key) }) {
		return "no revision allows it"
	}

	return ""
}

// allows reports whether a revision is a reason to tear something down (G2, G11).
func (p *past) allows(h *head, w *write, key ref) bool {
	set, described := h.keys[key]

	switch {
	case w.cluster == "": // a fleet resource
		return h.whole && !described
	case h.targets[w.cluster] != nil && slices.Contains(controlPlane(w.cluster, false), w.ID) && len(controlPlane(w.cluster, false)) > 1:
		return false // etcd would lose its quorum: no revision drops just one of these
	case h.targets[w.cluster] != nil: // it left its template, or changes its machine set
		return key.typ != omni.ClusterType && (!described || set != w.set)
	default:
		return h.whole && !h.names[w.cluster] && p.leftAtOnce(h, w.at) <= maxDelete
	}
}

// leftAtOnce is how many clusters the daemon must have found to be missing in a revision:
// those that were there all the time from the commit on.
func (p *past) leftAtOnce(h *head, at time.Time) int {
	n := 0

	for key, l := range p.lives {
		if key.typ != omni.ClusterType || h.names[key.id] {
			continue
		}

		if slices.ContainsFunc(l.running, func(s span) bool { return s.holds(h.at) && s.holds(at) }) {
			n++
		}
	}

	return n
}

// underLock reports whether a write reached a cluster whose lock the daemon must have
// known of (G8), and since when it was locked. The lock was known if, at any time since
// it was set, nothing was wrong with the network for the length of grace: then the watch
// has brought it, and a daemon that sees nothing later still remembers it, while one that
// starts anew reads it before it writes anything.
func (p *past) underLock(w *write) (time.Time, bool) {
	l := p.lives[ref{omni.ClusterType, w.cluster}]
	if l == nil || !slices.Contains(lockable, w.Type) {
		return time.Time{}, false
	}

	for _, lock := range l.locked {
		if !lock.holds(w.at) {
			continue
		}

		for from := lock.from; from.Add(grace).Before(w.at); {
			end, blind := p.blindEnd(from, from.Add(grace))
			if !blind {
				return lock.from, true
			}

			if end.IsZero() {
				break
			}

			from = end
		}
	}

	return time.Time{}, false
}

// lockable are the types that a cluster's lock is about.
var lockable = []string{omni.ClusterType, omni.MachineSetType, omni.MachineSetNodeType, omni.ConfigPatchType, omni.ExtensionsConfigurationType}

// blindEnd returns when the last blindness that touches from..to ends; zero if it has not.
func (p *past) blindEnd(from, to time.Time) (end time.Time, blind bool) {
	for _, s := range p.blind {
		if s.from.After(to) || !s.to.IsZero() && !s.to.After(from) {
			continue
		}

		if s.to.IsZero() {
			return time.Time{}, true
		}

		if s.to.After(end) {
			end = s.to
		}

		blind = true
	}

	return end, blind
}

func (p *past) blindWithin(from, to time.Time) bool {
	_, blind := p.blindEnd(from, to)

	return blind
}

// count notes what was put to the test.
func (w *world) count(entry *write, p *past) {
	w.seen.writes++

	if entry.Verb == embedded.VerbTeardown {
		w.seen.teardowns++

		if entry.Type == omni.ClusterType {
			w.seen.clusters++
		}
	}
}

func (w *world) coverage() string {
	return fmt.Sprintf("%d writes, %d teardowns (%d of clusters), %d changes kept from a locked cluster, %d starts of the daemon",
		w.seen.writes, w.seen.teardowns, w.seen.clusters, w.seen.underLock, w.daemon.starts)
}
