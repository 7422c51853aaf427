package embedded

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// configHash stands for the configuration of a machine set's machines: it changes with every patch and extension that reaches one of
// them. The patches that Omni pins Kubernetes with come and go with a machine, and change no other.
func (v *view) configHash(s *setView) string {
	var parts []string

	for key, res := range v.all {
		md := res.Metadata()
		if md.Phase() == resource.PhaseTearingDown || md.Owner() == ownerKubernetesUpgrade || !v.reachesSet(res, s) {
			continue
		}

		switch res := res.(type) {
		case *omni.ConfigPatch:
			if data, err := res.TypedSpec().Value.GetUncompressedData(); err == nil {
				parts = append(parts, fmt.Sprintf("%s %q", key.id, data.Data()))
				data.Free()
			}
		case *omni.ExtensionsConfiguration:
			parts = append(parts, fmt.Sprintf("%s %q", key.id, res.TypedSpec().Value.GetExtensions()))
		}
	}

	slices.Sort(parts)

	sum := sha256.Sum256(fmt.Append(nil, parts))

	return hex.EncodeToString(sum[:])
}

// reachesSet says whether what is in the cluster is about it as a whole, about this machine set, or about a machine of the set.
func (v *view) reachesSet(res resource.Resource, s *setView) bool {
	machine := label(res, omni.LabelClusterMachine)
	inSet := machine == "" || slices.ContainsFunc(s.nodes, func(node *omni.MachineSetNode) bool { return node.Metadata().ID() == machine })

	return inSet && (label(res, omni.LabelMachineSet) == "" || label(res, omni.LabelMachineSet) == s.id())
}
