package api

import (
	"context"
	"errors"
	"time"
	"unicode/utf8"

	"connectrpc.com/connect"
	"go.uber.org/zap"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
	"github.com/omni-syncd/omni-syncd/pkg/server/auth"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// maxReason is how many characters the reason of a suspension has at most.
const maxReason = 200

// Suspend leaves a cluster or a source alone.
func (o *operatorService) Suspend(ctx context.Context, req *connect.Request[v1.SuspendRequest]) (res *connect.Response[v1.SuspendResponse], err error) {
	source, reason := req.Msg.GetSource(), req.Msg.GetReason()

	defer func() {
		note(ctx, err, append(scope(source, req.Msg.Cluster), zap.String("reason", printable(reason)))...)
	}()

	if n := utf8.RuneCountInString(reason); n > maxReason {
		return nil, invalid("the reason has %d characters, at most %d are taken", n, maxReason)
	}

	_, source, err = o.named(ctx, source, req.Msg.Cluster)
	if err != nil {
		return nil, err
	}

	caller, _ := auth.Of(ctx)

	err = o.Engine.Suspend(sync.Suspension{
		Source: source, Target: req.Msg.Cluster, By: caller.Name, Reason: visible(reason), Since: time.Now().UTC().Truncate(time.Second),
	})

	switch {
	case errors.Is(err, sync.ErrNotKept):
		return nil, connect.NewError(connect.CodeFailedPrecondition, err)
	case errors.Is(err, sync.ErrStandby):
		return nil, connect.NewError(connect.CodeUnavailable, err)
	case err != nil:
		return nil, connect.NewError(connect.CodeInternal, err)
	}

	return connect.NewResponse(&v1.SuspendResponse{Clusters: o.now(source, req.Msg.Cluster)}), nil
}

// Resume takes a suspension back. It may be one of a cluster that is gone: then nobody knows
// the cluster but its suspension.
func (o *operatorService) Resume(ctx context.Context, req *connect.Request[v1.ResumeRequest]) (res *connect.Response[v1.ResumeResponse], err error) {
	source, cluster := req.Msg.GetSource(), req.Msg.Cluster

	defer func() { note(ctx, err, scope(source, cluster)...) }()

	if err := permit(ctx, auth.Operator, req.Msg.GetCluster()); err != nil {
		return nil, err
	}

	if err := checkNames(source); err != nil {
		return nil, err
	}

	if source == "" && req.Msg.GetCluster() == "" {
		return nil, invalid("name a cluster or a source")
	}

	switch err := o.Engine.Resume(source, cluster); {
	case errors.Is(err, sync.ErrNotSuspended):
		return nil, connect.NewError(connect.CodeNotFound, err)
	case errors.Is(err, sync.ErrStandby):
		return nil, connect.NewError(connect.CodeUnavailable, err)
	case err != nil:
		return nil, connect.NewError(connect.CodeInternal, err)
	}

	return connect.NewResponse(&v1.ResumeResponse{Clusters: o.now(source, cluster)}), nil
}

// now returns how the clusters stand that a request was about; none if they are gone.
func (o *operatorService) now(source string, cluster *string) []*v1.Cluster {
	all, _ := o.Engine.Changes(0)
	found, _ := filter(&all, source, cluster)

	return clustersOf(found)
}

// scope says in the audit log what a request is about.
func scope(source string, cluster *string) []zap.Field {
	var fields []zap.Field

	if source != "" {
		fields = append(fields, zap.String("source", printable(source)))
	}

	if cluster != nil {
		fields = append(fields, zap.String("cluster", printable(*cluster)))
	}

	return fields
}
