package api

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/zap"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// operatorService implements omnisyncdv1connect.OperatorServiceHandler.
type operatorService struct{ *Handler }

// Reconcile has targets tried now.
func (o *operatorService) Reconcile(ctx context.Context, req *connect.Request[v1.ReconcileRequest]) (res *connect.Response[v1.ReconcileResponse], err error) {
	source := req.Msg.GetSource()

	defer func() {
		what := []zap.Field{zap.String("source", printable(source))}
		if req.Msg.Cluster != nil {
			what = append(what, zap.String("cluster", printable(req.Msg.GetCluster())))
		}

		note(ctx, err, append(what, zap.Bool("wait", req.Msg.GetWait()))...)
	}()

	all, _ := o.Engine.Changes(0)

	var targets []sync.TargetStatus

	switch {
	case req.Msg.Cluster != nil:
		t, err := one(&all, source, req.Msg.GetCluster())
		if err != nil {
			return nil, err
		}

		targets, source = []sync.TargetStatus{*t}, t.Source
	case source == "":
		return nil, invalid("name a cluster or a source")
	default:
		if targets, err = filter(&all, source, nil); err != nil {
			return nil, err
		}
	}

	if req.Msg.GetWait() {
		if err := o.acquire(); err != nil {
			return nil, err
		}
		defer o.release()
	}

	wanted := map[sync.Key]bool{}

	for i := range targets {
		key := targets[i].Key
		if err := o.Engine.Reconcile(key); err == nil {
			wanted[key] = true
		} else if req.Msg.Cluster != nil {
			return nil, connect.NewError(connect.CodeNotFound, err) // it went in this moment
		}
	}

	clusters, err := o.settled(ctx, wanted, req.Msg.GetWait())
	if err != nil {
		return nil, err
	}

	return connect.NewResponse(&v1.ReconcileResponse{Clusters: clustersOf(clusters)}), nil
}

// settled returns how targets stand: now, or once nothing more happens with them by itself.
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

				if !t.Settled {
					busy = append(busy, fmt.Sprintf("%s (%s)", describe(t.Key), text(t.Message)))
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

		switch {
		case errors.Is(err, context.Canceled):
			return nil, connect.NewError(connect.CodeCanceled, errors.New("the client went; the work goes on"))
		case errors.Is(err, context.DeadlineExceeded):
			return nil, connect.NewError(connect.CodeDeadlineExceeded, fmt.Errorf("not done in time, and the work goes on: %s", shorten(busy)))
		case err != nil:
			return nil, err
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

// digest is how a guard names a deletion.
var digest = regexp.MustCompile(`^[0-9a-f]{12}$`)

// Confirm allows a deletion.
func (o *operatorService) Confirm(ctx context.Context, req *connect.Request[v1.ConfirmRequest]) (res *connect.Response[v1.ConfirmResponse], err error) {
	source := req.Msg.GetSource()

	defer func() {
		note(ctx, err, zap.String("source", printable(source)), zap.String("digest", printable(req.Msg.GetDigest())))
	}()

	all, _ := o.Engine.Changes(0)

	switch _, err := filter(&all, source, nil); {
	case source == "":
		return nil, invalid("name the source of the deletion")
	case err != nil:
		return nil, err
	case !digest.MatchString(req.Msg.GetDigest()):
		return nil, invalid("a digest has 12 hexadecimal digits, as the message of the cluster names it after `confirm:`")
	}

	if err := o.Engine.Confirm(source, req.Msg.GetDigest()); err != nil {
		return nil, connect.NewError(connect.CodeResourceExhausted, err) // the source is there, so it is too much to remember
	}

	return connect.NewResponse(&v1.ConfirmResponse{}), nil
}
