package template

import (
	"regexp"
	"strings"

	"github.com/omni-syncd/omni-syncd/pkg/template/schema"
)

// advice says in our words what upstream complains about, with what to do. $1 and so on are groups of the expression.
var advice = []struct {
	*regexp.Regexp
	words string
	rule  Rule
}{
	{regexp.MustCompile(`^name is required$`), "name is required: add the cluster's name", ""},
	{regexp.MustCompile(`^name is required for machine$`), "name is required: add the machine's ID in Omni", ""},
	{regexp.MustCompile(`^(name should only contain .*)$`), "$1: choose another name", ""},
	{regexp.MustCompile(`^template should contain 1 cluster, got (\d+)$`), "a template has one Cluster document, and here are $1: move each into a file of its own", ""},
	{regexp.MustCompile(`^template should contain 1 controlplane, got 0$`), "a template needs a document with kind: ControlPlane: add one, after a line ---", ""},
	{regexp.MustCompile(`^template should contain 1 controlplane, got (\d+)$`), "a template has one ControlPlane document, and here are $1: keep one", ""},
	{regexp.MustCompile(`^kubernetes\.version: version is required$`), "kubernetes.version is required: add it, like v1.34.3", ""},
	{regexp.MustCompile(`^talos\.version: version is required$`), "talos.version is required: add it, like v1.12.0", ""},
	{regexp.MustCompile(`^(kubernetes|talos)\.version: version should be in semver format: (.*)$`), "$1.version is no version ($2): write three numbers, like v1.34.3", ""},
	{regexp.MustCompile(`^talos\.version: version should start with 'v'$`), "talos.version must begin with v: write it like v1.12.0", ""},
	{regexp.MustCompile(`^kind field not found$`), "this document has no kind: add one of Cluster, ControlPlane, Workers and Machine", RuleUnknown},
	{regexp.MustCompile(`^unexpected node kind .*, expecting mapping$`), "this document is no mapping: it needs a kind, or must go", ""},
	{regexp.MustCompile(`^invalid machine count (.*): strconv.*$`), "machine count $1: use a whole number, or unlimited for all that match", ""},
	{regexp.MustCompile(`^invalid machine ID ("(?:[^"\\]|\\.)*"): (.*)$`), "machine $1 is not named by its ID ($2): use the machine's UUID in Omni", ""},
	{regexp.MustCompile(`^(machine ".*" is not used in controlplane or workers)$`), "$1: add it to the machines of one of them, or remove this document", ""},
	{regexp.MustCompile(`^machine (".*") is locked and used in controlplane$`), "machine $1 is of the control plane and cannot be locked: remove locked", ""},
	{regexp.MustCompile(`^duplicate workers with name ""$`), "two Workers documents have no name: give one of them a name", RuleDuplicate},
	{regexp.MustCompile(`^(duplicate workers with name .*)$`), "$1: give one of them another name", RuleDuplicate},
	{regexp.MustCompile(`^(machine ".*" is used in multiple workers.*)$`), "$1: keep it in one of them", RuleDuplicate},
	{regexp.MustCompile(`^machines \[(.*)\] are used in both controlplane and workers$`), "these machines are in the ControlPlane and in Workers: $1; keep each in one of them", RuleDuplicate},
	{regexp.MustCompile(`^((?:.*: )?(?:label|annotation) ".*" is invalid: prefix ".*" is reserved for internal use)$`), "$1: choose another prefix", ""},
	{regexp.MustCompile(`^(.* is not allowed in (?:the controlplane|workers))$`), "$1: remove it", ""},
	{regexp.MustCompile(`^machine set can not have both machines and machine class defined$`), "machines and machineClass exclude each other: remove one of them", ""},
	{regexp.MustCompile(`^kernelArgs cannot be defined for machine set since it uses machine class$`), "kernelArgs and machineClass exclude each other: remove one of them", ""},
	{regexp.MustCompile(`^((\w+) is required in bootstrapSpec)$`), "$1: add it", ""},
	{regexp.MustCompile(`^(.*)path or inline is required$`), "${1}file or inline is required: add one of them", ""},
	{regexp.MustCompile(`^(.*)path and inline are mutually exclusive$`), "${1}file and inline exclude each other: remove one of them", ""},
	{regexp.MustCompile(`^(.*)(either name or idOverride is required for .*)$`), "${1}$2: add one of them", ""},
	{regexp.MustCompile(`^(kubernetes manifest name is empty)$`), "$1: add a name", ""},
	{regexp.MustCompile(`^kubernetes (manifest ".*") mode is not set$`), "$1 has no mode: add mode: full or mode: one-time", ""},
	{regexp.MustCompile(`^(duplicate (?:manifest name|healthcheck) .*)$`), "$1: rename one of them", RuleDuplicate},
	{regexp.MustCompile(`^(healthcheck ".*": )job or file is required$`), "${1}job or file is required: add one of them", ""},
	{regexp.MustCompile(`^resource ID duplicate ([^(]*)\([^/]*/(.*)\)$`), "$1 $2 is described twice: remove or rename one of the two", RuleDuplicate},
	{regexp.MustCompile(`^(disk encryption is supported only for Talos version >= .*)$`), "$1: use a newer one, or remove features.diskEncryption", ""},
}

var (
	unknownKind     = regexp.MustCompile(`^unknown model kind "(.*)"$`)
	unknownMode     = regexp.MustCompile(`^unknown mode name "(.*)"$`)
	unknownStrategy = regexp.MustCompile(`^invalid update strategy type (.*)$`)
)

// advise says a complaint of upstream in words that end in what to do, if it is known.
func advise(message string) (string, Rule) {
	for _, words := range []struct {
		*regexp.Regexp
		known []string
	}{
		{unknownKind, schema.Kinds()},
		{unknownMode, schema.Enum("KubernetesManifestMode")},
		{unknownStrategy, schema.Enum("UpdateStrategyType")},
	} {
		if m := words.FindStringSubmatch(message); m != nil {
			return strings.TrimSuffix(message, ":") + schema.DidYouMean(m[1], words.known), RuleUnknown
		}
	}

	for _, a := range advice {
		if m := a.FindStringSubmatchIndex(message); m != nil {
			return string(a.ExpandString(nil, a.words, message, m)), a.rule
		}
	}

	return message, RuleInvalid
}
