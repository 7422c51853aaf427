package schema

import (
	"reflect"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Newer is a key of templates that the models of newer clients have and those of this build lack: a switch, true or false, or a
// text. Package template takes it out of the text before upstream reads that, and package render puts it into what upstream
// made of the rest.
type Newer struct {
	Kind    string // of document
	In, Key string // the key is in this mapping of the document

	// Since is the first release of Omni that takes it, like "1.10".
	Since string

	// IsText says that it is a text. Of that, render makes a resource of its own.
	IsText bool

	// Message and Number are the field of Omni's protobufs for a switch, which this build's may not have.
	Message protoreflect.FullName
	Number  protoreflect.FieldNumber

	owner string // upstream's Go type of the mapping
}

// String is the key with the mapping that it is in: features.enableNodeAuditSkip.
func (n Newer) String() string { return n.In + "." + n.Key }

// newer is the table. From omni v1.10.4, client/pkg/template/internal/models/cluster.go and client/api/omni/specs/omni.proto, and from
// main of August 2026, models/machine.go. When the client module is raised, what its models have goes from here: a test says so.
var newer = []Newer{
	{
		Kind: "Cluster", In: "features", Key: "disablePublicDiscoveryService", Since: "1.10",
		Message: "specs.ClusterSpec.Features", Number: 5, owner: "Features",
	},
	{
		Kind: "Cluster", In: "features", Key: "enableNodeAuditSkip", Since: "1.9",
		Message: "specs.ClusterSpec.Features", Number: 4, owner: "Features",
	},
	{Kind: "Machine", In: "install", Key: "diskSelector", Since: "1.11", IsText: true, owner: "MachineInstall"},
}

// DisablePublicDiscovery returns the key that switches the public discovery service off.
func DisablePublicDiscovery() Newer { return newer[0] }

// AllNewer returns the keys that newer clients have and the models of this build lack.
func AllNewer() []Newer { return slices.Clone(newer) }

// Switches returns those of [AllNewer] that are switches.
func Switches() []Newer { return slices.DeleteFunc(AllNewer(), func(n Newer) bool { return n.IsText }) }

// newerFields are those of one of upstream's types.
func newerFields(typ reflect.Type) []field {
	var all []field

	for _, n := range newer {
		switch {
		case n.owner != typ.Name():
		case n.IsText:
			all = append(all, field{n.Key, n.owner, reflect.TypeFor[string]()})
		default:
			all = append(all, field{n.Key, n.owner, reflect.TypeFor[bool]()})
		}
	}

	return all
}
