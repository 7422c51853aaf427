package mask

import (
	"fmt"
	"path"
	"strings"
)

// index stands for an element of a list in a path. Which one it is does not matter: elements move.
const index = "[]"

// verdict is what a rule says of a value and of everything below it. A greater one wins where two apply.
type verdict int

const (
	undecided verdict = iota
	// isPublic is shown whatever its key is called, since it is encrypted.
	isPublic
	// isNamed hides the value because of the name of its key: not if it is true, false or a mere reference.
	isNamed
	// isDocument is a text that is YAML by contract, with structure of its own.
	isDocument
	// isAssignment hides what follows the first "=".
	isAssignment
	// isSecret hides the value.
	isSecret
	// isAllSecret hides the keys of mappings as well.
	isAllSecret
)

// rule says what the value at a path is, in documents of a kind, or in any if kind is "".
type rule struct {
	kind    string
	path    glob
	verdict verdict
}

// rules are the places where Talos, Kubernetes and Omni hold secrets whose key alone does not say so, or that are not
// a matter of taste. Keys of any document that say "secret" by their name are in names.go, and what holds whole Kubernetes
// Secrets is in walk.go. Talos' own RedactSecrets covers fewer: no environment, files, headers, manifests or URLs.
var rules = compileRules(map[string]map[string]verdict{
	"": {
		// v1alpha1.Config. A patch has no kind, and neither has the target of a JSON patch.
		"machine/token":                                  isSecret,
		"machine/ca/key":                                 isSecret,
		"machine/acceptedCAs/*/key":                      isSecret,
		"machine/env/*":                                  isSecret, // proxies with passwords, cloud credentials
		"machine/files/*/content":                        isSecret, // containerd credentials, keys
		"machine/registries/**/auth/auth":                isSecret,
		"machine/registries/**/password":                 isSecret,
		"machine/registries/**/key":                      isSecret,
		"machine/network/**/privateKey":                  isSecret,
		"machine/network/**/presharedKey":                isSecret,
		"machine/network/**/apiToken":                    isSecret,
		"machine/systemDiskEncryption/*/keys/*/static/*": isSecret,

		"cluster/secret":                     isSecret,
		"cluster/token":                      isSecret,
		"cluster/aescbcEncryptionSecret":     isSecret,
		"cluster/secretboxEncryptionSecret":  isSecret,
		"cluster/ca/key":                     isSecret,
		"cluster/acceptedCAs/*/key":          isSecret,
		"cluster/aggregatorCA/key":           isSecret,
		"cluster/serviceAccount/key":         isSecret,
		"cluster/etcd/ca/key":                isSecret,
		"cluster/extraManifestHeaders/*":     isSecret,
		"cluster/*/env/*":                    isSecret,
		"cluster/inlineManifests/*/contents": isDocument,

		// Kustomize, and credentials of registries.
		"secretGenerator/*/literals/*": isAssignment,
		"**/auths/*/auth":              isSecret,
	},
	"EnvironmentConfig":           {"variables/*": isSecret},
	"ExtensionServiceConfig":      {"configFiles/*/content": isSecret, "environment/*": isAssignment},
	"RegistryAuthConfig":          {"password": isSecret, "auth": isSecret, "identityToken": isSecret},
	"RegistryTLSConfig":           {"clientIdentity/key": isSecret},
	"SideroLinkConfig":            {"uniqueToken": isSecret},
	"HCloudVIPConfig":             {"apiToken": isSecret},
	"WireguardConfig":             {"privateKey": isSecret, "peers/*/presharedKey": isSecret},
	"VolumeConfig":                {"encryption/keys/*/static/*": isSecret},
	"UserVolumeConfig":            {"encryption/keys/*/static/*": isSecret},
	"RawVolumeConfig":             {"encryption/keys/*/static/*": isSecret},
	"SwapVolumeConfig":            {"encryption/keys/*/static/*": isSecret},
	"KubeEtcdEncryptionConfig":    {"config/**/secret": isSecret},
	"KubeControllerManagerConfig": {"env/*": isSecret},
	"KubeSchedulerConfig":         {"env/*": isSecret},
	// Encrypted for the controller of a cluster, made to be shown.
	"SealedSecret": {"spec/encryptedData/*": isPublic},
	// Its items may leave out their kind.
	"SecretList": {"items/*/data": isSecret, "items/*/stringData": isSecret},
})

// kinds are those that have rules of their own.
var kinds = func() map[string]bool {
	kinds := map[string]bool{}

	for _, byKey := range rules {
		for _, r := range byKey {
			kinds[r.kind] = true
		}
	}

	delete(kinds, "")

	return kinds
}()

// payloads are the fields of Omni's resources that hold a document by contract.
var payloads = map[string]bool{
	"spec/data":                    true, // ConfigPatch, KubernetesManifestGroup
	"spec/job":                     true, // KubernetesHealthCheck: a Job
	"spec/embedded_machine_config": true, // InstallationMediaConfig
}

func isPayload(at []string) bool { return payloads[strings.Join(at, "/")] }

// decide returns what the rules say of a path in a document of a kind.
func decide(kind string, at []string) verdict {
	last := at[len(at)-1]

	for _, r := range rules[last] {
		if (r.kind == "" || r.kind == kind) && r.path.match(at) {
			return r.verdict
		}
	}

	for _, r := range rules["*"] {
		if (r.kind == "" || r.kind == kind) && r.path.match(at) {
			return r.verdict
		}
	}

	return undecided
}

// declaredSecret reports whether the user said that a path is secret.
func (m *masker) declaredSecret(at []string) bool {
	for _, g := range m.declared {
		if g.match(at) {
			return true
		}
	}

	return false
}

// compileRules files the rules by the last key of their path, which is what most values are ruled out by.
func compileRules(table map[string]map[string]verdict) map[string][]rule {
	byKey := map[string][]rule{}

	for kind, paths := range table {
		for p, v := range paths {
			g, err := compile([]string{p})
			if err != nil {
				panic(err)
			}

			last := g[0][len(g[0])-1]
			byKey[last] = append(byKey[last], rule{kind, g[0], v})
		}
	}

	return byKey
}

// glob is a pattern for a path: one element a key, "**" for any number of them.
type glob []string

const (
	maxDeclared     = 1000
	maxDeclaredKeys = 32
)

func compile(patterns []string) ([]glob, error) {
	if len(patterns) > maxDeclared {
		return nil, fmt.Errorf("%d paths are declared secret: at most %d can be; use a * to say several in one", len(patterns), maxDeclared)
	}

	var globs []glob

	for _, pattern := range patterns {
		keys := strings.Split(strings.TrimPrefix(pattern, "/"), "/")
		if len(keys) > maxDeclaredKeys {
			return nil, fmt.Errorf("%q, declared secret, has more than %d keys: use ** for several", pattern, maxDeclaredKeys)
		}

		for i, key := range keys {
			if _, err := path.Match(key, ""); key == "" || err != nil && key != index {
				return nil, fmt.Errorf("%q, declared secret, is no path: write keys with / between them, such as machine/sysctls/* or licenseKey", pattern)
			}

			keys[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(key)
		}

		if len(keys) == 1 && !strings.HasPrefix(pattern, "/") {
			keys = []string{"**", keys[0]}
		}

		globs = append(globs, keys)
	}

	return globs, nil
}

func (g glob) match(at []string) bool {
	for i, pattern := range g {
		if pattern == "**" {
			for skip := range len(at) + 1 {
				if g[i+1:].match(at[skip:]) {
					return true
				}
			}

			return false
		}

		if len(at) == 0 || !matchKey(pattern, at[0]) {
			return false
		}

		at = at[1:]
	}

	return len(at) == 0
}

func matchKey(pattern, key string) bool {
	if pattern == "*" || pattern == key {
		return true
	}

	if !strings.ContainsAny(pattern, `*?[\`) {
		return false
	}

	// path.Match keeps a * from crossing a slash, which is no more than a letter inside of a key.
	ok, _ := path.Match(strings.ReplaceAll(pattern, "/", "\x00"), strings.ReplaceAll(key, "/", "\x00"))

	return ok
}
