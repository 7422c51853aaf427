package render

import (
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// withoutConflicts takes out the targets that claim the same resource as another, and says so at both places. Package
// template finds clusters and machines that are in two files; here it is about what they render to: an idOverride
// that is used twice, or a manifest for something that a template describes. Applied, the two would overwrite each
// other forever.
func withoutConflicts(targets []*Target) ([]*Target, template.Problems) {
	type claim struct {
		target *Target
		md     *resource.Metadata
	}

	var (
		problems    template.Problems
		total       int
		conflicting = map[*Target]bool{}
	)

	for _, target := range targets {
		total += len(target.Resources)
	}

	claims := make(map[key]claim, total)

	for _, target := range targets {
		for _, r := range target.Resources {
			mine := claim{target, r.Metadata()}

			first, taken := claims[keyOf(mine.md)]
			if !taken {
				claims[keyOf(mine.md)] = mine

				continue
			}

			conflicting[first.target], conflicting[target] = true, true

			for _, pair := range [][2]claim{{first, mine}, {mine, first}} {
				problems = append(problems, template.Problemf(pair[0].target.Position(pair[0].md),
					alsoDescribed, mine.md.Type(), mine.md.ID(), pair[1].target.Position(pair[1].md)).
					Of(template.RuleDuplicate).With(pair[1].target.Position(pair[1].md)))
			}
		}
	}

	if len(conflicting) == 0 {
		return targets, nil
	}

	return slices.DeleteFunc(slices.Clone(targets), func(t *Target) bool { return conflicting[t] }), problems
}

const alsoDescribed = "%s %q is also described at %s: only one file can describe it, remove it from the other"

// brokenConflicts finds what targets that are not used anyway claim of others, so that it is told together with why they
// are not used. It is said at their place only: who works goes on working. Of two that are the same cluster, or share a
// machine, package template has said so.
func brokenConflicts(targets, broken []*Target) template.Problems {
	if len(broken) == 0 {
		return nil
	}

	type claim struct {
		target *Target
		md     *resource.Metadata
	}

	var problems template.Problems

	claims := map[key][]claim{}

	for _, target := range broken {
		for _, r := range target.Resources {
			if !ofMachine(r.Metadata()) {
				claims[keyOf(r.Metadata())] = append(claims[keyOf(r.Metadata())], claim{target, r.Metadata()})
			}
		}
	}

	for _, target := range slices.Concat(targets, broken) {
		for _, r := range target.Resources {
			for _, c := range claims[keyOf(r.Metadata())] {
				if c.target.Name == target.Name {
					continue
				}

				other := target.Position(r.Metadata())
				problems = append(problems, template.Problemf(c.target.Position(c.md), alsoDescribed, c.md.Type(), c.md.ID(), other).
					Of(template.RuleDuplicate).With(other))
			}
		}
	}

	return problems
}

// ofMachine reports whether a resource is named after a machine.
func ofMachine(md *resource.Metadata) bool {
	_, labelled := md.Labels().Get(omni.LabelClusterMachine)

	return labelled || md.Type() == omni.MachineSetNodeType || IsOfMachine(md.Type())
}

// key names a resource.
type key struct {
	namespace resource.Namespace
	typ       resource.Type
	id        resource.ID
}

func keyOf(md *resource.Metadata) key { return key{md.Namespace(), md.Type(), md.ID()} }
