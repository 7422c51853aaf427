package sync

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/omni-syncd/omni-syncd/pkg/diff/mask"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
)

// RetryError is a failure that time heals: transport, a conflict with another writer.
// The engine plans the target again, with backoff.
type RetryError struct {
	Err error
	// Expected is set for a race that is part of normal work and worth no warning.
	Expected bool
	// Remedy is set if Omni denied it for who asks: what people can do about that. It heals when they do.
	Remedy string
	// said is what Omni said, whatever it was about; "" if it was not Omni.
	said string
}

func (e *RetryError) Error() string { return e.Err.Error() }
func (e *RetryError) Unwrap() error { return e.Err }

// WaitError is not a failure: something has to change first, in Omni, in the
// configuration or by a person. The change itself brings the target back.
type WaitError struct {
	// Reason is what people see as the target's message.
	Reason string
	// Blocked is set when nothing that the engine started will end the wait: a lock, a
	// guard. A teardown that is under way, in contrast, ends by itself.
	Blocked bool
	// Cause is the reason in one word; "" if it has none.
	Cause Cause
}

func (e *WaitError) Error() string { return e.Reason }

// StalledError is a failure that neither time nor Omni heals: Omni refuses the change,
// or the resource belongs to somebody else. The target is tried again with the next
// revision, or when something that it depends on changes in Omni.
type StalledError struct{ Err error }

func (e *StalledError) Error() string { return e.Err.Error() }
func (e *StalledError) Unwrap() error { return e.Err }

// classified wraps the error of an RPC, with what was done to which resource, in the
// type that says what happens next.
//
// Omni and Talos quote what they do not like, so their words are masked (G9).
func classified(err error, verb, resource string) error {
	said := mask.Message(omni.Message(err))

	if omni.Rejected(err) {
		return &StalledError{fmt.Errorf("refused by Omni: %s %s: %s", verb, resource, said)}
	}

	if omni.Denied(err) {
		return &RetryError{Err: fmt.Errorf("this service account may not %s %s: %s; %s", verb, resource, said, omni.Remedy(err)), Remedy: omni.Remedy(err), said: said}
	}

	if omni.Conflict(err) {
		return &RetryError{Err: fmt.Errorf("%s %s: somebody else changed it meanwhile: %s", verb, resource, said), said: said}
	}

	return &RetryError{Err: fmt.Errorf("%s %s: %s", verb, resource, said), said: said}
}

// joined makes one error of those of a phase. One that time heals decides, since the
// rest may only be its consequence.
func joined(errs []error) error {
	if len(errs) == 0 {
		return nil
	}

	retried, expected, remedy := false, true, ""

	for _, err := range errs {
		var retry *RetryError

		retries := errors.As(err, &retry)
		retried = retried || retries
		expected = expected && retries && retry.Expected

		if retries {
			remedy = cmp.Or(remedy, retry.Remedy)
		}
	}

	if retried {
		return &RetryError{Err: errors.Join(folded(errs)...), Expected: expected, Remedy: remedy}
	}

	return &StalledError{errors.Join(errs...)}
}

// folded keeps one of those errors that say the same of many resources: of an Omni that is away all writes of a phase say it.
func folded(errs []error) []error {
	var kept []error

	more := map[string]int{}
	saidBefore := func(err error) (said string, seen bool) {
		var retry *RetryError
		if !errors.As(err, &retry) || retry.said == "" {
			return "", false
		}

		_, seen = more[retry.said]

		return retry.said, seen
	}

	for _, err := range errs {
		said, seen := saidBefore(err)
		if seen {
			more[said]++

			continue
		}

		if said != "" {
			more[said] = 0
		}

		kept = append(kept, err)
	}

	for i, err := range kept {
		if said, _ := saidBefore(err); more[said] > 0 {
			kept[i] = fmt.Errorf("%w (and %d more like it)", err, more[said])
		}
	}

	return kept
}
