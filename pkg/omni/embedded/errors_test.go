package embedded_test

import (
	"context"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

// What COSI's client makes of an error.
type predicates struct{ conflict, phase, owner, notFound bool }

func predicatesOf(err error) predicates {
	return predicates{
		conflict: state.IsConflictError(err), phase: state.IsPhaseConflictError(err),
		owner: state.IsOwnerConflictError(err), notFound: state.IsNotFoundError(err),
	}
}

// TestErrors has a row for each row of the table in the description of a real Omni.
func TestErrors(t *testing.T) {
	s := start(t, embedded.Config{NoControllers: true}) // what is torn down stays
	st, raw, ctx := operator(t, s), s.State(), testContext(t)

	must(t, st.Create(ctx, newCluster("blue")))
	must(t, raw.AddFinalizer(ctx, newCluster("blue").Metadata(), "someone"))
	must(t, st.Create(ctx, newCluster("leaving")))
	must(t, raw.AddFinalizer(ctx, newCluster("leaving").Metadata(), "someone"))
	must(t, raw.Create(ctx, newPatch("blue", "owned"), state.WithCreateOwner("SomeController")))

	stale, err := st.Get(ctx, newCluster("blue").Metadata())
	must(t, err)
	must(t, raw.AddFinalizer(ctx, newCluster("blue").Metadata(), "someone else"))

	ready, err := st.Teardown(ctx, newCluster("leaving").Metadata())
	must(t, err)

	if ready {
		t.Error("Teardown says ready with a finalizer left")
	}

	update := func(md resource.Pointer, change func(*omni.Cluster)) func(context.Context, state.State) error {
		return func(ctx context.Context, st state.State) error {
			res, err := st.Get(ctx, md)
			must(t, err)
			change(res.(*omni.Cluster)) //nolint:forcetypeassert

			return st.Update(ctx, res)
		}
	}

	for _, test := range []struct {
		name string
		call func(context.Context, state.State) error
		code codes.Code
		is   predicates
	}{
		{
			"validation refuses an update", update(newCluster("blue").Metadata(), func(c *omni.Cluster) { c.TypedSpec().Value.TalosVersion = "0.1.0" }),
			codes.InvalidArgument, predicates{conflict: true, phase: true},
		},
		{
			"update while tearing down", update(newCluster("leaving").Metadata(), func(c *omni.Cluster) { c.Metadata().Annotations().Set("a", "b") }),
			codes.InvalidArgument, predicates{conflict: true, phase: true},
		},
		{
			"stale version", func(ctx context.Context, st state.State) error { return st.Update(ctx, stale) },
			codes.FailedPrecondition, predicates{conflict: true},
		},
		{"destroy with finalizers", destroyOf(newCluster("leaving")), codes.FailedPrecondition, predicates{conflict: true}},
		{"create of what exists", createOf(newCluster("blue")), codes.AlreadyExists, predicates{conflict: true}},
		{"create of what tears down", createOf(newCluster("leaving")), codes.AlreadyExists, predicates{conflict: true}},
		{"create refused", createOf(omni.NewCluster("empty")), codes.InvalidArgument, predicates{}},
		{"get of nothing", getOf(newCluster("nowhere")), codes.NotFound, predicates{notFound: true}},
		{"update of nothing", func(ctx context.Context, st state.State) error { return st.Update(ctx, newCluster("nowhere")) }, codes.NotFound, predicates{notFound: true}},
		{"teardown of nothing", teardownOf(newCluster("nowhere")), codes.NotFound, predicates{notFound: true}},
		{"destroy of nothing", destroyOf(newCluster("nowhere")), codes.NotFound, predicates{notFound: true}},
		{"teardown again", teardownOf(newCluster("leaving")), codes.OK, predicates{}},
		{"update of a controller's", func(ctx context.Context, st state.State) error {
			res, err := st.Get(ctx, newPatch("blue", "owned").Metadata())
			must(t, err)
			res.Metadata().Annotations().Set("a", "b")

			return st.Update(ctx, res)
		}, codes.PermissionDenied, predicates{conflict: true, owner: true}},
		{"teardown of a controller's", teardownOf(newPatch("blue", "owned")), codes.PermissionDenied, predicates{conflict: true, owner: true}},
		{"destroy of a controller's", destroyOf(newPatch("blue", "owned")), codes.PermissionDenied, predicates{conflict: true, owner: true}},
		{"destroy in another controller's name", func(ctx context.Context, st state.State) error {
			return st.Destroy(ctx, newPatch("blue", "owned").Metadata(), state.WithDestroyOwner("AnotherController"))
		}, codes.PermissionDenied, predicates{conflict: true, owner: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.call(testContext(t), st)
			wantCode(t, err, test.code)

			if got := predicatesOf(err); got != test.is {
				t.Errorf("the client sees %+v, want %+v", got, test.is)
			}
		})
	}

	must(t, raw.RemoveFinalizer(ctx, newCluster("leaving").Metadata(), "someone"))
	must(t, st.Destroy(ctx, newCluster("leaving").Metadata()))

	// One call for both: refused like a teardown, and waiting for the finalizers.
	wantCode(t, st.TeardownAndDestroy(ctx, newPatch("blue", "owned").Metadata()), codes.PermissionDenied)

	done := make(chan error, 1)
	go func() { done <- st.TeardownAndDestroy(ctx, newCluster("blue").Metadata()) }()

	waitFor(t, raw, newCluster("blue").Metadata(), func(c *omni.Cluster) bool { return c.Metadata().Phase() == resource.PhaseTearingDown })
	must(t, raw.RemoveFinalizer(ctx, newCluster("blue").Metadata(), "someone", "someone else"))
	must(t, receive(t, done))
	wantCode(t, getOf(newCluster("blue"))(ctx, st), codes.NotFound)
}
