package sync

import "errors"

// Cause is why a target is not Synced, in one word of a fixed set: for whoever counts and
// alerts. Message says the same to people, with all there is to know.
type Cause string

// The causes. The zero value means that the target is Synced, or that it is being worked on.
const (
	// CauseStandby: another replica writes, or nobody may at the moment.
	CauseStandby Cause = "standby"
	// CauseUntested: Omni is newer than what this program was tested with, and `omni.newer: plan`.
	CauseUntested Cause = "untested"
	// CauseLocked: the cluster is locked in Omni.
	CauseLocked Cause = "locked"
	// CauseSuspended: by request, by its template or by its source.
	CauseSuspended Cause = "suspended"
	// CauseManual: it is written to on request only.
	CauseManual Cause = "manual"
	// CauseConfirmation: a deletion waits until somebody confirms it (G11).
	CauseConfirmation Cause = "confirmation"
	// CauseKept: it left Git, or a part of it did, and must not be destroyed.
	CauseKept Cause = "kept"
	// CauseLeaving: it left Git, and is destroyed after a while.
	CauseLeaving Cause = "leaving"
	// CauseTeardown: something is being destroyed in Omni.
	CauseTeardown Cause = "teardown"
	// CauseElsewhere: another cluster has to let go of something first.
	CauseElsewhere Cause = "elsewhere"
	// CauseUndone: somebody undoes what is written again and again.
	CauseUndone Cause = "undone"
	// CauseInvalid: its template cannot be used.
	CauseInvalid Cause = "invalid"
	// CauseStalled: Omni refuses it, or it belongs to somebody else.
	CauseStalled Cause = "stalled"
	// CauseRetry: it failed, and is tried again by itself.
	CauseRetry Cause = "retry"
)

// causeOf tells why a pass over a target did not end well.
func causeOf(t *target, err error) Cause {
	var (
		retry   *RetryError
		wait    *WaitError
		stalled *StalledError
	)

	switch {
	case err == nil:
		return ""
	case errors.As(err, &wait):
		return wait.Cause
	case errors.As(err, &stalled) && t.broken != nil:
		return CauseInvalid
	case errors.As(err, &stalled):
		return CauseStalled
	case errors.As(err, &retry) && retry.Expected:
		return ""
	default:
		return CauseRetry
	}
}

// blame notes the cause.
func (b *board) blame(key Key, cause Cause) {
	b.update(key, func(r *record) { r.Cause = cause })
}
