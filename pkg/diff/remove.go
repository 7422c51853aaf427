package diff

import (
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni/installdisk"
	"github.com/omni-syncd/omni-syncd/pkg/render"
)

// remove plans what happens to live resources that Git does not describe.
func (c *computation) remove(desired map[ref]bool) {
	doomed := c.doomed(desired)
	root := c.root()
	cascades := map[ref][]resource.Resource{}

	for key, have := range c.live {
		if desired[key] || c.notOurs(have) {
			continue
		}

		along, goesAlong := c.goesAlong(have, doomed)

		switch {
		case goesAlong:
			cascades[along] = append(cascades[along], have)
		case render.IsOfMachine(have.Metadata().Type()) && !c.picksNoDisk(have, desired):
			if root == nil || doomed[refOf(root)] || c.fate(root).Step == StepRelease {
				c.release(have)
			} // else its cluster stays, and may come back
		case SourceOf(have) == "" && (!c.PruneForeign || c.Removed):
			c.plan.Foreign = append(c.plan.Foreign, have)
		case root != nil && have != root:
			// It shares the fate of its cluster, which stays.
			if isTearingDown(have) {
				c.finish(have)
			} else if c.fate(root).Step == StepRelease {
				c.release(have)
			}
		case root == nil && c.Removed && c.hasCluster():
			c.plan.Left = append(c.plan.Left, Left{Resource: have, Reason: "its cluster does not carry our mark"})
		case c.fleet || c.Removed:
			c.leave(have)
		case c.KeepParts:
			c.plan.Left = append(c.plan.Left, Left{Resource: have, Reason: keptByTemplate})
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

// picksNoDisk reports whether a template has a machine still and no longer says which disk it is installed on: then Omni is to
// pick one again, which only the deletion of the resource says. A machine that leaves keeps its disk. As upstream's
// client/pkg/template/template.go does it from 1.11 on.
func (c *computation) picksNoDisk(have resource.Resource, desired map[ref]bool) bool {
	return have.Metadata().Type() == installdisk.Type && desired[ref{omni.MachineSetNodeType, have.Metadata().ID()}]
}

const keptByTemplate = "the template says omni-syncd/prune: disabled"

// hasCluster reports whether Omni holds the cluster, whoever it belongs to.
func (c *computation) hasCluster() bool {
	_, ok := c.live[ref{omni.ClusterType, c.Target}]

	return ok && !c.fleet
}

// root returns the live cluster of a removed target if it is ours; else nil.
func (c *computation) root() resource.Resource {
	cluster, ok := c.live[ref{omni.ClusterType, c.Target}]
	if !ok || !c.Removed || c.fleet || SourceOf(cluster) != c.Source {
		return nil
	}

	return cluster
}

// leave plans the next step of what left Git.
func (c *computation) leave(have resource.Resource) {
	if isTearingDown(have) {
		// What is held is not pushed: that is refused again and again, and all that comes after it waits.
		if !c.held(have) {
			c.finish(have)
		}

		return
	}

	fate := c.fate(have)
	if fate.Step != StepKeep && fate.Step != StepWait && c.held(have) {
		return
	}

	switch fate.Step {
	case StepDestroy:
		c.finish(have)
		c.plan.Changes[len(c.plan.Changes)-1].Note = fate.Reason
	case StepRelease:
		c.release(have)
	case StepMark:
		want := Departing(have, fate.Mark)
		c.change(Change{Action: Mark, Old: have, New: want, Fields: Fields(have, want)})

		fallthrough
	default:
		c.plan.Left = append(c.plan.Left, Left{Resource: have, Reason: fate.Reason, Leaving: fate.Step == StepWait || fate.Step == StepMark && fate.Mark.State != Kept, Asks: fate.Asks})
	}
}

func (c *computation) fate(have resource.Resource) Fate {
	if c.Fate == nil {
		return Fate{Reason: "nobody said what happens to it"}
	}

	return c.Fate(have)
}

// useUp takes a confirmation off a cluster once nothing is left to do: it was for what was done.
func (c *computation) useUp() {
	cluster, ok := c.live[ref{omni.ClusterType, c.Target}]
	if !ok || c.fleet || c.Removed || SourceOf(cluster) != c.Source || !confirmsGuard(cluster) || !c.plan.Empty() {
		return
	}

	want := cluster.DeepCopy()
	want.Metadata().Annotations().Delete(MarkConfirmed)
	c.change(Change{Action: Mark, Old: cluster, New: want, Fields: Fields(cluster, want)})
}

// notOurs reports whether a live resource that Git does not describe is nobody's
// business here: a controller's, another source's, or a by-product of Omni.
func (c *computation) notOurs(have resource.Resource) bool {
	source := SourceOf(have)

	switch {
	case have.Metadata().Owner() != "":
		return true
	case source != "" && (!c.ours(have) || IsFleet(have) != c.fleet):
		return true
	case source != "":
		return false
	case c.fleet || render.IsOfMachine(have.Metadata().Type()):
		return true
	default:
		_, byController := have.Metadata().Labels().Get(omni.LabelManagedByMachineSetNodeController)

		return byController
	}
}

// ours reports whether what carries the mark of a source is this one's. What is left in a cluster that was taken over
// came along with it.
func (c *computation) ours(have resource.Resource) bool {
	return SourceOf(have) == c.Source || !c.fleet && !c.Removed && c.mayTake(have)
}

// doomed returns the clusters and machine sets that the plan destroys: Omni destroys
// what belongs to them.
func (c *computation) doomed(desired map[ref]bool) map[ref]bool {
	doomed := map[ref]bool{}

	if root := c.root(); root != nil {
		if !isTearingDown(root) && c.fate(root).Step == StepDestroy {
			doomed[refOf(root)] = true
		}

		return doomed
	}

	for key, have := range c.live {
		if key.typ == omni.MachineSetType && !c.fleet && !c.Removed && !c.KeepParts && !desired[key] && !c.notOurs(have) && SourceOf(have) != "" {
			doomed[key] = true
		}
	}

	return doomed
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

// release plans that a resource loses our marks and stays in Omni.
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
