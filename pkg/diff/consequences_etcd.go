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
	if n := len(set.before); n > 0 {
		return fmt.Sprintf(" Omni refuses that while the set has machines; it has %d.", n)
	}

	return ""
}

// switches reports whether a set with machines changes where they come from.
func (set *machineSet) switches() bool {
	return set.have != nil && set.want != nil && (allocation(set.have) == nil) != (allocation(set.want) == nil) && len(set.before) > 0
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
