package sync

import (
	"context"
	"time"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
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
	// Away says since when Omni has not been followed; the zero value if it is.
	Away omni.Away
	// Server is the version of Omni.
	Server omni.Server
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
	// Suspension is set while the whole source is suspended by request.
	Suspension *Suspension
	// LastPoll and NextPoll are when the source was and will be asked for news; zero for
	// one that is watched.
	LastPoll, NextPoll time.Time
}

// TargetStatus is the state of one target.
type TargetStatus struct {
	Key

	// Path is the template's file; "" for fleet resources and for what left Git.
	Path string
	// Revision is the one that the target was last compared with.
	Revision string
	Sync     SyncStatus
	Health   Health
	// HealthReason says in words why the cluster is not Healthy.
	HealthReason string
	// HealthSince is when Health last changed.
	HealthSince time.Time
	// AtRest says that Omni has come to rest with it: what was written is done, as far as it
	// can be, and Omni's statuses have not moved for a while. Fleet resources always are.
	AtRest    bool
	Operation Operation
	// Message says why the target is not Synced, or what is being done.
	Message string
	// Cause is Message in one word, if it is a reason for not being Synced that has one.
	Cause Cause
	// Leaving says when something of it goes that left Git.
	Leaving Countdown
	// Plan is the last plan that was made; nil before the first.
	Plan *diff.Plan
	// Done and Total count the writes of the operation under way.
	Done, Total int
	// Since is when Sync, Operation or Message last changed.
	Since time.Time
	// TeardownSince is since when something of the target is being destroyed and not gone;
	// zero if nothing is.
	TeardownSince time.Time
	// Settled says that nothing more will happen by itself: Synced, stalled, or held by
	// somebody outside.
	Settled bool
	// Suspension is set while the target, or its source, is suspended by request.
	Suspension *Suspension
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

// Changes is what changed in the status since an earlier version of it. Several changes of
// one target are one: only what holds now is told.
type Changes struct {
	// Version names this state of affairs; ask with it for what changes afterwards.
	Version uint64
	// All says that this is everything, not what changed: it is the first answer, or the
	// reader lagged so far behind that it is to begin anew.
	All    bool
	Ready  bool
	Away   omni.Away
	Server omni.Server
	// Sources and Targets are sorted by name.
	Sources []SourceStatus
	Targets []TargetStatus
	// RemovedTargets and RemovedSources are no more.
	RemovedTargets []Key
	RemovedSources []string
}

// Changes returns what changed after a version (0: everything), and a channel that is
// closed when there is something newer. It takes no part in the engine's work: any number
// of readers may follow, at whatever speed.
func (e *Engine) Changes(since uint64) (Changes, <-chan struct{}) {
	changes, newer := e.board.read(since)

	for i := range changes.Sources {
		src := e.sources.get(changes.Sources[i].Name)
		if src == nil {
			continue
		}

		if clock, ok := src.Source.(interface{ Polled() (last, next time.Time) }); ok {
			changes.Sources[i].LastPoll, changes.Sources[i].NextPoll = clock.Polled()
		}
	}

	return changes, newer
}

// Status returns a copy of the current status and a channel that is closed when there
// is a newer one.
func (e *Engine) Status() (Status, <-chan struct{}) {
	all, newer := e.Changes(0)

	return Status{Ready: all.Ready, Away: all.Away, Server: all.Server, Sources: all.Sources, Targets: all.Targets}, newer
}

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
