package diff

import (
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
)

// Since 1.10 somebody may switch a config patch off in Omni's UI. A template cannot say that, so it is like a lock: omni-syncd
// leaves it on, and the plan says so.

// labelDisabled switches a config patch off, whatever its value (LabelDisabled of Omni's client since 1.10).
const labelDisabled = omni.SystemLabelPrefix + "disabled"

func isOff(patch *resource.Metadata) bool {
	_, off := patch.Labels().Get(labelDisabled)

	return off && patch.Type() == omni.ConfigPatchType
}

// noteOff notes a live patch that Git describes, if it is off after it is written and Git does not say so itself.
func (c *computation) noteOff(have resource.Resource, want *resource.Metadata, desired resource.Resource) {
	if isOff(want) && !isOff(desired.Metadata()) {
		c.plan.SwitchedOff = append(c.plan.SwitchedOff, have)
	}
}

// inheritOff switches a patch that is created off if it is one that somebody switched off under another ID, and says so;
// else "". The IDs of a template's patches hold their index, so a patch that is put in front gives all that follow new ones.
func (c *computation) inheritOff(want *resource.Metadata, desired resource.Resource) string {
	if c.fleet || want.Type() != omni.ConfigPatchType || isOff(want) {
		return ""
	}

	before := c.movedFrom(desired)
	if before == "" {
		return ""
	}

	want.Labels().Set(labelDisabled, "")

	return "it stays switched off in Omni, as " + before + " is"
}

// movedFrom returns the ID under which somebody switched a patch off that is created now; "" if nobody did. It has the same
// name, or the same documents and no other patch has its name.
func (c *computation) movedFrom(desired resource.Resource) resource.ID {
	var off []resource.Resource // patches of the same place that leave

	for _, have := range c.live {
		if isOff(have.Metadata()) && have.Metadata().Owner() == "" && c.ours(have) && !IsFleet(have) && samePlace(have, desired) {
			off = append(off, have)
		}
	}

	if len(off) == 0 {
		return ""
	}

	ids, names := map[resource.ID]bool{}, map[string]int{}

	for _, want := range c.Desired {
		if want.Metadata().Type() == omni.ConfigPatchType && samePlace(want, desired) {
			ids[want.Metadata().ID()] = true
			names[patchName(want)]++
		}
	}

	sortResources(off)

	same := ""

	for _, have := range off {
		id, name := have.Metadata().ID(), patchName(have)

		switch {
		case ids[id]: // it stays where it is
		case name == patchName(desired) && names[name] == 1:
			return id
		case same == "" && (names[name] == 0 || name == patchName(desired)) && livestate.EqualSpec(have, desired):
			same = id
		}
	}

	return same
}

// patchName is what the ID of a patch holds after its weight and index: 201-cluster-one-dns is cluster-one-dns.
func patchName(patch resource.Resource) string {
	id := patch.Metadata().ID()
	if weight, name, ok := strings.Cut(id, "-"); ok && weight != "" && strings.Trim(weight, "0123456789") == "" {
		return name
	}

	return id
}

// samePlace reports whether two patches are for the same cluster, machine set or machine.
func samePlace(a, b resource.Resource) bool {
	for _, key := range []string{omni.LabelCluster, omni.LabelMachineSet, omni.LabelClusterMachine, omni.LabelMachine} {
		of, ok := a.Metadata().Labels().Get(key)
		if other, too := b.Metadata().Labels().Get(key); ok != too || of != other {
			return false
		}
	}

	return true
}
