package sync

import (
	"sync"
	"time"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/history"
)

// Recorder keeps what was applied. Add must not block.
type Recorder interface {
	Add(entry history.Entry)
}

// journal puts the writes to a target together to one entry of the history: from the
// first until the target is Synced, refused or held. What is tried again in between is
// part of it.
type journal struct {
	to Recorder // nil keeps no history

	mu   sync.Mutex
	open map[Key]*history.Entry
}

func newJournal(to Recorder) *journal { return &journal{to: to, open: map[Key]*history.Entry{}} }

// wrote adds a write that came back to the entry of its target.
func (j *journal) wrote(t *target, change *diff.Change, reason string) {
	if j.to == nil {
		return
	}

	j.mu.Lock()
	defer j.mu.Unlock()

	entry := j.entry(t, reason)

	if len(entry.Operations) >= history.MaxOperations {
		entry.Omitted++

		return
	}

	entry.Operations = append(entry.Operations, history.Operation{Action: string(change.Action), Resource: diff.Name(change), Change: describe(change)})
}

// entry returns the open entry of a target, which is begun if need be. One of an older
// revision is ended. The caller holds the lock.
func (j *journal) entry(t *target, reason string) *history.Entry {
	if entry := j.open[t.Key]; entry != nil {
		if entry.Revision == t.from.revision {
			return entry
		}

		j.end(t.Key, entry, history.Superseded, "")
	}

	entry := &history.Entry{
		Source: t.Source, Cluster: t.Target, Revision: t.from.revision, Author: t.from.author, Message: t.from.message,
		Reason: reason, Started: time.Now().UTC(),
	}
	j.open[t.Key] = entry

	return entry
}

// ended ends the entry of a target, if something was written.
func (j *journal) ended(t *target, outcome history.Outcome, why string) {
	j.mu.Lock()
	defer j.mu.Unlock()

	if entry := j.open[t.Key]; entry != nil {
		j.end(t.Key, entry, outcome, why)
	}
}

// refused notes that a target was refused, also if nothing was written.
func (j *journal) refused(t *target, why, reason string) {
	if j.to == nil {
		return
	}

	j.mu.Lock()
	defer j.mu.Unlock()

	j.end(t.Key, j.entry(t, reason), history.Failed, why)
}

func (j *journal) end(key Key, entry *history.Entry, outcome history.Outcome, why string) {
	entry.Ended, entry.Outcome, entry.Error = time.Now().UTC(), outcome, why
	j.to.Add(*entry)
	delete(j.open, key)
}

// close ends every entry that is open when the engine stops.
func (j *journal) close() {
	j.mu.Lock()
	defer j.mu.Unlock()

	for key, entry := range j.open {
		j.end(key, entry, history.Interrupted, "")
	}
}
