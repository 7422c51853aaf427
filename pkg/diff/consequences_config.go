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

	before, after := newMerger(s.layers(s.before)), newMerger(s.layers(s.after))
	effects := map[string]*configEffect{}
	same := true

	for _, u := range s.units() {
		if slices.EqualFunc(before.of(u), after.of(u), func(a, b *configPatch) bool { return a.payload == b.payload }) {
			continue
		}

		effect := compareConfig(before, after, u)
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

type configPatch struct{ id, payload string }

// layers are the patches of a cluster by what they are for.
type layers struct {
	cluster        []*configPatch
	byMachineSet   map[string][]*configPatch
	clusterMachine map[string][]*configPatch
	// byMachine are those that a machine has in any cluster.
	byMachine map[string][]*configPatch
}

// layers sorts patches as Omni does: those of the cluster, of the machine set, of the machine
// in the cluster and of the machine, each by ID, without those that are switched off
// (internal/layeredresource/layeredresource.go).
func (s *story) layers(state map[ref]resource.Resource) layers {
	l := layers{byMachineSet: map[string][]*configPatch{}, clusterMachine: map[string][]*configPatch{}, byMachine: map[string][]*configPatch{}}

	for _, r := range state {
		owner, ofMachine := r.Metadata().Labels().Get(omni.LabelMachine)
		if r.Metadata().Type() != omni.ConfigPatchType || isOff(r.Metadata()) || clusterOf(r) != s.plan.Target && !ofMachine {
			continue
		}

		p := &configPatch{r.Metadata().ID(), payload(r)}
		set, hasSet := r.Metadata().Labels().Get(omni.LabelMachineSet)
		machine, hasMachine := r.Metadata().Labels().Get(omni.LabelClusterMachine)

		switch {
		case ofMachine:
			l.byMachine[owner] = append(l.byMachine[owner], p)
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

	for _, layer := range []map[string][]*configPatch{l.byMachineSet, l.clusterMachine, l.byMachine} {
		for _, patches := range layer {
			slices.SortFunc(patches, byID)
		}
	}

	return l
}

func (l layers) of(u unit) []*configPatch {
	return slices.Concat(l.cluster, l.byMachineSet[u.set.id], l.own(u))
}

// own are the patches that a machine shares with no other.
func (l layers) own(u unit) []*configPatch {
	return slices.Concat(l.clusterMachine[u.machine], l.byMachine[u.machine])
}

// configEffect is what a change of patches does to the configuration of some machines.
type configEffect struct {
	reach

	// unknown says that it could not be found out, and paths and documents are not all.
	unknown bool
	// paths are the places of Talos' main document that get another value, as keys.
	paths [][]string
	// documents are the other documents that change, by their kind.
	documents []string
}

func (e *configEffect) key() string { return fmt.Sprintln(e.unknown, e.paths, e.documents) }

// configEffect tells one effect.
func (s *story) configEffect(e *configEffect, talos string) {
	who, held := e.who(s), e.held()

	if e.free.n == 0 {
		s.tell(Info, nil, "configuration held", "Configuration of %s: %s locked, and it is applied when %s unlocked%s.",
			e.locked.who(s), each(e.locked.n, "it is", "they are"), each(e.locked.n, "it is", "they are"), each(btoi(e.unknown || e.reboots(talos)), ", which may reboot "+each(e.locked.n, "it", "them"), ""))

		return
	}

	if e.unknown {
		s.tell(Disruptive, nil, "may reboot "+e.short(), "Configuration of %s: it may reboot them. What the patches come to could not be told.%s", who, held)

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
		s.tell(Info, nil, "configuration", "Configuration of %s, %s: applied without a reboot.%s%s", who, paths, e.extra(), held)
	case rule == neverReboots:
		s.tell(Info, nil, "configuration", "Configuration of %s, %s: Talos %s applies it without a reboot; what it needs one for is in force after the next.%s%s", who, paths, talos, e.extra(), held)
	case rule == byField:
		s.tell(Disruptive, nil, "reboots "+e.short(), "Configuration of %s, %s: %s reboots to apply %s%s.%s", who, paths, each(e.free.n, "it", "each"), list(reboot), e.pace(), held)
	default:
		s.tell(Disruptive, nil, "may reboot "+e.short(), "Configuration of %s, %s: it may reboot them, the rule of this Talos is not known.%s", who, paths, held)
	}
}

// reboots reports whether a machine may have to reboot to apply it.
func (e *configEffect) reboots(talos string) bool {
	rule := rebootRule(talos)

	return rule == unknownTalos || rule == byField && slices.ContainsFunc(e.paths, func(path []string) bool { return !immediate(path) })
}

// pace says how many machines reboot at once: the update strategy of a machine set is for
// its own machines (machineconfig/status.go, acquireConfigUpdateLock).
func (e *configEffect) pace() string {
	if e.free.n == 1 {
		return ""
	}

	pace := []string{}

	for _, set := range e.free.sets {
		spec := set.want.TypedSpec().Value
		if n := omni.GetParallelism(spec.UpdateStrategy, spec.UpdateStrategyConfig, 1); n > 1 {
			pace = append(pace, fmt.Sprintf("up to %d of %s", n, set.title))
		}
	}

	if len(pace) > 0 {
		return ", " + list(pace) + " at once"
	}

	if len(e.free.sets) > 1 {
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
