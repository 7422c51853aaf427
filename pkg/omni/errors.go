package omni

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"github.com/cosi-project/runtime/pkg/state"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Every error of a call to Omni is exactly one of [NotFound], [Rejected], [Denied], [Conflict] and [Transient]. The order
// in which they are asked does not matter. All of them are false for nil.
//
// COSI's client wraps some errors in types that have no Unwrap and whose status code cannot be read any more, and it
// reports a rejected update as a conflict too. That is why these functions exist and [state.IsConflictError] alone is
// not enough.

// NotFound reports that the resource does not exist. For a destroy that is success.
func NotFound(err error) bool {
	return err != nil && kindOf(err) == kindNotFound
}

// Rejected reports that Omni understood the call and refused it, for what it is about: validation, a lock, another owner.
// The same call fails again until the resource or the template changes.
func Rejected(err error) bool {
	return err != nil && kindOf(err) == kindRejected
}

// Denied reports that Omni refused a call for who makes it: a key that it does not accept, or a role or policy that does
// not suffice. No template is to blame, and the same call works once somebody changes that. [Remedy] says how.
func Denied(err error) bool {
	return err != nil && kindOf(err) == kindDenied
}

// Remedy says what people can do about an error that is [Denied]; "" about any other.
func Remedy(err error) string {
	if !Denied(err) {
		return ""
	}

	if code(err) == codes.Unauthenticated {
		return "the service account key is unknown to this Omni, has expired or was revoked, or the clock of this machine is wrong"
	}

	return "give the service account the role Operator, or an access policy that covers this"
}

// Conflict reports that the call was planned from something that is no longer so: a stale version, a resource that
// exists by now, finalizers that are left. The plan has to be made again; the call must not simply be repeated.
func Conflict(err error) bool {
	return err != nil && kindOf(err) == kindConflict
}

// Transient reports everything else: the transport, a server that is starting or overloaded, a deadline. Try again
// with backoff.
func Transient(err error) bool {
	return err != nil && kindOf(err) == kindTransient
}

type errorKind int

const (
	kindTransient errorKind = iota
	kindNotFound
	kindRejected
	kindDenied
	kindConflict
)

func kindOf(err error) errorKind {
	switch {
	case state.IsNotFoundError(err):
		return kindNotFound
	case state.IsOwnerConflictError(err) && code(err) == codes.PermissionDenied && !ownedBy.MatchString(err.Error()):
		// COSI's client takes every PermissionDenied for another owner.
		return kindDenied
	case state.IsPhaseConflictError(err), state.IsOwnerConflictError(err):
		// These two satisfy IsConflictError as well: they come first.
		return kindRejected
	case state.IsConflictError(err):
		return kindConflict
	}

	switch code(err) { //nolint:exhaustive // the rest is transient
	case codes.NotFound:
		return kindNotFound
	case codes.InvalidArgument, codes.OutOfRange, codes.Unimplemented:
		return kindRejected
	case codes.PermissionDenied, codes.Unauthenticated:
		return kindDenied
	case codes.AlreadyExists, codes.FailedPrecondition, codes.Aborted:
		return kindConflict
	default:
		return kindTransient
	}
}

// ownedBy matches what COSI's server says of a resource with another owner: runtime v1.16.2, pkg/state/impl/inmem/errors.go.
var ownedBy = regexp.MustCompile(`resource .* is owned by "`)

// statusText matches how gRPC prints a status, wherever it stands in an error's text.
var statusText = regexp.MustCompile(`rpc error: code = (\w+) desc = `)

// code is the gRPC code of an error, read from its text where the COSI client hides the status.
func code(err error) codes.Code {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	}

	if s, ok := status.FromError(err); ok {
		return s.Code()
	}

	for ; err != nil; err = errors.Unwrap(err) {
		if m := statusText.FindStringSubmatch(err.Error()); m != nil {
			return codeByName[m[1]]
		}
	}

	return codes.Unknown
}

var codeByName = func() map[string]codes.Code {
	names := map[string]codes.Code{}

	for c := codes.OK; c <= codes.Unauthenticated; c++ {
		names[c.String()] = c
	}

	names["OK"] = codes.Unknown // an error is never OK

	return names
}()

// maxMessage bounds what an error of the server may put into a log, a status or an event, in bytes.
const maxMessage = 2000

// errorCount matches the headline of go-multierror, which Omni's validation uses.
var errorCount = regexp.MustCompile(`\d+ errors? occurred: \* `)

// Message is what Omni said, for people: one line, without gRPC's and go-multierror's decoration, at most 2000 bytes.
func Message(err error) string {
	if err == nil {
		return ""
	}

	text := statusText.ReplaceAllString(err.Error(), "")
	text = strings.Join(strings.Fields(text), " ")
	text = errorCount.ReplaceAllString(text, "")
	text = strings.ReplaceAll(text, " * ", "; ")

	// gRPC's words around a failed dial: connection error: desc = "transport: Error while dialing: …"
	if _, inner, ok := strings.Cut(text, `connection error: desc = "`); ok {
		text = strings.TrimSuffix(inner, `"`)
		text = strings.TrimPrefix(text, "transport: ")
		text = strings.TrimPrefix(text, "Error while dialing: ")
	}

	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}

	return text
}
