package sync

import (
	"slices"
	"strings"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
)

// Ledger is what a restart must not forget of what left Git. Without it each start would have a whole budget, and take
// for good what somebody confirmed before the template was back (G11).
type Ledger struct {
	// Begun are the deletions without a confirmation that were begun within [Config.DeleteWindow].
	Begun []BegunDeletion `json:"begun"`
	// Void are marks that mean nothing any more: what they are on was back in Git, and a lock kept them there.
	Void []VoidMark `json:"void,omitempty"`
	// Lost is when a ledger could not be read; the zero value: never. For DeleteWindow nothing goes unconfirmed then.
	Lost time.Time `json:"lost,omitzero"`
}

// BegunDeletion is a deletion that somebody's budget paid for.
type BegunDeletion struct {
	Source string        `json:"source"`
	Type   resource.Type `json:"type"`
	ID     resource.ID   `json:"id"`
	// Mark is the ID of the mark under which it was begun.
	Mark string `json:"mark"`
	// At is when, by the clock on the wall: the other one ends with the process.
	At time.Time `json:"at"`
}

// VoidMark is the ID of a mark, and on what it is.
type VoidMark struct {
	Type resource.Type `json:"type"`
	ID   resource.ID   `json:"id"`
	Mark string        `json:"mark"`
}

// LostLedger is the ledger of a place where one was and cannot be read.
func LostLedger() Ledger { return Ledger{Lost: time.Now().UTC().Truncate(time.Second)} }

// keptFor is how much of the window is left of something that was written down. A clock that was set back since makes it
// new, and never old.
func keptFor(at time.Time, window time.Duration) (age time.Duration, counts bool) {
	age = max(time.Since(at), 0)

	return age, !at.IsZero() && age < window
}

// restore takes up what the last run wrote down.
func (a *absences) restore(kept Ledger) {
	now := time.Now()

	for _, b := range kept.Begun {
		if age, counts := keptFor(b.At, a.window); counts {
			a.begun[begunKey{b.Source, ref{b.Type, b.ID}}] = begun{b.Mark, now.Add(-age)}
		}
	}

	for _, v := range kept.Void {
		a.gone[ref{v.Type, v.ID}] = absence{void: v.Mark}
	}

	if age, counts := keptFor(kept.Lost, a.window); counts {
		a.lost = now.Add(-age)
	}
}

// blind returns for how long nobody knows what was deleted lately; 0 if that is known.
func (a *absences) blind() time.Duration {
	if a.lost.IsZero() {
		return 0
	}

	return max(a.window-time.Since(a.lost), 0)
}

// ledger returns what has to be written down, beside what others wrote at the same place: the newest of each deletion,
// and the void marks that are still on something.
func (a *absences) ledger(kept Ledger, carries func(VoidMark) bool) Ledger {
	a.mu.Lock()
	defer a.mu.Unlock()

	next := Ledger{Begun: []BegunDeletion{}, Lost: kept.Lost}
	if _, counts := keptFor(kept.Lost, a.window); !counts {
		next.Lost = time.Time{}
	}

	for key, b := range a.begun {
		at := time.Now().Add(-time.Since(b.at)).UTC().Truncate(time.Second) // as the wall says now
		next.Begun = append(next.Begun, BegunDeletion{key.source, key.ref.typ, key.ref.id, b.id, at})
	}

	next.Begun = append(next.Begun, kept.Begun...)
	slices.SortStableFunc(next.Begun, func(x, y BegunDeletion) int {
		return strings.Compare(x.Source+"\x00"+x.Type+"\x00"+x.ID, y.Source+"\x00"+y.Type+"\x00"+y.ID)
	})
	next.Begun = slices.CompactFunc(next.Begun, func(x, y BegunDeletion) bool { // ours come first
		return x.Source == y.Source && x.Type == y.Type && x.ID == y.ID
	})
	next.Begun = slices.DeleteFunc(next.Begun, func(b BegunDeletion) bool {
		_, counts := keptFor(b.At, a.window)

		return !counts
	})

	for key, gone := range a.gone {
		if gone.void != "" {
			next.Void = append(next.Void, VoidMark{key.typ, key.id, gone.void})
		}
	}

	next.Void = append(next.Void, kept.Void...)
	slices.SortFunc(next.Void, func(x, y VoidMark) int {
		return strings.Compare(x.Type+"\x00"+x.ID+"\x00"+x.Mark, y.Type+"\x00"+y.ID+"\x00"+y.Mark)
	})
	next.Void = slices.DeleteFunc(slices.Compact(next.Void), func(v VoidMark) bool { return !carries(v) })

	return next
}

// keepLedger writes the ledger down. It is durable on return, unless there is no place for it.
func (e *Engine) keepLedger() error {
	if e.KeepLedger == nil {
		return nil
	}

	return e.KeepLedger(func(kept Ledger) Ledger { return e.absences.ledger(kept, e.carries) })
}

// carries reports whether something may still carry a mark.
func (e *Engine) carries(v VoidMark) bool {
	if e.Snapshot.Err() != nil {
		return true
	}

	r, ok := e.Snapshot.Get(v.Type, v.ID)

	return ok && diff.DepartureOf(r).ID == v.Mark
}

// noteBack notes that Git describes a resource. If its mark cannot be taken off, that has to outlive a restart.
func (e *Engine) noteBack(r resource.Resource) {
	if !e.absences.back(r) {
		return
	}

	if err := e.keepLedger(); err != nil {
		e.Logger.Warn("it cannot be written down that a mark means nothing any more; a restart may take it for good", zap.String("resource", diff.Name(r)), zap.Error(err))
	}
}

// countBegun takes what another shard begins to destroy from the budget, which is one for all. What a daemon with other
// sources destroys, or one that reads another repository under the same name, is none of its business.
func (e *Engine) countBegun(change omni.Change) {
	r, ok := e.Snapshot.Get(change.Type, change.ID)
	if !ok || !isRoot(r) {
		return
	}

	src := e.sources.get(diff.SourceOf(r))
	if src == nil {
		return
	}

	if d := src.desired.Load(); d != nil && e.isStranger(&target{from: d}, r) {
		return
	}

	mark := diff.DepartureOf(r)
	if mark.State != diff.Destroying || mark.Confirmed || !e.absences.note(begunKey{diff.SourceOf(r), refOf(r)}, mark.ID) {
		return
	}

	if err := e.keepLedger(); err != nil {
		e.Logger.Warn("the deletion that another replica began cannot be written down; a restart forgets it", zap.String("resource", diff.Name(r)), zap.Error(err))
	}
}
