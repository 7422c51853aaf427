package render

import (
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni/installdisk"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// position finds where in a template a resource comes from, by its labels and its name.
func position(t *template.Template, md *resource.Metadata) template.Position {
	kind, name := "Cluster", ""

	if set, ok := md.Labels().Get(omni.LabelMachineSet); ok {
		kind, name = machineSet(t, set)
	}

	if machine, ok := md.Labels().Get(omni.LabelClusterMachine); ok {
		kind, name = "Machine", machine
	}

	switch md.Type() {
	case omni.MachineSetType:
		kind, name = machineSet(t, md.ID())

		return t.At(kind, name, "kind")
	case omni.MachineSetNodeType:
		return t.At(kind, name, "machines", md.ID())
	case omni.ConfigPatchType:
		patch, _ := md.Annotations().Get("name")
		if _, system := md.Labels().Get(omni.LabelSystemPatch); system {
			return t.At(kind, name, "install", "disk")
		}

		return t.At(kind, name, "patches", patch)
	case omni.KubernetesManifestGroupType:
		manifest, _ := md.Annotations().Get(omni.KubernetesManifestName)

		return t.At(kind, name, "kubernetes", "manifests", manifest)
	case omni.KubernetesHealthCheckType:
		return t.At(kind, name, "kubernetes", "healthchecks", strings.TrimPrefix(md.ID(), "cluster-"+t.Name+"-"))
	case omni.ExtensionsConfigurationType:
		return t.At(kind, name, "systemExtensions")
	case omni.KernelArgsType:
		return t.Machine(md.ID())
	case installdisk.Type:
		return t.At("Machine", md.ID(), "install", diskIn(t, md.ID()))
	default:
		return t.At(kind, name, "name")
	}
}

// machineSet returns the kind and the name of the document that describes a machine set.
func machineSet(t *template.Template, id string) (kind, name string) {
	switch suffix := strings.TrimPrefix(id, t.Name+"-"); suffix {
	case omni.ControlPlanesIDSuffix:
		return "ControlPlane", ""
	case omni.DefaultWorkersIDSuffix:
		return "Workers", "" // the one without a name
	default:
		return "Workers", suffix
	}
}
