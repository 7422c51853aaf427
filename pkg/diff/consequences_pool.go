package diff

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/cosi/labels"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// usersOf returns the machine sets that take machines from a class, as the plans of this run
// leave them.
func (s *story) usersOf(class resource.ID) []*omni.MachineSet {
	var users []*omni.MachineSet

	sets := s.planned(omni.MachineSetType)

	for _, id := range sortedKeys(sets) {
		set, ok := sets[id].(*omni.MachineSet)
		if a := allocation(set); ok && a.GetName() == class {
			users = append(users, set)
		}
	}

	return users
}

// unlimited names the machine sets that take all machines of a class.
func (s *story) unlimited() []string {
	var names []string

	sets := s.planned(omni.MachineSetType)

	for _, id := range sortedKeys(sets) {
		set, ok := sets[id].(*omni.MachineSet)
		if !ok {
			continue
		}

		if _, limited := goal(set, nil); !limited {
			names = append(names, fmt.Sprintf("%s (class %s)", titleIn(set), allocation(set).GetName()))
		}
	}

	return names
}

// nodesOf returns the machines of a set.
func (s *story) nodesOf(set resource.ID) []resource.ID {
	nodes := s.planned(omni.MachineSetNodeType)

	return slices.DeleteFunc(sortedKeys(nodes), func(id resource.ID) bool { return machineSetOf(nodes[id]) != set })
}

// planned returns everything in Omni of a type as the plans of this run leave it.
func (s *story) planned(typ resource.Type) map[resource.ID]resource.Resource {
	if s.whole[typ] != nil {
		return s.whole[typ]
	}

	all := map[resource.ID]resource.Resource{}

	if s.Whole != nil {
		for _, r := range s.Whole.List(typ) {
			if !isTearingDown(r) {
				all[r.Metadata().ID()] = r
			}
		}
	}

	plans := s.Plans
	if !slices.Contains(plans, s.plan) {
		plans = append(slices.Clone(plans), s.plan)
	}

	for _, p := range plans {
		for i := range p.Changes {
			c := &p.Changes[i]

			if c.New != nil && c.New.Metadata().Type() == typ {
				all[c.New.Metadata().ID()] = c.New
			}

			for _, gone := range c.destroys() {
				if gone.Metadata().Type() == typ {
					delete(all, gone.Metadata().ID())
				}
			}
		}
	}

	s.whole[typ] = all

	return all
}

// heldClass returns a machine class as it is in Omni; nil if there is none.
func (s *story) heldClass(id resource.ID) resource.Resource {
	if s.Whole == nil {
		return nil
	}

	class, _ := s.Whole.Get(omni.MachineClassType, id)

	return class
}

// pooled is a machine as machine classes see it.
type pooled struct {
	id resource.ID
	// known says that Omni told of the machine.
	known bool
	// before and after are its labels.
	before, after resource.Labels
	// cluster is where it is; "" for none. free says that it can be taken.
	cluster string
	free    bool
}

func (s *story) machine(id resource.ID) pooled {
	m := pooled{id: id}

	if s.Whole == nil {
		return m
	}

	r, _ := s.Whole.Get(omni.MachineStatusType, id)

	status, ok := r.(*omni.MachineStatus)
	if !ok {
		return m
	}

	m.known, m.before, m.after = true, *status.Metadata().Labels(), *status.Metadata().Labels()

	if key := (ref{omni.MachineLabelsType, id}); s.before[key] != s.after[key] {
		m.after = relabel(status, s.after[key])
	}

	if node, ok := s.planned(omni.MachineSetNodeType)[id]; ok {
		m.cluster = clusterOf(node)
	}

	_, available := m.before.Get(omni.MachineStatusLabelAvailable)
	_, reserved := m.before.Get(omni.LabelNoManualAllocation)
	m.free = m.cluster == "" && available && !reserved && status.TypedSpec().Value.GetConnected()

	return m
}

// relabel returns the labels of a machine with other MachineLabels, or with none: Omni puts them over the labels
// of the machine's image (machine_status.go, mergeLabels), and leaves its own alone.
func relabel(status *omni.MachineStatus, to resource.Resource) resource.Labels {
	var after resource.Labels

	for key, value := range status.Metadata().Labels().Raw() {
		if strings.HasPrefix(key, omni.SystemLabelPrefix) {
			after.Set(key, value)
		}
	}

	for key, value := range status.TypedSpec().Value.GetImageLabels() {
		after.Set(key, value)
	}

	for key, value := range userLabels(to) {
		after.Set(key, value)
	}

	return after
}

// userLabels returns those labels that Omni copies to a machine.
func userLabels(r resource.Resource) map[string]string {
	if r == nil {
		return nil
	}

	all := maps.Clone(r.Metadata().Labels().Raw())
	maps.DeleteFunc(all, func(key, _ string) bool { return strings.HasPrefix(key, omni.SystemLabelPrefix) })

	return all
}

// matches reports whether a machine class finds a machine by its labels.
func matches(class resource.Resource, of resource.Labels) bool {
	c, ok := class.(*omni.MachineClass)
	if !ok || c.TypedSpec().Value.GetAutoProvision() != nil {
		return false
	}

	queries, err := labels.ParseSelectors(c.TypedSpec().Value.GetMatchLabels())

	return err == nil && len(queries) > 0 && queries.Matches(of)
}

// titleIn is what people call a machine set outside of its cluster.
func titleIn(set *omni.MachineSet) string {
	title := setTitle(clusterOf(set), set.Metadata().ID())
	if _, ok := set.Metadata().Labels().Get(omni.LabelControlPlaneRole); ok {
		title = "the control plane"
	}

	return title + " of " + clusterOf(set)
}
