package diff

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/template/schema"
)

// Input is everything a [Plan] depends on. Resources are read, never written.
type Input struct {
	// Source is the name that the ownership mark carries.
	Source string
	// Target is the cluster's name; empty for the fleet resources of the source.
	Target string
	// Place is where the source reads from, Commit what it is at, and File the file that describes a resource, from the
	// root of the repository (nil: none is noted). They are noted on clusters and fleet resources.
	Place  Place
	Commit string
	File   func(*resource.Metadata) string
	// Lost, if not nil, reports whether a commit is known not to be in the history of Commit. A resource that Git describes
	// and that is stamped with such a commit is stamped with Commit: the history was rewritten, or an older one is read.
	Lost func(commit string) bool
	// Desired are the resources that Git describes.
	Desired []resource.Resource
	// Set are the keys that the template of Desired sets, of those that only newer clients have ([schema.Switches]).
	Set []schema.Newer
	// Removed says that the target is no longer in Git; Desired is empty then. It is
	// told apart from an empty Desired so that no accident upstream of this package can
	// look like a deletion (G2).
	Removed bool
	// MayTake reports whether this target may take over a live resource that carries the mark of another source: that
	// one consented. nil: it may take nothing.
	MayTake func(resource.Resource) bool
	// Hold says why nothing may be written to the cluster that a fleet resource is part of, and what has to change for
	// that; "" if it may. nil: nothing is held.
	Hold func(resource.Resource) (why string, until resource.Resource)
	// Fate says what happens to a cluster or fleet resource that left Git, and to what is left of a cluster that is
	// gone. During one call of Compute it answers the same for the same resource. nil: everything is kept.
	Fate func(resource.Resource) Fate
	// Live holds everything that lives under the target's name, the live twin of every
	// desired resource, and what is of the cluster's machines ([render.OfMachine]).
	Live []resource.Resource
	// KeepParts keeps what leaves a template that stays. Else that is destroyed, as omnictl does.
	KeepParts bool
	// PruneForeign destroys what others made in the cluster, instead of reporting it.
	PruneForeign bool
}

// Compute returns what has to happen so that Omni is what Git says. It is pure: the
// same input gives the same plan, whatever the order of its lists.
func Compute(in Input) *Plan {
	c := computation{
		Input: in,
		fleet: in.Target == "",
		live:  make(map[ref]resource.Resource, len(in.Live)),
		plan:  &Plan{Source: in.Source, Target: in.Target, Removed: in.Removed},
	}

	for _, r := range in.Live {
		c.live[refOf(r)] = r
	}

	if cluster, ok := c.live[ref{omni.ClusterType, in.Target}]; ok && !c.fleet {
		c.plan.Locked = hasAnnotation(cluster, omni.ClusterLocked)

		// Another source took it over. Marks of ours that are still seen on its parts are
		// only about to be replaced.
		if owner := SourceOf(cluster); c.Removed && owner != "" && owner != c.Source {
			return c.plan
		}

		// Nothing can be written under a cluster that goes away, and Omni takes
		// everything that belongs to it along.
		if isTearingDown(cluster) {
			c.vanish(cluster)

			return c.plan
		}
	}

	desired := make(map[ref]bool, len(in.Desired))

	for _, want := range in.Desired {
		desired[refOf(want)] = true
		c.converge(want)
	}

	c.remove(desired)
	c.useUp()
	c.plan.sort()

	return c.plan
}

// computation is one run of Compute.
type computation struct {
	Input

	fleet   bool
	live    map[ref]resource.Resource
	plan    *Plan
	off     map[resource.ID]resource.ID // see offTargets
	patches patchIndex                  // for offTargets
}

// converge plans what makes the live twin of a desired resource equal to it.
func (c *computation) converge(desired resource.Resource) {
	have, exists := c.live[refOf(desired)]
	want := c.marked(desired)

	switch {
	case c.parentTearingDown(desired):
		// Reported once, for the parent.
	case !exists:
		if !c.held(desired) && !c.machineElsewhere(desired) {
			note := c.switchOff(want, desired, nil)
			c.change(Change{Action: Create, New: with(want, desired), Note: note})
		}
	case have.Metadata().Owner() != "":
		c.conflict(have, "it is owned by Omni's "+have.Metadata().Owner())
	case c.taken(have) != "":
		c.conflict(have, c.taken(have))
	case !c.fleet && !render.IsOfMachine(want.Type()) && clusterOf(have) != clusterOf(desired):
		c.elsewhere(have)
	case c.machineElsewhere(desired):
		// Reported for the machine, which has to leave the other cluster first.
	case isTearingDown(have):
		c.vanish(have)
	case machineSetOf(have) != machineSetOf(desired):
		c.replace(have)
	default:
		merge(want, have, c.fleet)
		switched := c.switchOff(want, desired, have)
		c.noteOff(have, want, desired)

		// A newer Omni's fields stay as they are, whatever the change is about (G14).
		equal, newer := livestate.EqualSpec(have, desired), livestate.UnknownFields{}
		if !equal {
			if desired, newer = livestate.KeepUnknown(have, desired, c.flags(have)...); newer.Kept > 0 {
				equal = livestate.EqualSpec(have, desired)
			}
		}

		if newer.Ambiguous != "" {
			c.conflict(have, "this version does not know some fields in "+newer.Ambiguous+", and cannot tell which of its elements they belong to: use a newer omni-syncd, or change it in Omni")

			return
		}

		if action := compare(have, want, equal); action != "" && !c.held(desired) && !c.held(have) {
			if equal {
				desired = have // its text may be another one, which is nothing to write
			}

			r := with(want, desired)
			change := Change{Action: action, Old: have, New: r, Fields: Fields(have, r), Note: cmp.Or(switched, newer.String())}

			// Where it comes from is noted along, and is not what the change is about.
			if action != Mark {
				change.Fields = slices.DeleteFunc(change.Fields, func(f Field) bool { return slices.ContainsFunc(notes, f.isAnnotation) })
			}

			c.change(change)
		}
	}
}

// held puts a resource on hold if nothing may be written to its cluster, and reports whether it did.
func (c *computation) held(r resource.Resource) bool {
	if c.Hold == nil {
		return false
	}

	why, until := c.Hold(r)
	if why != "" {
		c.plan.Waiting = append(c.plan.Waiting, Waiting{Resource: r, Reason: why, Elsewhere: true, For: until})
	}

	return why != ""
}

func (c *computation) mayTake(have resource.Resource) bool {
	return c.MayTake != nil && c.MayTake(have)
}

// taken says who has a live resource that Git describes; "" if this source has it or may take it.
func (c *computation) taken(have resource.Resource) string {
	source := SourceOf(have)
	origin := Origin{Place: c.Place}

	switch {
	case source == "":
		return ""
	case source == c.Source && origin.stranger(have):
		theirs, _ := OriginOf(have)

		return fmt.Sprintf("it belongs to another source %s, which reads %s, and this one reads %s; give this one another name, or set `origin: %s` if the repository moved",
			source, theirs.Place, c.Place, theirs.Repository)
	case source == c.Source:
		return ""
	case DepartureOf(have).State == Destroying:
		return "the source " + source + " is destroying it"
	case !c.mayTake(have):
		return "it is managed by the source " + source
	default:
		return ""
	}
}

// machineElsewhere reports whether a resource of a machine is for one that is in another cluster: nothing of this one reaches it.
func (c *computation) machineElsewhere(want resource.Resource) bool {
	if !render.IsOfMachine(want.Metadata().Type()) {
		return false
	}

	node, ok := c.live[ref{omni.MachineSetNodeType, want.Metadata().ID()}]

	return ok && clusterOf(node) != c.Target
}

// with returns a copy of a desired resource with other metadata. Only what is to be written is copied: in most passes
// nothing is, and the specs are most of a fleet.
func with(md *resource.Metadata, desired resource.Resource) resource.Resource {
	r := desired.DeepCopy()
	*r.Metadata() = md.Copy()

	return r
}

// elsewhere handles a desired resource that lives in another cluster. If it is ours
// it is on its way here (a machine that moves between two templates) and only has to
// leave the other cluster first.
func (c *computation) elsewhere(have resource.Resource) {
	reason := "it belongs to the cluster " + clusterOf(have)
	if clusterOf(have) == "" {
		reason = "it exists and belongs to no cluster"
	}

	if SourceOf(have) == c.Source && !IsFleet(have) {
		c.plan.Waiting = append(c.plan.Waiting, Waiting{Resource: have, Reason: reason, Elsewhere: true})
	} else {
		c.conflict(have, reason)
	}
}

// replace handles a machine that changes its machine set, which Omni does not let an
// update do: it leaves the old one first, and a later plan brings it into the new one.
func (c *computation) replace(have resource.Resource) {
	if SourceOf(have) == c.Source {
		c.finish(have)
	} else {
		c.conflict(have, "it is in the machine set "+machineSetOf(have)+" and would have to leave it, but was not made by omni-syncd")
	}
}

// machineSetOf returns the machine set of a MachineSetNode; "" for everything else.
func machineSetOf(r resource.Resource) string {
	if r.Metadata().Type() != omni.MachineSetNodeType {
		return ""
	}

	name, _ := r.Metadata().Labels().Get(omni.LabelMachineSet)

	return name
}

// vanish lets a resource that is already going away go: its name is free again once
// it is gone. Only what is ours gets the last push.
func (c *computation) vanish(have resource.Resource) {
	if SourceOf(have) == c.Source {
		c.finish(have)
	} else {
		c.wait(have, beingDestroyed(have))
	}
}

// parentTearingDown reports whether want belongs to a machine set that goes away.
func (c *computation) parentTearingDown(want resource.Resource) bool {
	parent, ok := c.live[ref{omni.MachineSetType, machineSetOf(want)}]

	return ok && isTearingDown(parent)
}

func (c *computation) change(change Change) { c.plan.Changes = append(c.plan.Changes, change) }

func (c *computation) conflict(r resource.Resource, reason string) {
	c.plan.Conflicts = append(c.plan.Conflicts, Conflict{Resource: r, Reason: reason})
}

func (c *computation) wait(r resource.Resource, reason string) {
	c.plan.Waiting = append(c.plan.Waiting, Waiting{Resource: r, Reason: reason})
}

func isTearingDown(r resource.Resource) bool {
	return r.Metadata().Phase() == resource.PhaseTearingDown
}

func beingDestroyed(r resource.Resource) string {
	if finalizers := *r.Metadata().Finalizers(); !finalizers.Empty() {
		return "it is being destroyed, held by " + strings.Join(finalizers, ", ")
	}

	return "it is being destroyed"
}

// compare returns what kind of change leads from have to the metadata want and the spec of desired; "" if there is
// none. Version, timestamps, phase, owner and finalizers are the server's and do not count.
func compare(have resource.Resource, want *resource.Metadata, equalSpec bool) Action {
	sameLabels := maps.Equal(have.Metadata().Labels().Raw(), want.Labels().Raw())
	haveNotes, wantNotes := have.Metadata().Annotations().Raw(), want.Annotations().Raw()

	switch {
	case !sameLabels || !equalSpec:
		return Update
	case maps.Equal(haveNotes, wantNotes):
		return ""
	case !maps.Equal(withoutMarks(haveNotes), withoutMarks(wantNotes)):
		return Update
	case haveNotes[MarkSource] == wantNotes[MarkSource]:
		return Mark
	default:
		return Adopt
	}
}

// withoutMarks returns the annotations that say more than to whom a resource belongs.
func withoutMarks(annotations map[string]string) map[string]string {
	rest := maps.Clone(annotations)
	maps.DeleteFunc(rest, func(key, _ string) bool { return IsMark(key) || key == omni.ResourceManagedByClusterTemplates })

	return rest
}
