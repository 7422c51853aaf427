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

// partOf returns the cluster that a fleet resource is part of: by its label, or by that of a machine that is in one.
func (e *Engine) partOf(r resource.Resource) string {
	if cluster := clusterLabel(r); cluster != "" {
		return cluster
	}

	for _, label := range []string{omni.LabelClusterMachine, omni.LabelMachine} {
		machine, ok := r.Metadata().Labels().Get(label)
		if !ok {
			continue
		}

		if node, ok := e.Snapshot.Get(omni.MachineSetNodeType, machine); ok {
			return clusterLabel(node)
		}
	}

	return ""
}

// holds says why nothing may be written to the cluster that a fleet resource is part of, and what has to change for that;
// "" if it may.
func (e *Engine) holds(t *target, r resource.Resource) (why string, until resource.Resource) {
	name := e.partOf(r)
	if name == "" {
		return "", nil
	}

	cluster, ok := e.Snapshot.Get(omni.ClusterType, name)
	if !ok {
		return "", nil
	}

	key := Key{t.Source, name}

	if owner := diff.SourceOf(cluster); owner != "" && owner != t.Source {
		return fmt.Sprintf("it is part of the cluster %s, which is managed by the source %s", name, owner), cluster
	}

	if e.isLocked(name) {
		return "the cluster " + name + " is locked in Omni", cluster
	}

	if suspended := e.board.suspension(key); suspended != nil {
		return "the cluster " + name + " is " + suspended.String(), cluster
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
