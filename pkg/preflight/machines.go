package preflight

import (
	"fmt"
	"strings"

	"github.com/blang/semver/v4"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// checkMachine checks whether a machine may come into the cluster with the Talos it runs.
// One that has to leave somewhere first is judged when it has: what it runs then is not
// known. One that Omni does not know is taken.
func (c *check) checkMachine(want *omni.MachineSetNode) {
	status := get[*omni.MachineStatus](c, omni.MachineStatusType, want.Metadata().ID())
	if status == nil || c.live[refOf(want)] != nil {
		return
	}

	cluster := c.wanted
	if c.cluster != nil {
		cluster = c.cluster // it joins before the cluster changes
	}

	if cluster == nil || status.TypedSpec().Value.GetSchematic().GetInAgentMode() {
		return // in agent mode it gets the Talos that it needs
	}

	has, err := semver.Parse(strings.TrimLeft(status.TypedSpec().Value.GetTalosVersion(), "v"))
	if err != nil {
		return // Omni does not ask then
	}

	needs, err := semver.Parse(cluster.TypedSpec().Value.GetTalosVersion())
	if err != nil {
		return
	}

	upgrade := ""
	if c.cluster != nil && c.wanted != nil && c.wanted.TypedSpec().Value.GetTalosVersion() != c.cluster.TypedSpec().Value.GetTalosVersion() {
		upgrade = ", or add the machine in a later revision than the one that changes the cluster's Talos"
	}

	switch {
	case has.Major > needs.Major || has.Major == needs.Major && has.Minor > needs.Minor:
		c.report(want, fmt.Sprintf("machine %s runs Talos %s, newer than the %s of the cluster; Omni takes no machine down: boot it with %d.%d%s",
			want.Metadata().ID(), has, needs, needs.Major, needs.Minor, upgrade))
	case !c.installed(status) && !c.installs(has, needs):
		c.report(want, fmt.Sprintf("machine %s runs Talos %s without an installation, and the cluster has %s; boot it with %d.%d%s",
			want.Metadata().ID(), has, needs, needs.Major, needs.Minor, upgrade))
	}
}

// installed reports whether Talos is installed on a machine. Where Omni looks is not the same in all releases; if this one is
// not known, either will do.
func (c *check) installed(status *omni.MachineStatus) bool {
	disk := omni.GetMachineStatusSystemDisk(status) != ""
	_, labelled := status.Metadata().Labels().Get(omni.MachineStatusLabelInstalled)

	switch {
	case !c.Server.Known():
		return disk || labelled
	case installedByLabel.in(c.Server):
		return labelled
	default:
		return disk
	}
}

// installer is the first Talos that Omni installs by a call (LifecycleServiceMinTalosVersion), and not by a configuration
// that the machine has to understand already.
var installer = semver.Version{Major: 1, Minor: 13}

// installs reports whether Omni can bring a machine without an installation to the Talos of a cluster.
func (c *check) installs(has, needs semver.Version) bool {
	if has.Major == needs.Major && has.Minor == needs.Minor {
		return true
	}

	has.Pre, needs.Pre = nil, nil

	return !sameMinorToInstall.in(c.Server) && has.GE(installer) && needs.GE(installer)
}
