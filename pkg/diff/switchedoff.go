package diff

import (
	"cmp"
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
	case !off && isOff(want) && c.tookOver(desired):
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

// tookOver reports whether a patch in Git has the ID of one that is off and is another one: that one moved, or it has the documents of
// one that is on.
func (c *computation) tookOver(desired resource.Resource) bool {
	return c.patches.moved[desired.Metadata().ID()] || c.isOnAs(c.patches.on[namedPatch{scopeOf(desired), patchName(desired)}], desired)
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

	var off []resource.Resource

	for _, have := range c.live {
		if isOff(have.Metadata()) && have.Metadata().Owner() == "" && !IsFleet(have) && (c.ours(have) || SourceOf(have) == "") {
			off = append(off, have)
		}
	}

	c.off = map[resource.ID]resource.ID{}
	if len(off) == 0 {
		return c.off
	}

	sortResources(off)
	c.indexPatches()

	for _, have := range off {
		if target := c.offTarget(have); target != nil {
			c.off[target.Metadata().ID()] = have.Metadata().ID()
			c.patches.moved[have.Metadata().ID()] = target.Metadata().ID() != have.Metadata().ID()
		}
	}

	return c.off
}

// offTarget returns the patch in Git that a live one which is off has become: of the same scope and name, with the same documents if
// there are several of that name; or one of a new name with the same documents, if none has its name. What has the documents of a
// patch that is on is that one. nil: none.
func (c *computation) offTarget(have resource.Resource) resource.Resource {
	var same, named []resource.Resource

	at, name := scopeOf(have), patchName(have)

	for _, want := range c.patches.wanted[namedPatch{at, name}] {
		switch {
		case c.alike(have, want):
			same = append(same, want)
		case !c.isOnAs(c.patches.on[namedPatch{at, name}], want):
			named = append(named, want)
		}
	}

	switch {
	case len(same) > 0:
		return cmp.Or(staying(have, same), same[0])
	case len(named) == 1:
		return named[0]
	case len(named) > 1:
		return staying(have, named)
	case SourceOf(have) == "": // somebody else's patch may say the same for another reason
		return nil
	}

	for _, want := range c.patches.fresh[at] {
		if c.alike(have, want) && !c.isOnAs(c.patches.on[namedPatch{at, ""}], want) {
			return want
		}
	}

	return nil
}

// staying returns the one that has the ID of a live patch; nil if there is none.
func staying(have resource.Resource, candidates []resource.Resource) resource.Resource {
	for _, want := range candidates {
		if want.Metadata().ID() == have.Metadata().ID() {
			return want
		}
	}

	return nil
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
