package sync

import (
	"fmt"
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// departure is what leaves some machine sets at once if a plan is applied. A machine set either
// lists its machines, one MachineSetNode each, or takes them from a machine class: then a number
// is all that Git says, and Omni picks who goes.
type departure struct {
	// names are IDs of machines, or "2 of 3 of the class cp".
	names []string
	// leaving counts the machines behind names, and planned those that leave by the plan; the
	// others are being torn down already.
	leaving, planned int
	// members are all machines, with those that leave and those that join before.
	members int
}

// leavingMembers returns what leaves the control plane of a cluster. live is what Omni holds of
// the cluster, as given to [diff.Compute].
//
// A class counts by its size, also where Omni has yet to find that many machines: it may find
// them before the plan is applied. A class without a limit counts by the machines that it has. A
// machine that is being torn down is still a member of etcd and no longer one to rely on. Another
// class, or a class that matches other machines, moves nobody: Omni looks at the class only to
// add machines. Between a list and a class everybody is replaced, except who is on both.
func leavingMembers(plan *diff.Plan, live []resource.Resource) departure {
	var all departure

	for _, m := range memberships(plan, live) {
		if m.controlPlane {
			all.add(m.departure())
		}
	}

	slices.Sort(all.names)

	return all
}

// machinesLeaving counts and names the machines that leave a cluster by a plan, control plane and workers
// together. All machines of a cluster that is destroyed do. What is being torn down already does
// not count.
func machinesLeaving(plan *diff.Plan, live []resource.Resource) (n int, names []string) {
	for _, m := range memberships(plan, live) {
		d := m.departure()
		n += d.planned

		for _, name := range d.names {
			if !slices.Contains(m.going, name) {
				names = append(names, name)
			}
		}
	}

	return n, names
}

// losesQuorum reports whether etcd loses its quorum, which is n/2+1 of n members, if so many leave
// at once. One of two may go: Omni takes a single member out in order.
func (d departure) losesQuorum() bool {
	return d.members-d.leaving < d.members/2+1 && (d.leaving != 1 || d.members != 2)
}

func (d *departure) add(other departure) {
	d.names = append(d.names, other.names...)
	d.leaving += other.leaving
	d.planned += other.planned
	d.members += other.members
}

// membership is one machine set, now and when a plan is applied.
type membership struct {
	controlPlane bool
	// have is the live MachineSet, and want the one after; nil where there is none, or nobody knows.
	have, want *omni.MachineSet
	// goes says that the plan destroys the set, and torn that it is being torn down already.
	goes, torn bool
	// going are the machines that are being torn down, gone those that the plan takes out, and
	// staying the others. named are those of staying that Git lists.
	going, gone, staying, named []string
	joins                       int
}

// memberships returns the machine sets of a cluster. The live state may hold twins of desired
// resources that are in other clusters: they are left out.
func memberships(plan *diff.Plan, live []resource.Resource) map[resource.ID]*membership {
	sets := map[resource.ID]*membership{}

	at := func(md *resource.Metadata) *membership {
		id := md.ID()
		if md.Type() == omni.MachineSetNodeType {
			id, _ = md.Labels().Get(omni.LabelMachineSet)
		}

		if sets[id] == nil {
			sets[id] = &membership{}
		}

		_, controlPlane := md.Labels().Get(omni.LabelControlPlaneRole)
		sets[id].controlPlane = sets[id].controlPlane || controlPlane

		return sets[id]
	}

	destroyed, listed, clusterGoes := map[ref]bool{}, map[ref]bool{}, false

	for i := range plan.Changes {
		switch c := &plan.Changes[i]; c.Action {
		case diff.Destroy:
			for _, r := range append([]resource.Resource{c.Old}, c.Cascade...) {
				destroyed[ref{r.Metadata().Type(), r.Metadata().ID()}] = true
				clusterGoes = clusterGoes || r.Metadata().Type() == omni.ClusterType
			}
		case diff.Release:
		default:
			listed[ref{c.New.Metadata().Type(), c.New.Metadata().ID()}] = true

			if set, ok := c.New.(*omni.MachineSet); ok {
				at(set.Metadata()).want = set
			} else if c.Action == diff.Create && c.New.Metadata().Type() == omni.MachineSetNodeType {
				at(c.New.Metadata()).joins++
			}
		}
	}

	for _, r := range live {
		if cluster, _ := r.Metadata().Labels().Get(omni.LabelCluster); cluster != plan.Target {
			continue
		}

		key := ref{r.Metadata().Type(), r.Metadata().ID()}
		goes := clusterGoes || destroyed[key]
		torn := r.Metadata().Phase() == resource.PhaseTearingDown

		switch r := r.(type) {
		case *omni.MachineSet:
			m := at(r.Metadata())
			m.have, m.torn, m.goes = r, torn, goes && !torn

			if m.want == nil && !goes {
				m.want = r
			}
		case *omni.MachineSetNode:
			m := at(r.Metadata())

			switch {
			case torn:
				m.going = append(m.going, key.id)
			case goes:
				m.gone = append(m.gone, key.id)
			default:
				m.staying = append(m.staying, key.id)

				if listed[key] || diff.SourceOf(r) != "" {
					m.named = append(m.named, key.id)
				}
			}
		}
	}

	return sets
}

// departure returns what leaves the machine set.
func (m *membership) departure() departure {
	if m.torn {
		m.going, m.staying = append(m.going, m.staying...), nil
	}

	n, of := m.fromClass()
	names := slices.Clone(m.gone)

	if m.goes && allocation(m.have) == nil {
		names = append(names, m.staying...)
	}

	d := departure{planned: len(names) + n, members: m.joins + of}
	d.leaving = d.planned + len(m.going)
	d.names = append(names, m.going...)

	if n > 0 {
		d.names = append(d.names, fmt.Sprintf("%d of %d of the class %s", n, of, allocation(m.have).GetName()))
	}

	return d
}

// fromClass returns how many machines of a class leave without being named, and how many
// machines the set has before.
func (m *membership) fromClass() (n, of int) {
	of = len(m.going) + len(m.gone) + len(m.staying)
	before, after := allocation(m.have), allocation(m.want)

	if before == nil || m.torn {
		return 0, of
	}

	stay := 0

	switch {
	case m.goes:
	case after == nil:
		stay = len(m.named)
	case !limited(after), limited(before) && after.GetMachineCount() >= before.GetMachineCount():
		return 0, max(of, int(before.GetMachineCount()))
	default:
		stay = int(after.GetMachineCount())
	}

	if limited(before) {
		of = max(of, int(before.GetMachineCount()))
	}

	return max(of-len(m.going)-len(m.gone)-stay, 0), of
}

// allocation returns from which class a machine set takes its machines; nil if it lists them.
func allocation(set *omni.MachineSet) *specs.MachineSetSpec_MachineAllocation {
	if set == nil {
		return nil
	}

	return omni.GetMachineAllocation(set)
}

// limited reports whether a class gives a machine set a number of machines, and not all it has.
func limited(a *specs.MachineSetSpec_MachineAllocation) bool {
	return a != nil && a.GetAllocationType() != specs.MachineSetSpec_MachineAllocation_Unlimited
}
