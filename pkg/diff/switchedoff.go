package diff

import (
	"slices"
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

// switchOff switches a patch off, on the way to Omni, that somebody switched off there, and says so; else "". have is its live twin, nil
// if it is created. The IDs of a template's patches hold their index, so one that is put in front gives all that follow new ones,
// and it may take the ID of one that is off: then it is switched on.
func (c *computation) switchOff(want *resource.Metadata, desired, have resource.Resource) string {
	if c.fleet || want.Type() != omni.ConfigPatchType || isOff(desired.Metadata()) {
		return ""
	}

	before, off := c.offTargets()[want.ID()]

	switch {
	case !off && isOff(want):
		want.Labels().Delete(labelDisabled)

		return "it is switched on in Omni: the patch that is off moved"
	case !off || isOff(want):
		return ""
	case have == nil || !livestate.EqualSpec(have, desired):
		want.Labels().Set(labelDisabled, "")

		return "it stays switched off in Omni, as " + before + " is"
	default: // it is there as it is, and on
		return ""
	}
}

// noteOff notes a live patch that Git describes, if it is off after it is written and Git does not say so itself.
func (c *computation) noteOff(have resource.Resource, want *resource.Metadata, desired resource.Resource) {
	if isOff(want) && !isOff(desired.Metadata()) {
		c.plan.SwitchedOff = append(c.plan.SwitchedOff, have)
	}
}

// offTargets returns the IDs of the patches in Git that somebody switched off in Omni, and under which ID each is off there.
func (c *computation) offTargets() map[resource.ID]resource.ID {
	if c.off != nil {
		return c.off
	}

	c.off = map[resource.ID]resource.ID{}

	var off []resource.Resource

	for _, have := range c.live {
		if isOff(have.Metadata()) && have.Metadata().Owner() == "" && !IsFleet(have) && (c.ours(have) || SourceOf(have) == "") {
			off = append(off, have)
		}
	}

	sortResources(off)

	for _, have := range off {
		if target := c.offTarget(have); target != nil {
			c.off[target.Metadata().ID()] = have.Metadata().ID()
		}
	}

	return c.off
}

// offTarget returns the patch in Git that a live one which is off has become: of the same place and name, with the same documents if
// there are several of that name; or of another name with the same documents, if none has its name. What has the documents of a
// patch that is on is that one. nil: none.
func (c *computation) offTarget(have resource.Resource) resource.Resource {
	var named, same, alike []resource.Resource

	for _, want := range c.Desired {
		if want.Metadata().Type() != omni.ConfigPatchType || !samePlace(want, have) {
			continue
		}

		equal, sameName := livestate.EqualSpec(have, want), patchName(want) == patchName(have)

		switch {
		case sameName && equal:
			same = append(same, want)
		case sameName && !c.isOnAs(want, patchName(have)):
			named = append(named, want)
		case !sameName && equal && !c.isOnAs(want, ""):
			alike = append(alike, want)
		}
	}

	sortResources(same)
	sortResources(alike)

	best := func(candidates []resource.Resource) resource.Resource {
		stays := slices.IndexFunc(candidates, func(want resource.Resource) bool { return want.Metadata().ID() == have.Metadata().ID() })

		switch {
		case stays >= 0:
			return candidates[stays]
		case len(candidates) == 1:
			return candidates[0]
		default:
			return nil
		}
	}

	switch {
	case len(same) > 1 && best(same) == nil:
		return same[0]
	case len(same) > 0:
		return best(same)
	case len(named) > 0:
		return best(named)
	case len(alike) > 0 && SourceOf(have) != "":
		return alike[0]
	default:
		return nil
	}
}

// isOnAs reports whether a patch with the documents of want is on, in the same place and of this name; "" is any.
func (c *computation) isOnAs(want resource.Resource, name string) bool {
	for _, have := range c.live {
		if have.Metadata().Type() == omni.ConfigPatchType && !isOff(have.Metadata()) && (name == "" || patchName(have) == name) &&
			samePlace(have, want) && livestate.EqualSpec(have, want) {
			return true
		}
	}

	return false
}

// patchName is what the ID of a patch holds after its weight and index, which upstream writes with three digits or more:
// 201-cluster-one-dns is cluster-one-dns.
func patchName(patch resource.Resource) string {
	id := patch.Metadata().ID()
	if weight, name, ok := strings.Cut(id, "-"); ok && len(weight) >= 3 && strings.Trim(weight, "0123456789") == "" {
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
