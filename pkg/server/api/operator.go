package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/zap"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
	"github.com/omni-syncd/omni-syncd/pkg/server/auth"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// operatorService implements omnisyncdv1connect.OperatorServiceHandler.
type operatorService struct{ *Handler }

// Reconcile has targets tried now.
func (o *operatorService) Reconcile(ctx context.Context, req *connect.Request[v1.ReconcileRequest]) (res *connect.Response[v1.ReconcileResponse], err error) {
	source := req.Msg.GetSource()

	defer func() { note(ctx, err, append(scope(source, req.Msg.Cluster), zap.Bool("wait", req.Msg.GetWait()))...) }()

	targets, source, err := o.named(ctx, source, req.Msg.Cluster)
	if err != nil {
		return nil, err
	}

	if req.Msg.GetWait() {
		release, err := o.acquire(ctx)
		if err != nil {
			return nil, err
		}
		defer release()
	}

	if req.Msg.Cluster == nil {
		if targets, err = o.poke(ctx, source, targets, req.Msg.GetWait()); err != nil {
			return nil, err
		}
	}

	wanted := map[sync.Key]bool{}

	for i := range targets {
		key := targets[i].Key
		switch err := o.Engine.Reconcile(key); {
		case err == nil:
			wanted[key] = true
		case errors.Is(err, sync.ErrStandby):
			return nil, connect.NewError(connect.CodeUnavailable, err)
		case req.Msg.Cluster != nil:
			return nil, connect.NewError(connect.CodeNotFound, err) // it went in this moment
		}
	}

	clusters, err := o.settled(ctx, wanted, req.Msg.GetWait())
	if err != nil {
		return nil, err
	}

	return connect.NewResponse(&v1.ReconcileResponse{Clusters: clustersOf(clusters)}), nil
}

// named returns the targets that a request is about, and the name of their source. All of
// a source needs the role for everything: what comes later is a part of it.
func (o *operatorService) named(ctx context.Context, source string, cluster *string) ([]sync.TargetStatus, string, error) {
	name := ""
	if cluster != nil {
		name = *cluster
	}

	if err := permit(ctx, auth.Operator, name); err != nil {
		return nil, source, err
	}

	all, _ := o.Engine.Changes(0)

	switch {
	case cluster != nil:
		t, err := one(&all, source, name)
		if err != nil {
			return nil, source, err
		}

		return []sync.TargetStatus{*t}, t.Source, nil
	case source == "":
		return nil, source, invalid("name a cluster or a source")
	default:
		targets, err := filter(&all, source, nil)

		return targets, source, err
	}
}

// poke has a source look for news. With wait it waits for that, and returns the targets that
// the source has then.
func (o *operatorService) poke(ctx context.Context, source string, targets []sync.TargetStatus, wait bool) ([]sync.TargetStatus, error) {
	looked := o.Engine.Poke(source)
	if !wait {
		return targets, nil
	}

	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()

	pause := time.NewTicker(lookEvery)
	defer pause.Stop()

	for !looked() {
		if err := await(ctx, o.stopping, pause.C); err != nil {
			return nil, unfinished(err, "the source "+source+" is still looking for news")
		}
	}

	all, _ := o.Engine.Changes(0)

	return filter(&all, source, nil)
}

// unfinished gives the end of a wait its code.
func unfinished(err error, what string) error {
	switch {
	case errors.Is(err, context.Canceled):
		return connect.NewError(connect.CodeCanceled, errors.New("the client went; the work goes on"))
	case errors.Is(err, context.DeadlineExceeded):
		return connect.NewError(connect.CodeDeadlineExceeded, fmt.Errorf("not done in time, and the work goes on: %s", what))
	default:
		return err
	}
}

// settled returns how targets stand: now, or once nothing more happens with them by itself,
// neither here nor in Omni.
func (o *operatorService) settled(ctx context.Context, wanted map[sync.Key]bool, wait bool) ([]sync.TargetStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()

	pause := time.NewTicker(lookEvery)
	defer pause.Stop()

	for {
		all, newer := o.Engine.Changes(0)

		var (
			there []sync.TargetStatus
			busy  []string
		)

		for i := range all.Targets {
			if t := &all.Targets[i]; wanted[t.Key] {
				there = append(there, *t)

				if !t.Over() {
					busy = append(busy, fmt.Sprintf("%s (%s)", describe(t.Key), text(cmp.Or(t.Message, t.HealthReason))))
				}
			}
		}

		if !wait || len(busy) == 0 {
			return there, nil
		}

		err := await(ctx, o.stopping, newer)
		if err == nil {
			err = await(ctx, o.stopping, pause.C) // several changes are one look
		}

		if err != nil {
			return nil, unfinished(err, shorten(busy))
		}
	}
}

// maxBusy is how many targets one message names.
const maxBusy = 3

func shorten(busy []string) string {
	if len(busy) > maxBusy {
		busy = append(busy[:maxBusy], fmt.Sprintf("and %d more", len(busy)-maxBusy))
	}

	return strings.Join(busy, "; ")
}

func describe(key sync.Key) string {
	if key.Target == "" {
		return "the fleet resources of " + key.Source
	}

	return key.Target
}

// Confirm allows a deletion.
func (o *operatorService) Confirm(ctx context.Context, req *connect.Request[v1.ConfirmRequest]) (res *connect.Response[v1.ConfirmResponse], err error) {
	source, name := req.Msg.GetSource(), req.Msg.GetName()

	defer func() { note(ctx, err, zap.String("source", printable(source)), zap.String("name", printable(name))) }()

	// Whoever runs a cluster may not delete it.
	if err := permit(ctx, auth.Operator, ""); err != nil {
		return nil, err
	}

	if name == "" || len(name) > 2*maxName { // a kind and an ID
		return nil, invalid("name a cluster, or a fleet resource like MachineClass/worker")
	}

	all, _ := o.Engine.Changes(0)
	if _, err := filter(&all, source, nil); err != nil {
		return nil, err
	}

	caller, _ := auth.Of(ctx)
	key, err := o.Engine.Confirm(ctx, source, name, caller.Name)

	var stalled *sync.StalledError

	switch {
	case errors.Is(err, sync.ErrStandby):
		return nil, connect.NewError(connect.CodeUnavailable, err)
	case errors.Is(err, sync.ErrNothingToConfirm):
		return nil, connect.NewError(connect.CodeNotFound, err)
	case errors.As(err, &stalled):
		return nil, connect.NewError(connect.CodeFailedPrecondition, err)
	case err != nil:
		return nil, connect.NewError(connect.CodeUnavailable, err)
	}

	return connect.NewResponse(&v1.ConfirmResponse{Source: text(key.Source)}), nil
}
