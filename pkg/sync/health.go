package sync

import (
	"fmt"
	"strings"

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
	omni.ClusterStatusType, omni.MachineSetStatusType, omni.KubernetesUpgradeStatusType, omni.TalosUpgradeStatusType,
}

// health reads the health of a cluster from the snapshot, and why it is not Healthy, in
// words; "" for fleet resources, which have none.
//
// RUNNING is not ready: Omni reports it as soon as the machines are there, long before
// the cluster answers. An upgrade leaves it RUNNING too, so that is looked at first.
func (e *Engine) health(cluster string) (health Health, why string) {
	if cluster == "" {
		return "", ""
	}

	live, ok := e.Snapshot.Get(omni.ClusterType, cluster)

	switch {
	case !ok:
		return Missing, "it does not exist in Omni"
	case live.Metadata().Phase() == resource.PhaseTearingDown:
		return Progressing, "it is being destroyed"
	}

	if health, why := e.upgrade(cluster); health != "" {
		return health, why
	}

	health, why = e.machines(cluster)

	status, ok := typed[*omni.ClusterStatus](e, omni.ClusterStatusType, cluster)

	switch {
	case health == Degraded:
		return health, why
	case !ok || status.TypedSpec().Value.GetPhase() == specs.ClusterStatusSpec_UNKNOWN:
		return HealthUnknown, "Omni says nothing about it yet"
	case status.TypedSpec().Value.GetPhase() == specs.ClusterStatusSpec_RUNNING && status.TypedSpec().Value.GetReady():
		return Healthy, ""
	case why != "":
		return Progressing, why
	default:
		return Progressing, "Omni calls it " + strings.ToLower(strings.ReplaceAll(status.TypedSpec().Value.GetPhase().String(), "_", " ")) + ", not ready"
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

// machines returns what the machine sets of a cluster lack; "" if nothing.
func (e *Engine) machines(cluster string) (health Health, why string) {
	var missing []string

	for _, r := range e.Snapshot.Cluster(cluster) {
		set, ok := r.(*omni.MachineSetStatus)
		if !ok {
			continue
		}

		spec := set.TypedSpec().Value
		name := strings.TrimPrefix(set.Metadata().ID(), cluster+"-")

		// A set without machines is Failed for a moment while it is being made.
		if spec.GetPhase() == specs.MachineSetPhase_Failed && spec.GetMachines().GetTotal() > 0 {
			return Degraded, fmt.Sprintf("%s: %s", name, spec.GetError())
		}

		if healthy, requested := spec.GetMachines().GetHealthy(), spec.GetMachines().GetRequested(); healthy < requested {
			missing = append(missing, fmt.Sprintf("%d of %d machines of %s ready", healthy, requested, name))
		}
	}

	if len(missing) > 0 {
		return Progressing, strings.Join(missing, ", ")
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
