package diff

import (
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// Lookup finds what Omni holds, also outside of a target; a Snapshot is one. What it returns is
// read, never written.
type Lookup interface {
	Get(typ resource.Type, id resource.ID) (resource.Resource, bool)
	List(typ resource.Type) []resource.Resource
	// Cluster returns the Cluster of this name and everything that carries its label.
	Cluster(name string) []resource.Resource
}

// fleet tells what happens to resources that are part of no cluster, and to the clusters that
// they reach all the same.
func (s *story) fleet() {
	var gone []string

	for i := range s.plan.Changes {
		if c := &s.plan.Changes[i]; c.Action == Destroy && c.Metadata().Type() != omni.MachineClassType {
			gone = append(gone, Name(c.Old))
		}
	}

	s.classes()
	s.labels()
	s.reached()

	if n := len(gone); n > 0 {
		s.tell(Destructive, nil, count(n, "fleet resource")+" deleted", "%s left Git and %s deleted from Omni.", list(gone), each(n, "is", "are"))
	}

	for i := range s.plan.Left {
		left := &s.plan.Left[i]
		s.tell(Info, left.Resource, "1 "+each(btoi(left.Leaving), "leaving", "kept"), "%s %s.", Name(left.Resource), left.Words())
	}
}

// reached tells what config patches do to the clusters whose label, or whose machine's label,
// they carry: the same as if they stood in the cluster's template.
func (s *story) reached() {
	reach := map[string][]Change{}

	for _, c := range s.changes(omni.ConfigPatchType, Create, Update, Destroy) {
		var clusters []string

		for _, r := range []resource.Resource{c.Old, c.New} {
			if r != nil {
				clusters = append(clusters, s.clusterOfPatch(r))
			}
		}

		for _, cluster := range uniq(clusters) {
			reach[cluster] = append(reach[cluster], *c)
		}
	}

	for _, cluster := range sortedKeys(reach) {
		if cluster == "" {
			s.nowhere(reach[cluster])
		} else {
			s.inCluster(cluster, reach[cluster])
		}
	}
}

// clusterOfPatch returns the cluster that a config patch reaches; "" if nobody knows one.
func (s *story) clusterOfPatch(patch resource.Resource) string {
	if machine, ok := patch.Metadata().Labels().Get(omni.LabelMachine); ok {
		return s.home(machine)
	}

	return clusterOf(patch)
}

// home returns the cluster that a machine is in; "" if it is in none, or nobody knows.
func (s *story) home(machine resource.ID) string {
	if s.Whole == nil {
		return ""
	}

	if node, ok := s.Whole.Get(omni.MachineSetNodeType, machine); ok {
		return clusterOf(node)
	}

	return ""
}

// inCluster tells what changes do to one cluster, by a story of their own.
func (s *story) inCluster(cluster string, changes []Change) {
	var about resource.Resource
	if len(changes) == 1 {
		about = changes[0].subject()
	}

	var live []resource.Resource
	if s.Whole != nil {
		live = append(slices.Clone(s.Whole.Cluster(cluster)), s.ofMachines(changes)...)
	}

	part := newStory(&Plan{Source: s.plan.Source, Target: cluster, Changes: changes}, Scene{Live: live, Hostnames: s.Hostnames})
	names := changedNames(changes)

	switch _, exists := part.before[ref{omni.ClusterType, cluster}]; {
	case exists:
		part.config()

		for _, c := range part.told {
			c.Short = each(btoi(c.Short == ""), "", cluster+": "+c.Short)
			s.tell(c.Severity, about, c.Short, "Cluster %s: %s", cluster, c.Text)
		}
	case s.creates(cluster):
		s.tell(Info, about, "", "%s is for the new cluster %s, whose machines get it from the beginning.", names, cluster)
	case s.Whole == nil:
		s.tell(Info, about, "", "%s is for the cluster %s. What it does there is not known here.", names, cluster)
	default:
		s.tell(Info, about, "", "%s is for the cluster %s, which does not exist: it reaches no machine.", names, cluster)
	}
}

// ofMachines returns the live config patches of the machines that patches among the changes are for:
// they carry no label of a cluster.
func (s *story) ofMachines(changes []Change) []resource.Resource {
	wanted := map[string]bool{}

	for i := range changes {
		if machine, ok := changes[i].Metadata().Labels().Get(omni.LabelMachine); ok {
			wanted[machine] = true
		}
	}

	if len(wanted) == 0 {
		return nil
	}

	return slices.DeleteFunc(slices.Clone(s.Whole.List(omni.ConfigPatchType)), func(r resource.Resource) bool {
		machine, _ := r.Metadata().Labels().Get(omni.LabelMachine)

		return !wanted[machine]
	})
}

// nowhere tells of patches that reach no cluster.
func (s *story) nowhere(changes []Change) {
	for i := range changes {
		about := changes[i].subject()

		switch machine, ok := about.Metadata().Labels().Get(omni.LabelMachine); {
		case !ok:
			s.tell(Info, about, "", "%s carries the label of no cluster and of no machine: it reaches nothing.", changedNames(changes[i:i+1]))
		case s.Whole == nil:
			s.tell(Info, about, "", "%s is for the machine %s. What it does there is not known here.", changedNames(changes[i:i+1]), machine)
		default:
			s.tell(Info, about, "", "%s is for the machine %s, which is in no cluster: no cluster changes.", changedNames(changes[i:i+1]), machine)
		}
	}
}

func changedNames(changes []Change) string {
	var names []string
	for i := range changes {
		names = append(names, Name(&changes[i]))
	}

	return list(names)
}

// creates reports whether a plan of this run makes a cluster.
func (s *story) creates(cluster string) bool {
	return slices.ContainsFunc(s.Plans, func(p *Plan) bool {
		return p.Target == cluster && slices.ContainsFunc(p.Changes, func(c Change) bool { return c.Action == Create && c.New.Metadata().Type() == omni.ClusterType })
	})
}

func changesSpec(c *Change) bool {
	return slices.ContainsFunc(c.Fields, func(f Field) bool { return strings.HasPrefix(f.Path, "spec") })
}
