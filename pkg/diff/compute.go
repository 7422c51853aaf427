package diff

import (
	"maps"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
)

// Input is everything a [Plan] depends on. Resources are read, never written.
type Input struct {
	// Source is the name that the ownership mark carries.
	Source string
	// Target is the cluster's name; empty for the fleet resources of the source.
	Target string
	// Path is the file of the cluster's template, noted on the cluster.
	Path string
	// Desired are the resources that Git describes.
	Desired []resource.Resource
	// Removed says that the target is no longer in Git; Desired is empty then. It is
	// told apart from an empty Desired so that no accident upstream of this package can
	// look like a deletion (G2).
	Removed bool
	// LetGo releases a removed cluster instead of destroying it: another source has it now.
	LetGo bool
	// Moved are fleet resources that other sources describe: what left this one and is
	// among them is released instead of destroyed.
	Moved []resource.Resource
	// Live holds everything that lives under the target's name, the live twin of every
	// desired resource, and the KernelArgs of the cluster's machines.
	Live []resource.Resource
	// Keep says why a removed cluster and fleet resources that left Git must not be
	// destroyed; "" if they may. What leaves a template that stays is always destroyed,
	// as omnictl does.
	Keep string
	// KeepParts keeps also what leaves a template that stays.
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
		plan:  &Plan{Source: in.Source, Target: in.Target, Removed: in.Removed, Keep: in.Keep},
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
	c.plan.sort()

	return c.plan
}

// computation is one run of Compute.
type computation struct {
	Input

	fleet bool
	live  map[ref]resource.Resource
	plan  *Plan
}

// converge plans what makes the live twin of a desired resource equal to it.
func (c *computation) converge(desired resource.Resource) {
	have, exists := c.live[refOf(desired)]
	want := marked(desired, c.Source, c.Path, c.fleet)

	switch {
	case c.parentTearingDown(desired):
		// Reported once, for the parent.
	case !exists:
		c.change(Change{Action: Create, New: with(want, desired)})
	case have.Metadata().Owner() != "":
		c.conflict(have, "it is owned by Omni's "+have.Metadata().Owner())
	case SourceOf(have) != "" && SourceOf(have) != c.Source && !c.mayTake(SourceOf(have)):
		c.conflict(have, "it is managed by the source "+SourceOf(have))
	case !c.fleet && want.Type() != omni.KernelArgsType && clusterOf(have) != clusterOf(desired):
		c.elsewhere(have)
	case isTearingDown(have):
		c.vanish(have)
	case machineSetOf(have) != machineSetOf(desired):
		c.replace(have)
	default:
		merge(want, have, c.fleet)

		if action := compare(have, want, desired); action != "" {
			r := with(want, desired)
			c.change(Change{Action: action, Old: have, New: r, Fields: Fields(have, r)})
		}
	}
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

// remove plans what happens to live resources that Git does not describe.
func (c *computation) remove(desired map[ref]bool) {
	doomed := c.doomed(desired)
	handover := c.handedOver()
	cascades := map[ref][]resource.Resource{}
	moved := make(map[ref]bool, len(c.Moved))

	for _, r := range c.Moved {
		moved[refOf(r)] = c.fleet
	}

	for key, have := range c.live {
		if desired[key] || c.notOurs(have) {
			continue
		}

		root, goesAlong := c.goesAlong(have, doomed)

		switch {
		case goesAlong:
			cascades[root] = append(cascades[root], have)
		case have.Metadata().Type() == omni.KernelArgsType:
			c.release(have)
		case (handover || moved[key]) && SourceOf(have) == c.Source && !isTearingDown(have):
			c.release(have)
		case SourceOf(have) == "" && (!c.PruneForeign || c.Removed):
			c.plan.Foreign = append(c.plan.Foreign, have)
		case c.keeps():
			c.plan.Kept = append(c.plan.Kept, have)
		default:
			c.finish(have)
		}
	}

	for i := range c.plan.Changes {
		if change := &c.plan.Changes[i]; change.Action == Destroy {
			change.Cascade = cascades[refOf(change.Old)]
			sortResources(change.Cascade)
		}
	}
}

// notOurs reports whether a live resource that Git does not describe is nobody's
// business here: a controller's, another source's, or a by-product of Omni.
func (c *computation) notOurs(have resource.Resource) bool {
	source := SourceOf(have)

	switch {
	case have.Metadata().Owner() != "":
		return true
	case source != "" && (source != c.Source || IsFleet(have) != c.fleet):
		return true
	case source != "":
		return false
	case c.fleet || have.Metadata().Type() == omni.KernelArgsType:
		return true
	default:
		_, byController := have.Metadata().Labels().Get(omni.LabelManagedByMachineSetNodeController)

		return byController
	}
}

// doomed returns the clusters and machine sets that the plan destroys: Omni destroys
// what belongs to them.
func (c *computation) doomed(desired map[ref]bool) map[ref]bool {
	doomed := map[ref]bool{}

	for key, have := range c.live {
		isRoot := key.typ == omni.ClusterType || key.typ == omni.MachineSetType
		if isRoot && !desired[key] && !c.notOurs(have) && SourceOf(have) == c.Source && !c.keeps() && !c.handedOver() {
			doomed[key] = true
		}
	}

	return doomed
}

// keeps reports whether what left Git stays.
func (c *computation) keeps() bool {
	return c.KeepParts || c.Keep != "" && (c.fleet || c.Removed)
}

// handedOver reports whether a cluster that left this source is for another one to take:
// it loses its marks and nothing else.
func (c *computation) handedOver() bool {
	cluster, ok := c.live[ref{omni.ClusterType, c.Target}]
	if !ok || !c.Removed || SourceOf(cluster) != c.Source {
		return false
	}

	to, _ := cluster.Metadata().Annotations().Get(AnnotationHandover)

	return c.LetGo || to != "" && to != c.Source
}

// mayTake reports whether the template says that this source takes the cluster over from
// another one.
func (c *computation) mayTake(from string) bool {
	for _, want := range c.Desired {
		if want.Metadata().Type() == omni.ClusterType {
			value, _ := want.Metadata().Annotations().Get(AnnotationHandover)

			return value == from
		}
	}

	return false
}

// goesAlong returns the doomed root with which Omni destroys have.
func (c *computation) goesAlong(have resource.Resource, doomed map[ref]bool) (ref, bool) {
	if name, ok := have.Metadata().Labels().Get(omni.LabelCluster); ok {
		if root := (ref{omni.ClusterType, name}); doomed[root] {
			return root, true
		}
	}

	if root := (ref{omni.MachineSetType, machineSetOf(have)}); doomed[root] {
		return root, true
	}

	return ref{}, false
}

// release plans that KernelArgs lose our mark; they are never destroyed.
func (c *computation) release(have resource.Resource) {
	if isTearingDown(have) {
		return
	}

	want := released(have)
	c.change(Change{Action: Release, Old: have, New: want, Fields: Fields(have, want)})
}

// finish plans the next step of a teardown. Destroy is level-triggered: the first pass
// tears the resource down, later ones wait for its finalizers, and the last one
// destroys what an older Omni leaves behind.
func (c *computation) finish(have resource.Resource) {
	if isTearingDown(have) && !have.Metadata().Finalizers().Empty() {
		c.wait(have, beingDestroyed(have))

		return
	}

	c.change(Change{Action: Destroy, Old: have})
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
func compare(have resource.Resource, want *resource.Metadata, desired resource.Resource) Action {
	sameLabels := maps.Equal(have.Metadata().Labels().Raw(), want.Labels().Raw())
	haveNotes, wantNotes := have.Metadata().Annotations().Raw(), want.Annotations().Raw()

	switch {
	case !sameLabels || !livestate.EqualSpec(have, desired):
		return Update
	case maps.Equal(haveNotes, wantNotes):
		return ""
	case maps.Equal(withoutMarks(haveNotes), withoutMarks(wantNotes)):
		return Adopt
	default:
		return Update
	}
}

// withoutMarks returns the annotations that say more than to whom a resource belongs.
func withoutMarks(annotations map[string]string) map[string]string {
	rest := maps.Clone(annotations)
	for _, mark := range []string{MarkSource, MarkPath, MarkFleet, MarkApplied, MarkLocked, MarkGitOps, omni.ResourceManagedByClusterTemplates} {
		delete(rest, mark)
	}

	return rest
}
