package sync

import (
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

// health reads the health of a cluster from the snapshot; "" for fleet resources, which
// have none.
//
// RUNNING is not ready: Omni reports it as soon as the machines are there, long before
// the cluster answers.
func (e *Engine) health(cluster string) Health {
	if cluster == "" {
		return ""
	}

	live, ok := e.Snapshot.Get(omni.ClusterType, cluster)
	if !ok {
		return Missing
	}

	if live.Metadata().Phase() == resource.PhaseTearingDown {
		return Progressing
	}

	r, ok := e.Snapshot.Get(omni.ClusterStatusType, cluster)
	if !ok {
		return HealthUnknown
	}

	status, ok := r.(*omni.ClusterStatus)
	if !ok {
		return HealthUnknown
	}

	spec := status.TypedSpec().Value

	switch {
	case spec.GetPhase() == specs.ClusterStatusSpec_RUNNING && spec.GetReady():
		return Healthy
	case spec.GetPhase() == specs.ClusterStatusSpec_UNKNOWN:
		return HealthUnknown
	default:
		return Progressing
	}
}
