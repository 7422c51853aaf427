package api

import (
	"context"
	"slices"

	"connectrpc.com/connect"

	"github.com/omni-syncd/omni-syncd/pkg/server/auth"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// permit returns an error unless the caller has a role for a cluster; "" is everything. It
// is asked before it is looked whether there is such a cluster, so that nobody learns what
// they may not know. A request that nobody checked may nothing.
func permit(ctx context.Context, role auth.Role, cluster string) error {
	if err := checkNames(cluster); err != nil {
		return err
	}

	caller, _ := auth.Of(ctx)
	if err := caller.May(ctx, role, cluster); err != nil {
		return auth.ConnectError(err)
	}

	return nil
}

// denied reports whether an error of permit says no. Any other says that it could not be
// found out.
func denied(err error) bool { return connect.CodeOf(err) == connect.CodePermissionDenied }

// view is what one caller is shown of the status.
type view struct {
	engine Engine
	// shown are the sources that were shown to a caller who does not see everything.
	shown map[string]bool
}

func (h *Handler) newView() *view { return &view{h.Engine, map[string]bool{}} }

// seen returns the status as the caller of a request sees it.
func (h *Handler) seen(ctx context.Context) (sync.Changes, error) {
	all, _ := h.Engine.Changes(0)

	return h.newView().narrow(ctx, all)
}

// narrow takes out of a status what the caller may not see. Who sees some clusters only
// is shown those, and of the sources that they come from what the clusters tell anyhow.
func (v *view) narrow(ctx context.Context, changes sync.Changes) (sync.Changes, error) {
	if err := permit(ctx, auth.Viewer, ""); err == nil || !denied(err) {
		return changes, err
	}

	var failed error

	// What could not be found out of one cluster is an error for all: half a list would look
	// like a whole one.
	hidden := func(cluster string) bool {
		if cluster == "" || failed != nil {
			return true
		}

		err := permit(ctx, auth.Viewer, cluster)
		if err != nil && !denied(err) {
			failed = err
		}

		return err != nil
	}

	whole := changes
	if !changes.All {
		whole, _ = v.engine.Changes(0)
	}

	visible := map[string]bool{}

	for i := range whole.Targets {
		if t := &whole.Targets[i]; !visible[t.Source] && !hidden(t.Target) {
			visible[t.Source] = true
		}
	}

	narrow := changes
	narrow.Targets = slices.DeleteFunc(slices.Clone(changes.Targets), func(t sync.TargetStatus) bool { return hidden(t.Target) })
	narrow.RemovedTargets = slices.DeleteFunc(slices.Clone(changes.RemovedTargets), func(k sync.Key) bool { return hidden(k.Target) })
	narrow.RemovedSources = slices.DeleteFunc(slices.Clone(changes.RemovedSources), func(name string) bool { return !v.shown[name] })
	narrow.Sources = nil

	for i := range whole.Sources {
		s := &whole.Sources[i]
		changed := slices.ContainsFunc(changes.Sources, func(c sync.SourceStatus) bool { return c.Name == s.Name })

		if visible[s.Name] && (changed || !v.shown[s.Name]) {
			v.shown[s.Name] = true

			narrow.Sources = append(narrow.Sources, sync.SourceStatus{Name: s.Name, Fetched: s.Fetched, Revision: s.Revision, Suspension: s.Suspension})
		}
	}

	return narrow, failed
}
