package sync

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// SyncStatus says whether Omni is what Git says, in Argo CD's words.
type SyncStatus string

// The sync states of a target.
const (
	Synced    SyncStatus = "Synced"
	OutOfSync SyncStatus = "OutOfSync"
	Unknown   SyncStatus = "Unknown"
)

// Operation is what the engine does, or last did, with a target.
type Operation string

// The operations of a target. The zero value means that none was needed yet.
const (
	Running   Operation = "Running"
	Succeeded Operation = "Succeeded"
	Failed    Operation = "Failed"
)

// Status is everything there is to know about the engine's work, at one moment.
type Status struct {
	// Ready says that Omni has been read completely, so that what left Git is known.
	Ready bool
	// Sources and Targets are sorted by name.
	Sources []SourceStatus
	Targets []TargetStatus
}

// SourceStatus is the state of one source.
type SourceStatus struct {
	Name string
	// Fetched is set once the source has answered for the first time, well or not.
	Fetched bool
	// Revision is the last one that was accepted; it stays in force while Error is set.
	Revision string
	// Error is why the newest attempt to fetch failed; "" if it did not.
	Error string
	// Problems are what is wrong with the files of Revision.
	Problems template.Problems
}

// TargetStatus is the state of one target.
type TargetStatus struct {
	Key

	// Path is the template's file; "" for fleet resources and for what left Git.
	Path string
	// Revision is the one that the target was last compared with.
	Revision  string
	Sync      SyncStatus
	Health    Health
	Operation Operation
	// Message says why the target is not Synced, or what is being done.
	Message string
	// Plan is the last plan that was made; nil before the first.
	Plan *diff.Plan
	// Done and Total count the writes of the operation under way.
	Done, Total int
	// Since is when Sync, Operation or Message last changed.
	Since time.Time
	// Settled says that nothing more will happen by itself: Synced, stalled, or held by
	// somebody outside.
	Settled bool

	// stalled targets are tried again when something in Omni changes.
	stalled bool
	// everSynced tells drift from a new revision.
	everSynced string
	// refused is the signature of the plan that Omni refused; it is not sent again before
	// something changes that the refusal may have been about.
	refused string
	// finishing is the signature of the deletion that Omni is left to end by itself, and
	// finishingSince is since when.
	finishing      string
	finishingSince time.Time
	// waits is set while the target waits, for whatever.
	waits bool
	// written is the signature of the last plan that was written and not yet confirmed
	// by an empty one.
	written string
}

// Settled reports whether Omni was read, every source has answered and nothing more will
// happen without a change from outside.
func (s *Status) Settled() bool {
	if !s.Ready {
		return false
	}

	for i := range s.Sources {
		if !s.Sources[i].Fetched {
			return false
		}
	}

	for i := range s.Targets {
		if !s.Targets[i].Settled {
			return false
		}
	}

	return true
}

// Synced reports whether every source is in force and every target is Synced.
func (s *Status) Synced() bool {
	for i := range s.Sources {
		if src := &s.Sources[i]; !src.Fetched || src.Error != "" || len(src.Problems) > 0 {
			return false
		}
	}

	for i := range s.Targets {
		if s.Targets[i].Sync != Synced {
			return false
		}
	}

	return true
}

// Status returns a copy of the current status and a channel that is closed when there
// is a newer one.
func (e *Engine) Status() (Status, <-chan struct{}) { return e.board.read() }

// WaitStatus calls observe with the current and every newer status until it returns
// true or ctx ends, whose error is then returned. Statuses in between may be skipped.
func (e *Engine) WaitStatus(ctx context.Context, observe func(Status) bool) error {
	for {
		status, newer := e.Status()
		if observe(status) {
			return nil
		}

		select {
		case <-newer:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

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
