package sync

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// wholeCluster returns a cluster of two control planes and two workers that Omni is done with,
// changed by change.
func wholeCluster(change func(map[string]resource.Resource)) map[string]resource.Resource {
	const kubernetes, talos = "1.34.3", "1.12.0"

	all := map[string]resource.Resource{}
	add := func(name string, r resource.Resource) {
		if r.Metadata().Type() != omnires.ClusterType {
			r.Metadata().Labels().Set(omnires.LabelCluster, "a")
		}

		all[name] = r
	}

	cluster := omnires.NewCluster("a")
	cluster.TypedSpec().Value.KubernetesVersion, cluster.TypedSpec().Value.TalosVersion = kubernetes, talos
	add("cluster", cluster)

	status := omnires.NewClusterStatus("a")
	status.TypedSpec().Value = &specs.ClusterStatusSpec{
		Phase: specs.ClusterStatusSpec_RUNNING, Ready: true, KubernetesAPIReady: true, ControlplaneReady: true,
		KubernetesVersion: kubernetes, TalosVersion: talos, Machines: &specs.Machines{Total: 4, Requested: 4, Healthy: 4, Connected: 4},
	}
	add("status", status)

	k := omnires.NewKubernetesUpgradeStatus("a")
	k.TypedSpec().Value.Phase, k.TypedSpec().Value.LastUpgradeVersion = specs.KubernetesUpgradeStatusSpec_Done, kubernetes
	add("kubernetes", k)

	u := omnires.NewTalosUpgradeStatus("a")
	u.TypedSpec().Value.Phase, u.TypedSpec().Value.LastUpgradeVersion = specs.TalosUpgradeStatusSpec_Done, talos
	add("talos", u)

	for _, role := range []string{"x", "y"} {
		set := omnires.NewMachineSet("a-" + role)
		add(role, set)

		status := omnires.NewMachineSetStatus("a-" + role)
		status.TypedSpec().Value.Phase, status.TypedSpec().Value.Ready = specs.MachineSetPhase_Running, true
		status.TypedSpec().Value.Machines = &specs.Machines{Total: 2, Requested: 2, Healthy: 2, Connected: 2}
		add(role+" status", status)

		for _, n := range []string{"1", "2"} {
			node := omnires.NewMachineSetNode(role+n, set)
			node.Metadata().Labels().Set(omnires.LabelMachineSet, "a-"+role)
			add("node "+role+n, node)
			add("machine "+role+n, omnires.NewMachineStatus(role+n))

			m := omnires.NewClusterMachineStatus(role + n)
			m.Metadata().Labels().Set(omnires.LabelMachineSet, "a-"+role)
			m.Metadata().Labels().Set(omnires.MachineStatusLabelConnected, "")
			m.TypedSpec().Value.Stage, m.TypedSpec().Value.Ready = specs.ClusterMachineStatusSpec_RUNNING, true
			add(role+n, m)
		}
	}

	change(all)

	return all
}

// The specs of what wholeCluster returns.
func clusterOf(all map[string]resource.Resource) *specs.ClusterSpec {
	return all["cluster"].(*omnires.Cluster).TypedSpec().Value
}

func statusOf(all map[string]resource.Resource) *specs.ClusterStatusSpec {
	return all["status"].(*omnires.ClusterStatus).TypedSpec().Value
}

func kubernetesOf(all map[string]resource.Resource) *specs.KubernetesUpgradeStatusSpec {
	return all["kubernetes"].(*omnires.KubernetesUpgradeStatus).TypedSpec().Value
}

func talosOf(all map[string]resource.Resource) *specs.TalosUpgradeStatusSpec {
	return all["talos"].(*omnires.TalosUpgradeStatus).TypedSpec().Value
}

func setOf(all map[string]resource.Resource, role string) *specs.MachineSetStatusSpec {
	return all[role+" status"].(*omnires.MachineSetStatus).TypedSpec().Value
}

func machineOf(all map[string]resource.Resource, id string) *specs.ClusterMachineStatusSpec {
	return all[id].(*omnires.ClusterMachineStatus).TypedSpec().Value
}

// Health is as bad as the worst part says, and a cluster is not Healthy before every status
// says what is written.
func TestHealth_OfTheParts(t *testing.T) {
	for name, test := range map[string]struct {
		change func(all map[string]resource.Resource)
		want   Health
		why    string
		rest   Health
	}{
		"ready":                  {func(map[string]resource.Resource) {}, Healthy, "", Healthy},
		"running, not ready":     {func(all map[string]resource.Resource) { statusOf(all).Ready = false }, Progressing, "not ready", ""},
		"gone":                   {func(all map[string]resource.Resource) { clear(all) }, Missing, "does not exist", Missing},
		"a status is left of it": {func(all map[string]resource.Resource) { delete(all, "cluster") }, Progressing, "being destroyed", ""},
		"Omni says nothing":      {func(all map[string]resource.Resource) { delete(all, "status") }, HealthUnknown, "nothing about it", HealthUnknown},

		// A cluster that was being destroyed was Healthy.
		"being destroyed": {func(all map[string]resource.Resource) {
			all["cluster"].Metadata().SetPhase(resource.PhaseTearingDown)
		}, Progressing, "being destroyed; machines still there: x1, x2, y1, and 1 more", ""},
		"about to be destroyed": {func(all map[string]resource.Resource) {
			all["cluster"] = diff.Departing(all["cluster"], diff.Departure{State: diff.Destroying, ID: "1"})
		}, Progressing, "being destroyed", ""},

		// Seconds into an upgrade a cluster was Healthy at the new revision.
		"a Kubernetes version that nobody saw": {func(all map[string]resource.Resource) {
			clusterOf(all).KubernetesVersion = "1.35.0"
		}, Progressing, "Kubernetes is about to go from 1.34.3 to 1.35.0", ""},
		"one that only the cluster's status has": {func(all map[string]resource.Resource) {
			clusterOf(all).KubernetesVersion, statusOf(all).KubernetesVersion = "1.35.0", "1.35.0"
		}, Progressing, "Kubernetes is about to go from 1.34.3 to 1.35.0", ""},
		"a Talos version that nobody saw": {func(all map[string]resource.Resource) {
			clusterOf(all).TalosVersion = "1.12.8"
		}, Progressing, "Talos is about to go from 1.12.0 to 1.12.8", ""},
		"a locked cluster": {func(all map[string]resource.Resource) {
			clusterOf(all).TalosVersion = "1.12.8"
			all["cluster"].Metadata().Annotations().Set(omnires.ClusterLocked, "")
		}, Progressing, "unlocked in Omni", Progressing},
		"upgrading": {func(all map[string]resource.Resource) {
			kubernetesOf(all).Phase = specs.KubernetesUpgradeStatusSpec_Upgrading
		}, Progressing, "Kubernetes is being upgraded", ""},
		"reverting": {func(all map[string]resource.Resource) {
			talosOf(all).Phase = specs.TalosUpgradeStatusSpec_Reverting
		}, Progressing, "Talos is reverting", ""},
		"other extensions": {func(all map[string]resource.Resource) {
			talosOf(all).Phase = specs.TalosUpgradeStatusSpec_UpdatingMachineSchematics
		}, Progressing, "updating the extensions", ""},
		"an upgrade that waits for a lock": {func(all map[string]resource.Resource) {
			talosOf(all).Phase, talosOf(all).Status = specs.TalosUpgradeStatusSpec_Upgrading, "waiting for machines to be unlocked"
		}, Progressing, "to be unlocked", Progressing},
		"a failed upgrade": {func(all map[string]resource.Resource) {
			kubernetesOf(all).Phase = specs.KubernetesUpgradeStatusSpec_Failed
		}, Degraded, "upgrade failed", Degraded},
		"no upgrade status yet": {func(all map[string]resource.Resource) { delete(all, "kubernetes") }, Progressing, "has yet to look at its Kubernetes", Healthy},

		"a machine more": {func(all map[string]resource.Resource) {
			node := omnires.NewMachineSetNode("y3", all["y"].(*omnires.MachineSet))
			node.Metadata().Labels().Set(omnires.LabelCluster, "a")
			node.Metadata().Labels().Set(omnires.LabelMachineSet, "a-y")
			all["node y3"] = node
		}, Progressing, "y: Omni has yet to go to 3 machines", ""},
		"a machine less": {func(all map[string]resource.Resource) { delete(all, "node y2") }, Progressing, "y: Omni has yet to go to 1 machines", ""},
		"a machine that leaves": {func(all map[string]resource.Resource) {
			delete(all, "node y2")

			setOf(all, "y").Machines.Requested = 1
		}, Progressing, "machines are leaving; machines still there: y2", ""},
		"a machine set more": {func(all map[string]resource.Resource) {
			set := omnires.NewMachineSet("a-z")
			set.Metadata().Labels().Set(omnires.LabelCluster, "a")
			all["z"] = set
		}, Progressing, "z: Omni says nothing", ""},
		"a machine set less": {func(all map[string]resource.Resource) { delete(all, "y") }, Progressing, "y is being destroyed; machines still there: y1, y2", ""},
		"a class of another size": {func(all map[string]resource.Resource) {
			all["y"].(*omnires.MachineSet).TypedSpec().Value.MachineAllocation = &specs.MachineSetSpec_MachineAllocation{Name: "c", MachineCount: 5}
		}, Progressing, "y: Omni has yet to go to 5 machines", ""},
		"a sum that is old": {func(all map[string]resource.Resource) { statusOf(all).Machines.Total = 5 }, Progressing, "count its machines anew", Healthy},

		"the first is worse": {func(all map[string]resource.Resource) {
			setOf(all, "x").Phase = specs.MachineSetPhase_Failed
			setOf(all, "y").Phase, setOf(all, "y").Machines.Healthy = specs.MachineSetPhase_ScalingUp, 1
		}, Degraded, "1 of 2 y machines ready", Degraded},
		"a refused configuration": {func(all map[string]resource.Resource) {
			setOf(all, "x").Machines.Healthy = 1
			machineOf(all, "x1").ConfigApplyStatus, machineOf(all, "x1").LastConfigError = specs.ConfigApplyStatus_FAILED, "key: c2VjcmV0"
		}, Progressing, "x1 refuses its configuration", ""},
		"an unreachable machine": {func(all map[string]resource.Resource) {
			setOf(all, "x").Machines.Healthy = 1
			all["x1"].Metadata().Labels().Delete(omnires.MachineStatusLabelConnected)
		}, Degraded, "x1 is unreachable", Degraded},
		"a machine that Omni does not know": {func(all map[string]resource.Resource) {
			setOf(all, "x").Phase, setOf(all, "x").Machines.Healthy = specs.MachineSetPhase_ScalingUp, 1
			delete(all, "x1")
			delete(all, "machine x1")
		}, Progressing, "1 of 2 x machines ready: x1 is not known to Omni", Progressing},
		"a machine set at work": {func(all map[string]resource.Resource) {
			setOf(all, "y").Phase, setOf(all, "y").Ready = specs.MachineSetPhase_Reconfiguring, false
		}, Progressing, "y: reconfiguring", ""},
		"no answer": {func(all map[string]resource.Resource) { statusOf(all).KubernetesAPIReady = false }, Degraded, "API does not answer", Degraded},
		"no answer yet": {func(all map[string]resource.Resource) {
			statusOf(all).KubernetesAPIReady, kubernetesOf(all).LastUpgradeVersion = false, ""
		}, Progressing, "API does not answer yet", ""},
	} {
		e := idleEngine()
		for _, r := range wholeCluster(test.change) {
			put(e, r)
		}

		c := e.checkup("a")
		if c.health != test.want || !strings.Contains(c.why, test.why) || strings.Contains(c.why, "c2VjcmV0") || c.rest != test.rest {
			t.Errorf("%s: %s, at rest %q: %s", name, c.health, c.rest, c.why)
		}
	}
}

// G12: a reason names some machines and counts the rest.
func TestG12_ShownMachines(t *testing.T) {
	var machines []*omnires.ClusterMachineStatus
	for i := range shownMachines + 2 {
		machines = append(machines, omnires.NewClusterMachineStatus(fmt.Sprint("m", i)))
	}

	if got, want := troubles(machines, nil), ": m0 is unreachable, m1 is unreachable, m2 is unreachable, and 2 more"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
