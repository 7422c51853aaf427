package conformance

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
)

// outcome is all that a client can tell from an error: gRPC's code, COSI's predicates, and what pkg/omni makes of both.
type outcome struct {
	code codes.Code

	conflict, phase, owner, notFound bool // state.Is…Error

	kind string // which of pkg/omni's predicates holds; "" for no error
}

// The outcomes there are.
var (
	accepted        = outcome{}
	missing         = outcome{code: codes.NotFound, notFound: true, kind: "not found"}
	exists          = outcome{code: codes.AlreadyExists, conflict: true, kind: "conflict"}
	stale           = outcome{code: codes.FailedPrecondition, conflict: true, kind: "conflict"}
	held            = stale                                                                               // by finalizers
	updateRefused   = outcome{code: codes.InvalidArgument, conflict: true, phase: true, kind: "rejected"} // also while tearing down
	refused         = outcome{code: codes.InvalidArgument, kind: "rejected"}                              // every other call
	writeDenied     = outcome{code: codes.PermissionDenied, conflict: true, owner: true, kind: "denied"}  // role too low
	notOwner        = outcome{code: codes.PermissionDenied, conflict: true, owner: true, kind: "rejected"}
	denied          = outcome{code: codes.PermissionDenied, kind: "denied"} // every other call
	unauthenticated = outcome{code: codes.Unauthenticated, kind: "denied"}
	badBookmark     = outcome{code: codes.FailedPrecondition, kind: "conflict"}
	failed          = outcome{code: codes.Unknown, kind: "transient"} // a plain error of the server
)

func outcomeOf(err error) outcome {
	o := outcome{
		code:     codeOf(err),
		conflict: state.IsConflictError(err), phase: state.IsPhaseConflictError(err),
		owner: state.IsOwnerConflictError(err), notFound: state.IsNotFoundError(err),
	}

	for kind, is := range map[string]bool{
		"not found": omni.NotFound(err), "rejected": omni.Rejected(err), "denied": omni.Denied(err), "conflict": omni.Conflict(err), "transient": omni.Transient(err),
	} {
		if is {
			o.kind += kind // two of them would show
		}
	}

	return o
}

// codeOf finds the gRPC code in an error of COSI's client, whose errors have no Unwrap.
func codeOf(err error) codes.Code {
	if c := status.Code(err); c != codes.Unknown {
		return c
	}

	for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
		if strings.Contains(err.Error(), fmt.Sprintf("code = %s ", c)) {
			return c
		}
	}

	return codes.Unknown
}

// call is one use of the API.
type call func(context.Context, state.State) error

// row of a table: what a call comes to.
type row struct {
	name string
	call call
	want outcome
	says string // a regular expression that the error matches on both Omnis: that it is refused for this reason
}

// check runs the rows one after another, each as its own test: a row may build on those before it.
func check(t *testing.T, st state.State, rows []row) {
	t.Helper()

	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			err := r.call(testContext(t), st)
			expect(t, err, r.want)

			if err != nil && !regexp.MustCompile(r.says).MatchString(err.Error()) {
				t.Errorf("the error does not say %q: %v", r.says, err)
			}
		})
	}
}

func expect(t *testing.T, err error, want outcome) {
	t.Helper()

	if got := outcomeOf(err); got != want {
		t.Errorf("got  %+v\nwant %+v\n%v", got, want, err)
	}
}

func create(res resource.Resource) call {
	return func(ctx context.Context, st state.State) error { return st.Create(ctx, res.DeepCopy()) }
}

// change updates a resource from its newest version, however often a controller is quicker.
func change[T resource.Resource](like T, edit func(T)) call {
	return func(ctx context.Context, st state.State) error {
		for {
			res, err := st.Get(ctx, like.Metadata())
			if err != nil {
				return err
			}

			edit(res.(T)) //nolint:forcetypeassert // a type has one Go type

			if err = st.Update(ctx, res); err == nil || outcomeOf(err) != stale {
				return err
			}
		}
	}
}

func teardown(res resource.Resource) call {
	return func(ctx context.Context, st state.State) error {
		_, err := st.Teardown(ctx, res.Metadata())

		return err
	}
}

func destroy(res resource.Resource) call {
	return func(ctx context.Context, st state.State) error { return st.Destroy(ctx, res.Metadata()) }
}

func get(res resource.Resource) call {
	return func(ctx context.Context, st state.State) error {
		_, err := st.Get(ctx, res.Metadata())

		return err
	}
}

func list(res resource.Resource, opts ...state.ListOption) call {
	return func(ctx context.Context, st state.State) error {
		_, err := st.List(ctx, res.Metadata(), opts...)

		return err
	}
}

func watch(res resource.Resource, opts ...state.WatchKindOption) call {
	return func(ctx context.Context, st state.State) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()

		return st.WatchKindAggregated(ctx, res.Metadata(), make(chan []state.Event), opts...)
	}
}

// with edits a resource on its way into a row.
func with[T resource.Resource](res T, edit func(T)) T {
	edit(res)

	return res
}
