// Package history keeps what was applied to Omni: which revision, by whom, with which
// operations, for how long and with what outcome.
//
// It stands beside the flow: sync adds an [Entry] when an operation on a target ends, and
// a server lists them. It is a convenience. Nothing is decided from it, an entry may be
// lost in a crash, the file may be deleted while nothing runs, and whatever is wrong with
// the file costs entries and nothing else (G10).
package history

import "time"

// Bounds (G12).
const (
	// DefaultPerTarget is how many entries of one target are kept.
	DefaultPerTarget = 100
	// DefaultTargets is how many targets are kept; over it, the one goes that changed
	// least recently.
	DefaultTargets = 10_000
	// MaxOperations is how many operations of one entry are kept; Entry.Omitted counts
	// the rest.
	MaxOperations = 200
	// DefaultBytes is how much is kept of all targets together; over it, the same goes.
	DefaultBytes = 64 << 20
	// maxText is how many bytes of a message are kept.
	maxText = 4096
	// maxLine is how many bytes an entry has in the file; of a larger one the operations
	// are left out.
	maxLine = 256 << 10
	// maxPending is how many entries may wait to be written. More are dropped: history
	// never holds up a sync.
	maxPending = 4096
)

// Outcome is how an operation ended.
type Outcome string

// The outcomes of an operation.
const (
	Succeeded   Outcome = "Succeeded"   // the target is Synced
	Failed      Outcome = "Failed"      // Omni or a check refused it
	Held        Outcome = "Held"        // a lock or a guard stopped it half-way
	Superseded  Outcome = "Superseded"  // a newer revision came
	Interrupted Outcome = "Interrupted" // the daemon was stopped
)

// Operation is one write.
type Operation struct {
	// Action is create, adopt, update, release or destroy.
	Action string `json:"action"`
	// Resource is its kind and name.
	Resource string `json:"resource"`
	// Change says what changed, without any payload; "" where the action says it all.
	Change string `json:"change,omitempty"`
}

// Entry is one operation on a target: all that was written from when the target was found
// to differ until it was Synced, or until that was given up.
type Entry struct {
	Source string `json:"source"`
	// Cluster is "" for the fleet resources of the source.
	Cluster  string `json:"cluster,omitempty"`
	Revision string `json:"revision"`
	// Author and Message are the commit's, if there is one.
	Author  string `json:"author,omitempty"`
	Message string `json:"message,omitempty"`
	// Reason says why something was written: a new revision, or drift.
	Reason  string    `json:"reason"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	Outcome Outcome   `json:"outcome"`
	// Error says why it did not succeed.
	Error      string      `json:"error,omitempty"`
	Operations []Operation `json:"operations,omitempty"`
	// Omitted is how many operations are not listed.
	Omitted int `json:"omitted,omitempty"`
}
