package sync

import (
	"fmt"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// A fleet resource that carries a cluster's or machine's label is part of that cluster: its lock, suspension and owner
// hold for it, wherever it was written down.

// clusterLabel returns the cluster whose label a resource carries; "" if it carries none.
func clusterLabel(r resource.Resource) string {
	name, _ := r.Metadata().Labels().Get(omni.LabelCluster)

	return name
}

// reach is a cluster that a fleet resource has to do with. part is set if it is part of that: then its owner counts, too.
type reach struct {
	cluster string
	part    bool
}

// reaches returns the clusters that a fleet resource has to do with: by the label of a cluster, a machine set or a machine,
// whichever it has, or because it is about a machine that is in one.
func (e *Engine) reaches(r resource.Resource) []reach {
	var all []reach

	if cluster := clusterLabel(r); cluster != "" {
		all = append(all, reach{cluster, true})
	}

	if r.Metadata().Type() == omni.EtcdManualBackupType { // its ID is that of a cluster
		all = append(all, reach{r.Metadata().ID(), true})
	}

	of := func(typ resource.Type, id resource.ID, part bool) {
		if member, ok := e.Snapshot.Get(typ, id); ok && clusterLabel(member) != "" {
			all = append(all, reach{clusterLabel(member), part})
		}
	}

	for label, typ := range map[string]resource.Type{
		omni.LabelClusterMachine: omni.MachineSetNodeType, omni.LabelMachine: omni.MachineSetNodeType, omni.LabelMachineSet: omni.MachineSetType,
	} {
		if id, ok := r.Metadata().Labels().Get(label); ok {
			of(typ, id, true)
		}
	}

	if typ := r.Metadata().Type(); typ == omni.MachineLabelsType || typ == omni.InfraMachineConfigType { // their ID is that of a machine
		of(omni.MachineSetNodeType, r.Metadata().ID(), false)
	}

	return all
}

// holds says why a fleet resource may not be written because of a cluster that it reaches, and what has to change for that;
// "" if it may.
func (e *Engine) holds(t *target, r resource.Resource) (why string, until resource.Resource) {
	for _, to := range e.reaches(r) {
		if why, until := e.closed(t, to); why != "" {
			return why, until
		}
	}

	return "", nil
}

// closed says why nothing may be written to a cluster that a fleet resource reaches.
func (e *Engine) closed(t *target, to reach) (why string, until resource.Resource) {
	name, key := to.cluster, Key{t.Source, to.cluster}

	if !t.src.Allow.clusterName(name) {
		return "the source " + t.Source + " may not write to the cluster " + name + " (`allow.clusters`)", nil
	}

	cluster, ok := e.Snapshot.Get(omni.ClusterType, name)

	if suspended := e.board.suspension(key); suspended != nil {
		return "the cluster " + name + " is " + suspended.String(), cluster
	}

	if !ok {
		return "", nil
	}

	if owner := diff.SourceOf(cluster); to.part && owner != "" && owner != t.Source {
		return fmt.Sprintf("it is part of the cluster %s, which is managed by the source %s", name, owner), cluster
	}

	if e.isLocked(name) {
		return "the cluster " + name + " is locked in Omni", cluster
	}

	policy := livePolicy(t.src.Policy, cluster)
	if d := t.from.targets.get(name); d != nil {
		if described, err := e.policy(&target{Key: key, src: t.src, from: t.from, desired: d}); err == nil {
			policy = described
		}
	}

	switch {
	case policy.Suspended:
		return "the cluster " + name + " is suspended", cluster
	case policy.Manual && !e.Requested && !e.board.get(key).requested && !e.board.get(t.Key).requested:
		return "the cluster " + name + " is synced on request only", cluster
	default:
		return "", nil
	}
}

// isLocked reports whether a cluster is locked in Omni.
func (e *Engine) isLocked(cluster string) bool {
	r, ok := e.Snapshot.Get(omni.ClusterType, cluster)

	return ok && hasLock(r)
}
