package sync

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
)

// board holds the status of everything, and what the engine remembers of each target
// between two passes. Its lock is held for memory accesses only.
type board struct {
	mu      sync.Mutex
	ready   bool
	away    omni.Away
	server  omni.Server
	sources map[string]sourceRecord
	targets map[Key]record
	// draft is the record that update works on. It is here and not made anew each time, because every pass updates its
	// target several times.
	draft record
	newer chan struct{}
	// suspensions are those by request.
	suspensions suspensions

	// version counts the changes; every record carries the one that it changed with.
	version uint64
	// removed are the targets and sources (with no Target) that went, oldest first. Who
	// asks for what changed before the last one that was forgotten is told everything.
	removed   []tombstone
	forgotten uint64
}

type sourceRecord struct {
	SourceStatus

	version uint64
	// head is the revision that all targets are at that are not restless, and advanced is the
	// version that it came with: a revision is noted once, however many targets it changes
	// nothing for.
	head     string
	advanced uint64
	// restless are the targets that a new revision has to be tried for: not Synced, not at
	// rest, or behind.
	restless map[string]bool
}

// at returns a record as it is with the source at its head.
func (s *sourceRecord) at(r record) record {
	if r.follows {
		r.Revision, r.synced, r.version = s.head, s.head, max(r.version, s.advanced)
	}

	return r
}

type tombstone struct {
	key     Key
	source  bool
	version uint64
}

// maxTombstones bounds how far back a reader may lag before it is told everything.
const maxTombstones = 4096

func newBoard() *board {
	return &board{sources: map[string]sourceRecord{}, targets: map[Key]record{}, newer: make(chan struct{})}
}

// read returns what changed after a version, 0 for everything, and a channel that is
// closed by the next change.
func (b *board) read(since uint64) (Changes, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()

	changes := Changes{Version: b.version, Ready: b.ready, Away: b.away, Server: b.server, All: since == 0 || since < b.forgotten || since > b.version}
	if changes.All {
		since = 0
	}

	for _, s := range b.sources {
		if s.version > since {
			changes.Sources = append(changes.Sources, s.SourceStatus)
		}
	}

	for key, r := range b.targets {
		src := b.sources[key.Source]

		if r = src.at(r); r.version > since {
			changes.Targets = append(changes.Targets, r.TargetStatus)
		}
	}

	for _, t := range b.removed {
		if t.version <= since || changes.All {
			continue
		}

		if _, back := b.targets[t.key]; !t.source && !back {
			changes.RemovedTargets = append(changes.RemovedTargets, t.key)
		} else if _, back := b.sources[t.key.Source]; t.source && !back {
			changes.RemovedSources = append(changes.RemovedSources, t.key.Source)
		}
	}

	slices.SortFunc(changes.Sources, func(a, b SourceStatus) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(changes.Targets, func(a, b TargetStatus) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Target, b.Target))
	})

	return changes, b.newer
}

// changed counts a change and wakes everybody who waits for one. The caller holds the
// lock.
func (b *board) changed() uint64 {
	b.version++
	close(b.newer)
	b.newer = make(chan struct{})

	return b.version
}

// bury remembers that a target or source went. The caller holds the lock.
func (b *board) bury(key Key, source bool) {
	b.removed = append(b.removed, tombstone{key, source, b.changed()})

	if over := len(b.removed) - maxTombstones; over > 0 {
		b.forgotten = b.removed[over-1].version
		b.removed = slices.Delete(b.removed, 0, over)
	}
}

func (b *board) setReady(ready bool, away omni.Away) {
	b.mu.Lock()
	defer b.mu.Unlock()

	b.ready, b.away = ready, away
	b.changed()
}

func (b *board) updateSource(name string, fn func(*SourceStatus)) {
	b.mu.Lock()
	defer b.mu.Unlock()

	s, ok := b.sources[name]
	if !ok {
		s.restless = map[string]bool{}
	}

	s.Name = name
	fn(&s.SourceStatus)
	s.Suspension = b.suspensions.ofSource(name)
	s.version = b.changed()
	b.sources[name] = s
}

func (b *board) source(name string) SourceStatus {
	b.mu.Lock()
	defer b.mu.Unlock()

	return b.sources[name].SourceStatus
}

// dropSource forgets a source and its targets.
func (b *board) dropSource(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()

	for key := range b.targets {
		if key.Source == name {
			delete(b.targets, key)
			b.bury(key, false)
		}
	}

	delete(b.sources, name)
	b.bury(Key{Source: name}, true)
}

// get returns a copy of what is known of a target; the zero record if nothing is.
func (b *board) get(key Key) record {
	b.mu.Lock()
	defer b.mu.Unlock()

	src := b.sources[key.Source]

	return src.at(b.targets[key])
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

	src, ok := b.sources[key.Source]
	if !ok {
		return false
	}

	before, ok := b.targets[key]
	b.draft = src.at(before)

	r := &b.draft
	if !ok {
		r.TargetStatus = TargetStatus{Key: key, Sync: Unknown, Health: HealthUnknown}
	}

	old := *r
	fn(r)
	r.Suspension = b.suspensions.ofTarget(key)

	news := old.Sync != r.Sync || old.Operation != r.Operation || old.Message != r.Message || old.Revision != r.Revision
	if news || !ok {
		r.Since = time.Now()
	}

	if old.Health != r.Health || !ok {
		r.HealthSince = time.Now()
	}

	if !ok || old.TargetStatus != r.TargetStatus {
		r.version = b.changed()
	}

	if r.follows = r.Sync == Synced && r.Settled && r.Revision == src.head; r.follows {
		delete(src.restless, key.Target)
	} else {
		src.restless[key.Target] = true
	}

	b.targets[key] = *r

	return news
}

// advance notes a revision with every target that it changes nothing for, and returns the
// restless ones. Those that it changes something for are made so before ([board.pending]).
func (b *board) advance(source, revision string) []Key {
	b.mu.Lock()
	defer b.mu.Unlock()

	s, ok := b.sources[source]
	if !ok {
		return nil // it was dropped
	}

	s.head, s.advanced = revision, b.changed()
	b.sources[source] = s

	return s.restlessKeys()
}

// restless returns the targets of a source that a new revision would be tried for.
func (b *board) restless(source string) []Key {
	b.mu.Lock()
	defer b.mu.Unlock()

	s := b.sources[source]

	return s.restlessKeys()
}

func (s *sourceRecord) restlessKeys() []Key {
	keys := make([]Key, 0, len(s.restless))
	for target := range s.restless {
		keys = append(keys, Key{s.Name, target})
	}

	return keys
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
	delete(b.sources[t.Source].restless, t.Target)
	b.bury(t.Key, false)

	return true
}

// keys returns the targets of a source.
func (b *board) keys(source string) []Key {
	b.mu.Lock()
	defer b.mu.Unlock()

	var keys []Key

	for key := range b.targets {
		if key.Source == source {
			keys = append(keys, key)
		}
	}

	return keys
}
