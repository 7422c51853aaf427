package diff

import (
	"fmt"
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// unit is machines that get the same: one with something of its own, or all others of a
// machine set that are locked, or that are not.
type unit struct {
	set     *machineSet
	machine resource.ID
	n       int // -1 if nobody can tell
	locked  bool
}

// units divides the machines that are there before and after.
func (s *story) units() []unit {
	own := map[resource.ID]bool{}

	for _, state := range []map[ref]resource.Resource{s.before, s.after} {
		for _, r := range state {
			for _, key := range []string{omni.LabelClusterMachine, omni.LabelMachine} {
				if machine, ok := r.Metadata().Labels().Get(key); ok {
					own[machine] = true
				}
			}
		}
	}

	var units []unit

	for _, set := range s.sets {
		if set.have == nil || set.want == nil {
			continue
		}

		machines := set.meets()
		rest, known := size(set.have, machines)
		locked := 0

		for _, machine := range machines {
			switch {
			case own[machine]:
				units = append(units, unit{set, machine, 1, s.isLocked(machine)})
				rest--
			case s.isLocked(machine):
				locked++
				rest--
			}
		}

		if !known {
			rest = -1
		}

		if rest != 0 {
			units = append(units, unit{set, "", rest, false})
		}

		if locked > 0 {
			units = append(units, unit{set, "", locked, true})
		}
	}

	return units
}

// meets returns the machines of a set that a change meets: those that stay, as far as they
// are named.
func (set *machineSet) meets() []resource.ID {
	if allocation(set.have) != nil {
		return set.before
	}

	return set.staying()
}

// isLocked reports whether a machine is locked when the plan is applied. Omni gives a locked
// machine neither an upgrade nor configuration until it is unlocked
// (machineconfig/reconciliation_context.go, BuildReconciliationContext).
func (s *story) isLocked(machine resource.ID) bool {
	node, ok := s.after[ref{omni.MachineSetNodeType, machine}]

	return ok && hasAnnotation(node, omni.MachineLocked)
}

// locked counts the locked machines that a change of the cluster meets. They are workers: Omni
// does not let machines of the control plane be locked.
func (s *story) locked() int {
	n := 0

	for _, set := range s.sets {
		if s.known && set.have != nil && set.want != nil {
			n += len(slices.DeleteFunc(slices.Clone(set.meets()), func(id resource.ID) bool { return !s.isLocked(id) }))
		}
	}

	return n
}

// whenUnlocked says what becomes of locked machines; "" if there are none.
func whenUnlocked(n int) string {
	if n == 0 {
		return ""
	}

	return fmt.Sprintf(" %s %s when %s unlocked.", count(n, "locked machine"), each(n, "gets it", "get it"), each(n, "it is", "they are"))
}

// affected is the machines that something happens to.
type affected struct {
	n        int // -1 if nobody can tell
	titles   []string
	sets     []*machineSet
	machines []resource.ID
}

func (a *affected) add(u unit) {
	if u.n < 0 || a.n < 0 {
		a.n = -1
	} else {
		a.n += u.n
	}

	if !slices.Contains(a.sets, u.set) {
		a.sets = append(a.sets, u.set)
		a.titles = append(a.titles, u.set.title)
	}

	if u.machine != "" {
		a.machines = append(a.machines, u.machine)
	}
}

func (a *affected) who(s *story) string {
	switch {
	case len(a.machines) > 0 && len(a.machines) == a.n:
		slices.Sort(a.machines)

		return s.names(a.machines)
	default:
		return a.counted()
	}
}

// counted is who it is without names.
func (a *affected) counted() string {
	if a.n > 0 {
		return fmt.Sprintf("%s of %s", count(a.n, "machine"), list(a.titles))
	}

	return list(a.titles)
}

// reach is the machines that an effect has, now and when they are unlocked.
type reach struct{ free, locked affected }

func (r *reach) add(u unit) {
	if u.locked {
		r.locked.add(u)
	} else {
		r.free.add(u)
	}
}

func (r *reach) who(s *story) string { return r.free.who(s) }

func (r *reach) held() string { return whenUnlocked(r.locked.n) }

func (r *reach) short() string {
	if r.free.n > 0 {
		return count(r.free.n, "machine")
	}

	return "machines"
}
