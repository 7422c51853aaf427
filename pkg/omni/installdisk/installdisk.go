// Package installdisk is the resource in which Omni holds what disk a machine is installed on, from 1.11 on. The client that
// this build is made with lacks it; what a template says with `install` becomes one in package render.
package installdisk

import (
	"fmt"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/resource/meta"
	"github.com/cosi-project/runtime/pkg/resource/protobuf"
	"github.com/cosi-project/runtime/pkg/resource/typed"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
)

// Type is the type of a [Config].
const Type = resource.Type("MachineInstallDiskConfigs.omni.sidero.dev")

// Since is the first release of Omni that has it. Older ones take a config patch instead.
const Since = "1.11"

// Config says which disk the machine with its ID is installed on. It carries no label of a cluster: it is the machine's, and
// outlives its cluster. From omni main of August 2026, client/pkg/omni/resources/omni/machine_install_disk_config.go.
type Config = typed.Resource[Spec, Extension]

// Spec wraps a [ConfigSpec].
type Spec = protobuf.ResourceSpec[ConfigSpec, *ConfigSpec]

// New returns an empty Config of a machine.
func New(machine resource.ID) *Config {
	return typed.NewResource[Spec, Extension](
		resource.NewMetadata(resources.DefaultNamespace, Type, machine, resource.VersionUndefined),
		protobuf.NewResourceSpec(&ConfigSpec{}),
	)
}

// Extension tells what kind of resource a [Config] is.
type Extension struct{}

// ResourceDefinition implements [typed.Extension].
func (Extension) ResourceDefinition() meta.ResourceDefinitionSpec {
	return meta.ResourceDefinitionSpec{Type: Type, DefaultNamespace: resources.DefaultNamespace}
}

func init() {
	// A newer client has the type itself: then this package has to go.
	if err := protobuf.RegisterResource(Type, &Config{}); err != nil {
		panic(fmt.Sprintf("installdisk: %v", err))
	}
}
