package diff

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/blang/semver/v4"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

func trim(text string) string { return strings.TrimSpace(text) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// deleted reports whether the plan destroys the cluster.
func (s *story) deleted() bool { return len(s.changes(omni.ClusterType, Destroy)) > 0 }

// cluster tells what happens to the cluster as a whole.
func (s *story) cluster() {
	switch {
	case s.deleted():
		s.deletion()
	case s.isNew:
		s.creation()
	default:
		s.versions()
		s.features()
		s.policies()
	}

	for i := range s.plan.Left {
		left := &s.plan.Left[i]

		switch {
		case !s.plan.Removed:
			s.tell(Info, left.Resource, "kept", "%s left the template and stays in Omni: %s.", Name(left.Resource), left.Reason)
		case left.Leaving:
			s.tell(Info, left.Resource, "leaving", "The cluster left Git: %s.", left.Reason)
		default:
			s.tell(Info, left.Resource, "kept", "The cluster left Git and stays in Omni as it is: %s.", left.Reason)
		}
	}
}

// deletion tells what goes with a cluster. Omni resets its machines as it does one that
// leaves, without asking etcd whether the rest keeps its quorum.
func (s *story) deletion() {
	cluster := s.changes(omni.ClusterType, Destroy)[0].Old
	text := "The cluster is deleted, with everything that runs in it. "
	if note := s.changes(omni.ClusterType, Destroy)[0].Note; note != "" {
		text = "The cluster is deleted, with everything that runs in it (" + note + "). "
	}

	if machines, n := s.machinesOf(everySet, true); s.known {
		switch {
		case n == 0 && machines == "no machines":
			text += "It has no machines. "
		case n < 0:
			text += "Its machines are wiped, with all local data on their system disks, and are free for other clusters. "
		case n == 1:
			text += "Its machine is wiped, with all local data on its system disk, and is free for other clusters. "
		default:
			text += fmt.Sprintf("Its %s are wiped, with all local data on their system disks, and are free for other clusters. ", machines)
		}
	}

	text += "A machine that is off holds this up until it is back. "

	if to := s.heir(); to != "" {
		text += fmt.Sprintf("Its machines go to the cluster %s. If that was meant as a new name: Omni cannot rename a cluster, %s begins empty. ", to, to)
	}

	s.tell(Destructive, cluster, "cluster deleted", "%s", trim(text))
}

// heir returns the cluster that gets all named machines of this one; "" if there is none.
func (s *story) heir() string {
	heir := ""

	for _, set := range s.sets {
		for _, id := range set.before {
			to, ok := strings.CutPrefix(s.destination(id), "the cluster ")
			if !ok || heir != "" && to != heir {
				return ""
			}

			heir = to
		}
	}

	return heir
}

func (s *story) creation() {
	cluster, ok := s.after[ref{omni.ClusterType, s.plan.Target}].(*omni.Cluster)
	if !ok {
		return
	}

	spec := cluster.TypedSpec().Value
	text := fmt.Sprintf("A new cluster: Kubernetes %s on Talos %s", spec.KubernetesVersion, spec.TalosVersion)
	advice := ""

	for _, set := range s.sets {
		n, known := goal(set.want, set.after)
		machines := count(n, "machine")

		if !known {
			machines = "every free machine"
		}

		if class := allocation(set.want); class != nil {
			machines += " of the class " + class.GetName()
		}

		text += fmt.Sprintf("; %s: %s", set.name(), machines)

		if set.controlPlane && known {
			advice = sizeAdvice(n)
		}

		if spec := set.want.TypedSpec().Value.GetBootstrapSpec(); set.controlPlane && spec != nil {
			advice += "Its etcd is restored from a backup of another cluster. "
		}
	}

	s.tell(Info, cluster, "new cluster", "%s", trim(text+". "+advice))
}

// versions tells what an upgrade does.
func (s *story) versions() {
	have, want, ok := s.update(omni.ClusterType, s.plan.Target)
	if !ok {
		return
	}

	from, to := have.(*omni.Cluster).TypedSpec().Value, want.(*omni.Cluster).TypedSpec().Value

	if from.TalosVersion != to.TalosVersion {
		s.talos(want, from.TalosVersion, to.TalosVersion)
	}

	if from.KubernetesVersion != to.KubernetesVersion {
		s.kubernetes(want, from.KubernetesVersion, to.KubernetesVersion)
	}
}

// talos tells what another version of Talos does. Omni upgrades the control plane first and
// then every other machine set, as many machines at once as its upgrade strategy says
// (talosupgrade/status.go), and each machine reboots into the new version.
func (s *story) talos(about resource.Resource, from, to string) {
	machines, n := s.machinesOf(everySet, false)
	locked := s.locked()
	severity := Disruptive
	text := ""

	switch free := n - locked; {
	case locked == 0:
		text = fmt.Sprintf("Talos %s → %s%s on %s: each installs it and reboots%s.", from, to, direction(from, to), machines, s.order(n, s.sets))
	case free == 0:
		severity = Info
		text = fmt.Sprintf("Talos %s → %s%s: nothing happens now, for every machine is locked. Each of the %s installs it and reboots when it is unlocked.", from, to, direction(from, to), machines)
	default:
		who := "all machines that are not locked"
		if n > 0 {
			who = count(free, "machine")
		}

		text = fmt.Sprintf("Talos %s → %s%s on %s: each installs it and reboots%s.%s", from, to, direction(from, to), who, s.order(min(n, free), s.sets), whenUnlocked(locked))
	}

	switch skipped, down := step(from, to); {
	case len(skipped) > 0:
		text += fmt.Sprintf(" This leaves out Talos %s: Talos is made to be upgraded one minor version at a time.", list(skipped))
	case down:
		text += " This is a minor version back, which Talos does not promise to survive with its data."
	}

	s.tell(severity, about, fmt.Sprintf("Talos %s → %s", from, to), "%s", text)
}

// kubernetes tells what another version of Kubernetes does. Omni pulls the images first and
// then takes one step at a time, one component after the other on all machines
// (internal/kubernetes/upgrade.go, patch.go).
func (s *story) kubernetes(about resource.Resource, from, to string) {
	machines, _ := s.machinesOf(everySet, false)
	planes, _ := s.machinesOf(isControlPlane, false)

	// The kubelets of locked machines are left for the last (internal/kubernetes/upgrade.go).
	held := whenUnlocked(s.locked())
	if held != "" {
		held += " The upgrade does not finish until then."
	}

	text := fmt.Sprintf("Kubernetes %s → %s%s: API server, controller manager and scheduler of %s, then the kubelet of %s, one step at a time. No machine reboots.%s",
		from, to, direction(from, to), onControlPlane(planes), machines, held)

	switch skipped, down := step(from, to); {
	case len(skipped) > 0:
		text += fmt.Sprintf(" This leaves out Kubernetes %s: Omni refuses to go up by more than one minor version at a time.", list(skipped))
	case down:
		text += " Omni refuses to go back by a minor version, unless it takes back an upgrade that is under way."
	}

	s.tell(Disruptive, about, fmt.Sprintf("Kubernetes %s → %s", from, to), "%s", text)
}

func everySet(*machineSet) bool { return true }

func isControlPlane(set *machineSet) bool { return set.controlPlane }

func onControlPlane(machines string) string {
	if machines == "all machines" {
		return "the control plane"
	}

	return strings.NewReplacer("machines", "control plane machines", "machine", "control plane machine").Replace(machines)
}

func direction(from, to string) string {
	a, errA := semver.ParseTolerant(from)
	b, errB := semver.ParseTolerant(to)

	if errA == nil && errB == nil && b.LT(a) {
		return " (a downgrade)"
	}

	return ""
}

// step returns the minor versions that an upgrade leaves out, and whether it goes back by at
// least one. Of versions that it cannot read it says nothing.
func step(from, to string) (skipped []string, down bool) {
	a, errA := semver.ParseTolerant(from)
	b, errB := semver.ParseTolerant(to)

	if errA != nil || errB != nil || a.Major != b.Major {
		return nil, false
	}

	const enough = 20 // a typo of a version is no reason for a long list

	for minor := a.Minor + 1; minor < b.Minor && len(skipped) < enough; minor++ {
		skipped = append(skipped, fmt.Sprintf("%d.%d", a.Major, minor))
	}

	return skipped, b.Minor < a.Minor
}

// machinesOf counts the machines of some machine sets that a change meets: those that stay,
// or with leaving all that are there. n is below zero if nobody can tell.
func (s *story) machinesOf(in func(*machineSet) bool, leaving bool) (text string, n int) {
	if !s.known {
		return "all machines", -1
	}

	for _, set := range s.sets {
		if !in(set) || set.have == nil || set.want == nil && !leaving {
			continue
		}

		machines := set.before
		if !leaving && allocation(set.have) == nil {
			machines = set.staying()
		}

		of, known := size(set.have, machines)
		if !known {
			return "all machines", -1
		}

		n += of
	}

	if n == 0 {
		return "no machines", 0
	}

	return count(n, "machine"), n
}

// order says in which order the machines of some sets are upgraded.
func (s *story) order(n int, sets []*machineSet) string {
	if n == 0 || n == 1 {
		return ""
	}

	text := ""
	if len(sets) > 1 && sets[0].controlPlane {
		text = ", the control plane first"
	}

	atOnce := []string{}

	for _, set := range sets {
		if set.want == nil {
			continue
		}

		spec := set.want.TypedSpec().Value
		if n := omni.GetParallelism(spec.UpgradeStrategy, spec.UpgradeStrategyConfig, 1); n > 1 {
			atOnce = append(atOnce, fmt.Sprintf("up to %d of %s", n, set.title))
		}
	}

	if len(atOnce) == 0 {
		return text + ", one machine at a time"
	}

	if len(atOnce) == len(sets) {
		return text + ", " + list(atOnce) + " at a time"
	}

	return text + ", one machine at a time and " + list(atOnce)
}

// features tells what the switches of a cluster do.
func (s *story) features() {
	have, want, ok := s.update(omni.ClusterType, s.plan.Target)
	if !ok {
		return
	}

	a, b := have.(*omni.Cluster).TypedSpec().Value, want.(*omni.Cluster).TypedSpec().Value

	if omni.GetEncryptionEnabled(have.(*omni.Cluster)) != omni.GetEncryptionEnabled(want.(*omni.Cluster)) {
		s.tell(Disruptive, want, "disk encryption", "Disk encryption is %s: Omni refuses that for a cluster that exists.", onOff(b.GetFeatures().GetDiskEncryption()))
	}

	if on := b.GetFeatures().GetEnableWorkloadProxy(); on != a.GetFeatures().GetEnableWorkloadProxy() {
		s.tell(Info, want, "workload proxy", "The workload proxy is %s: exposed services can%s be reached through Omni.", onOff(on), each(btoi(on), "", "not"))
	}

	if on := b.GetFeatures().GetUseEmbeddedDiscoveryService(); on != a.GetFeatures().GetUseEmbeddedDiscoveryService() {
		s.tell(Info, want, "discovery service", "Machines find each other through the discovery service of %s from now on.", each(btoi(on), "this Omni", "Talos, on the internet,"))
	}

	if !a.BackupConfiguration.EqualVT(b.BackupConfiguration) {
		s.tell(Info, want, "etcd backups", "%s", backups(b.BackupConfiguration))
	}
}

func backups(conf *specs.EtcdBackupConf) string {
	if conf == nil || !conf.GetEnabled() || conf.GetInterval().AsDuration() <= 0 {
		return "etcd is not backed up any more."
	}

	return fmt.Sprintf("etcd is backed up every %s.", conf.GetInterval().AsDuration())
}

func onOff(on bool) string {
	if on {
		return "switched on"
	}

	return "switched off"
}

// policies says in words what the annotations of this program do, by annotation and value.
// The names are those of package sync, which is behind this one in the flow.
func (s *story) policies() {
	have, want, ok := s.update(omni.ClusterType, s.plan.Target)
	if !ok {
		return
	}

	for _, policy := range policyWords {
		before, _ := have.Metadata().Annotations().Get(policy.annotation)
		after, _ := want.Metadata().Annotations().Get(policy.annotation)

		switch {
		case before == after:
		case after == policy.on:
			s.tell(Info, want, policy.short, "%s", policy.text)
		case before == policy.on:
			s.tell(Info, want, "not "+policy.short, "%s", policy.over)
		}
	}
}

var policyWords = []struct{ annotation, on, short, text, over string }{
	{"omni-syncd/suspend", "true", "suspended", "The cluster is suspended: from now on nothing is written to it, this change included.", "The cluster is suspended no longer: what was held back is applied."},
	{"omni-syncd/sync", "manual", "manual", "The cluster is synced by hand: from now on changes wait until somebody asks for them.", "The cluster is synced by itself again: what was held back is applied."},
	{"omni-syncd/prune", "disabled", "prune disabled", "What leaves the template stays in Omni from now on.", "What leaves the template is removed from Omni again."},
	{"omni-syncd/deletion", "protected", "protected", "The cluster is protected: it stays when its template leaves Git.", "The cluster is protected no longer: it may be deleted when its template leaves Git."},
}
