package sync

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// board holds the status of everything, and what the engine remembers of each target
// between two passes. Its lock is held for memory accesses only.
type board struct {
	mu      sync.Mutex
	ready   bool
	sources map[string]SourceStatus
	targets map[Key]record
	newer   chan struct{}
}

// record is one target: what people see of it, and the engine's memory.
type record struct {
	TargetStatus

	// stalled targets are tried again when something in Omni changes that they may
	// depend on.
	stalled bool
	// waits is set while the target waits, for whatever.
	waits bool
	// synced is the last revision that the target was Synced with. It tells drift from a
	// new revision.
	synced string
	// awaited is the revision that brought work and was not tried yet. A pass that began
	// with an older one settles nothing.
	awaited string
	// written remembers what was written lately, by signature, to notice somebody who
	// undoes it again and again. A new revision clears it.
	written map[string]attempt
	// refused is the signature of the phase that Omni refused, and refusal is why. It is
	// not sent again before something changes that the refusal may have been about.
	refused, refusal string
	// finishing is the signature of the deletion that Omni is left to end by itself, and
	// finishingSince is since when.
	finishing      string
	finishingSince time.Time
}

// attempt is a write that was done times times, the last time at at.
type attempt struct {
	times int
	at    time.Time
}

// maxAttempts bounds how many different writes are remembered of a target.
const maxAttempts = 64

func newBoard() *board {
	return &board{sources: map[string]SourceStatus{}, targets: map[Key]record{}, newer: make(chan struct{})}
}

func (b *board) read() (Status, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()

	status := Status{Ready: b.ready}

	for _, s := range b.sources {
		status.Sources = append(status.Sources, s)
	}

	for _, r := range b.targets {
		status.Targets = append(status.Targets, r.TargetStatus)
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

func (b *board) updateSource(name string, fn func(*SourceStatus)) {
	b.mu.Lock()
	defer b.mu.Unlock()

	s := b.sources[name]
	s.Name = name
	fn(&s)
	b.sources[name] = s
	b.changed()
}

// dropSource forgets a source and its targets.
func (b *board) dropSource(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()

	delete(b.sources, name)
	maps.DeleteFunc(b.targets, func(key Key, _ record) bool { return key.Source == name })
	b.changed()
}

// get returns a copy of what is known of a target; the zero record if nothing is.
func (b *board) get(key Key) record {
	b.mu.Lock()
	defer b.mu.Unlock()

	return b.targets[key]
}

func (b *board) has(key Key) bool {
	b.mu.Lock()
	defer b.mu.Unlock()

	_, ok := b.targets[key]

	return ok
}

// update changes a target, which is made if need be, and reports whether that is news:
// another sync state, operation, message or revision. A target of a source that was
// dropped is not made again by a pass that was under way.
func (b *board) update(key Key, fn func(*record)) bool {
	b.mu.Lock()
	defer b.mu.Unlock()

	if _, ok := b.sources[key.Source]; !ok {
		return false
	}

	r, ok := b.targets[key]
	if !ok {
		r.TargetStatus = TargetStatus{Key: key, Sync: Unknown, Health: HealthUnknown}
	}

	old := r
	fn(&r)

	news := old.Sync != r.Sync || old.Operation != r.Operation || old.Message != r.Message || old.Revision != r.Revision
	if news || !ok {
		r.Since = time.Now()
	}

	b.targets[key] = r
	b.changed()

	return news
}

// remove forgets a target that is gone and reports whether there was one. One that a
// newer revision wants again stays.
func (b *board) remove(t *target) bool {
	b.mu.Lock()
	defer b.mu.Unlock()

	r, ok := b.targets[t.Key]
	if !ok || !r.answers(t) {
		return false
	}

	delete(b.targets, t.Key)
	b.changed()

	return true
}

// keys returns the targets of a source.
func (b *board) keys(source string) []Key {
	return b.filter(func(r *record) bool { return r.Source == source })
}

func (b *board) filter(match func(*record) bool) []Key {
	b.mu.Lock()
	defer b.mu.Unlock()

	var keys []Key

	for key, r := range b.targets {
		if match(&r) {
			keys = append(keys, key)
		}
	}

	return keys
}

// ensure makes a target known.
func (b *board) ensure(key Key) { b.update(key, func(*record) {}) }

// pending notes that a revision brings work for a target, and forgets what the last one
// left behind.
func (b *board) pending(key Key, path, revision string) {
	b.update(key, func(r *record) {
		r.Path, r.Revision, r.Message, r.Settled = path, revision, "waiting for its turn", false
		r.stalled, r.written, r.refused, r.awaited = false, nil, "", revision
	})
}

// carryOver notes that a revision changes nothing for a target.
func (b *board) carryOver(key Key, revision string) {
	b.update(key, func(r *record) { r.Revision, r.synced, r.awaited = revision, revision, "" })
}

// planned takes the newest plan of a target.
func (b *board) planned(t *target, plan *diff.Plan, health Health, why string) {
	b.update(t.Key, func(r *record) {
		r.Plan, r.Path, r.Revision = plan, t.path(), t.from.revision
		r.Health, r.HealthReason = health, why
	})
}

// started notes that the changes of a plan are being written.
func (b *board) started(key Key, plan *diff.Plan) {
	b.update(key, func(r *record) {
		if r.Operation != Running {
			r.Done = 0
		}

		r.Sync, r.Operation, r.Message, r.Settled = OutOfSync, Running, plan.Summary(), false
		r.Total = r.Done + len(plan.Changes)
	})
}

// progress counts a write that came back.
func (b *board) progress(key Key) { b.update(key, func(r *record) { r.Done++ }) }

// wrote notes that a phase was written.
func (b *board) wrote(key Key, signature string, limit time.Duration) {
	b.update(key, func(r *record) {
		again := r.written[signature]
		if time.Since(again.at) > 2*limit {
			again.times = 0
		}

		// The map of an older copy of the record is left alone.
		written := maps.Clone(r.written)
		if written == nil || len(written) >= maxAttempts {
			written = map[string]attempt{}
		}

		written[signature] = attempt{again.times + 1, time.Now()}
		r.written = written

		// Something changed in Omni, so what was refused may be accepted now.
		r.stalled, r.refused = false, ""
	})
}

// backoff returns how long a phase that was written before has to wait: somebody undid
// it, and a fight is lost more slowly than it is fought.
func (r *record) backoff(signature string, least, limit time.Duration) time.Duration {
	again, ok := r.written[signature]
	if !ok || time.Since(again.at) > 2*limit {
		return 0
	}

	delay := limit
	if again.times < 20 { // 2^20 times any sensible delay is over any limit
		delay = min(least<<(again.times-1), limit)
	}

	return delay - time.Since(again.at)
}

// refuse notes that Omni refused a phase, and why. It counts while the target is stalled.
func (b *board) refuse(key Key, signature, why string) {
	b.update(key, func(r *record) { r.refused, r.refusal = signature, why })
}

// stalled returns the targets of a source that Omni refused.
func (b *board) stalled(source string) []Key {
	return b.filter(func(r *record) bool { return r.Source == source && r.stalled })
}

// reopen notes that something changed that a target may have waited for: it is no longer
// settled, and what was refused may be sent again.
func (b *board) reopen(key Key) {
	b.update(key, func(r *record) { r.refused, r.Settled = "", false })
}

// unread notes that nothing is known of a target while Omni cannot be read.
func (b *board) unread(t *target, reason string) {
	b.update(t.Key, func(r *record) { r.Sync, r.Message, r.Settled = Unknown, reason, false })
}

// grace returns how much longer Omni is left alone with the end of a deletion; 0 if it
// had its time, or if there is none (finishing is "").
func (b *board) grace(key Key, finishing string, limit time.Duration) time.Duration {
	var left time.Duration

	b.update(key, func(r *record) {
		if r.finishing != finishing {
			r.finishing, r.finishingSince = finishing, time.Now()
		}

		if finishing != "" {
			left = limit - time.Since(r.finishingSince)
		}
	})

	return left
}

// answers reports whether a pass is about the revision that is awaited, and notes that it
// came.
func (r *record) answers(t *target) bool {
	if r.awaited == t.from.revision {
		r.awaited = ""
	}

	return r.awaited == ""
}

// succeeded notes that a plan was empty: the one proof of being Synced.
func (b *board) succeeded(t *target) bool {
	return b.update(t.Key, func(r *record) {
		r.Sync, r.Message, r.Settled = Synced, "", r.answers(t)
		r.stalled, r.waits, r.synced = false, false, t.from.revision

		if r.Operation != "" {
			r.Operation = Succeeded
		}
	})
}

// waiting notes what a target waits for, and reports whether that is worth a log line: a
// teardown changes what it waits for many times a second.
func (b *board) waiting(t *target, reason string, blocked bool) bool {
	var waited bool

	news := b.update(t.Key, func(r *record) {
		waited = r.waits
		r.Message, r.Settled, r.Revision = reason, r.answers(t) && blocked, t.from.revision
		r.stalled, r.waits = false, true

		if r.Plan != nil {
			r.Sync = OutOfSync
		}
	})

	return news && (blocked || !waited)
}

// failed notes that a pass failed; a stalled one ended for now.
func (b *board) failed(t *target, message string, stalled bool) bool {
	return b.update(t.Key, func(r *record) {
		r.Operation, r.Message, r.Settled, r.Revision = Failed, message, r.answers(t) && stalled, t.from.revision
		r.stalled, r.waits = stalled, false

		if r.Plan == nil || t.broken != nil {
			r.Sync = Unknown
		} else {
			r.Sync = OutOfSync
		}
	})
}

// reason says why something is written: the revision is new to the target, or somebody
// changed it in Omni.
func (b *board) reason(key Key) string {
	if r := b.get(key); r.synced == r.Revision {
		return "drift in Omni"
	}

	return "new revision"
}
