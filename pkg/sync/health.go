package sync

import (
	"slices"
	"strings"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// Health says how a cluster is, in Argo CD's words. It is Omni's view and independent
// of [SyncStatus]: a cluster can be Synced and Degraded.
type Health string

// The health states of a target.
const (
	Healthy       Health = "Healthy"
	Progressing   Health = "Progressing"
	Degraded      Health = "Degraded"
	Missing       Health = "Missing"
	HealthUnknown Health = "Unknown"
)

// statusKinds are what health is read from.
var statusKinds = []resource.Type{
	omni.ClusterStatusType, omni.MachineSetStatusType, omni.ControlPlaneStatusType, omni.ClusterMachineStatusType,
	omni.KubernetesUpgradeStatusType, omni.TalosUpgradeStatusType,
}

// checkup is how a cluster is at one moment, by what Omni's statuses say.
type checkup struct {
	health Health
	// why says in words why it is not Healthy.
	why string
	// rest is what it is once nothing has moved for a while; "" while Omni is at work and
	// will say more. patient makes that while a long one: Omni may say more.
	rest    Health
	patient bool
	// trace changes whenever one of the statuses does, and config whenever one does that a
	// changed configuration of machines shows in.
	trace, config uint64
	// updated is when Omni last changed anything about the cluster, by Omni's clock.
	updated time.Time
}

// healthy: Omni's statuses agree with what is written, and all is well.
func healthy() checkup { return checkup{health: Healthy, rest: Healthy} }

// working: Omni is at work, and a status will say when it is done.
func working(why string) checkup { return checkup{health: Progressing, why: why} }

// degraded: something failed, or came to rest without being ready.
func degraded(why string) checkup { return checkup{health: Degraded, why: why, rest: Degraded} }

// stuck: Omni waits for somebody outside, and nothing more happens by itself.
func stuck(why string) checkup { return checkup{health: Progressing, why: why, rest: Progressing} }

// unsure: a status may have to follow. If none does, all is well.
func unsure(why string) checkup {
	return checkup{health: Progressing, why: why, rest: Healthy, patient: true}
}

// judge looks at the health of a target and writes it to the status. It is done in every
// pass, also when nothing can be planned: how a cluster is does not depend on Git.
func (e *Engine) judge(t *target) {
	if e.Snapshot.Err() != nil {
		return // the last health stays until Omni can be read again
	}

	if left := e.board.observe(t.Key, e.checkup(t.Target), e.HealthSettle); left > 0 {
		e.queue.AddAfter(t.Key, left)
	}
}

// checkup reads how a cluster is from the snapshot; the zero checkup is for fleet
// resources, which have no health.
//
// What is written and Omni's statuses do not show yet comes before what they say: they
// are as good as ever until Omni has taken a change in.
func (e *Engine) checkup(cluster string) checkup {
	if cluster == "" {
		return checkup{}
	}

	v := e.vitals(cluster)
	found := healthy()

	for _, look := range []func(*vitals) checkup{
		(*vitals).existence, (*vitals).upgrades, (*vitals).versions, (*vitals).lacks, (*vitals).silence,
		(*vitals).membership, (*vitals).readiness, (*vitals).agreement,
	} {
		if c := look(v); c.health != "" {
			found = c

			break
		}
	}

	found.trace, found.config, found.updated = v.trace, v.config(), v.updated

	return found
}

// existence says what there is to say of a cluster that is not there, or not for long.
func (v *vitals) existence() checkup {
	switch {
	case v.cluster == nil && v.none():
		return checkup{health: Missing, why: "it does not exist in Omni", rest: Missing}
	case v.cluster == nil, v.cluster.Metadata().Phase() == resource.PhaseTearingDown, diff.DepartureOf(v.cluster).State == diff.Destroying:
		return working("it is being destroyed" + stillThere(slices.Collect(v.machines())))
	default:
		return checkup{}
	}
}

// upgrades tells of an upgrade under way. RUNNING is not done: Omni leaves a cluster
// RUNNING, and mostly ready, while it upgrades it.
func (v *vitals) upgrades() checkup {
	if v.kubernetes != nil {
		spec := v.kubernetes.TypedSpec().Value

		switch phase := spec.GetPhase(); phase {
		case specs.KubernetesUpgradeStatusSpec_Failed:
			return degraded("the Kubernetes upgrade failed: " + spec.GetError())
		case specs.KubernetesUpgradeStatusSpec_Upgrading, specs.KubernetesUpgradeStatusSpec_Reverting:
			return upgrading("Kubernetes", words(phase.String()), spec)
		}
	}

	if v.talos != nil {
		spec := v.talos.TypedSpec().Value

		switch phase := spec.GetPhase(); phase {
		case specs.TalosUpgradeStatusSpec_Failed:
			return degraded("the Talos upgrade failed: " + spec.GetError())
		case specs.TalosUpgradeStatusSpec_Upgrading, specs.TalosUpgradeStatusSpec_Reverting:
			return upgrading("Talos", words(phase.String()), spec)
		case specs.TalosUpgradeStatusSpec_UpdatingMachineSchematics:
			return upgrading("Talos", "updating the extensions", spec)
		}
	}

	return checkup{}
}

// upgradeStatus is what both kinds of upgrade tell.
type upgradeStatus interface {
	GetCurrentUpgradeVersion() string
	GetStep() string
	GetStatus() string
}

func upgrading(what, doing string, spec upgradeStatus) checkup {
	text := what + " is being upgraded to " + spec.GetCurrentUpgradeVersion()
	if doing != "upgrading" {
		text = what + " is " + doing
	}

	text = join(text, spec.GetStep(), spec.GetStatus())

	if strings.Contains(spec.GetStatus(), "unlocked") { // it waits for machines to be unlocked
		return stuck(text)
	}

	return working(text)
}

// versions tells of a version that is written and that Omni has not brought the cluster to.
func (v *vitals) versions() checkup {
	wanted := v.cluster.TypedSpec().Value

	var kubernetes, talos string // "" if Omni does not say

	if v.status != nil {
		kubernetes, talos = v.status.TypedSpec().Value.GetKubernetesVersion(), v.status.TypedSpec().Value.GetTalosVersion()
	}

	for _, has := range []struct{ what, version, wanted string }{
		{"Kubernetes", kubernetes, wanted.GetKubernetesVersion()},
		{"Kubernetes", v.kubernetes.lastVersion(), wanted.GetKubernetesVersion()},
		{"Talos", talos, wanted.GetTalosVersion()},
		{"Talos", v.talos.lastVersion(), wanted.GetTalosVersion()},
	} {
		if has.version == "" || has.version == has.wanted {
			continue
		}

		text := has.what + " is about to go from " + has.version + " to " + has.wanted
		if hasLock(v.cluster) {
			return stuck(text + ", once the cluster is unlocked in Omni")
		}

		return working(text)
	}

	return checkup{}
}

// silence tells of a cluster that Omni says nothing about.
func (v *vitals) silence() checkup {
	if v.status == nil || v.status.TypedSpec().Value.GetPhase() == specs.ClusterStatusSpec_UNKNOWN {
		return checkup{health: HealthUnknown, why: "Omni says nothing about it yet", rest: HealthUnknown, patient: true}
	}

	return checkup{}
}

// readiness is what Omni itself says of the cluster as a whole.
func (v *vitals) readiness() checkup {
	// RUNNING is not ready: Omni reports it as soon as the machines are there, long before
	// the cluster answers.
	spec := v.status.TypedSpec().Value
	if spec.GetPhase() != specs.ClusterStatusSpec_RUNNING || !spec.GetReady() {
		return working("Omni calls it " + words(spec.GetPhase().String()) + ", not ready")
	}

	for set := range v.setStatuses() {
		if status := set.TypedSpec().Value; !status.GetReady() {
			return working(role(set.Metadata(), v.name) + ": " + words(status.GetPhase().String()) + ", not ready")
		}
	}

	if !spec.GetKubernetesAPIReady() {
		if v.kubernetes.lastVersion() == "" { // it never answered so far
			return working("the Kubernetes API does not answer yet")
		}

		return degraded("the Kubernetes API does not answer")
	}

	return checkup{}
}

// agreement tells of statuses that have yet to follow others. Omni does not promise that
// they do.
func (v *vitals) agreement() checkup {
	switch {
	case !v.sumsUp():
		return unsure("Omni has yet to count its machines anew")
	case v.kubernetes.lastVersion() == "":
		return unsure("Omni has yet to look at its Kubernetes")
	case v.talos.lastVersion() == "":
		return unsure("Omni has yet to look at its Talos")
	default:
		return checkup{}
	}
}

// join puts the parts of a progress report together that are there.
func join(parts ...string) string {
	var there []string

	for _, part := range parts {
		if part != "" {
			there = append(there, part)
		}
	}

	return strings.Join(there, ", ")
}

// words makes a name of Omni's API readable: SCALING_UP, ScalingUp.
func words(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", " ")) }
