package sync

import (
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	omnisnapshot "github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/preflight"
	"github.com/omni-syncd/omni-syncd/pkg/render"
)

// Kinds is what the Snapshot of an [Engine] has to hold: everything that omni-syncd may
// write, and what it reads to judge health and what Omni would refuse.
func Kinds() []omnisnapshot.Kind {
	var kinds []omnisnapshot.Kind

	for _, kind := range render.Kinds() {
		kinds = append(kinds, omnisnapshot.Kind(kind))
	}

	for _, typ := range append([]resource.Type{omni.TalosVersionType, omni.KubernetesVersionType}, statusKinds...) {
		kinds = append(kinds, omnisnapshot.Kind{Namespace: resources.DefaultNamespace, Type: typ})
	}

	for _, kind := range preflight.Kinds() {
		if !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}

	return kinds
}

// live collects, from memory, everything in Omni that a target's plan depends on, and
// decides whether what left Git may be destroyed. It
// fails if the snapshot is not whole: nothing is ever planned from a partial view (G2).
func (e *Engine) live(t *target) ([]resource.Resource, error) {
	if err := e.Snapshot.Err(); err != nil {
		return nil, errNotReady{err}
	}

	var err error
	if t.policy, err = e.policy(t); err != nil {
		return nil, err
	}

	t.keep = e.keep(t)
	t.letGo = e.letsGo(t)

	if t.Target == "" {
		t.moved = e.movedFleet(t.Source)

		return e.liveFleet(t), nil
	}

	live := e.Snapshot.Cluster(t.Target)
	have := make(map[ref]bool, len(live))

	for _, r := range live {
		have[ref{r.Metadata().Type(), r.Metadata().ID()}] = true
	}

	add := func(typ resource.Type, id resource.ID) {
		if have[ref{typ, id}] {
			return
		}

		if r, ok := e.Snapshot.Get(typ, id); ok {
			have[ref{typ, id}] = true
			live = append(live, r)
		}
	}

	// KernelArgs carry no cluster label: they are found by their machine's ID.
	for _, r := range live {
		if r.Metadata().Type() == omni.MachineSetNodeType {
			add(omni.KernelArgsType, r.Metadata().ID())
		}
	}

	// The twin of a desired resource may live in another cluster, or in none.
	if t.desired != nil {
		for _, r := range t.desired.Resources {
			add(r.Metadata().Type(), r.Metadata().ID())
		}
	}

	t.live = live

	return live, nil
}

// liveFleet collects the fleet resources that carry the source's mark, and the twins of
// those that it describes.
func (e *Engine) liveFleet(t *target) []resource.Resource {
	wanted := map[ref]bool{}

	if t.desired != nil {
		for _, r := range t.desired.Resources {
			wanted[ref{r.Metadata().Type(), r.Metadata().ID()}] = true
		}
	}

	var live []resource.Resource

	for _, kind := range render.Kinds() {
		live = append(live, e.Snapshot.Where(kind.Type, func(r resource.Resource) bool {
			return diff.IsFleet(r) && diff.SourceOf(r) == t.Source || wanted[ref{r.Metadata().Type(), r.Metadata().ID()}]
		})...)
	}

	return live
}
