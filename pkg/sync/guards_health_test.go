package sync

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// Health is as bad as the worst part says, and an upgrade is one although Omni calls the
// cluster ready.
func TestHealth_OfTheParts(t *testing.T) {
	clusterStatus := func(ready bool) resource.Resource {
		r := omnires.NewClusterStatus("a")
		r.TypedSpec().Value.Phase, r.TypedSpec().Value.Ready = specs.ClusterStatusSpec_RUNNING, ready

		return r
	}
	set := func(id string, phase specs.MachineSetPhase, healthy uint32) resource.Resource {
		r := omnires.NewMachineSetStatus(id)
		r.Metadata().Labels().Set(omnires.LabelCluster, "a")
		r.TypedSpec().Value.Phase = phase
		r.TypedSpec().Value.Machines = &specs.Machines{Total: 2, Requested: 2, Healthy: healthy}

		return r
	}
	kubernetes := func(phase specs.KubernetesUpgradeStatusSpec_Phase) resource.Resource {
		r := omnires.NewKubernetesUpgradeStatus("a")
		r.TypedSpec().Value.Phase = phase

		return r
	}
	refusing := func() resource.Resource {
		r := omnires.NewClusterMachineStatus("m1")
		r.Metadata().Labels().Set(omnires.LabelCluster, "a")
		r.Metadata().Labels().Set(omnires.LabelMachineSet, "a-x")
		r.Metadata().Labels().Set(omnires.MachineStatusLabelConnected, "")
		r.TypedSpec().Value.ConfigApplyStatus, r.TypedSpec().Value.LastConfigError = specs.ConfigApplyStatus_FAILED, "key: c2VjcmV0"

		return r
	}

	for name, test := range map[string]struct {
		cluster resource.Phase
		live    []resource.Resource
		want    Health
		why     string
	}{
		"ready":              {0, []resource.Resource{clusterStatus(true)}, Healthy, ""},
		"running, not ready": {0, []resource.Resource{clusterStatus(false)}, Progressing, "not ready"},
		"being destroyed":    {resource.PhaseTearingDown, []resource.Resource{clusterStatus(true)}, Progressing, "being destroyed"},
		"upgrading":          {0, []resource.Resource{clusterStatus(true), kubernetes(specs.KubernetesUpgradeStatusSpec_Upgrading)}, Progressing, "upgraded"},
		"a failed upgrade":   {0, []resource.Resource{clusterStatus(true), kubernetes(specs.KubernetesUpgradeStatusSpec_Failed)}, Degraded, "upgrade failed"},
		"the first is worse": {0, []resource.Resource{
			clusterStatus(false), set("a-x", specs.MachineSetPhase_Failed, 2), set("a-y", specs.MachineSetPhase_ScalingUp, 1),
		}, Degraded, "1 of 2 y machines ready"},
		"a refused configuration": {0, []resource.Resource{
			clusterStatus(false), set("a-x", specs.MachineSetPhase_Running, 1), refusing(),
		}, Progressing, "m1 refuses its configuration"},
	} {
		e := idleEngine()
		cluster := omnires.NewCluster("a")
		cluster.Metadata().SetPhase(test.cluster)

		for _, r := range append(test.live, cluster) {
			put(e, r)
		}

		health, why, _ := e.health("a")
		if health != test.want || !strings.Contains(why, test.why) || strings.Contains(why, "c2VjcmV0") {
			t.Errorf("%s: %s: %s", name, health, why)
		}
	}
}

// G12: a reason names some machines and counts the rest.
func TestG12_ShownMachines(t *testing.T) {
	var machines []*omnires.ClusterMachineStatus
	for i := range shownMachines + 2 {
		machines = append(machines, omnires.NewClusterMachineStatus(fmt.Sprint("m", i)))
	}

	if got, want := troubles(machines), ": m0 is unreachable, m1 is unreachable, m2 is unreachable, and 2 more"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
