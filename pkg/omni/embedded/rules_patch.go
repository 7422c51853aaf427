package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"go.yaml.in/yaml/v4"
)

func (r rules) newConfigPatch(ctx context.Context, res *omni.ConfigPatch) error {
	cluster, err := lookup[*omni.Cluster](ctx, r.st, label(res, omni.LabelCluster))
	if err != nil {
		return err
	}

	if cluster != nil && cluster.Metadata().Phase() == resource.PhaseTearingDown {
		return fmt.Errorf("cluster %q is being deleted", cluster.Metadata().ID())
	}

	machineSet, err := lookup[*omni.MachineSet](ctx, r.st, label(res, omni.LabelMachineSet))
	if err != nil {
		return err
	}

	if machineSet != nil && machineSet.Metadata().Phase() == resource.PhaseTearingDown {
		return fmt.Errorf("machine set %q is being deleted", machineSet.Metadata().ID())
	}

	data, err := res.TypedSpec().Value.GetUncompressedData()
	if err != nil {
		return err
	}
	defer data.Free()

	return r.patchText(data.Data())
}

func (r rules) changedConfigPatch(old, res *omni.ConfigPatch) error {
	before, err := old.TypedSpec().Value.GetUncompressedData()
	if err != nil {
		return err
	}
	defer before.Free()

	now, err := res.TypedSpec().Value.GetUncompressedData()
	if err != nil {
		return err
	}
	defer now.Free()

	if bytes.Equal(before.Data(), now.Data()) {
		return nil
	}

	return r.patchText(now.Data())
}

// patchText checks a patch as the release does. The client's own check is that of v1.9.3, which looks at the first document alone.
func (r rules) patchText(data []byte) error {
	if err := omni.ValidateConfigPatch(data); err != nil || r.release < v1_10 {
		return err
	}

	for decoder := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var document map[string]any

		switch err := decoder.Decode(&document); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}

		if err := r.document(document); err != nil {
			return err
		}
	}
}

// What belongs to Omni, in the configuration of Talos without a kind. Both its secrets and what it decides.
var (
	ownOfCluster = []string{"clusterName", "id", "token", "secret", "aescbcEncryptionSecret", "secretboxEncryptionSecret", "ca", "acceptedCAs", "serviceAccount"}
	ownOfMachine = []string{"token", "ca", "type", "acceptedCAs"}

	// Kinds that are nothing but that.
	ownKinds = []string{
		"UnattendedInstallConfig", "DiscoveryIdentityConfig", "KubeClusterConfig", "KubeEtcdEncryptionConfig", "KubeAPIServerCAConfig",
		"KubeAggregatorCAConfig",
	}
)

// document checks one document of a patch, as from 1.10 on.
func (r rules) document(document map[string]any) error {
	kind, hasKind := document["kind"].(string)

	switch {
	case slices.Contains(ownKinds, kind):
		return fmt.Errorf("a config patch cannot have a document of the kind %q", kind)
	case kind == "KubeServiceAccountConfig" && has(document, "issuer", "privateKey"):
		return errors.New("a config patch cannot have the private key of service accounts")
	case kind == "KubeTalosAPIAccessConfig":
		return notAdmin(document["allowedRoles"])
	case hasKind:
		return nil
	}

	for section, own := range map[string][]string{"cluster": ownOfCluster, "machine": ownOfMachine} {
		for _, key := range own {
			if has(document, section, key) {
				return fmt.Errorf("a config patch cannot set %s.%s", section, key)
			}
		}
	}

	switch {
	case has(document, "cluster", "controlPlane", "endpoint"):
		return errors.New("a config patch cannot set the endpoint of the cluster")
	case has(document, "machine", "install", "extensions"):
		return errors.New("a config patch cannot set extensions")
	case r.release >= v1_11 && has(document, "machine", "install", "disk"):
		return errors.New("a config patch cannot set the disk to install to")
	}

	return notAdmin(at(document, "machine", "features", "kubernetesTalosAPIAccess", "allowedRoles"))
}

func notAdmin(roles any) error {
	if list, _ := roles.([]any); slices.Contains(list, any("os:admin")) {
		return errors.New("a config patch cannot give the role os:admin to Kubernetes")
	}

	return nil
}

// has says whether there is a key, whatever its value.
func has(document map[string]any, path ...string) bool {
	last := len(path) - 1
	parent, _ := at(document, path[:last]...).(map[string]any)
	_, ok := parent[path[last]]

	return ok
}

func at(document map[string]any, path ...string) any {
	var value any = document

	for _, key := range path {
		parent, _ := value.(map[string]any)
		value = parent[key]
	}

	return value
}
