package sync

import (
	"fmt"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// shownMachines is how many machines a reason names.
const shownMachines = 3

// machines returns what the machines of a cluster lack; "" if nothing. What Omni is at
// work on is Progressing; what came to rest and is not ready is Degraded.
func (e *Engine) machines(cluster string) (health Health, why string) {
	var reasons []string

	machines := map[string][]*omni.ClusterMachineStatus{} // by machine set
	conditions := map[string]string{}                     // of control planes

	live := e.Snapshot.Cluster(cluster)
	for _, r := range live {
		switch r := r.(type) {
		case *omni.ClusterMachineStatus:
			set, _ := r.Metadata().Labels().Get(omni.LabelMachineSet)
			machines[set] = append(machines[set], r)
		case *omni.ControlPlaneStatus:
			conditions[r.Metadata().ID()] = condition(r)
		}
	}

	for _, r := range live {
		set, ok := r.(*omni.MachineSetStatus)
		if !ok || set.Metadata().Phase() == resource.PhaseTearingDown {
			continue
		}

		worst, reason := lack(set, role(set.Metadata(), cluster), machines[set.Metadata().ID()], conditions[set.Metadata().ID()])
		if reason != "" {
			reasons = append(reasons, reason)
		}

		if health != Degraded {
			health = worst
		}
	}

	return health, strings.Join(reasons, "; ")
}

// lack returns what one machine set lacks.
func lack(set *omni.MachineSetStatus, role string, machines []*omni.ClusterMachineStatus, condition string) (health Health, why string) {
	spec := set.TypedSpec().Value
	healthy, requested := spec.GetMachines().GetHealthy(), spec.GetMachines().GetRequested()

	switch {
	// A set without machines is Failed for a moment while it is being made.
	case spec.GetPhase() == specs.MachineSetPhase_Failed && spec.GetMachines().GetTotal() > 0:
		return Degraded, fmt.Sprintf("%s: %s", role, spec.GetError())
	case healthy < requested:
		health, why = Progressing, fmt.Sprintf("%d of %d %s machines ready%s", healthy, requested, role, troubles(machines))
		if spec.GetPhase() == specs.MachineSetPhase_Running && unreachable(machines) {
			health = Degraded
		}

		return health, why
	case condition != "" && spec.GetPhase() == specs.MachineSetPhase_Running:
		return Degraded, role + ": " + condition
	default:
		return "", ""
	}
}

// role calls a machine set what people call it.
func role(md *resource.Metadata, cluster string) string {
	if _, ok := md.Labels().Get(omni.LabelControlPlaneRole); ok {
		return "control plane"
	}

	if name := strings.TrimPrefix(md.ID(), cluster+"-"); name != "workers" {
		return name
	}

	return "worker"
}

// troubles says which machines are not ready, and why.
func troubles(machines []*omni.ClusterMachineStatus) string {
	var list []string

	for _, m := range machines {
		if why := trouble(m); why != "" {
			list = append(list, nameOf(m)+" "+why)
		}
	}

	if len(list) == 0 {
		return ""
	}

	text := ": " + strings.Join(list[:min(len(list), shownMachines)], ", ")
	if more := len(list) - shownMachines; more > 0 {
		text += fmt.Sprintf(", and %d more", more)
	}

	return text
}

// trouble says why a machine is not ready; "" if it is. Omni's own text about a
// configuration that was refused is left out: it may quote the configuration.
func trouble(m *omni.ClusterMachineStatus) string {
	spec := m.TypedSpec().Value

	switch {
	case spec.GetIsRemoved():
		return "was removed from Omni"
	case !connected(m):
		return "is unreachable"
	case spec.GetConfigApplyStatus() == specs.ConfigApplyStatus_FAILED:
		return "refuses its configuration, Omni's UI says why"
	case spec.GetStage() != specs.ClusterMachineStatusSpec_RUNNING:
		return "is " + words(spec.GetStage().String())
	case !spec.GetReady():
		return "is not ready"
	default:
		return ""
	}
}

func connected(m *omni.ClusterMachineStatus) bool {
	_, ok := m.Metadata().Labels().Get(omni.MachineStatusLabelConnected)

	return ok
}

func unreachable(machines []*omni.ClusterMachineStatus) bool {
	for _, m := range machines {
		if !connected(m) {
			return true
		}
	}

	return false
}

// nameOf returns a machine's host name, or its ID before it has one.
func nameOf(m *omni.ClusterMachineStatus) string {
	if name, ok := m.Metadata().Labels().Get(omni.LabelHostname); ok && name != "" {
		return name
	}

	return m.Metadata().ID()
}

// condition returns the first condition that Omni finds wrong with a control plane.
func condition(status *omni.ControlPlaneStatus) string {
	for _, c := range status.TypedSpec().Value.GetConditions() {
		if c.GetStatus() == specs.ControlPlaneStatusSpec_Condition_NotReady && c.GetSeverity() == specs.ControlPlaneStatusSpec_Condition_Error {
			what := words(c.GetType().String())
			if c.GetType() == specs.ConditionType_WireguardConnection {
				what = "its connection to Omni"
			}

			return join(what+" is not ready", c.GetReason())
		}
	}

	return ""
}
