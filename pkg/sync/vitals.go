package sync

import (
	"fmt"
	"hash/fnv"
	"hash/maphash"
	"maps"
	"slices"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// vitals are the resources of a cluster that its health is read from.
type vitals struct {
	name       string
	cluster    *omni.Cluster // nil: it does not exist
	status     *omni.ClusterStatus
	kubernetes *kubernetesUpgrade
	talos      *talosUpgrade

	sets        map[resource.ID]*omni.MachineSet
	nodes       map[resource.ID]*omni.MachineSetNode // by machine, without those that are on their way out
	setStatuses []*omni.MachineSetStatus
	machines    map[resource.ID][]*omni.ClusterMachineStatus // by machine set
	conditions  map[resource.ID]string                       // of control planes, by machine set
	knows       func(machine resource.ID) bool               // Omni has seen it

	trace   uint64
	updated time.Time
}

// The upgrade statuses; nil is one that is not there.
type (
	kubernetesUpgrade struct{ *omni.KubernetesUpgradeStatus }
	talosUpgrade      struct{ *omni.TalosUpgradeStatus }
)

func (u *kubernetesUpgrade) lastVersion() string {
	if u == nil {
		return ""
	}

	return u.TypedSpec().Value.GetLastUpgradeVersion()
}

func (u *talosUpgrade) lastVersion() string {
	if u == nil {
		return ""
	}

	return u.TypedSpec().Value.GetLastUpgradeVersion()
}

// traceSeed is one for this process: what it hashes is compared in memory only.
var traceSeed = maphash.MakeSeed()

// vitals collects what a cluster's health is read from, in one look at the snapshot.
func (e *Engine) vitals(cluster string) *vitals {
	v := &vitals{
		name: cluster,
		sets: map[resource.ID]*omni.MachineSet{}, nodes: map[resource.ID]*omni.MachineSetNode{},
		machines: map[resource.ID][]*omni.ClusterMachineStatus{}, conditions: map[resource.ID]string{},
		knows: func(machine resource.ID) bool {
			_, ok := e.Snapshot.Get(omni.MachineStatusType, machine)

			return ok
		},
	}

	// Of every machine: it must not ask for memory.
	var trace maphash.Hash

	trace.SetSeed(traceSeed)

	for _, r := range e.Snapshot.Cluster(cluster) {
		md := r.Metadata()

		if slices.Contains(statusKinds, md.Type()) {
			_, _ = trace.WriteString(md.Type())
			_, _ = trace.WriteString(md.ID())
			maphash.WriteComparable(&trace, md.Version().Value())
		}

		if md.Type() != omni.MachineStatusType && md.Updated().After(v.updated) { // a machine changes for reasons of its own
			v.updated = md.Updated()
		}

		switch r := r.(type) {
		case *omni.Cluster:
			v.cluster = r
		case *omni.ClusterStatus:
			v.status = r
		case *omni.KubernetesUpgradeStatus:
			v.kubernetes = &kubernetesUpgrade{r}
		case *omni.TalosUpgradeStatus:
			v.talos = &talosUpgrade{r}
		case *omni.MachineSet:
			v.sets[md.ID()] = r
		case *omni.MachineSetNode:
			if md.Phase() == resource.PhaseRunning {
				v.nodes[md.ID()] = r
			}
		case *omni.MachineSetStatus:
			v.setStatuses = append(v.setStatuses, r)
		case *omni.ControlPlaneStatus:
			v.conditions[md.ID()] = condition(r)
		case *omni.ClusterMachineStatus:
			set, _ := md.Labels().Get(omni.LabelMachineSet)
			v.machines[set] = append(v.machines[set], r)
		}
	}

	v.trace = trace.Sum64()

	return v
}

// config identifies what shows that Omni takes in a changed configuration: a machine set
// tells the hash of the configurations that its machines have, and that it is at work on
// them; extensions show in the Talos upgrade.
func (v *vitals) config() uint64 {
	h := fnv.New64a()

	for _, set := range v.setStatuses {
		spec := set.TypedSpec().Value
		fmt.Fprintf(h, "%s %s %s %d ", set.Metadata().ID(), spec.GetConfigHash(), spec.GetPhase(), spec.GetLockedUpdates())
	}

	if v.talos != nil {
		fmt.Fprint(h, v.talos.TypedSpec().Value.GetPhase(), v.talos.TypedSpec().Value.GetStatus())
	}

	return h.Sum64()
}

// showsConfig reports whether a changed configuration shows at all: machines have one, and
// this Omni tells its hash.
func (v *vitals) showsConfig() bool {
	return slices.ContainsFunc(v.setStatuses, func(set *omni.MachineSetStatus) bool {
		return set.TypedSpec().Value.GetConfigHash() != "" && set.TypedSpec().Value.GetMachines().GetTotal() > 0
	})
}

// membership tells of machines that Omni's statuses have yet to count in or out.
func (v *vitals) membership() checkup {
	told := map[resource.ID]bool{}

	for _, status := range v.setStatuses {
		id := status.Metadata().ID()
		told[id] = true

		set := v.sets[id]
		if set == nil || set.Metadata().Phase() == resource.PhaseTearingDown {
			return working(role(status.Metadata(), v.name) + " is being destroyed" + stillThere(v.machines[id]))
		}

		if wanted := v.wanted(set); status.TypedSpec().Value.GetMachines().GetRequested() != wanted {
			return working(fmt.Sprintf("%s: Omni has yet to go to %d machines", role(status.Metadata(), v.name), wanted))
		}
	}

	for _, id := range slices.Sorted(maps.Keys(v.sets)) {
		if !told[id] {
			return working(role(v.sets[id].Metadata(), v.name) + ": Omni says nothing about it yet")
		}
	}

	if leaving := slices.DeleteFunc(v.allMachines(), func(m *omni.ClusterMachineStatus) bool { return v.nodes[m.Metadata().ID()] != nil }); len(leaving) > 0 {
		return working("machines are leaving" + stillThere(leaving))
	}

	return checkup{}
}

// wanted returns how many machines a machine set is to have.
func (v *vitals) wanted(set *omni.MachineSet) uint32 {
	if allocation := omni.GetMachineAllocation(set); allocation != nil && allocation.GetAllocationType() == specs.MachineSetSpec_MachineAllocation_Static {
		return allocation.GetMachineCount()
	}

	n := uint32(0)

	for _, node := range v.nodes {
		if id, _ := node.Metadata().Labels().Get(omni.LabelMachineSet); id == set.Metadata().ID() {
			n++
		}
	}

	return n
}

// sumsUp reports whether the cluster counts as many machines as its machine sets do.
func (v *vitals) sumsUp() bool {
	var requested, total, fit uint32

	for _, set := range v.setStatuses {
		machines := set.TypedSpec().Value.GetMachines()
		requested, total, fit = requested+machines.GetRequested(), total+machines.GetTotal(), fit+machines.GetHealthy()
	}

	counted := v.status.TypedSpec().Value.GetMachines()

	return counted.GetRequested() == requested && counted.GetTotal() == total && counted.GetHealthy() == fit
}

func (v *vitals) allMachines() []*omni.ClusterMachineStatus {
	var all []*omni.ClusterMachineStatus

	for _, set := range slices.Sorted(maps.Keys(v.machines)) {
		all = append(all, v.machines[set]...)
	}

	return all
}
