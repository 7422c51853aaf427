package preflight_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/preflight"
)

// TestRevisions asks the questions that Omnis are asked, without one.
func TestRevisions(t *testing.T) {
	for _, server := range []livestate.Server{"v1.9.3", "v1.10.4", "v1.11.0-alpha.0"} {
		for _, row := range rows(lab{cluster: "blue", server: server, catalogue: readCatalogue(t, offered())}) {
			t.Run(string(server)+"/"+row.name, func(t *testing.T) { compare(t, row, row.inMemory(t, server)) })
		}
	}
}

// inMemory applies the revisions of a row, whatever Omni would think of them, and checks the last one.
func (row row) inMemory(t *testing.T, server livestate.Server) []preflight.Finding {
	t.Helper()

	live := offered().put(row.classes...).put(newServer(server))
	l := lab{catalogue: readCatalogue(t, live)}

	if row.machine != "" {
		m := newMachine("blue-m", row.machine)
		if row.iso {
			m.TypedSpec().Value.Hardware = nil
			omni.ReconcileMachineStatusLabels(m)
		}

		live.put(m)
	}

	if row.before != nil {
		first := omni.NewClusterConfigVersion("blue")
		first.TypedSpec().Value.Version = "v" + l.talos
		live.put(first).put(row.already...)

		live.apply("blue", row.before)
		live.apply("blue", row.between)
		live.put(row.meanwhile...)

		for _, r := range live.List(omni.MachineSetType) {
			if omni.GetMachineAllocation(r.(*omni.MachineSet)) != nil {
				r.Metadata().Finalizers().Add(classController)
			}
		}

		if row.edit != nil {
			cluster := live[omni.ClusterType]["blue"].DeepCopy().(*omni.Cluster)
			row.edit(cluster)
			live.put(cluster)
		}
	}

	if row.locked != nil {
		node, _ := live.Get(omni.MachineSetNodeType, row.locked.Metadata().ID())
		node.Metadata().Annotations().Set(omni.MachineLocked, "")
	}

	return live.check("blue", row.after)
}

// What an Omni cannot be brought to at will, or what takes hours in one.
func TestStates(t *testing.T) {
	l := lab{cluster: "blue", catalogue: readCatalogue(t, offered())}
	base := list(l.newCluster(), l.controlPlane(), l.workers())
	cluster := func(talos, kubernetes string) []resource.Resource {
		return list(l.newCluster(versions(talos, kubernetes)))
	}

	first := func(version string) resource.Resource {
		res := omni.NewClusterConfigVersion("blue")
		res.TypedSpec().Value.Version = version

		return res
	}

	upgrade := func(before, goal string) resource.Resource {
		res := omni.NewKubernetesUpgradeStatus("blue")
		res.TypedSpec().Value.LastUpgradeVersion, res.TypedSpec().Value.CurrentUpgradeVersion = before, goal

		return res
	}

	provisioned := l.class("large")
	provisioned.TypedSpec().Value.AutoProvision = &specs.MachineClassSpec_Provision{ProviderId: "kvm"}

	unlimited := l.workers(l.ofClass("large"), func(spec *specs.MachineSetSpec) {
		spec.MachineAllocation.MachineCount, spec.MachineAllocation.AllocationType = 0, specs.MachineSetSpec_MachineAllocation_Unlimited
	})

	iso, agent := newMachine("blue-m", "1.11.0"), newMachine("blue-m", "1.13.0")
	iso.TypedSpec().Value.Hardware = nil
	omni.ReconcileMachineStatusLabels(iso)
	agent.TypedSpec().Value.Schematic = &specs.MachineStatusSpec_Schematic{InAgentMode: true}

	unserved := features()
	unserved.TypedSpec().Value.EmbeddedDiscoveryService = false

	leaving := l.machine("old")
	leaving.Metadata().SetPhase(resource.PhaseTearingDown)

	going := l.workers(l.ofClass("large"))
	going.Metadata().SetPhase(resource.PhaseTearingDown)
	going.Metadata().Finalizers().Add(classController)

	rows := []struct {
		name   string
		live   []resource.Resource // in Omni, without marks
		before []resource.Resource
		after  []resource.Resource
		says   string
	}{
		{name: "deprecated Talos kept", before: cluster("1.10.0", "1.33.0"), after: list(l.newCluster(versions("1.10.0", "1.33.0"), backups(time.Hour)))},
		{name: "patch of a deprecated Talos", before: cluster("1.10.0", "1.33.0"), after: cluster("1.10.2", "1.33.0")},
		{name: "from a deprecated Talos", before: cluster("1.10.0", "1.33.0"), after: cluster("1.11.0", "1.33.0")},
		{name: "to a deprecated Talos", before: cluster("1.11.0", "1.33.0"), after: cluster("1.10.2", "1.33.0"), says: "deprecated.*offers 1.13.0, 1.12.8, 1.12.0, 1.11.0$"},
		{name: "unsupported Talos", after: cluster("1.14.0", "1.36.0"), says: "newer than this Omni supports; it offers 1.13.0"},
		{name: "unsupported Talos, other Kubernetes", before: cluster("1.14.0", "1.35.0"), after: cluster("1.14.0", "1.36.0"), says: "newer than this Omni"},
		{name: "forgotten Talos kept", before: cluster("1.9.0", "1.32.0"), after: cluster("1.9.0", "1.33.0")},
		{name: "forgotten Kubernetes kept", before: cluster("1.12.0", "1.32.0"), after: list(l.newCluster(versions("1.12.0", "1.32.0"), backups(time.Hour)))},
		{name: "forgotten Kubernetes, other Talos", before: cluster("1.11.0", "1.32.0"), after: cluster("1.12.0", "1.32.0"), says: "does not offer Kubernetes 1.32.0 with Talos 1.12.0; it offers 1.33.0$"},
		{name: "forgotten Talos in an update of both", before: cluster("1.9.0", "1.32.0"), after: cluster("1.9.1", "1.33.0"), says: "does not offer Talos 1.9.1"},

		{name: "Talos down to its first minor", live: list(first("v1.11.0")), before: cluster("1.13.0", "1.34.0"), after: cluster("1.11.0", "1.34.0")},
		{name: "Talos below its first minor", live: list(first("v1.12.0")), before: cluster("1.13.0", "1.34.0"), after: cluster("1.11.0", "1.34.0"), says: "began with 1.12, .*; it offers 1.13.0, 1.12.8, 1.12.0$"},
		{name: "Talos of an unknown first minor", before: cluster("1.13.0", "1.34.0"), after: cluster("1.11.0", "1.34.0")},

		{name: "Kubernetes patch down", before: cluster("1.12.0", "1.34.3"), after: cluster("1.12.0", "1.34.0")},
		{name: "upgrade of Kubernetes taken back", live: list(upgrade("1.34.0", "1.35.0")), before: cluster("1.12.0", "1.35.0"), after: cluster("1.12.0", "1.34.0")},
		{name: "upgrade of Kubernetes taken back, to another version", live: list(upgrade("1.34.0", "1.35.0")), before: cluster("1.12.0", "1.35.0"), after: cluster("1.12.0", "1.33.0"), says: "cannot go from 1.35.0 to 1.33.0: .*; it offers 1.35.0, 1.34.0$"},
		{name: "upgrade of Kubernetes is over", live: list(upgrade("1.35.0", "")), before: cluster("1.12.0", "1.35.0"), after: cluster("1.12.0", "1.34.0"), says: "cannot go from"},
		{name: "upgrade of Kubernetes that begins", live: list(upgrade("1.34.3", "1.35.0")), before: cluster("1.12.0", "1.34.9"), after: cluster("1.12.0", "1.33.0")},

		{name: "class that makes machines, unlimited", live: list(provisioned), after: list(l.newCluster(), unlimited), says: "cannot be unlimited"},
		{name: "class that makes machines, unlimited already", live: list(provisioned), before: list(l.newCluster(), unlimited), after: list(l.newCluster(), unlimited)},
		{name: "from machines that leave to a class", live: list(leaving), before: base, after: list(l.newCluster(), l.workers(l.ofClass("large"))), says: `of its own \(1\)`},

		{name: "from a class to machines, before the controller came", before: list(l.newCluster(), l.workers(l.ofClass("large"))), after: append(base, l.machine("m")), says: "machine class blue-large"},
		{name: "from a class to nothing, before the controller came", before: list(l.newCluster(), l.workers(l.ofClass("large"))), after: base},
		{name: "machine set that goes and comes again", live: list(going), before: list(l.newCluster()), after: base},

		{name: "machine without an installation", live: list(iso), after: append(base, l.machine("m")), says: "without an installation.* 1.12$"},
		{name: "machine in agent mode", live: list(agent), after: append(base, l.machine("m"))},
		{name: "machine that is there", live: list(newMachine("blue-m", "1.13.0")), before: append(base, l.machine("m")), after: append(base, l.machine("m"))},
		{name: "machine that does not say its Talos", live: list(newMachine("blue-m", "?")), after: append(base, l.machine("m"))},

		{name: "no discovery service", live: list(unserved), after: list(l.newCluster(embeddedDiscovery)), says: "no embedded discovery service"},
		{name: "discovery service", after: list(l.newCluster(embeddedDiscovery))},
		{name: "discovery service that was switched off", live: list(unserved), before: list(l.newCluster(embeddedDiscovery)), after: list(l.newCluster(embeddedDiscovery, versions("1.12.8", "1.34.0")))},

		{name: "backups of before the bounds", before: list(l.newCluster(backups(time.Minute))), after: list(l.newCluster(backups(time.Minute)))},
		{name: "backups of before the bounds, adopted", live: list(l.newCluster(backups(time.Minute))), after: list(l.newCluster(backups(time.Minute))), says: "interval"},

		{name: "extension of the next Talos", before: append(base, l.extensions("gvisor")), after: list(l.newCluster(versions("1.13.0", l.kubernetes)), l.extensions("new"))},
		{name: "first extension, of the next Talos", before: base, after: list(l.newCluster(versions("1.13.0", l.kubernetes)), l.extensions("new")), says: "Talos 1.12.0 has no extension new"},
		{name: "extension that left the catalogue", before: append(base, l.extensions("gone")), after: append(base, l.extensions("gone"))},
		{name: "extension that left the catalogue, adopted", live: list(l.extensions("gone")), before: base, after: append(base, l.extensions("gone")), says: "no extension gone"},
		{name: "extensions of a version that is refused", after: append(list(l.newCluster(versions("1.0.0", "1.0.0"))), l.extensions("gone")), says: "Talos 1.0.0"},
	}

	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			live := offered()
			live.apply("blue", row.before)
			live.put(row.live...)

			findings := live.check("blue", row.after)

			switch {
			case row.says == "" && len(findings) > 0, row.says != "" && len(findings) != 1:
				t.Fatalf("found %v, want %q", findings, row.says)
			case row.says != "" && !regexp.MustCompile(row.says).MatchString(findings[0].Message):
				t.Errorf("says %q, want %q", findings[0].Message, row.says)
			}
		})
	}
}

// What is not known is left to Omni.
func TestUnknown(t *testing.T) {
	l := lab{cluster: "blue", catalogue: readCatalogue(t, offered())}
	revision := list(l.newCluster(versions("9.9.9", "9.9.9"), backups(time.Second), encrypted), l.extensions("none"), l.workers(), l.machine("m"))

	if findings := (memory{}).check("blue", revision); len(findings) > 0 {
		t.Errorf("found %v", findings)
	}
}

func TestClassesOfTheRevision(t *testing.T) {
	l := lab{cluster: "blue", catalogue: readCatalogue(t, offered())}
	in := preflight.Input{
		Target: "blue", Snapshot: offered().put(l.class("live")),
		Desired: list(l.newCluster(), l.workers(l.ofClass("large"))),
		Classes: list(l.class("large"), omni.NewMachineLabels("blue-other")),
	}

	if findings := preflight.Check(in); len(findings) > 0 {
		t.Errorf("found %v", findings)
	}

	in.Classes = list(l.class("small"), omni.NewMachineLabels("blue-large"))

	findings := preflight.Check(in)
	if len(findings) != 1 || !strings.HasSuffix(findings[0].Message, "or use one of blue-live, blue-small") {
		t.Errorf("found %v", findings)
	}
}

// TestLeftToDiff: what the plan reports as a conflict or as awaited is not found a second time.
func TestLeftToDiff(t *testing.T) {
	blue, red := lab{cluster: "blue", catalogue: readCatalogue(t, offered())}, lab{cluster: "red"}
	taken := omni.NewMachineSetNode("blue-m", red.workers())
	desired := list(blue.newCluster(), blue.controlPlane(), blue.workers(), blue.machine("m"))

	going := blue.newCluster(versions("1.0.0", "1.0.0"))
	going.Metadata().SetPhase(resource.PhaseTearingDown)

	stolen := red.set("blue-workers", omni.LabelWorkerRole, nil)
	stolen.TypedSpec().Value.MachineAllocation = &specs.MachineSetSpec_MachineAllocation{Name: "none"}

	for name, r := range map[string]resource.Resource{"machine": taken, "cluster": going, "machine set": stolen} {
		live := offered().put(newMachine("blue-m", "1.13.0"), r)
		if name != "machine" {
			delete(live[omni.MachineStatusType], "blue-m")
		}

		if findings := live.check("blue", desired); len(findings) > 0 {
			t.Errorf("%s: found %v", name, findings)
		}

		plan := diff.Compute(diff.Input{Source: source, Target: "blue", Desired: desired, Live: live.cluster("blue", desired)})
		if len(plan.Conflicts)+len(plan.Waiting) == 0 {
			t.Errorf("%s: the plan does not report it", name)
		}
	}
}

// TestPure: nothing of the input is changed, and a cluster that left Git and the fleet have no findings.
func TestPure(t *testing.T) {
	l := lab{cluster: "blue", catalogue: readCatalogue(t, offered())}
	live := offered()
	live.apply("blue", list(l.newCluster(), l.workers()))

	desired := list(l.newCluster(encrypted, versions("1.11.0", "1.35.0")), l.workers(l.ofClass("none")), l.extensions("none"))
	before := fmt.Sprint(desired, live)

	if len(live.check("blue", desired)) != 2 {
		t.Errorf("found %v", live.check("blue", desired))
	}

	if fmt.Sprint(desired, live) != before {
		t.Error("the input was changed")
	}

	if findings := live.check("blue", nil); len(findings) > 0 {
		t.Errorf("found %v for a cluster that left Git", findings)
	}

	if findings := live.check("", list(l.class("large"))); len(findings) > 0 {
		t.Errorf("found %v for the fleet", findings)
	}
}

// newMachine is installed.
func newMachine(id, talos string) *omni.MachineStatus {
	res := omni.NewMachineStatus(id)
	res.TypedSpec().Value.TalosVersion = "v" + talos
	res.TypedSpec().Value.Hardware = &specs.MachineStatusSpec_HardwareStatus{
		Blockdevices: []*specs.MachineStatusSpec_HardwareStatus_BlockDevice{{LinuxName: "/dev/vda", SystemDisk: true}},
	}
	omni.ReconcileMachineStatusLabels(res)

	return res
}
