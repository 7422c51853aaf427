package sync

import (
	"fmt"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// The budget bounds how much goes without anybody's word, at whatever pace it left (G11): what is about to leave, with
// what was begun to be destroyed within DeleteWindow. Over it everything waits for a confirmation, and stays so: what it
// forbids is not allowed one by one. It holds for each source and for all sources together; all together may delete as
// much as the source that may delete the most.

// overBudget says why a cluster or fleet resource that left Git may not go by itself; "" if it may.
func (e *Engine) overBudget(t *target, r resource.Resource) string {
	clusters := r.Metadata().Type() == omni.ClusterType
	limit, what, setting := t.src.MaxDelete, "clusters", "maxDelete"

	if !clusters {
		limit, what, setting = t.src.MaxDeleteResources, "fleet resources", "maxDeleteResources"
	}

	own := map[ref]bool{}
	e.departing(t.src, clusters, own)

	if n := len(own) + e.absences.spent(t.Source, clusters, own); n > limit {
		return fmt.Sprintf("%d %s left Git within %s, %s allows %d", n, what, shortDuration(e.DeleteWindow), setting, limit)
	}

	all := map[ref]bool{}

	for _, src := range e.sources.all() {
		e.departing(src, clusters, all)

		if clusters {
			limit = max(limit, src.MaxDelete)
		} else {
			limit = max(limit, src.MaxDeleteResources)
		}
	}

	if n := len(all) + e.absences.spent("", clusters, all); n > limit {
		return fmt.Sprintf("%d %s left Git within %s in all sources together, and no source may delete more than %d", n, what, shortDuration(e.DeleteWindow), limit)
	}

	return ""
}

// departing collects the clusters, or fleet resources, of a source that left Git and would go without a confirmation,
// or would if they were fewer.
func (e *Engine) departing(src *sourceState, clusters bool, into map[ref]bool) {
	d := src.desired.Load()
	if d == nil || !src.Prune {
		return
	}

	tag := fleetOf(src.Name)
	if clusters {
		tag = clustersOf(src.Name)
	}

	t := &target{Key: Key{Source: src.Name}, src: src, from: d}

	for _, r := range e.Snapshot.Tagged(tag) {
		if d.has(r) || e.describedBy(t, r) != "" {
			continue
		}

		switch mark := diff.DepartureOf(r); {
		case mark.Confirmed:
		case r.Metadata().Phase() == resource.PhaseTearingDown:
			if mark.State == diff.Destroying {
				into[refOf(r)] = true // a deletion of ours that is under way
			}
		case mark.State == diff.Kept && mark.Cause != keptBudget:
		case mark.State != "":
			into[refOf(r)] = true
		default:
			if _, why := e.keeps(t, r); why == "" {
				into[refOf(r)] = true
			}
		}
	}
}
