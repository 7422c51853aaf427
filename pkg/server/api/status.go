package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
	"github.com/omni-syncd/omni-syncd/pkg/server/auth"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// Bounds of a list of history.
const (
	defaultHistory = 20
	maxHistory     = 1000
)

// statusService implements omnisyncdv1connect.StatusServiceHandler.
type statusService struct{ *Handler }

// ListSources returns all sources.
func (s *statusService) ListSources(ctx context.Context, _ *connect.Request[v1.ListSourcesRequest]) (*connect.Response[v1.ListSourcesResponse], error) {
	shown, err := newView(ctx, "")
	if err != nil {
		return nil, err
	}

	all, _ := s.Engine.Changes(0)
	res := &v1.ListSourcesResponse{Sources: sourcesOf(shown.narrow(all).Sources)}

	for _, suspended := range s.Engine.Suspensions() {
		if shown.sight.All() || suspended.Target != nil && *suspended.Target != "" && shown.sight.Of(*suspended.Target) {
			res.Suspended = append(res.Suspended, &v1.SuspendedScope{Source: text(suspended.Source), Cluster: suspended.Target, Suspension: suspensionOf(&suspended)})
		}
	}

	return connect.NewResponse(res), nil
}

// ListClusters returns clusters.
func (s *statusService) ListClusters(ctx context.Context, req *connect.Request[v1.ListClustersRequest]) (*connect.Response[v1.ListClustersResponse], error) {
	if req.Msg.Cluster != nil {
		if err := permit(ctx, auth.Viewer, req.Msg.GetCluster()); err != nil {
			return nil, err
		}
	}

	all, err := s.seen(ctx, req.Msg.GetCluster())
	if err != nil {
		return nil, err
	}

	found, err := filter(&all, req.Msg.GetSource(), req.Msg.Cluster)
	if err != nil {
		return nil, err
	}

	return connect.NewResponse(&v1.ListClustersResponse{Ready: all.Ready, Clusters: clustersOf(found), Replica: s.replica(), Omni: omniOf(&all)}), nil
}

// omniOf says what people should know of the server.
func omniOf(now *sync.Changes) *v1.Omni {
	o := &v1.Omni{Version: text(string(now.Server)), Note: text(cmp.Or(now.Server.Outdated(), now.Server.Untested()))}

	if away := now.Away; !away.Since.IsZero() {
		o.Away, o.AwaySinceTime = text(away.Reason), timestamppb.New(away.Since)
	}

	return o
}

// replica says which of several replicas answers; nil for the only one.
func (s *statusService) replica() *v1.Replica {
	shard, replicated := s.Engine.Part()
	if !replicated {
		return nil
	}

	now, _ := s.Engine.Leadership()
	part := &v1.Replica{Leads: now.Term != 0}

	if now.Reason == "" { // else it holds the lease and waits: the clusters say for what
		part.Leader = text(now.Leader)
	}

	if !shard.Whole() {
		part.Shard, part.Shards = uint32(shard.Index), uint32(shard.Count) //nolint:gosec // few
	}

	return part
}

// WatchStatus sends everything and then changes.
func (s *statusService) WatchStatus(ctx context.Context, _ *connect.Request[v1.WatchStatusRequest], stream *connect.ServerStream[v1.WatchStatusResponse]) error {
	shown, err := newView(ctx, "")
	if err != nil {
		return err
	}

	release, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()

	pause := time.NewTicker(watchEvery)
	defer pause.Stop()

	var before sync.Changes

	for version := uint64(0); ; {
		changes, newer := s.Engine.Changes(version)
		version = changes.Version
		changes = shown.narrow(changes)

		if !nothing(&changes) || changes.Ready != before.Ready || changes.Server != before.Server || changes.Away != before.Away {
			if err := stream.Send(changesOf(&changes)); err != nil {
				return err
			}
		}

		before = sync.Changes{Ready: changes.Ready, Server: changes.Server, Away: changes.Away}

		// First the pause: what changes meanwhile is one message.
		if err := await(ctx, s.stopping, pause.C); err != nil {
			return err
		}

		// A token may be taken back, or allow something else, while nothing happens here.
		next, err := s.awaitOrAsk(ctx, shown.sight, newer)
		if err != nil {
			return err
		}

		if next != nil {
			shown, version = next, 0 // everything anew, as it is seen now
		}
	}
}

// askEvery is how often it is asked whether a watch is still allowed.
const askEvery = 2 * time.Second

// awaitOrAsk waits until something is newer, and asks now and then whether the caller still
// sees what it saw. It returns a new view if that is something else.
func (s *statusService) awaitOrAsk(ctx context.Context, before auth.Sight, newer <-chan struct{}) (*view, error) {
	ask := time.NewTicker(askEvery)
	defer ask.Stop()

	for {
		next, err := newView(ctx, "")
		if err != nil {
			return nil, err
		}

		if !next.sight.Equal(before) {
			return next, nil
		}

		select {
		case <-newer:
			return nil, nil
		case <-ask.C:
		case <-ctx.Done():
			return nil, ended(ctx)
		case <-s.stopping:
			return nil, errStopping()
		}
	}
}

func changesOf(changes *sync.Changes) *v1.WatchStatusResponse {
	res := &v1.WatchStatusResponse{
		Version: changes.Version, All: changes.All, Ready: changes.Ready, Sources: sourcesOf(changes.Sources), Clusters: clustersOf(changes.Targets),
		RemovedSources: changes.RemovedSources, Omni: omniOf(changes),
	}

	for _, key := range changes.RemovedTargets {
		res.RemovedClusters = append(res.RemovedClusters, &v1.RemovedCluster{Source: text(key.Source), Name: text(key.Target)})
	}

	return res
}

// GetPlan returns the plan of a cluster.
func (s *statusService) GetPlan(ctx context.Context, req *connect.Request[v1.GetPlanRequest]) (*connect.Response[v1.GetPlanResponse], error) {
	if err := permit(ctx, auth.Viewer, req.Msg.GetCluster()); err != nil {
		return nil, err
	}

	all, _ := s.Engine.Changes(0)

	t, err := one(&all, req.Msg.GetSource(), req.Msg.GetCluster())
	if err != nil {
		return nil, err
	}

	if t.Plan == nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("there is no plan yet: %s", cmp.Or(text(t.Message), "it was not compared with Omni so far")))
	}

	plan, err := planOf(t)
	if err != nil {
		return nil, connect.NewError(connect.CodeInternal, err)
	}

	for _, c := range s.foreseen.of(s.Engine, t) {
		plan.Consequences = append(plan.Consequences, &v1.Consequence{Severity: string(c.Severity), Text: text(c.Text)})
	}

	return connect.NewResponse(plan), nil
}

// ListHistory returns what was applied to a cluster.
func (s *statusService) ListHistory(ctx context.Context, req *connect.Request[v1.ListHistoryRequest]) (*connect.Response[v1.ListHistoryResponse], error) {
	if err := permit(ctx, auth.Viewer, req.Msg.GetCluster()); err != nil {
		return nil, err
	}

	limit := int(cmp.Or(req.Msg.GetLimit(), defaultHistory))

	switch {
	case limit < 0 || limit > maxHistory:
		return nil, invalid("limit: %d is not between 1 and %d", limit, maxHistory)
	case s.History == nil:
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("no history is kept: set `stateDir` in the configuration, or --state-dir"))
	}

	source, err := s.remembered(req.Msg.GetSource(), req.Msg.GetCluster())
	if err != nil {
		return nil, err
	}

	entries, err := s.History.Of(source, req.Msg.GetCluster(), limit)
	if err != nil {
		return nil, connect.NewError(connect.CodeInternal, err)
	}

	res := &v1.ListHistoryResponse{Entries: make([]*v1.HistoryEntry, len(entries))}
	for i := range entries {
		res.Entries[i] = entryOf(&entries[i])
	}

	return connect.NewResponse(res), nil
}

// remembered returns the source of a cluster that is there, or that was: then its history
// is all that is left of it.
func (s *statusService) remembered(source, cluster string) (string, error) {
	all, _ := s.Engine.Changes(0)

	t, err := one(&all, source, cluster)
	if err == nil {
		return t.Source, nil
	}

	if connect.CodeOf(err) != connect.CodeNotFound {
		return "", err
	}

	for i := range all.Sources {
		if name := all.Sources[i].Name; source == "" || source == name {
			entries, readErr := s.History.Of(name, cluster, 1)

			switch {
			case readErr != nil:
				return "", connect.NewError(connect.CodeInternal, readErr)
			case len(entries) > 0:
				return name, nil
			}
		}
	}

	return "", err
}
