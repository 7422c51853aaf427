package omni

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
)

// Ready reports that every kind has been read and no watch has been down for longer than StaleAfter.
func (s *Snapshot) Ready() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()

	return s.ready
}

// Fresh is how old what is known of Omni may be when something is written.
const Fresh = time.Second

// Current reports whether no watch has been down for longer than [Fresh], so that a write may be made from what is held.
// One watch that is lost casts doubt on all: they share a connection, and behind it an older database may come back. If
// it is false, subscribers get the zero Change as soon as it is true.
func (s *Snapshot) Current() bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	current := s.current()
	s.heldBack = s.heldBack || !current

	return current
}

// current is Current. The lock is held.
func (s *Snapshot) current() bool {
	now := time.Now()

	for _, w := range s.watchers {
		if w.isNew() || w.downFor(now) > Fresh {
			return false
		}
	}

	return true
}

// WaitReady returns nil as soon as the snapshot is ready. It returns an error for which [Rejected] or [Denied] is true as soon as
// Omni refuses a kind, because it takes a human to change that (Run keeps trying all the same). If ctx ends first, the
// error says what was still missing and wraps ctx's.
func (s *Snapshot) WaitReady(ctx context.Context) error {
	for {
		s.mu.RLock()
		again := s.waiting
		s.mu.RUnlock()

		err := s.Err()
		if err == nil || needsHuman(err) {
			return err
		}

		select {
		case <-again:
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, ctx.Err())
		}
	}
}

// Err says why the snapshot is not ready, in one line for people; nil if it is. It wraps the cause, so [Denied] tells a
// missing permission from an Omni that is away.
func (s *Snapshot) Err() error {
	if s.Ready() {
		return nil
	}

	return s.reason()
}

// reason describes the kind that is worst off: one that Omni refuses, else the one that is down the longest.
func (s *Snapshot) reason() error {
	s.mu.RLock()
	defer s.mu.RUnlock()

	var missing []*watcher

	for _, w := range s.watchers {
		if !w.usable(time.Now()) {
			missing = append(missing, w)
		}
	}

	if len(missing) == 0 {
		return errors.New("waiting for Omni's resources")
	}

	slices.SortFunc(missing, compareTrouble)

	worst, others := missing[0], ""
	if n := len(missing) - 1; n > 0 {
		others = fmt.Sprintf(" (and %d more)", n)
	}

	text := fmt.Sprintf("waiting for %s%s: ", worst.kind.Type, others)

	switch err := worst.err; {
	case err == nil:
		return errors.New(text + "being read")
	case needsHuman(err):
		return explained{text: text + Message(err) + "; " + remedy(err), err: err}
	default:
		return explained{text: text + Message(err), err: err}
	}
}

// updateReady works out readiness, and tells the subscribers if it changed, or if they are to be told anyway.
func (s *Snapshot) updateReady(tell bool) {
	s.mu.Lock()

	ready, now := true, time.Now()

	for _, w := range s.watchers {
		ready = ready && w.usable(now)
	}

	changed := ready != s.ready
	s.ready = ready

	if changed {
		s.wakeWaiting()
	}
	s.mu.Unlock()

	if changed || tell {
		s.notify([]Change{{}})
	}
}

// wakeWaiting lets every WaitReady look again. The lock is held.
func (s *Snapshot) wakeWaiting() {
	close(s.waiting)
	s.waiting = make(chan struct{})
}

// up says that the watch is followed again.
func (w *watcher) up(resumed bool) {
	s := w.snapshot
	w.steady = time.Now()

	s.mu.Lock()
	wasLost := w.err != nil
	w.downSince, w.err = time.Time{}, nil

	if resumed {
		w.stats.Resumes++
	}

	if wasLost {
		close(s.back)
		s.back = make(chan struct{})
	}

	tell := s.heldBack && s.current()
	s.heldBack = s.heldBack && !tell
	tell = s.comeBack() || tell
	held := len(s.index.types[w.kind.Type])
	s.mu.Unlock()

	s.updateReady(tell)

	if wasLost {
		s.cfg.Logger.Debug("watching "+w.kind.Type+" again", zap.Bool("resumed", resumed), zap.Int("held", held))
	}
}

// down says that the watch is not followed: it failed with err, or is just being read if err is nil.
func (w *watcher) down(err error) {
	s := w.snapshot

	s.mu.Lock()
	fresh := w.downSince.IsZero()

	if fresh {
		w.downSince = time.Now()
	}

	broke := err != nil && w.err == nil
	if err != nil {
		w.err = err
		w.stats.Failures++
	}

	if needsHuman(err) {
		s.wakeWaiting()
	}
	s.mu.Unlock()

	if broke {
		time.AfterFunc(awayAfter, s.goAway)
	}

	if fresh && w.bootstrapped {
		// Not stopped when the watch comes up: it only looks, and then there is nothing to see.
		time.AfterFunc(s.cfg.StaleAfter, func() { s.updateReady(false) })
	}
}

// stop says that nobody watches any more.
func (w *watcher) stop() {
	w.snapshot.mu.Lock()
	w.bootstrapped, w.err = false, errStopped
	w.snapshot.mu.Unlock()

	w.snapshot.updateReady(false)
}

// outdated reports that the watch has been down for so long that its bookmark is worth nothing: within that time an older
// database may have taken the place of the one that it is from.
func (w *watcher) outdated() bool {
	w.snapshot.mu.RLock()
	defer w.snapshot.mu.RUnlock()

	return w.downFor(time.Now()) > Fresh
}

// downFor is how long the watch has been down, 0 if it is up or there is nothing to watch. The Snapshot's lock is held.
func (w *watcher) downFor(now time.Time) time.Duration {
	if w.downSince.IsZero() || !w.exists() {
		return 0
	}

	return now.Sub(w.downSince)
}

// usable reports that this kind does not keep the snapshot from being ready. The Snapshot's lock is held.
func (w *watcher) usable(now time.Time) bool {
	return !w.exists() || w.bootstrapped && w.downFor(now) < w.snapshot.cfg.StaleAfter
}

// compareTrouble sorts what needs a human first, then what has been down the longest.
func compareTrouble(a, b *watcher) int {
	rank := func(w *watcher) int {
		switch {
		case needsHuman(w.err):
			return 0
		case w.err != nil:
			return 1
		default:
			return 2
		}
	}

	return cmp.Or(cmp.Compare(rank(a), rank(b)), a.downSince.Compare(b.downSince), cmp.Compare(a.kind.Type, b.kind.Type))
}

// needsHuman reports that it takes a human to have a kind read.
func needsHuman(err error) bool { return Rejected(err) || Denied(err) }

// remedy says what to do about a watch that Omni refuses.
func remedy(err error) string {
	switch code(err) { //nolint:exhaustive // only these have one
	case codes.Unauthenticated:
		return Remedy(err)
	case codes.PermissionDenied:
		return "the service account needs at least the role Reader, for all clusters"
	default:
		return "is this Omni older than v1.9?"
	}
}
