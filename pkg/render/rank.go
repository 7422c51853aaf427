package render

import (
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni/installdisk"
)

// Kind is a type of resource and the namespace that holds it.
type Kind struct {
	Namespace resource.Namespace
	Type      resource.Type

	// Since is the first release of Omni that has it, like "1.11"; "" if all have it.
	Since string
}

// fleetKinds are the types that no template renders to and that the role Operator may write. They come before
// everything else, because clusters need them (a MachineClass, say).
var fleetKinds = []Kind{
	{Namespace: resources.DefaultNamespace, Type: omni.MachineClassType},
	{Namespace: resources.DefaultNamespace, Type: omni.MachineLabelsType},
	{Namespace: resources.DefaultNamespace, Type: omni.MachineRequestSetType},
	{Namespace: resources.DefaultNamespace, Type: omni.InfraMachineConfigType},
	{Namespace: resources.DefaultNamespace, Type: omni.InstallationMediaConfigType},
	{Namespace: resources.EphemeralNamespace, Type: omni.EtcdManualBackupType},
}

// templateKinds are the types that a template renders to, in the order in which Omni wants them: what a resource
// refers to comes before it, and the disk before the machine that is installed on it. It is the order of omnictl.
var templateKinds = []Kind{
	{Namespace: resources.DefaultNamespace, Type: omni.ClusterType},
	{Namespace: resources.DefaultNamespace, Type: omni.ExtensionsConfigurationType},
	{Namespace: resources.DefaultNamespace, Type: omni.ConfigPatchType},
	{Namespace: resources.DefaultNamespace, Type: installdisk.Type, Since: installdisk.Since},
	{Namespace: resources.DefaultNamespace, Type: omni.KubernetesManifestGroupType},
	{Namespace: resources.DefaultNamespace, Type: omni.KubernetesHealthCheckType},
	{Namespace: resources.DefaultNamespace, Type: omni.MachineSetType},
	{Namespace: resources.DefaultNamespace, Type: omni.MachineSetNodeType},
	{Namespace: resources.DefaultNamespace, Type: omni.KernelArgsType},
}

// Kinds returns every kind of resource that omni-syncd can write: what a template renders to and what may stand in a
// manifest.
func Kinds() []Kind { return slices.Concat(fleetKinds, templateKinds) }

// Rank says when a resource is created relative to others of its target: lower ranks first; resources of the same
// rank do not depend on each other. Deletion goes the other way.
func Rank(t resource.Type) int {
	return 1 + slices.IndexFunc(templateKinds, func(k Kind) bool { return k.Type == t })
}

// IsOfMachine reports whether a type is of a machine and not of its cluster: such a resource has the machine's ID and no
// label of a cluster, and outlives that.
func IsOfMachine(t resource.Type) bool { return t == omni.KernelArgsType || t == installdisk.Type }

// OfMachine returns the kinds of a machine, see [IsOfMachine].
func OfMachine() []Kind {
	return slices.DeleteFunc(slices.Clone(templateKinds), func(k Kind) bool { return !IsOfMachine(k.Type) })
}

// manifestKinds are the types that may stand in a manifest. What makes up a cluster may not: a cluster is a template, so
// that its deletion is guarded as one.
func manifestKinds() []Kind {
	return append(slices.Clone(fleetKinds), Kind{Namespace: resources.DefaultNamespace, Type: omni.ConfigPatchType})
}

// IsFleetKind reports whether a type may stand in a manifest.
func IsFleetKind(t resource.Type) bool {
	_, ok := kindOf(t)

	return ok
}

// kindOf returns the kind of a type that may stand in a manifest.
func kindOf(t resource.Type) (Kind, bool) {
	kinds := manifestKinds()

	i := slices.IndexFunc(kinds, func(k Kind) bool { return k.Type == t })
	if i < 0 {
		return Kind{}, false
	}

	return kinds[i], true
}

// typeNames lists the types that may stand in a manifest, sorted.
func typeNames() []string {
	var names []string
	for _, kind := range manifestKinds() {
		names = append(names, kind.Type)
	}

	slices.Sort(names)

	return names
}
