package conformance

import (
	"context"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// TestErrors has a row for each row of the table of errors in the description of a real Omni.
func TestErrors(t *testing.T) {
	t.Parallel()

	o := newTenant(t)
	ctx := testContext(t)

	// Patches of no cluster: no controller writes to them.
	plain, leaving, nothing := o.patch("none", "plain"), o.patch("none", "leaving"), o.patch("none", "nothing")
	o.make(plain, leaving)
	o.hold(leaving)

	old, err := o.st.Get(ctx, plain.Metadata())
	must(t, err)
	o.do(change(plain, touch[*omni.ConfigPatch]))

	ready, err := o.st.Teardown(ctx, leaving.Metadata())
	must(t, err)

	if ready {
		t.Error("Teardown says ready with a finalizer left")
	}

	check(t, o.st, []row{
		{"update refused", change(plain, func(r *omni.ConfigPatch) { data(r, "machine: [") }), updateRefused, ""},
		{"update while tearing down", change(leaving, touch[*omni.ConfigPatch]), updateRefused, ""},
		{"update of a stale version", func(ctx context.Context, st state.State) error { return st.Update(ctx, old) }, stale, ""},
		{"destroy with finalizers", destroy(leaving), held, ""},
		{"create of what exists", create(plain), exists, ""},
		{"create of what tears down", create(leaving), exists, ""},
		{"create refused", create(data(o.patch("none", "bad"), "machine: [")), refused, ""},
		{"teardown again", teardown(leaving), accepted, ""},
		{"get of nothing", get(nothing), missing, ""},
		{"update of nothing", func(ctx context.Context, st state.State) error { return st.Update(ctx, nothing) }, missing, ""},
		{"teardown of nothing", teardown(nothing), missing, ""},
		{"destroy of nothing", destroy(nothing), missing, ""},
		{"teardown and destroy of nothing", func(ctx context.Context, st state.State) error {
			return st.TeardownAndDestroy(ctx, nothing.Metadata())
		}, missing, ""},
		{"destroy without a teardown", destroy(plain), accepted, ""},
		{"and again", destroy(plain), missing, ""},
	})

	o.release(leaving)
	o.awaitGone(leaving)
	o.make(leaving) // the ID is free again
}

// TestOwners: Omni takes a client's word for whom it writes as, so that an owner is no more than a mark against mistakes.
func TestOwners(t *testing.T) {
	t.Parallel()

	o := newTenant(t)
	owned, plain := o.patch("none", "owned"), o.patch("none", "plain")
	o.make(plain)

	updateAs := func(res resource.Resource, owner string) call {
		return func(ctx context.Context, st state.State) error {
			res, err := st.Get(ctx, res.Metadata())
			if err != nil {
				return err
			}

			touch(res)

			return st.Update(ctx, res, state.WithUpdateOwner(owner))
		}
	}

	check(t, o.st, []row{
		{"create in another's name", func(ctx context.Context, st state.State) error {
			return st.Create(ctx, owned, state.WithCreateOwner(owner))
		}, accepted, ""},
		{"update of what has an owner", updateAs(owned, ""), notOwner, ""},
		{"teardown of what has an owner", teardown(owned), notOwner, ""},
		{"destroy of what has an owner", destroy(owned), notOwner, ""},
		{"teardown and destroy of what has an owner", func(ctx context.Context, st state.State) error {
			return st.TeardownAndDestroy(ctx, owned.Metadata())
		}, notOwner, ""},
		{"update of what has none as an owner", updateAs(plain, owner), notOwner, ""},
		{"destroy of what has none as an owner", func(ctx context.Context, st state.State) error {
			return st.Destroy(ctx, plain.Metadata(), state.WithDestroyOwner(owner))
		}, notOwner, ""},
		{"update in the owner's name", updateAs(owned, owner), accepted, ""},
		{"destroy in the owner's name", func(ctx context.Context, st state.State) error {
			return st.Destroy(ctx, owned.Metadata(), state.WithDestroyOwner(owner))
		}, accepted, ""},
	})
}
