package sync

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// Lead says whether an engine may write: several replicas follow the same sources, and one
// of them leads. The others plan, show what is pending, and take over with all of it in
// memory.
type Lead interface {
	// Until is when the right to write ends unless it is renewed; ok is false if this
	// replica does not have it. It is asked before each write, whose deadline it is, and
	// never blocks.
	Until() (until time.Time, ok bool)
	// Leadership returns who leads, and a channel that is closed when that changes.
	Leadership() (Leadership, <-chan struct{})
}

// Leadership is who leads.
type Leadership struct {
	// Term counts the times that this replica took the lead; 0 while it does not lead.
	Term uint64
	// Leader is the replica that leads, as far as this one knows; "" if it does not.
	Leader string
	// Reason is why this replica does not lead although it could; "" if there is none.
	Reason string
}

// ErrStandby is what a request ends with that only the replica that leads can take.
var ErrStandby = errors.New("this replica stands by")

// Leadership returns who leads, and a channel that is closed when that changes. An engine
// without replicas always leads.
func (e *Engine) Leadership() (Leadership, <-chan struct{}) {
	if e.Lead == nil {
		return Leadership{Term: 1}, nil
	}

	return e.Lead.Leadership()
}

// Part returns the part of the fleet that this engine works on, and whether there may be
// other engines that follow the same sources.
func (e *Engine) Part() (shard Shard, replicated bool) {
	return e.Shard, e.Lead != nil || !e.Shard.Whole()
}

// mustLead returns an [ErrStandby] that names the leader if this engine does not lead.
func (e *Engine) mustLead() error {
	switch now, _ := e.Leadership(); {
	case now.Term != 0:
		return nil
	case now.Leader != "" && now.Reason == "":
		return fmt.Errorf("%w, %s leads: ask that one", ErrStandby, now.Leader)
	default:
		return fmt.Errorf("%w, and no other one is known to lead: try again in a moment", ErrStandby)
	}
}

// standby says why nothing may be written now to the targets of a source; "" if it may.
//
// A new leader has to have looked at the source since it took the lead. Until then it may
// know an older revision than the one that the last leader applied. To apply that would take
// changes back, and delete clusters as if they had left Git (G2).
func (e *Engine) standby(src *sourceState) string {
	if e.Lead == nil {
		return ""
	}

	// In this order: the next term may begin in between.
	_, may := e.Lead.Until()
	now, _ := e.Lead.Leadership()

	switch {
	case now.Reason != "":
		return "standing by: " + now.Reason
	case now.Leader != "" && (!may || now.Term == 0):
		return "standing by: " + now.Leader + " leads"
	case !may || now.Term == 0:
		return "standing by: no replica is known to lead"
	case src.lookedIn.Load() != now.Term:
		return "this replica took the lead, and has yet to look at the source " + src.Name
	default:
		return ""
	}
}

// writeBy is when a write that begins now has to have come back.
func (e *Engine) writeBy() time.Time {
	limit := time.Now().Add(e.Timeout)

	if e.Lead != nil {
		if until, _ := e.Lead.Until(); until.Before(limit) {
			return until
		}
	}

	return limit
}

// looker is a source that is asked for news from time to time. One that is watched is always
// up to date.
type looker interface {
	// Poke has it look now.
	Poke()
	// Looked is when the last look that succeeded began.
	Looked() time.Time
	// Newest is the ID of the revision that it led to.
	Newest() string
}

// askFirst is how soon it is asked whether a source was looked at: a request there takes
// longer. Then less and less often, up to askLast.
const askFirst, askLast = 20 * time.Millisecond, time.Second

// followLead has the sources looked at and their targets tried whenever this engine takes
// the lead, and the targets say that it stands by when it loses it, until ctx ends.
func (e *Engine) followLead(ctx context.Context) error {
	for ctx.Err() == nil {
		now, changed := e.Leadership()
		if e.Lead == nil {
			break
		}

		for name := range e.sources.all() {
			e.tryAll(name)
		}

		term, end := context.WithCancel(ctx)
		stop := context.AfterFunc(ctx, end)
		done := make(chan struct{})

		go func() {
			defer close(done)

			if now.Term != 0 {
				e.lookAnew(term, now.Term)
			}
		}()

		select {
		case <-ctx.Done():
		case <-changed:
		}

		end()
		stop()
		<-done
	}

	<-ctx.Done()

	return nil
}

// lookAnew waits, source by source, until what this engine knows of it is as new as its
// lead, and has its targets tried then. It returns when ctx ends, with the term.
func (e *Engine) lookAnew(ctx context.Context, term uint64) {
	began := time.Now()
	poked := map[string]bool{}

	for pause := askFirst; ; pause = min(2*pause, askLast) {
		var again <-chan time.Time

		for name, src := range e.sources.all() {
			if src.lookedIn.Load() == term {
				continue
			}

			if from, ok := src.Source.(looker); ok {
				if !poked[name] {
					poked[name] = true
					from.Poke()
				}

				if from.Looked().Before(began) || from.Newest() != e.board.source(name).Revision {
					again = time.After(pause)

					continue
				}
			}

			src.lookedIn.Store(term)
			e.Logger.Info("looked at the source since this replica took the lead", zap.String("source", name))
			e.tryAll(name)

			pause = askFirst
		}

		select {
		case <-ctx.Done():
			return
		case <-again:
		case <-e.sources.added:
			pause = askFirst
		}
	}
}

// tryAll has every target of a source planned anew, whatever it waits for; fleet resources
// that are not in Omni yet first, since clusters need them.
func (e *Engine) tryAll(source string) {
	src := e.sources.get(source)
	if src == nil {
		return
	}

	if d, fleet := src.desired.Load(), (Key{source, ""}); d != nil && e.board.has(fleet) && e.board.get(fleet).Sync != Synced {
		d.fleetPending.Store(true)
	}

	for _, key := range e.board.keys(source) {
		e.board.reopen(key)
		e.queue.Forget(key)
		e.queue.Add(key)
	}
}
