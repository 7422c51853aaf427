package sync

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"hash/maphash"
	"iter"
	"slices"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
)

// vitals are the resources of a cluster that its health is read from, as they are at one moment. They are looked up where
// they are: a health is read in every pass, of every machine.
type vitals struct {
	name       string
	live       []resource.Resource // all of the cluster, sorted by type and ID; shared
	cluster    *omni.Cluster       // nil: it does not exist
	status     *omni.ClusterStatus
	kubernetes *kubernetesUpgrade
	talos      *talosUpgrade
	snapshot   *livestate.Snapshot

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
	v := &vitals{name: cluster, live: e.Snapshot.Cluster(cluster), snapshot: e.Snapshot}

	var trace maphash.Hash

	trace.SetSeed(traceSeed)

	for _, r := range v.live {
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
		}
	}

	v.trace = trace.Sum64()

	return v
}

// each goes over the resources of one Go type, which is that of one type of Omni's, in the order of their IDs.
func each[T resource.Resource](v *vitals, typ resource.Type) iter.Seq[T] {
	return func(yield func(T) bool) {
		from, _ := slices.BinarySearchFunc(v.live, typ, func(r resource.Resource, typ resource.Type) int {
			return cmp.Compare(r.Metadata().Type(), typ)
		})

		for _, r := range v.live[from:] {
			if t, ok := r.(T); !ok || !yield(t) {
				return
			}
		}
	}
}

// find returns the resource of a type and ID that is of the cluster; nil if there is none.
func (v *vitals) find(typ resource.Type, id resource.ID) resource.Resource {
	i, ok := slices.BinarySearchFunc(v.live, ref{typ, id}, func(r resource.Resource, wanted ref) int {
		return cmp.Or(cmp.Compare(r.Metadata().Type(), wanted.typ), cmp.Compare(r.Metadata().ID(), wanted.id))
	})
	if !ok {
		return nil
	}

	return v.live[i]
}

func (v *vitals) sets() iter.Seq[*omni.MachineSet] {
	return each[*omni.MachineSet](v, omni.MachineSetType)
}

func (v *vitals) setStatuses() iter.Seq[*omni.MachineSetStatus] {
	return each[*omni.MachineSetStatus](v, omni.MachineSetStatusType)
}

func (v *vitals) machines() iter.Seq[*omni.ClusterMachineStatus] {
	return each[*omni.ClusterMachineStatus](v, omni.ClusterMachineStatusType)
}

// none reports whether Omni tells of no machine set.
func (v *vitals) none() bool {
	for range v.setStatuses() {
		return false
	}

	return true
}

// machinesOf returns the machines of a machine set.
func (v *vitals) machinesOf(set resource.ID) []*omni.ClusterMachineStatus {
	var machines []*omni.ClusterMachineStatus

	for m := range v.machines() {
		if of, _ := m.Metadata().Labels().Get(omni.LabelMachineSet); of == set {
			machines = append(machines, m)
		}
	}

	return machines
}

// listed returns the machines that a machine set lists, without those that are on their way out.
func (v *vitals) listed(set resource.ID) iter.Seq[resource.ID] {
	return func(yield func(resource.ID) bool) {
		for node := range each[*omni.MachineSetNode](v, omni.MachineSetNodeType) {
			if of, _ := node.Metadata().Labels().Get(omni.LabelMachineSet); of == set && node.Metadata().Phase() == resource.PhaseRunning && !yield(node.Metadata().ID()) {
				return
			}
		}
	}
}

// stays reports whether a machine is listed and not on its way out.
func (v *vitals) stays(machine resource.ID) bool {
	node := v.find(omni.MachineSetNodeType, machine)

	return node != nil && node.Metadata().Phase() == resource.PhaseRunning
}

// unmet returns the first condition of a control plane that is not met; "" for other machine sets.
func (v *vitals) unmet(set resource.ID) string {
	if status, ok := v.find(omni.ControlPlaneStatusType, set).(*omni.ControlPlaneStatus); ok {
		return condition(status)
	}

	return ""
}

// config identifies what shows that Omni takes in a changed configuration: a machine set
// tells the hash of the configurations that its machines have, and that it is at work on
// them; extensions show in the Talos upgrade.
func (v *vitals) config() uint64 {
	h := fnv.New64a()

	for set := range v.setStatuses() {
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
	for set := range v.setStatuses() {
		if set.TypedSpec().Value.GetConfigHash() != "" && set.TypedSpec().Value.GetMachines().GetTotal() > 0 {
			return true
		}
	}

	return false
}

// membership tells of machines that Omni's statuses have yet to count in or out.
func (v *vitals) membership() checkup {
	for status := range v.setStatuses() {
		id := status.Metadata().ID()

		set, ok := v.find(omni.MachineSetType, id).(*omni.MachineSet)
		if !ok || set.Metadata().Phase() == resource.PhaseTearingDown {
			return working(role(status.Metadata(), v.name) + " is being destroyed" + stillThere(v.machinesOf(id)))
		}

		if wanted := v.wanted(set); status.TypedSpec().Value.GetMachines().GetRequested() != wanted {
			return working(fmt.Sprintf("%s: Omni has yet to go to %d machines", role(status.Metadata(), v.name), wanted))
		}
	}

	for set := range v.sets() {
		if v.find(omni.MachineSetStatusType, set.Metadata().ID()) == nil {
			return working(role(set.Metadata(), v.name) + ": Omni says nothing about it yet")
		}
	}

	var leaving []*omni.ClusterMachineStatus

	for m := range v.machines() {
		if !v.stays(m.Metadata().ID()) {
			leaving = append(leaving, m)
		}
	}

	if len(leaving) > 0 {
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

	for range v.listed(set.Metadata().ID()) {
		n++
	}

	return n
}

// sumsUp reports whether the cluster counts as many machines as its machine sets do.
func (v *vitals) sumsUp() bool {
	var requested, total, fit uint32

	for set := range v.setStatuses() {
		machines := set.TypedSpec().Value.GetMachines()
		requested, total, fit = requested+machines.GetRequested(), total+machines.GetTotal(), fit+machines.GetHealthy()
	}

	counted := v.status.TypedSpec().Value.GetMachines()

	return counted.GetRequested() == requested && counted.GetTotal() == total && counted.GetHealthy() == fit
}
