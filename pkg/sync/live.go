package sync

import (
	"errors"
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	omnisnapshot "github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/preflight"
	"github.com/omni-syncd/omni-syncd/pkg/render"
)

// SnapshotConfig is how the Snapshot of an [Engine] is to be set up: it holds [Kinds], and tags the clusters and the fleet
// resources of each source. The state's watches must not resume by themselves.
func SnapshotConfig(st state.State) omnisnapshot.SnapshotConfig {
	ours := map[resource.Type]bool{}
	for _, kind := range render.Kinds() {
		ours[kind.Type] = true
	}

	return omnisnapshot.SnapshotConfig{State: st, Kinds: Kinds(), Tag: func(r resource.Resource) string {
		switch source := diff.SourceOf(r); {
		case source == "" || !ours[r.Metadata().Type()]:
			return "" // a mark on what omni-syncd never writes is somebody's mistake
		case r.Metadata().Type() == omni.ClusterType:
			return clustersOf(source)
		case diff.IsFleet(r):
			return fleetOf(source)
		default:
			return ""
		}
	}}
}

// The tags of a source.
func clustersOf(source string) string { return "clusters of " + source }
func fleetOf(source string) string    { return "fleet of " + source }

// Kinds is what the Snapshot of an [Engine] holds: everything that omni-syncd may
// write, and what it reads to judge health and what Omni would refuse.
func Kinds() []omnisnapshot.Kind {
	kinds := []omnisnapshot.Kind{omnisnapshot.ServerKind}

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

	// This comes after the check: if Omni was upgraded in between, the Snapshot is not current, and nothing is written.
	t.server = e.Snapshot.Server()
	t.desired = t.desired.For(t.server)

	var err error
	if t.policy, err = e.policy(t); err != nil {
		return nil, err
	}

	if why := e.forbidden(t); why != "" && t.desired != nil {
		return nil, &StalledError{errors.New(why)}
	}

	if t.Target == "" {
		live := e.liveFleet(t)
		e.back(t, live)

		return live, nil
	}

	l := e.looking(e.Snapshot.Cluster(t.Target))

	// What is of a machine carries no cluster label: it is found by the machine's ID.
	ofMachine := slices.DeleteFunc(render.OfMachine(), func(k render.Kind) bool {
		return !t.server.Has(k.Since) && !e.NoPreflight // without an Omni, there is no kind that it lacks
	})

	for _, r := range l.live {
		if r.Metadata().Type() != omni.MachineSetNodeType {
			continue
		}

		for _, kind := range ofMachine {
			l.add(kind.Type, r.Metadata().ID())
		}
	}

	l.addTwins(t)
	if slices.ContainsFunc(l.live, t.isManifest) {
		l.live = slices.DeleteFunc(slices.Clone(l.live), t.isManifest) // the Snapshot's list is shared
	}

	t.live = l.live
	e.back(t, l.live)

	return l.live, nil
}

// liveFleet collects the fleet resources that carry the source's mark, and the twins of
// those that it describes.
func (e *Engine) liveFleet(t *target) []resource.Resource {
	l := e.looking(e.Snapshot.Tagged(fleetOf(t.Source)))
	l.addTwins(t)

	return l.live
}

// isManifest reports whether a live patch is one that a manifest of the source describes: it is no part of the template,
// also if somebody took the mark off that says so.
func (t *target) isManifest(r resource.Resource) bool {
	fleet := t.from.targets.get("")
	if fleet == nil || r.Metadata().Type() != omni.ConfigPatchType || diff.IsFleet(r) {
		return false
	}

	same := func(other resource.Resource) bool { return refOf(other) == refOf(r) }

	return slices.ContainsFunc(fleet.Resources, same) && (t.desired == nil || !slices.ContainsFunc(t.desired.Resources, same))
}

// back notes what is in Git again, or still.
func (e *Engine) back(t *target, live []resource.Resource) {
	if t.desired == nil {
		return
	}

	for _, r := range live {
		if isRoot(r) && diff.SourceOf(r) == t.Source && t.from.has(r) {
			e.noteBack(r)
		}
	}
}

func refOf(r resource.Resource) ref { return ref{r.Metadata().Type(), r.Metadata().ID()} }

// look collects live resources, each once.
type look struct {
	snapshot *omnisnapshot.Snapshot
	live     []resource.Resource
	have     map[ref]bool
}

func (e *Engine) looking(live []resource.Resource) *look {
	l := &look{snapshot: e.Snapshot, live: live, have: make(map[ref]bool, len(live))}
	for _, r := range live {
		l.have[ref{r.Metadata().Type(), r.Metadata().ID()}] = true
	}

	return l
}

func (l *look) add(typ resource.Type, id resource.ID) {
	if l.have[ref{typ, id}] {
		return
	}

	if r, ok := l.snapshot.Get(typ, id); ok {
		l.have[ref{typ, id}] = true
		l.live = append(l.live, r)
	}
}

// addTwins adds what has the type and ID of a desired resource: it may live in another cluster, or in none.
func (l *look) addTwins(t *target) {
	if t.desired == nil {
		return
	}

	for _, r := range t.desired.Resources {
		l.add(r.Metadata().Type(), r.Metadata().ID())
	}
}
