package diff

import (
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
)

// scope is what a config patch is for: a cluster, a machine set or a machine.
type scope struct{ cluster, set, clusterMachine, machine string }

func scopeOf(patch resource.Resource) scope {
	of := func(key string) string {
		value, _ := patch.Metadata().Labels().Get(key)

		return value
	}

	return scope{of(omni.LabelCluster), of(omni.LabelMachineSet), of(omni.LabelClusterMachine), of(omni.LabelMachine)}
}

// namedPatch is the patches of a scope that have a name; "" is any.
type namedPatch struct {
	scope
	name string
}

// patchIndex is what is looked up to tell which patch in Git one that is off has become.
type patchIndex struct {
	// wanted are those in Git, and fresh those of them whose name no live patch of the scope has.
	wanted map[namedPatch][]resource.Resource
	fresh  map[scope][]resource.Resource
	// on are the live ones that are on and are not yet what Git says: what an earlier phase of the same plan wrote
	// must not change what the later ones do.
	on map[namedPatch][]resource.Resource
	// moved are the live ones that are off and have another ID in Git.
	moved map[resource.ID]bool
	// alike is which pairs have been compared: that takes parsing both.
	alike map[[2]resource.Resource]bool
}

func (c *computation) indexPatches() {
	c.patches = patchIndex{
		wanted: map[namedPatch][]resource.Resource{}, fresh: map[scope][]resource.Resource{},
		on: map[namedPatch][]resource.Resource{}, alike: map[[2]resource.Resource]bool{}, moved: map[resource.ID]bool{},
	}

	names := map[namedPatch]bool{} // of live patches that are not what Git says already
	desired := map[resource.ID]resource.Resource{}

	for _, want := range c.Desired {
		if want.Metadata().Type() == omni.ConfigPatchType {
			desired[want.Metadata().ID()] = want
		}
	}

	for _, have := range c.live {
		if have.Metadata().Type() != omni.ConfigPatchType {
			continue
		}

		want, at := desired[have.Metadata().ID()], scopeOf(have)
		if want != nil && scopeOf(want) == at && SourceOf(have) != "" && c.alike(have, want) {
			continue
		}

		names[namedPatch{at, patchName(have)}] = true

		if !isOff(have.Metadata()) {
			for _, name := range []string{patchName(have), ""} {
				c.patches.on[namedPatch{at, name}] = append(c.patches.on[namedPatch{at, name}], have)
			}
		}
	}

	all := make([]resource.Resource, 0, len(desired))
	for _, want := range desired {
		all = append(all, want)
	}

	sortResources(all)

	for _, want := range all {
		key := namedPatch{scopeOf(want), patchName(want)}
		c.patches.wanted[key] = append(c.patches.wanted[key], want)

		if !names[key] {
			c.patches.fresh[key.scope] = append(c.patches.fresh[key.scope], want)
		}
	}
}

// alike reports whether a live patch has the documents of one in Git.
func (c *computation) alike(have, want resource.Resource) bool {
	pair := [2]resource.Resource{have, want}

	equal, known := c.patches.alike[pair]
	if !known {
		equal = livestate.EqualSpec(have, want)
		c.patches.alike[pair] = equal
	}

	return equal
}

// isOnAs reports whether one of the live patches has the documents of want.
func (c *computation) isOnAs(live []resource.Resource, want resource.Resource) bool {
	return slices.ContainsFunc(live, func(have resource.Resource) bool { return c.alike(have, want) })
}
