package sync

import (
	"strings"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// Health says how a cluster is, in Argo CD's words. It is Omni's view and independent
// of [SyncStatus]: a cluster can be Synced and Degraded.
type Health string

// The health states of a target.
const (
	Healthy       Health = "Healthy"
	Progressing   Health = "Progressing"
	Degraded      Health = "Degraded"
	Missing       Health = "Missing"
	HealthUnknown Health = "Unknown"
)

// statusKinds are what health is read from.
var statusKinds = []resource.Type{
	omni.ClusterStatusType, omni.MachineSetStatusType, omni.ControlPlaneStatusType, omni.ClusterMachineStatusType,
	omni.KubernetesUpgradeStatusType, omni.TalosUpgradeStatusType,
}

// judge looks at the health of a target and writes it to the status. It is done in every
// pass, also when nothing can be planned: how a cluster is does not depend on Git.
func (e *Engine) judge(t *target) {
	if e.Snapshot.Err() != nil {
		return // the last health stays until Omni can be read again
	}

	health, why, stable := e.health(t.Target)
	if left := e.board.observe(t.Key, health, why, stable, e.HealthSettle); left > 0 {
		e.queue.AddAfter(t.Key, left)
	}
}

// health reads the health of a cluster from the snapshot, why it is not Healthy, in
// words, and since when Omni says so, if it tells. It is "" for fleet resources, which
// have none.
//
// RUNNING is not ready: Omni reports it as soon as the machines are there, long before
// the cluster answers. An upgrade leaves it RUNNING too, so that is looked at first.
func (e *Engine) health(cluster string) (health Health, why string, stable time.Time) {
	if cluster == "" {
		return "", "", stable
	}

	live, ok := e.Snapshot.Get(omni.ClusterType, cluster)

	switch {
	case !ok:
		return Missing, "it does not exist in Omni", stable
	case live.Metadata().Phase() == resource.PhaseTearingDown:
		return Progressing, "it is being destroyed", stable
	}

	if health, why := e.upgrade(cluster); health != "" {
		return health, why, stable
	}

	health, why = e.machines(cluster)

	status, ok := typed[*omni.ClusterStatus](e, omni.ClusterStatusType, cluster)

	switch {
	case health == Degraded:
		return health, why, stable
	case !ok || status.TypedSpec().Value.GetPhase() == specs.ClusterStatusSpec_UNKNOWN:
		return HealthUnknown, "Omni says nothing about it yet", stable
	case status.TypedSpec().Value.GetPhase() == specs.ClusterStatusSpec_RUNNING && status.TypedSpec().Value.GetReady():
		return Healthy, "", status.Metadata().Updated()
	case why != "":
		return Progressing, why, stable
	default:
		return Progressing, "Omni calls it " + words(status.TypedSpec().Value.GetPhase().String()) + ", not ready", stable
	}
}

// upgrade returns the health of a cluster that is being upgraded; "" if it is not.
func (e *Engine) upgrade(cluster string) (health Health, why string) {
	if r, ok := typed[*omni.KubernetesUpgradeStatus](e, omni.KubernetesUpgradeStatusType, cluster); ok {
		spec := r.TypedSpec().Value

		switch spec.GetPhase() {
		case specs.KubernetesUpgradeStatusSpec_Upgrading:
			return Progressing, "Kubernetes is being upgraded to " + join(spec.GetCurrentUpgradeVersion(), spec.GetStep(), spec.GetStatus())
		case specs.KubernetesUpgradeStatusSpec_Failed:
			return Degraded, "the Kubernetes upgrade failed: " + spec.GetError()
		}
	}

	if r, ok := typed[*omni.TalosUpgradeStatus](e, omni.TalosUpgradeStatusType, cluster); ok {
		spec := r.TypedSpec().Value

		switch spec.GetPhase() {
		case specs.TalosUpgradeStatusSpec_Upgrading:
			return Progressing, "Talos is being upgraded to " + join(spec.GetCurrentUpgradeVersion(), spec.GetStep(), spec.GetStatus())
		case specs.TalosUpgradeStatusSpec_Failed:
			return Degraded, "the Talos upgrade failed: " + spec.GetError()
		}
	}

	return "", ""
}

// typed returns a resource of the snapshot as its Go type.
func typed[T resource.Resource](e *Engine, typ resource.Type, id resource.ID) (T, bool) {
	r, ok := e.Snapshot.Get(typ, id)
	if !ok {
		return *new(T), false
	}

	t, ok := r.(T)

	return t, ok
}

// join puts the parts of a progress report together that are there.
func join(parts ...string) string {
	var there []string

	for _, part := range parts {
		if part != "" {
			there = append(there, part)
		}
	}

	return strings.Join(there, ", ")
}

// words makes a name of Omni's API readable: SCALING_UP, ScalingUp.
func words(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", " ")) }
