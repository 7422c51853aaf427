package sync

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// shownMachines is how many machines a reason names.
const shownMachines = 3

// lacks tells what the machines of a cluster lack. What Omni is at work on is Progressing;
// what came to rest and is not ready is Degraded.
func (v *vitals) lacks() checkup {
	var (
		found   checkup
		reasons []string
	)

	for set := range v.setStatuses() {
		if set.Metadata().Phase() == resource.PhaseTearingDown {
			continue
		}

		c := v.lack(set)
		if c.why != "" {
			reasons = append(reasons, c.why)
		}

		switch {
		case found.health == "", c.health == Degraded:
			found = c
		case found.health == Progressing && c.health == Progressing && c.rest == "": // the other one is at work
			found = c
		}
	}

	found.why = strings.Join(reasons, "; ")

	return found
}

// lack tells what one machine set lacks.
func (v *vitals) lack(set *omni.MachineSetStatus) checkup {
	spec, id, role := set.TypedSpec().Value, set.Metadata().ID(), role(set.Metadata(), v.name)
	healthy, requested := spec.GetMachines().GetHealthy(), spec.GetMachines().GetRequested()

	switch {
	// A set without machines is Failed for a moment while it is being made.
	case spec.GetPhase() == specs.MachineSetPhase_Failed && spec.GetMachines().GetTotal() > 0:
		return degraded(role + ": " + spec.GetError())
	case healthy < requested:
		machines, unknown := v.machinesOf(id), v.unknown(id)
		why := fmt.Sprintf("%d of %d %s machines ready%s", healthy, requested, role, troubles(machines, unknown))

		switch {
		case spec.GetPhase() == specs.MachineSetPhase_Running && unreachable(machines):
			return degraded(why)
		case healthy+uint32(len(unknown)) >= requested: //nolint:gosec // so many machines there are not
			c := stuck(why)
			c.patient = true // one that has just been named may come in a moment

			return c
		default:
			return working(why)
		}
	case v.unmet(id) != "" && spec.GetPhase() == specs.MachineSetPhase_Running:
		return degraded(role + ": " + v.unmet(id))
	default:
		return checkup{}
	}
}

// unknown returns the machines of a machine set that Omni has never seen.
func (v *vitals) unknown(set resource.ID) []resource.ID {
	var ids []resource.ID

	for id := range v.listed(set) {
		if _, ok := v.snapshot.Get(omni.MachineStatusType, id); !ok {
			ids = append(ids, id)
		}
	}

	return ids
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
func troubles(machines []*omni.ClusterMachineStatus, unknown []resource.ID) string {
	var list []string

	for _, m := range machines {
		if why := trouble(m); why != "" {
			list = append(list, nameOf(m)+" "+why)
		}
	}

	for _, id := range unknown {
		list = append(list, id+" is not known to Omni")
	}

	return some(list)
}

// some names a few of a list and counts the rest.
func some(list []string) string {
	if len(list) == 0 {
		return ""
	}

	text := ": " + strings.Join(list[:min(len(list), shownMachines)], ", ")
	if more := len(list) - shownMachines; more > 0 {
		text += fmt.Sprintf(", and %d more", more)
	}

	return text
}

// stillThere names the machines that a teardown waits for, those first that are away: it
// waits for as long as they are.
func stillThere(machines []*omni.ClusterMachineStatus) string {
	var away, rest []string

	for _, m := range machines {
		switch {
		case m.TypedSpec().Value.GetStage() == specs.ClusterMachineStatusSpec_POWERED_OFF:
			away = append(away, nameOf(m)+" (off)")
		case !connected(m):
			away = append(away, nameOf(m)+" (unreachable)")
		default:
			rest = append(rest, nameOf(m))
		}
	}

	if list := some(append(away, rest...)); list != "" {
		return "; machines still there" + list
	}

	return ""
}

// heldBy names the machines that the teardown of a cluster, a machine set or a machine
// waits for: the finalizers name only controllers.
func (e *Engine) heldBy(r resource.Resource) string {
	md := r.Metadata()
	if md.Phase() != resource.PhaseTearingDown {
		return ""
	}

	switch md.Type() {
	case omni.ClusterType:
		return stillThere(slices.Collect(e.vitals(md.ID()).machines()))
	case omni.MachineSetType:
		return stillThere(e.vitals(clusterLabel(r)).machinesOf(md.ID()))
	case omni.MachineSetNodeType:
		if m, ok := e.Snapshot.Get(omni.ClusterMachineStatusType, md.ID()); ok {
			return stillThere([]*omni.ClusterMachineStatus{m.(*omni.ClusterMachineStatus)}) //nolint:forcetypeassert // a type has one Go type
		}
	}

	return ""
}

// trouble says why a machine is not ready; "" if it is. Omni's own text about a
// configuration that was refused is left out: it may quote the configuration.
func trouble(m *omni.ClusterMachineStatus) string {
	spec := m.TypedSpec().Value

	switch {
	case spec.GetIsRemoved():
		return "was removed from Omni"
	case spec.GetStage() == specs.ClusterMachineStatusSpec_POWERED_OFF:
		return "is off"
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
