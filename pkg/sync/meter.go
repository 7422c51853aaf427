package sync

import (
	"errors"
	"time"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// Meter is told what the engine does, as it happens. Workers call it from the middle of
// their work, many at a time: it must return at once.
type Meter interface {
	// Reconciled is called after each pass over a target.
	Reconciled(key Key, result Result, took time.Duration)
	// Wrote is called after each write that was sent to Omni. The result is one of
	// ResultSuccess, ResultRetry and ResultStalled. drift says that the target was Synced
	// with the revision before, so that somebody else changed what is put right.
	Wrote(key Key, action diff.Action, result Result, drift bool)
}

// Result is how a pass or a write ended, which says what happens next.
type Result string

// The results. Retry, wait and stalled are the types of errors, see [RetryError].
const (
	// ResultSuccess: Omni is what Git says, or holds what was written.
	ResultSuccess Result = "success"
	// ResultRequeue: something was written or came meanwhile, the next pass follows at once.
	ResultRequeue Result = "requeue"
	ResultWait    Result = "wait"
	ResultRetry   Result = "retry"
	ResultStalled Result = "stalled"
	// ResultUnread: Omni cannot be read, so nothing was planned.
	ResultUnread Result = "unread"
)

// resultOf tells how a pass or a write ended from its error.
func resultOf(err error) Result {
	var (
		wait     *WaitError
		stalled  *StalledError
		notReady errNotReady
	)

	switch {
	case err == nil:
		return ResultSuccess
	case errors.Is(err, errAgain):
		return ResultRequeue
	case errors.As(err, &notReady):
		return ResultUnread
	case errors.As(err, &wait):
		return ResultWait
	case errors.As(err, &stalled):
		return ResultStalled
	default:
		return ResultRetry
	}
}

// unmetered is the Meter of an engine that nobody watches.
type unmetered struct{}

func (unmetered) Reconciled(Key, Result, time.Duration) {}
func (unmetered) Wrote(Key, diff.Action, Result, bool)  {}
