package preflight

import (
	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
)

// span is the releases of Omni that have a rule: from since on, and before until. An empty end is open.
type span struct{ since, until string }

// in reports whether the server is known to have the rule. If it does not tell its version, or one that cannot be read, no
// rule that only some releases have is known to hold: such a server is judged by none of them.
func (s span) in(server livestate.Server) bool {
	if s == (span{}) {
		return true
	}

	return server.Known() && (s.since == "" || server.AtLeast(s.since)) && (s.until == "" || !server.AtLeast(s.until))
}

// The rules that not every release has, from Omni's sources v1.9.3, v1.10.4 and main of August 2026, which becomes 1.11. The
// files are those in internal/backend/runtime/omni/validations where nothing else is said. Whatever is not here is the same
// in all of them.
var (
	// A machine that booted from an image and has no Talos installed needs the minor version of the cluster. From 1.10 on
	// Omni installs it with what the cluster has, if both are Talos 1.13 or newer; see [installs]. machine_set_node.go, and
	// client/pkg/omni/resources/omni/version_compat.go from 1.10 on.
	sameMinorToInstall = span{until: "1.10"}

	// Whether Talos is installed is read from the machine's label, where a static infrastructure provider knows better, and no
	// more from the disks of its status. From the same files.
	installedByLabel = span{since: "1.10"}

	// bootstrapSpec cannot be removed. From 1.10 on it can once the cluster is bootstrapped. machine_set.go.
	bootstrapSpecStays = span{until: "1.10"}

	// The public discovery service can be switched off only where Omni's own one is on, in a cluster that began with Talos
	// 1.14 or newer. cluster.go.
	discoveryIsNeeded = span{since: "1.10"}

	// Every document of a patch has to be a mapping that can be read, not the first one alone.
	// client/pkg/omni/resources/omni/config_patch.go.
	everyDocument = span{since: "1.10"}
)

// patchRule is something that a config patch must not hold.
type patchRule struct {
	span

	kind    string // of the document; "" is the one without a kind, Talos' v1alpha1 configuration
	key     string // "" if such a document must not be there at all
	element string // of the list at the key; "" if the key must not be there at all
}

// patchRules is what Omni's ValidateConfigPatch refuses, in client/pkg/omni/resources/omni/config_patch.go. Until 1.9 it
// looks at the first document alone, and what it refuses there is refused when the template is rendered. The kinds are
// written out, since the Talos that this build knows does not have them all.
var patchRules = append(inEveryDocument(
	"cluster.clusterName", "cluster.id", "cluster.controlPlane.endpoint", "cluster.token", "cluster.secret",
	"cluster.aescbcEncryptionSecret", "cluster.secretboxEncryptionSecret", "cluster.acceptedCAs",
	"cluster.ca", "cluster.serviceAccount", // these two are new in 1.10, in the first document too
	"machine.token", "machine.ca", "machine.type", "machine.install.extensions", "machine.acceptedCAs",
),
	patchRule{span: everyDocument, key: "machine.features.kubernetesTalosAPIAccess.allowedRoles", element: "os:admin"},

	patchRule{span: span{since: "1.10"}, kind: "UnattendedInstallConfig"},
	patchRule{span: span{since: "1.10"}, kind: "DiscoveryIdentityConfig"},
	patchRule{span: span{since: "1.10"}, kind: "KubeClusterConfig"},
	patchRule{span: span{since: "1.10"}, kind: "KubeEtcdEncryptionConfig"},
	patchRule{span: span{since: "1.10"}, kind: "KubeAPIServerCAConfig"},
	patchRule{span: span{since: "1.10"}, kind: "KubeAggregatorCAConfig"},
	patchRule{span: span{since: "1.10"}, kind: "KubeServiceAccountConfig", key: "issuer.privateKey"},
	patchRule{span: span{since: "1.10"}, kind: "KubeTalosAPIAccessConfig", key: "allowedRoles", element: "os:admin"},

	// 1.11 has a resource for it, see [installdisk], and makes one of each such patch that a template or its UI made.
	patchRule{span: span{since: "1.11"}, key: keyInstallDisk},
)

const keyInstallDisk = "machine.install.disk"

func inEveryDocument(keys ...string) []patchRule {
	var rules []patchRule
	for _, key := range keys {
		rules = append(rules, patchRule{span: everyDocument, key: key})
	}

	return rules
}
