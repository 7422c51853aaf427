package access

import (
	"errors"
	"fmt"
)

// Kind says what an [Error] is, so that whoever answers a request can say so in the terms
// of its protocol.
type Kind int

// The kinds of errors.
const (
	// Invalid requests make no sense, whoever sends them.
	Invalid Kind = iota + 1
	// NotFound: no source manages a cluster of that name.
	NotFound
	// NotYet: the cluster is not there so far. Time or a change heals it.
	NotYet
	// Denied: the configuration does not allow it.
	Denied
	// Refused: Omni does not give it to the daemon's service account.
	Refused
	// Unavailable: Omni cannot be asked now, or it or a source was not read completely, so
	// nobody can tell. Time heals it.
	Unavailable
)

// Error is why there is no config. Its text is one line and holds no secret.
type Error struct {
	Kind Kind
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of an error of this package; 0 if it has none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}

	return 0
}

func failure(kind Kind, format string, args ...any) error {
	return &Error{kind, fmt.Errorf(format, args...)}
}

// ForeignError says that there is something where a config should be, or was, that the store
// did not write.
type ForeignError struct {
	// Object is what is there, and Remedy what to do with it.
	Object, Remedy string
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s was made or changed by somebody else, so it is left alone: %s, and the config of the cluster takes its place", e.Object, e.Remedy)
}
