package diff

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// A machine class picks machines by their labels, and a machine set that takes all of a class
// takes each one that is free, at once. Nobody leaves a machine set because a class no longer
// matches: Omni looks at the class only to add machines (machine_set_node.go, createNodes).

// classes tells what happens to machine classes.
func (s *story) classes() {
	for _, c := range s.changes(omni.MachineClassType, Create, Update, Destroy) {
		md, about := c.Metadata(), c.subject()

		switch users := s.usersOf(md.ID()); {
		case c.Action == Destroy:
			s.tell(Destructive, about, "class −"+md.ID(), "The machine class %s is deleted. Omni refuses that while a machine set uses it.%s", md.ID(), used(users))
		case c.Action == Create:
			s.tell(Info, about, "class "+md.ID(), "A new machine class, %s. It moves no machine by itself.%s", md.ID(), used(users))
		case changesSpec(c):
			severity, moves := s.rematched(c, users)
			s.tell(severity, about, "class "+md.ID(),
				"The machine class %s matches other machines. Machines that are in a cluster stay there; what machine sets take from now on follows the new rule, and a set without a limit takes what matches.%s%s", md.ID(), used(users), moves)
		}
	}
}

// rematched says which machines a changed class finds and no longer finds, and who takes them.
func (s *story) rematched(c *Change, users []*omni.MachineSet) (Severity, string) {
	if s.Whole == nil || len(s.Whole.List(omni.MachineStatusType)) == 0 {
		return Info, " Which machines come and go is not known here."
	}

	var found, lost []resource.ID

	for _, r := range s.Whole.List(omni.MachineStatusType) {
		m := s.machine(r.Metadata().ID())

		switch was, is := matches(c.Old, m.before), matches(c.New, m.after); {
		case is && !was:
			found = append(found, m.id)
		case was && !is:
			lost = append(lost, m.id)
		}
	}

	text := ""
	if len(found) > 0 {
		text += fmt.Sprintf(" It now matches %s.", s.names(found))
	}

	if len(lost) > 0 {
		text += fmt.Sprintf(" It no longer matches %s.", s.names(lost))
	}

	if len(found)+len(lost) == 0 {
		text += " Of the machines that Omni knows it matches the same."
	}

	free := slices.DeleteFunc(found, func(id resource.ID) bool { return !s.machine(id).free })
	severity, takes := s.taken(free, users)

	return severity, text + takes
}

// labels tells what other labels of machines do.
func (s *story) labels() {
	for _, c := range s.changes(omni.MachineLabelsType, Create, Update, Destroy) {
		if c.Action == Update && maps.Equal(userLabels(c.Old), userLabels(c.New)) {
			continue
		}

		s.relabelled(c)
	}
}

func (s *story) relabelled(c *Change) {
	about, name := c.subject(), s.names([]resource.ID{c.Metadata().ID()})
	m := s.machine(c.Metadata().ID())

	if !m.known {
		text := ""
		if takers := s.unlimited(); len(takers) > 0 {
			text = fmt.Sprintf(" If it is free, it goes at once to a machine set that takes all machines of a class, once that class matches: %s.", list(takers))
		}

		s.tell(Info, about, "labels of "+name, "Labels of the machine %s: which machine classes match it is not known here.%s", name, text)

		return
	}

	var found, lost []string

	takers := []*omni.MachineSet{}

	for _, id := range sortedKeys(s.planned(omni.MachineClassType)) {
		class := s.planned(omni.MachineClassType)[id]

		switch was, is := matches(s.heldClass(id), m.before), matches(class, m.after); {
		case is && !was:
			found = append(found, id)
			takers = append(takers, s.usersOf(id)...)
		case was && !is:
			lost = append(lost, id)
		}
	}

	text := fmt.Sprintf("Labels of the machine %s: ", name)

	switch {
	case len(found)+len(lost) == 0:
		text += "the same machine classes match it as before, so it moves nowhere."
	case len(lost) == 0:
		text += fmt.Sprintf("the machine %s %s %s it from now on.", each(len(found), "class", "classes"), list(found), each(len(found), "matches", "match"))
	case len(found) == 0:
		text += fmt.Sprintf("the machine %s %s no longer %s it.", each(len(lost), "class", "classes"), list(lost), each(len(lost), "matches", "match"))
	default:
		text += fmt.Sprintf("the machine %s %s %s it from now on, and %s no longer.", each(len(found), "class", "classes"), list(found), each(len(found), "matches", "match"), list(lost))
	}

	severity, moves := Info, ""

	switch {
	case m.cluster != "" && len(found)+len(lost) > 0:
		moves = fmt.Sprintf(" It is in the cluster %s and stays there.", m.cluster)
	case m.cluster == "" && len(takers) > 0 && !m.free:
		moves = " It cannot be taken now."
	case m.free:
		severity, moves = s.taken([]resource.ID{m.id}, takers)
	}

	s.tell(severity, about, "labels of "+name, "%s%s", text, moves)
}

// taken says what machine sets do with free machines that their class found. Of several sets
// that take all, one gets each machine.
func (s *story) taken(machines []resource.ID, users []*omni.MachineSet) (Severity, string) {
	var all, short []string

	clusters := map[string]bool{}

	for _, set := range users {
		switch n, limited := goal(set, nil); {
		case !limited:
			all = append(all, titleIn(set))
			clusters[clusterOf(set)] = true
		default:
			if has := len(s.nodesOf(set.Metadata().ID())); has < n {
				short = append(short, fmt.Sprintf("%s (%d of %s)", titleIn(set), has, count(n, "machine")))
			}
		}
	}

	n := len(machines)

	switch {
	case n == 0:
		return Info, ""
	case len(all) > 0:
		return Disruptive, fmt.Sprintf(" Omni installs %s into the cluster %s at once: every free machine of the class goes to %s, unless its Talos is newer than the cluster's.",
			s.names(machines), strings.Join(sortedKeys(clusters), " or "), strings.Join(all, " or "))
	case len(short) > 0:
		return Disruptive, fmt.Sprintf(" Omni may install %s at once: there is room in %s.", s.names(machines), list(short))
	default:
		return Info, ""
	}
}

// used says which machine sets use a class.
func used(users []*omni.MachineSet) string {
	if len(users) == 0 {
		return ""
	}

	var names []string

	for _, set := range users {
		n, limited := goal(set, nil)
		names = append(names, titleIn(set)+" ("+each(btoi(limited), count(n, "machine"), "all machines of the class")+")")
	}

	return fmt.Sprintf(" It is used by %s.", list(names))
}
