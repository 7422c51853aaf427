package embedded

import (
	"context"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/protobuf/server"
	"github.com/hashicorp/go-multierror"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// userState is the store as users see it through the API: every call is authorized, every write is checked against the refusals.
// A missing resource is authorized before it is reported missing. Whom a client writes as it says itself (state.WithUpdateOwner and
// the like), and Omni takes its word.
type userState struct {
	store state.State
	rules rules
}

var (
	_ state.Teardowner           = (*userState)(nil)
	_ state.TeardownAndDestroyer = (*userState)(nil)
)

// Get implements state.CoreState.
func (u *userState) Get(ctx context.Context, ptr resource.Pointer, _ ...state.GetOption) (resource.Resource, error) {
	res, cluster, err := u.find(ctx, ptr)
	if res == nil && !state.IsNotFoundError(err) {
		return nil, err
	}

	if denied := u.rules.allow(ctx, false, ptr.Type(), cluster); denied != nil {
		return nil, denied
	}

	return res, err
}

// find returns a resource, or the error and the cluster it would be in.
func (u *userState) find(ctx context.Context, ptr resource.Pointer) (resource.Resource, string, error) {
	res, err := u.store.Get(ctx, ptr)
	if err != nil {
		return nil, clusterOfPointer(ptr), err
	}

	return res, clusterOf(res.Metadata()), nil
}

// List implements state.CoreState.
func (u *userState) List(ctx context.Context, kind resource.Kind, opts ...state.ListOption) (resource.List, error) {
	var options state.ListOptions
	for _, opt := range opts {
		opt(&options)
	}

	if err := u.rules.allow(ctx, false, kind.Type(), clusterOfQueries(options.LabelQueries)); err != nil {
		return resource.List{}, err
	}

	return u.store.List(ctx, kind, opts...)
}

// Create implements state.CoreState.
func (u *userState) Create(ctx context.Context, res resource.Resource, opts ...state.CreateOption) error {
	if err := u.rules.allow(ctx, true, res.Metadata().Type(), clusterOf(res.Metadata())); err != nil {
		return err
	}

	if err := refuse(u.rules.create(ctx, res)); err != nil {
		return err
	}

	return u.store.Create(ctx, res, opts...)
}

// Update implements state.CoreState.
func (u *userState) Update(ctx context.Context, res resource.Resource, opts ...state.UpdateOption) error {
	existing, cluster, err := u.find(ctx, res.Metadata())
	if err != nil && !state.IsNotFoundError(err) {
		return err
	}

	if denied := u.rules.allow(ctx, true, res.Metadata().Type(), cluster); denied != nil {
		return denied
	}

	// A resource must not be moved out of, or into, a cluster the account is limited to.
	if denied := u.rules.allow(ctx, true, res.Metadata().Type(), clusterOf(res.Metadata())); denied != nil {
		return denied
	}

	if err != nil {
		return err
	}

	if err = refuse(u.rules.update(ctx, existing, res)); err != nil {
		return err
	}

	return u.store.Update(ctx, res, opts...)
}

// Destroy implements state.CoreState.
func (u *userState) Destroy(ctx context.Context, ptr resource.Pointer, opts ...state.DestroyOption) error {
	if err := u.checkDestroy(ctx, ptr); err != nil {
		return err
	}

	return u.store.Destroy(ctx, ptr, opts...)
}

// Teardown implements state.Teardowner.
func (u *userState) Teardown(ctx context.Context, ptr resource.Pointer, opts ...state.TeardownOption) (bool, error) {
	if err := u.checkDestroy(ctx, ptr); err != nil {
		return false, err
	}

	return u.store.Teardown(ctx, ptr, opts...)
}

// TeardownAndDestroy implements state.TeardownAndDestroyer. It may return NotFound for a resource that it tore down and that the
// controllers destroyed first.
func (u *userState) TeardownAndDestroy(ctx context.Context, ptr resource.Pointer, opts ...state.TeardownAndDestroyOption) error {
	if err := u.checkDestroy(ctx, ptr); err != nil {
		return err
	}

	return u.store.TeardownAndDestroy(ctx, ptr, opts...)
}

func (u *userState) checkDestroy(ctx context.Context, ptr resource.Pointer) error {
	existing, cluster, err := u.find(ctx, ptr)
	if err != nil && !state.IsNotFoundError(err) {
		return err
	}

	if denied := u.rules.allow(ctx, true, ptr.Type(), cluster); denied != nil {
		return denied
	}

	if err != nil {
		return err
	}

	return refuse(u.rules.destroy(ctx, existing))
}

// Watch implements state.CoreState.
func (u *userState) Watch(ctx context.Context, ptr resource.Pointer, events chan<- state.Event, opts ...state.WatchOption) error {
	if err := u.rules.allow(ctx, false, ptr.Type(), clusterOfPointer(ptr)); err != nil {
		return err
	}

	return u.store.Watch(ctx, ptr, events, opts...)
}

// WatchKind implements state.CoreState.
func (u *userState) WatchKind(ctx context.Context, kind resource.Kind, events chan<- state.Event, opts ...state.WatchKindOption) error {
	if err := u.rules.allowWatch(ctx, kind, opts); err != nil {
		return err
	}

	return u.store.WatchKind(ctx, kind, events, opts...)
}

// WatchKindAggregated implements state.CoreState.
func (u *userState) WatchKindAggregated(ctx context.Context, kind resource.Kind, events chan<- []state.Event, opts ...state.WatchKindOption) error {
	if err := u.rules.allowWatch(ctx, kind, opts); err != nil {
		return err
	}

	return u.store.WatchKindAggregated(ctx, kind, events, opts...)
}

func (r rules) allowWatch(ctx context.Context, kind resource.Kind, opts []state.WatchKindOption) error {
	var options state.WatchKindOptions
	for _, opt := range opts {
		opt(&options)
	}

	return r.allow(ctx, false, kind.Type(), clusterOfQueries(options.LabelQueries))
}

// watchAccess is the check of a watch before anything of it is looked at.
func watchAccess(ctx context.Context, req *v1alpha1.WatchRequest) error {
	if req.Id != nil {
		return allow(ctx, false, req.GetType(), clusterOfPointer(resource.NewMetadata(req.GetNamespace(), req.GetType(), req.GetId(), resource.VersionUndefined)))
	}

	var queries resource.LabelQueries

	for _, query := range req.GetOptions().GetLabelQuery() {
		opts, err := server.ConvertLabelQuery(query.GetTerms())
		if err != nil {
			return err
		}

		var q resource.LabelQuery
		for _, opt := range opts {
			opt(&q)
		}

		queries = append(queries, q)
	}

	return allow(ctx, false, req.GetType(), clusterOfQueries(queries))
}

// refuse turns what the rules found into the one error that a client gets. The text has several lines, as a real Omni's.
func refuse(problems []error) error {
	var all *multierror.Error

	for _, problem := range problems {
		if problem != nil {
			all = multierror.Append(all, problem)
		}
	}

	if all == nil {
		return nil
	}

	return status.Errorf(codes.InvalidArgument, "refused: %s", all.Error())
}
