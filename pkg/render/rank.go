package render

import (
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// Kind is a type of resource and the namespace that holds it.
type Kind struct {
	Namespace resource.Namespace
	Type      resource.Type
}

// fleetKinds are the types that no template renders to and that the role Operator may write. They come before
// everything else, because clusters need them (a MachineClass, say).
var fleetKinds = []Kind{
	{resources.DefaultNamespace, omni.MachineClassType},
	{resources.DefaultNamespace, omni.MachineLabelsType},
	{resources.DefaultNamespace, omni.MachineRequestSetType},
	{resources.DefaultNamespace, omni.InfraMachineConfigType},
	{resources.DefaultNamespace, omni.InstallationMediaConfigType},
	{resources.EphemeralNamespace, omni.EtcdManualBackupType},
}

// templateKinds are the types that a template renders to, in the order in which Omni wants them: what a resource
// refers to comes before it. It is the order of omnictl.
var templateKinds = []Kind{
	{resources.DefaultNamespace, omni.ClusterType},
	{resources.DefaultNamespace, omni.ExtensionsConfigurationType},
	{resources.DefaultNamespace, omni.ConfigPatchType},
	{resources.DefaultNamespace, omni.KubernetesManifestGroupType},
	{resources.DefaultNamespace, omni.KubernetesHealthCheckType},
	{resources.DefaultNamespace, omni.MachineSetType},
	{resources.DefaultNamespace, omni.MachineSetNodeType},
	{resources.DefaultNamespace, omni.KernelArgsType},
}

// Kinds returns every kind of resource that omni-syncd can write: what a template renders to and what may stand in a
// manifest.
func Kinds() []Kind { return slices.Concat(fleetKinds, templateKinds) }

// Rank says when a resource is created relative to others of its target: lower ranks first; resources of the same
// rank do not depend on each other. Deletion goes the other way.
func Rank(t resource.Type) int {
	return 1 + slices.IndexFunc(templateKinds, func(k Kind) bool { return k.Type == t })
}

// manifestKinds are the types that may stand in a manifest. What makes up a cluster may not: a cluster is a template, so
// that its deletion is guarded as one.
func manifestKinds() []Kind {
	return append(slices.Clone(fleetKinds), Kind{resources.DefaultNamespace, omni.ConfigPatchType})
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
