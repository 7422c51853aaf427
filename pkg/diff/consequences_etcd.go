package diff

import (
	"fmt"
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// tolerance returns how many of n members etcd can lose: it needs n/2+1 of them.
func tolerance(n int) int { return max(n-1, 0) / 2 }

func failures(n int) string {
	if n == 0 {
		return "no failure"
	}

	return "the failure of " + count(n, "machine")
}

// etcd tells what a new number of control plane machines does to etcd. Omni lets new ones in
// first, and takes one out at a time, while the rest has its quorum
// (internal/machineset/control_planes_handler.go, check.CanScaleDown).
func (s *story) etcd(about resource.Resource, before, after int) {
	if before == 0 || after == 0 {
		return
	}

	severity := Info
	short := "etcd tolerates " + failures(tolerance(after))
	text := fmt.Sprintf("etcd: %d → %s. It tolerates %s", before, count(after, "member"), failures(tolerance(after)))

	switch was, now := tolerance(before), tolerance(after); {
	case was == now:
		text += ", as before"
	default:
		text += fmt.Sprintf(", before %s", failures(was))
	}

	if tolerance(after) < tolerance(before) {
		severity = Disruptive
	}

	text += ". " + sizeAdvice(after)

	if after < before {
		text += "Members leave one at a time, and only while the others have their quorum. "
	}

	s.tell(severity, about, short, "%s", trim(text))
}

// replaced tells what it does to etcd that more of its members are replaced than it may lose
// at once. Omni lets new ones in first, and takes an old one out only while the rest has its
// quorum; a member that has yet to join counts as one that is missing
// (internal/machineset/control_planes_handler.go, check.CanScaleDown). One that has to leave
// another place first is not there to wait for.
func (s *story) replaced(set *machineSet, joins, leaves []resource.ID) {
	before := len(set.before)
	if len(joins) == 0 || len(leaves) <= tolerance(before) {
		return
	}

	var late []resource.ID

	for _, id := range joins {
		if !slices.ContainsFunc(s.changes(omni.MachineSetNodeType, Create), func(c *Change) bool { return c.New.Metadata().ID() == id }) {
			late = append(late, id)
		}
	}

	members := "all " + count(before, "member")
	if stay := before - len(leaves); stay > 0 {
		members = fmt.Sprintf("%d of %s", len(leaves), count(before, "member"))
	} else if before == 1 {
		members = "its only member"
	}

	text := fmt.Sprintf("etcd: %s %s replaced. ", members, each(len(leaves), "is", "are"))
	first := len(joins) - len(late)

	if first > 0 {
		text += fmt.Sprintf("The new %s %s first: etcd has %s for a while and needs %d of them. ", each(first, "one", "ones"), each(first, "joins", "join"), count(before+first, "member"), (before+first)/2+1)
	}

	text += fmt.Sprintf("Then the old %s, one at a time, and only while the others have their quorum. ", each(len(leaves), "one leaves", "ones leave"))

	if len(late) > 0 {
		text += fmt.Sprintf("%s %s to leave where %s before %s: the old ones do not wait for that, and etcd may be down to %s meanwhile. ", capital(s.names(late)), each(len(late), "has", "have"),
			each(len(late), "it is", "they are"), each(len(late), "it joins", "they join"), count(max(before-len(leaves)+first, 1), "member"))
	}

	if len(leaves) == before {
		text += "After that its data is only on the new ones, copied from the old: have a backup of etcd before."
	} else {
		text += "Its data is kept only through the members that stay and what the new ones copied: have a backup of etcd before."
	}

	s.tell(Disruptive, set.want, "etcd members replaced", "%s", trim(text))
}

// sizeAdvice says what is odd about a number of control plane machines; "" for 3, 5 and so on.
func sizeAdvice(n int) string {
	switch {
	case n == 1:
		return "With one, the Kubernetes API is away whenever that machine restarts, and its loss is the loss of the cluster's state. "
	case n == 2:
		return "With two, the loss of either one stops etcd: that is less safe than one. "
	case n%2 == 0 && n > 0:
		return fmt.Sprintf("An even number is no safer than %d and has one more machine that can fail. ", n-1)
	default:
		return ""
	}
}

// class tells what it means that a set takes its machines from somewhere else.
func (s *story) class(set *machineSet) {
	if set.have == nil || set.want == nil {
		return
	}

	before, after := allocation(set.have), allocation(set.want)

	switch {
	case before == nil && after != nil:
		s.tell(Disruptive, set.want, set.name()+" from a class",
			"%s: machines of the class %s instead of machines by name.%s", capital(set.title), after.GetName(), refusedSwitch(set))
	case before != nil && after == nil:
		s.tell(Disruptive, set.want, set.name()+" by name",
			"%s: machines by name instead of the class %s.%s", capital(set.title), before.GetName(), refusedSwitch(set))
	case before != nil && before.GetName() != after.GetName():
		// The controller looks at the class only to add machines (machine_set_node.go, createNodes).
		s.tell(Info, set.want, "class "+after.GetName(), "%s: new machines come from the class %s instead of %s. Those that are in the cluster stay.",
			capital(set.title), after.GetName(), before.GetName())
	}
}

// refusedSwitch says that Omni does not let a set change where its machines come from while it
// has some; "" if it has none.
func refusedSwitch(set *machineSet) string {
	switch n, known := size(set.have, set.before); {
	case !set.populated():
		return ""
	case !known:
		return " Omni refuses that while the set has machines."
	case len(set.before) == 0: // a class's machines are not in Git
		return fmt.Sprintf(" Omni refuses that while the set has machines; it takes %d.", n)
	default:
		return fmt.Sprintf(" Omni refuses that while the set has machines; it has %d.", n)
	}
}

// populated reports whether a set has machines, or is asked to.
func (set *machineSet) populated() bool {
	n, known := size(set.have, set.before)

	return n > 0 || !known
}

// switches reports whether a set with machines changes where they come from.
func (set *machineSet) switches() bool {
	return set.have != nil && set.want != nil && (allocation(set.have) == nil) != (allocation(set.want) == nil) && set.populated()
}

// strategies tells that a set is treated differently from now on.
func (s *story) strategies(set *machineSet) {
	if set.have == nil || set.want == nil {
		return
	}

	a, b := set.have.TypedSpec().Value, set.want.TypedSpec().Value

	if a.UpdateStrategy != b.UpdateStrategy || a.DeleteStrategy != b.DeleteStrategy || a.UpgradeStrategy != b.UpgradeStrategy ||
		!a.UpdateStrategyConfig.EqualVT(b.UpdateStrategyConfig) || !a.DeleteStrategyConfig.EqualVT(b.DeleteStrategyConfig) ||
		!a.UpgradeStrategyConfig.EqualVT(b.UpgradeStrategyConfig) {
		s.tell(Info, set.want, "strategy", "%s: how many machines are changed at once differs from now on. Nothing restarts.", capital(set.title))
	}
}

// locks tells which machines Omni leaves alone from now on, or no longer. A locked machine
// gets no upgrades and no configuration (machineconfig/status.go, reconcileRunning).
func (s *story) locks() {
	var locked, unlocked []resource.ID

	for _, c := range s.changes(omni.MachineSetNodeType, Update) {
		switch was, is := hasAnnotation(c.Old, omni.MachineLocked), hasAnnotation(c.New, omni.MachineLocked); {
		case is && !was:
			locked = append(locked, c.New.Metadata().ID())
		case was && !is:
			unlocked = append(unlocked, c.New.Metadata().ID())
		}
	}

	slices.Sort(locked)
	slices.Sort(unlocked)

	if n := len(locked); n > 0 {
		s.tell(Info, nil, count(n, "machine")+" locked", "%s %s locked: no upgrade and no new configuration until unlocked.", s.names(locked), each(n, "is", "are"))
	}

	if n := len(unlocked); n > 0 {
		s.tell(Disruptive, nil, count(n, "machine")+" unlocked", "%s %s unlocked: upgrades and configuration that were held back are applied now.",
			s.names(unlocked), each(n, "is", "are"))
	}
}
