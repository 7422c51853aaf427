package diff

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// images tells for which machines Omni makes another image: extensions and kernel arguments
// are part of it, and another image is an upgrade to the same Talos, with a reboot
// (schematic/configuration.go, machineconfig/status.go).
func (s *story) images() {
	if s.isNew || s.deleted() {
		return
	}

	if s.known {
		s.extensions()
	}

	s.kernelArgs()
	s.disks()
}

func (s *story) extensions() {
	type effect struct {
		reach

		what, initial string
	}

	if len(s.changes(omni.ExtensionsConfigurationType, Create, Update, Destroy)) == 0 {
		return
	}

	effects := map[string]*effect{}

	for _, u := range s.units() {
		before, hadOne := s.extensionsOf(s.before, u)
		after, hasOne := s.extensionsOf(s.after, u)

		e := &effect{what: plusMinus(without(after, before), without(before, after)), initial: initialExtensions(hadOne, hasOne)}
		if e.what == "" && e.initial == "" {
			continue
		}

		key := fmt.Sprintln(without(after, before), without(before, after), e.initial)
		if effects[key] == nil {
			effects[key] = e
		}

		effects[key].add(u)
	}

	for _, key := range sortedKeys(effects) {
		e := effects[key]
		short, what := "extensions "+e.what, "System extensions "+e.what

		if e.what == "" {
			short, what = "extensions", "System extensions"
		}

		if e.free.n == 0 {
			s.tell(Info, nil, short+" held", "%s on %s: %s locked, and each gets a new image of its Talos and reboots when it is unlocked.%s", what, e.locked.counted(), each(e.locked.n, "it is", "they are"), e.initial)
		} else {
			s.tell(Disruptive, nil, short, "%s on %s: each gets a new image of its Talos and reboots%s.%s%s", what, e.free.counted(), s.order(e.free.n, e.free.sets), e.initial, e.held())
		}
	}

	if len(effects) == 0 {
		s.tell(Info, nil, "", "Extensions configurations change, and the extensions of the machines stay the same.")
	}
}

// initialExtensions says what becomes of the extensions that a machine had in its first image:
// it keeps them as long as nothing is configured for it, and gets them back
// (schematic/configuration.go, newMachineCustomization).
func initialExtensions(hadOne, hasOne bool) string {
	switch {
	case !hadOne && hasOne:
		return " Nothing was configured so far, and they have the extensions of their first image: those that are not listed now go."
	case hadOne && !hasOne:
		return " Nothing is configured any more, and they get back the extensions of their first image."
	default:
		return ""
	}
}

// extensionsOf returns the extensions that are configured for machines; false if nothing is. The most specific configuration counts
// alone, and of two the one with the higher ID (machine_extensions.go, determineExtensions).
func (s *story) extensionsOf(state map[ref]resource.Resource, u unit) ([]string, bool) {
	var found *omni.ExtensionsConfiguration

	level := -1

	for _, r := range state {
		config, ok := r.(*omni.ExtensionsConfiguration)
		if !ok || clusterOf(r) != s.plan.Target {
			continue
		}

		set, hasSet := r.Metadata().Labels().Get(omni.LabelMachineSet)
		machine, hasMachine := r.Metadata().Labels().Get(omni.LabelClusterMachine)

		at := 0

		switch {
		case hasMachine && machine == u.machine:
			at = 2
		case hasSet && set == u.set.id:
			at = 1
		case hasMachine || hasSet:
			continue
		}

		if at > level || at == level && config.Metadata().ID() > found.Metadata().ID() {
			found, level = config, at
		}
	}

	if found == nil {
		return nil, false
	}

	return uniq(slices.Clone(found.TypedSpec().Value.Extensions)), true
}

// maxShownNames bounds how many extensions or arguments one sentence names.
const maxShownNames = 6

// plusMinus writes what comes and goes: +a −b.
func plusMinus(added, removed []string) string {
	var parts []string

	for _, name := range added {
		parts = append(parts, "+"+short(name))
	}

	for _, name := range removed {
		parts = append(parts, "−"+short(name))
	}

	return strings.Join(parts[:min(len(parts), maxShownNames)], " ") + each(btoi(len(parts) > maxShownNames), " …", "")
}

// kernelArgs tells what other arguments of the kernel do.
func (s *story) kernelArgs() {
	type effect struct {
		added, removed []string
		machines       []resource.ID
	}

	effects := map[string]*effect{}

	for _, c := range s.changes(omni.KernelArgsType, Create, Update) {
		var before []string

		if have, ok := c.Old.(*omni.KernelArgs); ok {
			before = have.TypedSpec().Value.Args
		}

		after := c.New.(*omni.KernelArgs).TypedSpec().Value.Args
		added, removed := without(after, before), without(before, after)

		if slices.Equal(before, after) {
			continue
		}

		key := fmt.Sprintln(added, removed)
		if effects[key] == nil {
			effects[key] = &effect{added: added, removed: removed}
		}

		effects[key].machines = append(effects[key].machines, c.New.Metadata().ID())
	}

	for _, key := range sortedKeys(effects) {
		e := effects[key]
		slices.Sort(e.machines)

		what := plusMinus(argNames(e.added), argNames(e.removed))
		if what == "" {
			what = "in another order"
		}

		const caveat = "Omni leaves them as they are on a machine with Talos before 1.12 that does not boot a UKI."

		free := slices.DeleteFunc(slices.Clone(e.machines), s.isLocked)
		held := len(e.machines) - len(free)

		if n := len(free); n == 0 {
			s.tell(Info, nil, "kernel arguments held", "Kernel arguments %s on %s: %s locked, and each gets a new image and reboots when it is unlocked. %s", what, s.names(e.machines), each(held, "it is", "they are"), caveat)
		} else {
			s.tell(Disruptive, nil, "kernel arguments of "+count(n, "machine"), "Kernel arguments %s on %s: %s a new image and reboots. %s%s", what, s.names(free), each(n, "it gets", "each gets"), caveat, whenUnlocked(held))
		}
	}

	if released := s.changes(omni.KernelArgsType, Release); len(released) > 0 {
		s.tell(Info, nil, "", "Kernel arguments of %s left Git and stay as they are: Omni keeps them with the machine.", count(len(released), "machine"))
	}
}

// argNames leaves out the values: a kernel argument may hold a token.
func argNames(args []string) []string {
	names := make([]string, 0, len(args))

	for _, arg := range args {
		name, _, _ := strings.Cut(arg, "=")
		names = append(names, name)
	}

	return uniq(names)
}
