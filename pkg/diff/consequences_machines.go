package diff

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// machineSet is one machine set, before and after.
type machineSet struct {
	id           resource.ID
	controlPlane bool
	// title is what people call it: "the control plane", "the workers".
	title string
	// have and want are the MachineSet before and after; nil where there is none.
	have, want *omni.MachineSet
	// before, after are its machines.
	before, after []resource.ID
}

// machineSets returns the machine sets of both states, the control plane first.
func (s *story) machineSets() []*machineSet {
	sets := map[resource.ID]*machineSet{}

	get := func(id resource.ID) *machineSet {
		if sets[id] == nil {
			sets[id] = &machineSet{id: id, title: setTitle(s.plan.Target, id)}
		}

		return sets[id]
	}

	for _, r := range s.before {
		switch r := r.(type) {
		case *omni.MachineSet:
			get(r.Metadata().ID()).have = r
		case *omni.MachineSetNode:
			get(machineSetOf(r)).before = append(get(machineSetOf(r)).before, r.Metadata().ID())
		}
	}

	for _, r := range s.after {
		switch r := r.(type) {
		case *omni.MachineSet:
			get(r.Metadata().ID()).want = r
		case *omni.MachineSetNode:
			get(machineSetOf(r)).after = append(get(machineSetOf(r)).after, r.Metadata().ID())
		}
	}

	all := make([]*machineSet, 0, len(sets))

	for _, set := range sets {
		if set.have == nil && set.want == nil {
			continue // machines of which nothing more is known
		}

		for _, r := range []*omni.MachineSet{set.have, set.want} {
			if r != nil {
				_, isControlPlane := r.Metadata().Labels().Get(omni.LabelControlPlaneRole)
				set.controlPlane = set.controlPlane || isControlPlane
			}
		}

		if set.controlPlane {
			set.title = "the control plane"
		}

		slices.Sort(set.before)
		slices.Sort(set.after)

		all = append(all, set)
	}

	slices.SortFunc(all, func(a, b *machineSet) int {
		return cmp.Or(cmp.Compare(btoi(b.controlPlane), btoi(a.controlPlane)), cmp.Compare(a.id, b.id))
	})

	return all
}

func btoi(b bool) int {
	if b {
		return 1
	}

	return 0
}

func setTitle(cluster, id string) string {
	if name := strings.TrimPrefix(id, cluster+"-"); name != omni.DefaultWorkersIDSuffix {
		return "the workers " + name
	}

	return "the workers"
}

// allocation returns from which class a machine set takes machines; nil if it names them.
func allocation(set *omni.MachineSet) *specs.MachineSetSpec_MachineAllocation {
	if set == nil {
		return nil
	}

	return omni.GetMachineAllocation(set)
}

// size returns how many machines a machine set has; false if nobody can tell. What a class
// gives is counted where there is something to count, and is its size otherwise.
func size(set *omni.MachineSet, machines []resource.ID) (int, bool) {
	a := allocation(set)

	switch {
	case set == nil:
		return 0, true
	case a == nil || len(machines) > 0:
		return len(machines), true
	case a.GetAllocationType() == specs.MachineSetSpec_MachineAllocation_Unlimited:
		return 0, false
	default:
		return int(a.GetMachineCount()), true
	}
}

// goal returns how many machines a machine set is asked to have; false for all there are.
func goal(set *omni.MachineSet, machines []resource.ID) (int, bool) {
	if a := allocation(set); a == nil {
		return len(machines), true
	} else if a.GetAllocationType() == specs.MachineSetSpec_MachineAllocation_Unlimited {
		return 0, false
	} else {
		return int(a.GetMachineCount()), true
	}
}

// staying returns the machines of a set that are there before and after.
func (set *machineSet) staying() []resource.ID {
	return slices.DeleteFunc(slices.Clone(set.before), func(id resource.ID) bool { return !slices.Contains(set.after, id) })
}

func without(machines, others []resource.ID) []resource.ID {
	return slices.DeleteFunc(slices.Clone(machines), func(id resource.ID) bool { return slices.Contains(others, id) })
}

// machines tells what happens to the machines of a cluster that stays.
func (s *story) machines() {
	s.arrivals()

	if s.isNew || s.deleted() || !s.known {
		return
	}

	for _, set := range s.sets {
		s.class(set)
		s.scale(set)
		s.strategies(set)
	}

	s.locks()
}

// scale tells what a change of the number of machines does.
func (s *story) scale(set *machineSet) {
	joins, leaves := s.moving(set)
	before, knownBefore := size(set.have, set.before)
	after, knownAfter := size(set.want, set.after)

	if a, b := allocation(set.have), allocation(set.want); a != nil && b != nil {
		before, knownBefore = goal(set.have, set.before)
		after, knownAfter = goal(set.want, set.after)
	}

	about := resource.Resource(set.want)
	if set.want == nil {
		about = set.have
	}

	switch {
	case set.switches(): // refused as a whole
		return
	case set.want == nil:
		s.tell(Destructive, about, set.name()+" removed", "The machine set %s is deleted: %s", set.id, s.wiped(set.have, set.before, before, knownBefore))
	case set.have == nil:
		s.tell(Info, about, set.name()+" added", "A new machine set, %s: %s", set.title, s.joining(set.want, joins, after, knownAfter))
	case knownBefore && knownAfter && before == after && len(joins) == 0 && len(leaves) == 0:
		return
	case !knownBefore && !knownAfter && len(joins) == 0 && len(leaves) == 0:
		return
	default:
		s.resize(set, joins, leaves, before, after, knownBefore && knownAfter)
	}

	if set.controlPlane && knownBefore && knownAfter && before != after {
		s.etcd(about, before, after)
	}

	if set.controlPlane && set.have != nil && set.want != nil {
		s.replaced(set, joins, leaves)
	}
}

// moving returns which named machines join and leave a set.
func (s *story) moving(set *machineSet) (joins, leaves []resource.ID) {
	return without(set.after, set.before), without(set.before, set.after)
}

func (set *machineSet) name() string { return strings.TrimPrefix(set.title, "the ") }

func (s *story) resize(set *machineSet, joins, leaves []resource.ID, before, after int, known bool) {
	short := set.name() + " changed"
	text := capital(set.title) + ": "

	if known && before == after {
		short = set.name() + " replaced"
		text += fmt.Sprintf("%s as before. ", count(after, "machine"))
	} else if known {
		short = fmt.Sprintf("%s %d → %d", set.name(), before, after)
		text = fmt.Sprintf("%s: %d → %s. ", capital(set.title), before, count(after, "machine"))
	} else if goal, limited := goal(set.want, set.after); limited {
		text += fmt.Sprintf("from every machine of the class to at most %d. ", goal)
	} else if allocation(set.want) != nil {
		text += "takes every machine of the class from now on. "
	}

	severity := Info

	if len(joins) > 0 {
		text += fmt.Sprintf("%s %s. ", capital(s.names(joins)), each(len(joins), "joins", "join"))
	} else if known && after > before && allocation(set.want) != nil {
		text += fmt.Sprintf("%s of the class %s %s, as far as there are any. ", count(after-before, "machine"), allocation(set.want).GetName(), each(after-before, "joins", "join"))
	}

	switch {
	case len(leaves) > 0:
		severity = Destructive
		text += s.leaving(leaves)
	case allocation(set.want) != nil && (!known || after < before):
		if _, limited := goal(set.want, set.after); limited {
			severity = Destructive
			text += "Omni picks what leaves: machines that are off first, then the oldest. " + wipes(max(before-after, 0))
		}
	}

	s.tell(severity, set.want, short, "%s", strings.TrimSpace(text))
}

// leaving says what happens to machines that leave a set. A machine that goes to another set
// of the same cluster, or to another cluster, is wiped as well: Omni has no other way.
func (s *story) leaving(machines []resource.ID) string {
	text := ""

	for _, id := range machines {
		if to := s.destination(id); to != "" {
			text += fmt.Sprintf("%s moves to %s. ", capital(s.names([]resource.ID{id})), to)
		}
	}

	staysOut := slices.DeleteFunc(slices.Clone(machines), func(id resource.ID) bool { return s.destination(id) != "" })
	if len(staysOut) > 0 {
		text += fmt.Sprintf("%s %s. ", capital(s.names(staysOut)), each(len(staysOut), "leaves", "leave"))
	}

	return text + wipes(len(machines))
}

// wipes says what removing machines means for them. Omni resets a machine that leaves: it
// wipes the partitions STATE and EPHEMERAL and reboots it into maintenance
// (machineconfig/status.go, reset). One that is not connected is not reset before it is back.
func wipes(n int) string {
	switch n {
	case 0:
		return "What leaves is wiped, with all local data on its system disk, and is free for other clusters."
	case 1:
		return "It is wiped, with all local data on its system disk, and is free for other clusters."
	default:
		return "They are wiped, with all local data on their system disks, and are free for other clusters."
	}
}

// wiped says it of all machines of a set.
func (s *story) wiped(set *omni.MachineSet, machines []resource.ID, n int, known bool) string {
	switch {
	case known && n == 0:
		return "it has no machines."
	case len(machines) > 0:
		return s.leaving(machines)
	case known:
		return fmt.Sprintf("%s of the class %s %s. %s", count(n, "machine"), allocation(set).GetName(), each(n, "leaves", "leave"), wipes(n))
	default:
		return "all its machines leave. " + wipes(0)
	}
}

func (s *story) joining(set *omni.MachineSet, joins []resource.ID, n int, known bool) string {
	class := allocation(set)

	switch {
	case class == nil && len(joins) == 0:
		return "without machines so far."
	case class == nil:
		return fmt.Sprintf("%s (%s) %s.", count(len(joins), "machine"), s.names(joins), each(len(joins), "joins", "join"))
	case !known:
		return fmt.Sprintf("every free machine of the class %s joins, now and later.", class.GetName())
	default:
		return fmt.Sprintf("%s of the class %s %s, as far as there are any.", count(n, "machine"), class.GetName(), each(n, "joins", "join"))
	}
}

// destination returns where a machine of this cluster goes; "" if it only leaves.
func (s *story) destination(machine resource.ID) string {
	for _, set := range s.sets {
		if slices.Contains(set.after, machine) {
			return set.title + " of the same cluster"
		}
	}

	for _, other := range s.Plans {
		for _, w := range other.Waiting {
			if other != s.plan && w.Elsewhere && w.Resource.Metadata().Type() == omni.MachineSetNodeType && w.Resource.Metadata().ID() == machine && clusterOf(w.Resource) == s.plan.Target {
				return "the cluster " + other.Target
			}
		}
	}

	return ""
}

// arrivals tells which machines come from another cluster.
func (s *story) arrivals() {
	from := map[string][]resource.ID{}

	for _, w := range s.plan.Waiting {
		if w.Elsewhere && w.Resource.Metadata().Type() == omni.MachineSetNodeType {
			from[clusterOf(w.Resource)] = append(from[clusterOf(w.Resource)], w.Resource.Metadata().ID())
		}
	}

	for _, cluster := range sortedKeys(from) {
		machines := from[cluster]
		n := len(machines)

		s.tell(Info, nil, fmt.Sprintf("%s from %s", count(n, "machine"), cluster), "%s %s from the cluster %s: wiped there first, and then %s here.",
			capital(s.names(machines)), each(n, "comes", "come"), cluster, each(n, "it joins", "they join"))
	}
}

func capital(text string) string {
	if strings.HasPrefix(text, "the ") {
		return "The " + strings.TrimPrefix(text, "the ")
	}

	return text
}
