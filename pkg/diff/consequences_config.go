package diff

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// config tells what a change of config patches does to the machines. A patch is not judged
// by itself: what counts is what all patches of a machine come to, in Omni's order, so one
// that is only renamed, moved or overridden by another is seen to change nothing.
func (s *story) config() {
	if s.isNew || s.deleted() || len(s.changes(omni.ConfigPatchType, Create, Update, Destroy)) == 0 || !s.known {
		return
	}

	cluster, _ := s.before[ref{omni.ClusterType, s.plan.Target}].(*omni.Cluster)
	talos := ""

	if cluster != nil {
		talos = cluster.TypedSpec().Value.TalosVersion
	}

	before, after := s.layers(s.before), s.layers(s.after)
	effects := map[string]*configEffect{}
	same := true

	for _, u := range s.units() {
		old, new := before.of(u), after.of(u)
		if slices.EqualFunc(old, new, func(a, b *configPatch) bool { return a.payload == b.payload }) {
			continue
		}

		effect := compareConfig(old, new)
		if !effect.unknown && len(effect.paths) == 0 && len(effect.documents) == 0 {
			continue
		}

		same = false
		key := effect.key()

		if effects[key] == nil {
			effects[key] = effect
		}

		effects[key].add(u)
	}

	for _, key := range sortedKeys(effects) {
		s.configEffect(effects[key], talos)
	}

	if same {
		s.tell(Info, nil, "", "Config patches change, and the configuration of the machines stays the same: nothing restarts.")
	}
}

// unit is machines that get the same patches: one with a patch of its own, or all others of
// a machine set.
type unit struct {
	set     *machineSet
	machine resource.ID
	n       int // -1 if nobody can tell
}

// units divides the machines that are there before and after.
func (s *story) units() []unit {
	own := map[resource.ID]bool{}

	for _, state := range []map[ref]resource.Resource{s.before, s.after} {
		for _, r := range state {
			if machine, ok := r.Metadata().Labels().Get(omni.LabelClusterMachine); ok {
				own[machine] = true
			}
		}
	}

	var units []unit

	for _, set := range s.sets {
		if set.have == nil || set.want == nil {
			continue
		}

		rest := set.staying()
		if allocation(set.have) != nil {
			rest = set.before
		}

		for _, machine := range rest {
			if own[machine] {
				units = append(units, unit{set, machine, 1})
			}
		}

		n, known := size(set.have, rest)
		n -= len(slices.DeleteFunc(slices.Clone(rest), func(id resource.ID) bool { return !own[id] }))

		if !known {
			n = -1
		}

		if n != 0 {
			units = append(units, unit{set, "", n})
		}
	}

	return units
}

type configPatch struct{ id, payload string }

// layers are the patches of a cluster by what they are for.
type layers struct {
	cluster        []*configPatch
	byMachineSet   map[string][]*configPatch
	clusterMachine map[string][]*configPatch
}

// layers sorts patches as Omni does: those of the cluster, of the machine set and of the
// machine, each by ID (internal/layeredresource/layeredresource.go).
func (s *story) layers(state map[ref]resource.Resource) layers {
	l := layers{byMachineSet: map[string][]*configPatch{}, clusterMachine: map[string][]*configPatch{}}

	for _, r := range state {
		if r.Metadata().Type() != omni.ConfigPatchType || clusterOf(r) != s.plan.Target {
			continue
		}

		p := &configPatch{r.Metadata().ID(), payload(r)}
		set, hasSet := r.Metadata().Labels().Get(omni.LabelMachineSet)
		machine, hasMachine := r.Metadata().Labels().Get(omni.LabelClusterMachine)

		switch {
		case hasSet:
			l.byMachineSet[set] = append(l.byMachineSet[set], p)
		case hasMachine:
			l.clusterMachine[machine] = append(l.clusterMachine[machine], p)
		default:
			l.cluster = append(l.cluster, p)
		}
	}

	byID := func(a, b *configPatch) int { return cmp.Compare(a.id, b.id) }
	slices.SortFunc(l.cluster, byID)

	for _, patches := range l.byMachineSet {
		slices.SortFunc(patches, byID)
	}

	for _, patches := range l.clusterMachine {
		slices.SortFunc(patches, byID)
	}

	return l
}

func (l layers) of(u unit) []*configPatch {
	return slices.Concat(l.cluster, l.byMachineSet[u.set.id], l.clusterMachine[u.machine])
}

// configEffect is what a change of patches does to the configuration of some machines.
type configEffect struct {
	// unknown says that it could not be found out, and paths and documents are not all.
	unknown bool
	// paths are the places of Talos' main document that get another value, as keys.
	paths [][]string
	// documents are the other documents that change, by their kind.
	documents []string

	n       int
	titles  []string
	sets    []*machineSet
	machine []resource.ID
}

func (e *configEffect) key() string { return fmt.Sprintln(e.unknown, e.paths, e.documents) }

func (e *configEffect) add(u unit) {
	if u.n < 0 || e.n < 0 {
		e.n = -1
	} else {
		e.n += u.n
	}

	if !slices.Contains(e.sets, u.set) {
		e.sets = append(e.sets, u.set)
		e.titles = append(e.titles, u.set.title)
	}

	if u.machine != "" {
		e.machine = append(e.machine, u.machine)
	}
}

// configEffect tells one effect.
func (s *story) configEffect(e *configEffect, talos string) {
	who := e.who(s)

	if e.unknown {
		s.tell(Disruptive, nil, "may reboot "+e.short(), "Configuration of %s: it may reboot them. What the patches come to could not be told.", who)

		return
	}

	var reboot, apply []string

	for _, path := range e.paths {
		if at := shownPath(path); immediate(path) {
			apply = append(apply, at)
		} else {
			reboot = append(reboot, at)
		}
	}

	apply = append(apply, e.documents...)

	reboot, apply = uniq(reboot), uniq(apply)
	paths := list(append(slices.Clone(reboot), apply...))

	switch rule := rebootRule(talos); {
	case len(reboot) == 0 && rule != unknownTalos:
		s.tell(Info, nil, "configuration", "Configuration of %s, %s: applied without a reboot.%s", who, paths, e.extra())
	case rule == neverReboots:
		s.tell(Info, nil, "configuration", "Configuration of %s, %s: Talos %s applies it without a reboot; what it needs one for is in force after the next.%s", who, paths, talos, e.extra())
	case rule == byField:
		s.tell(Disruptive, nil, "reboots "+e.short(), "Configuration of %s, %s: %s reboots to apply %s%s.", who, paths, each(e.n, "it", "each"), list(reboot), e.pace())
	default:
		s.tell(Disruptive, nil, "may reboot "+e.short(), "Configuration of %s, %s: it may reboot them, the rule of this Talos is not known.", who, paths)
	}
}

func (e *configEffect) who(s *story) string {
	switch {
	case len(e.machine) > 0 && len(e.machine) == e.n:
		slices.Sort(e.machine)

		return s.names(e.machine)
	case e.n > 0:
		return fmt.Sprintf("%s of %s", count(e.n, "machine"), list(e.titles))
	default:
		return list(e.titles)
	}
}

func (e *configEffect) short() string {
	if e.n > 0 {
		return count(e.n, "machine")
	}

	return "machines"
}

// pace says how many machines reboot at once: the update strategy of a machine set is for
// its own machines (machineconfig/status.go, acquireConfigUpdateLock).
func (e *configEffect) pace() string {
	if e.n == 1 {
		return ""
	}

	pace := []string{}

	for _, set := range e.sets {
		spec := set.want.TypedSpec().Value
		if n := omni.GetParallelism(spec.UpdateStrategy, spec.UpdateStrategyConfig, 1); n > 1 {
			pace = append(pace, fmt.Sprintf("up to %d of %s", n, set.title))
		}
	}

	if len(pace) > 0 {
		return ", " + list(pace) + " at once"
	}

	if len(e.sets) > 1 {
		return ", one at a time in each machine set"
	}

	return ", one at a time"
}

// extra says what else happens, without a reboot.
func (e *configEffect) extra() string {
	text := ""

	for _, rule := range restarts {
		for _, path := range e.paths {
			if under(path, rule.prefix) {
				text += " " + rule.text

				break
			}
		}
	}

	return text
}

// restarts are parts of the configuration that restart something smaller than a machine, or
// that are applied without a reboot and work only later.
var restarts = []struct{ prefix, text string }{
	{"machine.kubelet", "The kubelet restarts."},
	{"cluster.apiServer", "The API servers restart."},
	{"cluster.controllerManager", "The controller managers restart."},
	{"cluster.scheduler", "The schedulers restart."},
	{"machine.install", "It is used with the next upgrade."},
	{"machine.registries.config", "Credentials of registries are in force after the next reboot."},
}
