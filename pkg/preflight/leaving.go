package preflight

import (
	"fmt"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// checkLeaving checks the machines that leave one by one. Omni removes no locked machine, unless its machine set or its
// cluster goes (machine_set_node.go of its validations); those that go along with a set are no change of their own. A lock
// that came from Git is taken off first and is in nobody's way.
func (c *check) checkLeaving() {
	if c.Plan == nil {
		return
	}

	for i := range c.Plan.Changes {
		node, ok := c.Plan.Changes[i].Old.(*omni.MachineSetNode)
		if !ok || c.Plan.Changes[i].Action != diff.Destroy || isTearingDown(node) {
			continue
		}

		_, isLocked := node.Metadata().Annotations().Get(omni.MachineLocked)
		_, byGit := diff.Unlocked(node)

		set, ok := c.live[ref{omni.MachineSetType, label(node, omni.LabelMachineSet)}]
		if isLocked && !byGit && c.cluster != nil && ok && !isTearingDown(set) {
			c.reportLocked(node)
		}
	}
}

// reportLocked reports a locked machine at the place in Git that it leaves or moves to.
func (c *check) reportLocked(node *omni.MachineSetNode) {
	id, set := node.Metadata().ID(), label(node, omni.LabelMachineSet)

	if moved := c.described(refOf(node)); moved != nil {
		c.report(moved, fmt.Sprintf("machine %s is locked in Omni, so it cannot move from %s to %s; unlock it in Omni, or put it back into %s",
			id, set, label(moved, omni.LabelMachineSet), set))

		return
	}

	about := c.described(ref{omni.MachineSetType, set})
	if about == nil && c.wanted != nil { // what others made is pruned
		about = c.wanted
	}

	if about != nil {
		c.report(about, fmt.Sprintf("machine %s is locked in Omni, so it cannot leave %s; unlock it in Omni, or put it back into the template", id, set))
	}
}

// described returns what Git describes; nil if it does not.
func (c *check) described(key ref) resource.Resource {
	for _, want := range c.Desired {
		if refOf(want) == key {
			return want
		}
	}

	return nil
}
