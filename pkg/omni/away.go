package omni

import (
	"errors"
	"time"

	"go.uber.org/zap"
)

// Away says since when, and why, Omni is not followed. The zero value: it is, or was lost only a moment ago.
type Away struct {
	// Since is to the second.
	Since time.Time
	// Reason is the error of the watch that is worst off, for people.
	Reason string
}

// awayAfter is how long a watch may be lost before that is worth a word: a server that restarts is back by then.
const awayAfter = 5 * time.Second

// Away returns since when Omni has been away. Subscribers get the zero Change when it goes and when it is back.
func (s *Snapshot) Away() Away {
	s.mu.RLock()
	defer s.mu.RUnlock()

	return s.away
}

// goAway notes that a watch has not come back in time, and tells people once.
func (s *Snapshot) goAway() {
	s.mu.Lock()

	lost := s.lost()
	if lost == nil || s.away != (Away{}) {
		s.mu.Unlock()

		return
	}

	s.away = Away{lost.downSince.Truncate(time.Second), Message(lost.err)}
	if needsHuman(lost.err) {
		s.away.Reason += "; " + remedy(lost.err)
	}

	away := s.away
	s.mu.Unlock()

	s.cfg.Logger.Warn("Omni cannot be followed; nothing is written until it is back", zap.Time("since", away.Since), zap.String("reason", away.Reason))
	s.notify([]Change{{}})
}

// comeBack notes that all watches are followed again after it was told that they are not. The lock is held; the caller
// tells the subscribers if it returns true.
func (s *Snapshot) comeBack() bool {
	if s.away == (Away{}) || s.lost() != nil {
		return false
	}

	s.cfg.Logger.Info("Omni is followed again", zap.Duration("away", time.Since(s.away.Since).Truncate(time.Second)))
	s.away = Away{}

	return true
}

// lost returns the watch that is worst off of those that broke at least awayAfter ago; nil if there is none. The lock is held.
func (s *Snapshot) lost() *watcher {
	var worst *watcher

	for _, w := range s.watchers {
		if w.err != nil && !errors.Is(w.err, errStopped) && w.downFor(time.Now()) >= awayAfter && (worst == nil || compareTrouble(w, worst) < 0) {
			worst = w
		}
	}

	return worst
}
