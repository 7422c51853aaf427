package api

import (
	"context"
	"errors"
	"maps"
	"slices"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

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
		return notPermitted(err)
	}

	return nil
}

// notPermitted gives an error of a permission its code, and says for programs what is lacking.
func notPermitted(err error) error {
	coded := auth.ConnectError(err)

	var denied *auth.DeniedError
	if errors.As(err, &denied) {
		return detailed(coded, "ROLE_REQUIRED", map[string]string{"role": string(denied.Role), "cluster": denied.Cluster})
	}

	return coded
}

// domain is whose reasons the details of an error are.
const domain = "omni-syncd"

// detailed says for programs why there is an error, in the way of google.rpc.ErrorInfo.
func detailed(err *connect.Error, reason string, about map[string]string) *connect.Error {
	maps.DeleteFunc(about, func(_, value string) bool { return value == "" })

	if detail, failed := connect.NewErrorDetail(&errdetails.ErrorInfo{Reason: reason, Domain: domain, Metadata: about}); failed == nil {
		err.AddDetail(detail)
	}

	return err
}

// view is what one caller is shown of the status. It remembers what was shown, so that what
// it costs to show a change does not depend on how much there is.
type view struct {
	sight auth.Sight
	// sources are the last status of each source, and targets those shown, counted by source
	// in visible; all of a caller who does not see everything.
	sources map[string]sync.SourceStatus
	targets map[sync.Key]bool
	visible map[string]int
}

// newView returns the view of whoever makes a request. Who may see nothing at all is denied,
// and so is who may not see the cluster that the request is about, if it is about one.
func newView(ctx context.Context, cluster string) (*view, error) {
	v := &view{sources: map[string]sync.SourceStatus{}, targets: map[sync.Key]bool{}, visible: map[string]int{}}

	caller, _ := auth.Of(ctx)

	var err error
	if v.sight, err = caller.SightOf(ctx, auth.Viewer, cluster); err != nil {
		return nil, notPermitted(err)
	}

	return v, nil
}

// seen returns the status as the caller of a request sees it. cluster is what the request is
// about, or "".
func (h *Handler) seen(ctx context.Context, cluster string) (sync.Changes, error) {
	v, err := newView(ctx, cluster)
	if err != nil {
		return sync.Changes{}, err
	}

	all, _ := h.Engine.Changes(0)

	return v.narrow(all), nil
}

// narrow takes out of a status what the caller may not see. Who sees some clusters only
// is shown those, and of the sources that they come from what the clusters tell anyhow.
func (v *view) narrow(changes sync.Changes) sync.Changes {
	if v.sight.All() {
		return changes
	}

	if changes.All {
		clear(v.sources)
		clear(v.targets)
		clear(v.visible)
	}

	narrow := changes
	narrow.Targets, narrow.RemovedTargets, narrow.Sources, narrow.RemovedSources = nil, nil, nil, nil
	touched := map[string]bool{}

	for i := range changes.Sources {
		v.sources[changes.Sources[i].Name], touched[changes.Sources[i].Name] = changes.Sources[i], true
	}

	for i := range changes.Targets {
		t := &changes.Targets[i]
		if t.Target == "" || !v.sight.Of(t.Target) {
			continue
		}

		narrow.Targets = append(narrow.Targets, *t)

		if !v.targets[t.Key] {
			v.targets[t.Key] = true
			v.visible[t.Source]++
			touched[t.Source] = touched[t.Source] || v.visible[t.Source] == 1
		}
	}

	for _, key := range changes.RemovedTargets {
		if !v.targets[key] {
			continue
		}

		narrow.RemovedTargets = append(narrow.RemovedTargets, key)
		delete(v.targets, key)

		if v.visible[key.Source]--; v.visible[key.Source] == 0 {
			delete(v.visible, key.Source)
			narrow.RemovedSources = append(narrow.RemovedSources, key.Source)
		}
	}

	for _, name := range changes.RemovedSources {
		delete(v.sources, name) // its clusters went before, and it with the last of them
	}

	for _, name := range slices.Sorted(maps.Keys(touched)) {
		if s := v.sources[name]; v.visible[name] > 0 {
			narrow.Sources = append(narrow.Sources, sync.SourceStatus{Name: s.Name, Fetched: s.Fetched, Revision: s.Revision, Suspension: s.Suspension})
		}
	}

	return narrow
}

// nothing reports whether a caller has no use for some changes.
func nothing(c *sync.Changes) bool {
	return !c.All && len(c.Sources)+len(c.Targets)+len(c.RemovedSources)+len(c.RemovedTargets) == 0
}
