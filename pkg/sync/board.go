package sync

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// board holds the status. Its lock is held for memory accesses only.
type board struct {
	mu      sync.Mutex
	ready   bool
	sources map[string]SourceStatus
	targets map[Key]TargetStatus
	newer   chan struct{}
}

func newBoard() *board {
	return &board{sources: map[string]SourceStatus{}, targets: map[Key]TargetStatus{}, newer: make(chan struct{})}
}

func (b *board) read() (Status, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()

	status := Status{Ready: b.ready}

	for _, s := range b.sources {
		status.Sources = append(status.Sources, s)
	}

	for _, t := range b.targets {
		status.Targets = append(status.Targets, t)
	}

	slices.SortFunc(status.Sources, func(a, b SourceStatus) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(status.Targets, func(a, b TargetStatus) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Target, b.Target))
	})

	return status, b.newer
}

// changed wakes everybody who waits for a newer status. The caller holds the lock.
func (b *board) changed() {
	close(b.newer)
	b.newer = make(chan struct{})
}

func (b *board) setReady(ready bool) {
	b.mu.Lock()
	defer b.mu.Unlock()

	b.ready = ready
	b.changed()
}

func (b *board) setSource(s SourceStatus) {
	b.updateSource(s.Name, func(status *SourceStatus) { *status = s })
}

func (b *board) updateSource(name string, fn func(*SourceStatus)) {
	b.mu.Lock()
	defer b.mu.Unlock()

	s := b.sources[name]
	fn(&s)
	b.sources[name] = s
	b.changed()
}

// update changes the status of a target, which is made if need be, and reports whether
// it is news: another sync state, operation or message.
func (b *board) update(key Key, fn func(*TargetStatus)) bool {
	b.mu.Lock()
	defer b.mu.Unlock()

	t, ok := b.targets[key]
	if !ok {
		t = TargetStatus{Key: key, Sync: Unknown, Health: HealthUnknown}
	}

	old := t
	fn(&t)

	news := old.Sync != t.Sync || old.Operation != t.Operation || old.Message != t.Message || old.Revision != t.Revision
	if news || !ok {
		t.Since = time.Now()
	}

	b.targets[key] = t
	b.changed()

	return news
}

func (b *board) ensure(key Key) { b.update(key, func(*TargetStatus) {}) }

func (b *board) pending(key Key, path, revision string) {
	b.update(key, func(t *TargetStatus) {
		t.Path, t.Revision, t.Settled, t.stalled, t.written, t.refused = path, revision, false, false, "", ""
		t.Message = "waiting for its turn"
	})
}

func (b *board) revision(key Key, revision string) {
	b.update(key, func(t *TargetStatus) { t.Revision = revision; t.everSynced = revision })
}

func (b *board) planned(t *target, plan *diff.Plan, health Health) {
	b.update(t.Key, func(s *TargetStatus) {
		s.Plan, s.Health, s.Path, s.Revision = plan, health, t.path(), t.revision

		if len(plan.Changes) > 0 {
			s.Sync, s.Operation, s.Message, s.Settled = OutOfSync, Running, plan.Summary(), false
			s.Done, s.Total = 0, len(plan.Changes)
		}
	})
}

func (b *board) progress(key Key) { b.update(key, func(t *TargetStatus) { t.Done++ }) }

func (b *board) wrote(key Key, signature string) {
	b.update(key, func(t *TargetStatus) { t.written = signature })
}

// repeats reports whether a plan was written just now and came back unchanged.
func (b *board) repeats(key Key, signature string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()

	return b.targets[key].written == signature
}

func (b *board) succeeded(t *target) bool {
	return b.update(t.Key, func(s *TargetStatus) {
		s.Sync, s.Message, s.Settled, s.stalled, s.waits, s.written = Synced, "", true, false, false, ""
		s.everSynced = t.revision

		if s.Operation != "" {
			s.Operation = Succeeded
		}
	})
}

func (b *board) waiting(t *target, reason string, blocked bool) bool {
	var waited bool

	news := b.update(t.Key, func(s *TargetStatus) {
		waited = s.waits
		s.Message, s.Settled, s.Revision, s.waits = reason, blocked, t.revision, true

		if s.Plan != nil {
			s.Sync = OutOfSync
		}
	})

	// A teardown changes what it waits for many times a second: told once.
	return news && (blocked || !waited)
}

func (b *board) failed(t *target, message string, stalled bool) bool {
	return b.update(t.Key, func(s *TargetStatus) {
		s.Operation, s.Message, s.Settled, s.stalled, s.Revision = Failed, message, stalled, stalled, t.revision
		s.waits, s.written = false, ""

		if s.Plan == nil || t.broken != nil {
			s.Sync = Unknown
		} else {
			s.Sync = OutOfSync
		}
	})
}

// reason says why something is written: the revision is new to the target, or somebody
// changed it in Omni.
func (b *board) reason(key Key) string {
	b.mu.Lock()
	defer b.mu.Unlock()

	if t := b.targets[key]; t.everSynced == t.Revision {
		return "drift in Omni"
	}

	return "new revision"
}

func (b *board) refuse(key Key, signature string) {
	b.update(key, func(t *TargetStatus) { t.refused = signature })
}

// refused returns why Omni refused a plan that has not changed since; "" if it did not.
func (b *board) refused(key Key, signature string) string {
	b.mu.Lock()
	defer b.mu.Unlock()

	if t := b.targets[key]; t.stalled && t.refused == signature {
		return t.Message
	}

	return ""
}

// grace returns how much longer Omni is left alone with the end of a deletion; 0 if it
// had its time, or if there is none (finishing is "").
func (b *board) grace(key Key, finishing string, limit time.Duration) time.Duration {
	var left time.Duration

	b.update(key, func(t *TargetStatus) {
		if t.finishing != finishing {
			t.finishing, t.finishingSince = finishing, time.Now()
		}

		if finishing != "" {
			left = limit - time.Since(t.finishingSince)
		}
	})

	return left
}

// remove forgets a target that is gone and reports whether there was one.
func (b *board) remove(key Key) bool {
	b.mu.Lock()
	defer b.mu.Unlock()

	_, ok := b.targets[key]
	delete(b.targets, key)
	b.changed()

	return ok
}

func (b *board) has(key Key) bool {
	b.mu.Lock()
	defer b.mu.Unlock()

	_, ok := b.targets[key]

	return ok
}

func (b *board) synced(key Key) bool {
	b.mu.Lock()
	defer b.mu.Unlock()

	return b.targets[key].Sync == Synced
}

// keys returns the targets of a source.
func (b *board) keys(source string) []Key {
	return b.filter(func(t *TargetStatus) bool { return t.Source == source })
}

// pardon returns the stalled targets of a source and lets their plans be sent again.
func (b *board) pardon(source string) []Key {
	keys := b.filter(func(t *TargetStatus) bool { return t.Source == source && t.stalled })
	for _, key := range keys {
		b.update(key, func(t *TargetStatus) { t.refused, t.Settled = "", false })
	}

	return keys
}

func (b *board) filter(match func(*TargetStatus) bool) []Key {
	b.mu.Lock()
	defer b.mu.Unlock()

	var keys []Key

	for key, t := range b.targets {
		if match(&t) {
			keys = append(keys, key)
		}
	}

	return keys
}
