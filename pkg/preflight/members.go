package preflight

import (
	"fmt"
	"slices"
	"strings"

	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// classFinalizer is what Omni's controller of machine classes puts on a machine set that
// has one. It takes it away only while the set has one.
const classFinalizer = "MachineSetNodeController"

func (c *check) checkMachineSet(want *omni.MachineSet) {
	have := twin(c, want)
	now := omni.GetMachineAllocation(want)

	if have == nil {
		c.checkClass(want, now)

		return
	}

	if label(have, omni.LabelCluster) != c.Target {
		return // a conflict
	}

	if message := c.bootstrap(have, want); message != "" {
		c.report(want, message)
	}

	switch before := omni.GetMachineAllocation(have); {
	case before != nil && now != nil && before.GetName() != now.GetName():
		c.checkClass(want, now)
	case before == nil && now != nil && c.machinesOf(have) > 0: // Omni does not look whether the class exists
		c.report(want, fmt.Sprintf("machine set %s has machines of its own (%d) and cannot change to a machine class; %s",
			have.Metadata().ID(), c.machinesOf(have), instead(have)))
	case before != nil && now == nil && c.machinesOf(have) > 0:
		c.report(want, fmt.Sprintf("machine set %s has machines of the class %s (%d) and cannot change to machines of its own; %s",
			have.Metadata().ID(), before.GetName(), c.machinesOf(have), instead(have)))
	case before != nil && now == nil && (have.Metadata().Finalizers().Has(classFinalizer) || c.joins(have)):
		c.report(want, fmt.Sprintf("machine set %s has the machine class %s and cannot change to machines of its own: Omni could not delete it afterwards; %s",
			have.Metadata().ID(), before.GetName(), instead(have)))
	}
}

// bootstrap returns why Omni would refuse what a machine set is restored from; "" if it would not.
func (c *check) bootstrap(have, want *omni.MachineSet) string {
	had, has := have.TypedSpec().Value.GetBootstrapSpec(), want.TypedSpec().Value.GetBootstrapSpec()

	switch {
	case has.EqualVT(had):
		return ""
	case has != nil:
		return "what a control plane is restored from (bootstrapSpec) cannot change once it exists; take the change back, or make a new cluster"
	case bootstrapSpecStays.in(c.Server):
		return "what a control plane is restored from (bootstrapSpec) cannot be taken out before Omni 1.10; put it back"
	}

	status := get[*omni.ClusterBootstrapStatus](c, omni.ClusterBootstrapStatusType, c.Target)
	if status != nil && status.TypedSpec().Value.GetBootstrapped() {
		return ""
	}

	// Without it the cluster would start empty. Every release refuses that.
	return "what a control plane is restored from (bootstrapSpec) can be taken out only when the cluster is bootstrapped; put it back until then"
}

// instead says what to do about a machine set that cannot change where its machines come from.
func instead(set *omni.MachineSet) string {
	if _, ok := set.Metadata().Labels().Get(omni.LabelControlPlaneRole); ok {
		return "a control plane cannot be replaced, so take the change back or make a new cluster"
	}

	return "add a machine set with another name, and take this one out when its work is done"
}

// checkClass checks the machine class that a machine set gets.
func (c *check) checkClass(set *omni.MachineSet, allocation *specs.MachineSetSpec_MachineAllocation) {
	if allocation == nil {
		return
	}

	class := c.class(allocation.GetName())

	switch {
	case class == nil:
		message := fmt.Sprintf("machine class %q does not exist, in Omni or in this revision; add it", allocation.GetName())
		if known := c.classNames(); len(known) > 0 {
			message += ", or use one of " + some(known)
		}

		c.report(set, message)
	case class.TypedSpec().Value.GetAutoProvision() != nil && allocation.GetAllocationType() == specs.MachineSetSpec_MachineAllocation_Unlimited:
		c.report(set, fmt.Sprintf("machine class %q makes its machines, so the size cannot be unlimited; give a number", allocation.GetName()))
	}
}

// class returns a machine class as it will be when the machine set is written; nil if there is none.
func (c *check) class(name string) *omni.MachineClass {
	for _, r := range c.Classes {
		if class, ok := r.(*omni.MachineClass); ok && class.Metadata().ID() == name {
			return class
		}
	}

	return get[*omni.MachineClass](c, omni.MachineClassType, name)
}

// classNames returns the machine classes there are to choose from.
func (c *check) classNames() []string {
	var ids []string

	for _, r := range slices.Concat(c.Snapshot.List(omni.MachineClassType), c.Classes) {
		if r.Metadata().Type() == omni.MachineClassType {
			ids = append(ids, r.Metadata().ID())
		}
	}

	slices.Sort(ids)

	return slices.Compact(ids)
}

// machinesOf counts the machines in a live set. Those that are on their way out count, in Omni too.
func (c *check) machinesOf(set *omni.MachineSet) int {
	n := 0

	for _, r := range c.Live {
		if r.Metadata().Type() == omni.MachineSetNodeType && label(r, omni.LabelMachineSet) == set.Metadata().ID() {
			n++
		}
	}

	return n
}

// joins reports whether a machine is to be put into a live set that is empty. A plan does
// that before it changes the set, and Omni refuses it as long as the set has a class.
func (c *check) joins(set *omni.MachineSet) bool {
	for _, want := range c.Desired {
		if want.Metadata().Type() == omni.MachineSetNodeType && label(want, omni.LabelMachineSet) == set.Metadata().ID() {
			return true
		}
	}

	return false
}

// Bounds and names of Omni's catalogue of extensions.
const (
	maxExtensions      = 256
	officialExtensions = "siderolabs/" // may be left out
)

func (c *check) checkExtensions(want *omni.ExtensionsConfiguration) {
	listed := want.TypedSpec().Value.GetExtensions()
	have := twin(c, want)

	if len(listed) == 0 || c.wanted == nil || c.versionsRefused || have != nil && !c.isWritten(have, want) {
		return
	}

	talos := c.wanted.TypedSpec().Value.GetTalosVersion()
	if c.cluster != nil && c.live[refOf(want)] == nil {
		talos = c.cluster.TypedSpec().Value.GetTalosVersion() // it is created before the cluster changes
	}

	catalogue := get[*omni.TalosExtensions](c, omni.TalosExtensionsType, talos)

	switch {
	case catalogue != nil:
	case len(c.Snapshot.List(omni.TalosExtensionsType)) == 0:
		return
	default:
		c.report(want, fmt.Sprintf("Omni has no catalogue of extensions for Talos %s; use a version that it offers", talos))

		return
	}

	if len(listed) > maxExtensions {
		c.report(want, fmt.Sprintf("there are %d extensions; Omni takes %d", len(listed), maxExtensions))

		return
	}

	offered := map[string]bool{}
	for _, item := range catalogue.TypedSpec().Value.GetItems() {
		offered[item.GetName()] = true
	}

	var unknown, twice []string

	seen := map[string]bool{}

	for _, name := range listed {
		full := name
		if !strings.Contains(full, "/") {
			full = officialExtensions + full
		}

		switch {
		case !offered[full]:
			unknown = append(unknown, name)
		case seen[full]:
			twice = append(twice, name)
		}

		seen[full] = true
	}

	if len(unknown) > 0 {
		c.report(want, fmt.Sprintf("Talos %s has no extension %s; `omnictl get talosextensions %s -o yaml` lists those it has", talos, some(unknown), talos))
	}

	if len(twice) > 0 {
		c.report(want, fmt.Sprintf("the extension %s is listed twice; leave one", some(twice)))
	}
}

// some writes a list in short.
func some(list []string) string {
	if len(list) > maxOffered {
		return strings.Join(list[:maxOffered], ", ") + ", …"
	}

	return strings.Join(list, ", ")
}
