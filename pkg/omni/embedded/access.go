package embedded

import (
	"context"
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/resource/meta"
	"github.com/siderolabs/omni/client/pkg/omni/resources/auth"
	"github.com/siderolabs/omni/client/pkg/omni/resources/common"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/registry"
	"github.com/siderolabs/omni/client/pkg/omni/resources/system"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/omni-syncd/omni-syncd/pkg/omni/installdisk"
)

// Who may do what to which type. Types in none of the lists are written by controllers only, and any Reader reads them.
var (
	userTypes = set(append([]resource.Type{installdisk.Type}, common.UserManagedResourceTypes...)...)

	adminTypes = set(
		auth.AccessPolicyType, auth.SAMLLabelRuleType, auth.IdentityType, auth.UserType, auth.ServiceAccountStatusType,
		omni.EtcdBackupS3ConfType, omni.InfraMachineBMCConfigType,
	)

	// Read by anyone with a valid key.
	openTypes = set(
		meta.NamespaceType, meta.ResourceDefinitionType, omni.FeaturesConfigType, omni.TalosVersionType, omni.KubernetesVersionType,
		omni.TalosExtensionsType, omni.InstallationMediaType, system.SysVersionType,
	)

	// What there is to ask for at all.
	knownTypes = func() map[resource.Type]bool {
		types := set(meta.NamespaceType, meta.ResourceDefinitionType, installdisk.Type)
		for _, res := range registry.Resources {
			types[res.ResourceDefinition().Type] = true
		}

		return types
	}()

	// Came with a later release.
	since = map[resource.Type]release{installdisk.Type: v1_11}

	// Hold secrets and never leave the server.
	hiddenTypes = set(
		omni.ClusterSecretsType, omni.ClusterMachineConfigType, omni.ClusterMachineSecretsType, omni.ClusterMachineEncryptionKeyType,
		omni.TalosConfigType, omni.KubeconfigType, omni.BackupDataType, omni.EtcdBackupEncryptionType, auth.PublicKeyType,
	)

	// Have their cluster's name as ID, and no label for it.
	clusterIDTypes = set(
		omni.ClusterType, omni.ClusterStatusType, omni.ClusterBootstrapStatusType, omni.ClusterConfigVersionType, omni.ClusterUUIDType,
		omni.ClusterDestroyStatusType, omni.ClusterEndpointType, omni.ClusterKubernetesNodesType, omni.ClusterDiagnosticsType,
		omni.EtcdManualBackupType, omni.KubernetesStatusType, omni.KubernetesUpgradeStatusType, omni.TalosUpgradeStatusType,
		omni.RotateTalosCAType, omni.RotateKubernetesCAType,
	)
)

func set[T comparable](items ...T) map[T]bool {
	result := make(map[T]bool, len(items))
	for _, item := range items {
		result[item] = true
	}

	return result
}

// clusterOf returns the cluster a resource belongs to, or "".
func clusterOf(md *resource.Metadata) string {
	if clusterIDTypes[md.Type()] {
		return md.ID()
	}

	name, _ := md.Labels().Get(omni.LabelCluster)

	return name
}

// clusterOfPointer is clusterOf for a resource that does not exist.
func clusterOfPointer(ptr resource.Pointer) string {
	if clusterIDTypes[ptr.Type()] {
		return ptr.ID()
	}

	return ""
}

// clusterOfQueries returns the one cluster that all label queries are limited to, or "".
func clusterOfQueries(queries resource.LabelQueries) string {
	name := ""

	for i, query := range queries {
		found := ""

		for _, term := range query.Terms {
			if term.Key == omni.LabelCluster && term.Op == resource.LabelOpEqual && !term.Invert && len(term.Value) == 1 {
				found = term.Value[0]
			}
		}

		if found == "" || i > 0 && found != name {
			return ""
		}

		name = found
	}

	return name
}

// allow is [allow], where a type that came later than the release is unknown.
func (r rules) allow(ctx context.Context, write bool, typ resource.Type, cluster string) error {
	if r.release < since[typ] {
		return unknownType(typ)
	}

	return allow(ctx, write, typ, cluster)
}

func unknownType(typ resource.Type) error {
	return status.Errorf(codes.PermissionDenied, "no access to resources of type %s", typ)
}

// allow checks the caller's role for reading or writing a type, in a cluster or, if the cluster is "", everywhere.
func allow(ctx context.Context, write bool, typ resource.Type, cluster string) error {
	acc := caller(ctx)
	if acc == nil {
		return errUnauthenticated
	}

	role := acc.Role
	if len(acc.Clusters) > 0 && !slices.Contains(acc.Clusters, cluster) {
		role = RoleNone
	}

	needed := RoleReader
	if write && typ != infra.ProviderType { // which Omni lets any Reader register
		needed = RoleOperator
	}

	switch {
	case hiddenTypes[typ] || !knownTypes[typ]:
		return unknownType(typ)
	case write && !userTypes[typ]:
		return status.Errorf(codes.PermissionDenied, "resources of type %s can only be read", typ)
	case adminTypes[typ]:
		needed = RoleAdmin
	case openTypes[typ]:
		needed = RoleNone
	}

	if role < needed {
		return status.Errorf(codes.PermissionDenied, "access to resources of type %s denied: role %s is too low, %s is needed", typ, role, needed)
	}

	return nil
}
