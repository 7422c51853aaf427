package template_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// F7, F3: upstream's models of this build refuse what templates of newer releases say. It is taken out of the text, which stays as
// it was besides.
func TestSettings(t *testing.T) {
	const head, tail = "kind: Cluster\nname: c\n", "\ntalos: {version: v1.14.0}\n"

	for name, test := range map[string]struct{ features, left, want string }{
		"alone":         {"features:\n  enableNodeAuditSkip: true # why", "features:\n  # why", "features.enableNodeAuditSkip=true at c.yaml:4:3"},
		"among others":  {"features:\n  diskEncryption: true\n  disablePublicDiscoveryService: false\n  enableWorkloadProxy: true", "features:\n  diskEncryption: true\n  \n  enableWorkloadProxy: true", "features.disablePublicDiscoveryService=false at c.yaml:5:3"},
		"both":          {"features: {enableNodeAuditSkip: true, disablePublicDiscoveryService: true}", "features: { }", "features.disablePublicDiscoveryService=true at c.yaml:3:39 features.enableNodeAuditSkip=true at c.yaml:3:12"},
		"first in flow": {"features: {enableNodeAuditSkip: true , diskEncryption: true}", "features: { diskEncryption: true}", "features.enableNodeAuditSkip=true at c.yaml:3:12"},
		"quoted key":    {"features:\n  \"enableNodeAuditSkip\": true", "features:\n  ", "features.enableNodeAuditSkip=true at c.yaml:4:3"},
		"before a tab":  {"features:\n  enableNodeAuditSkip: true\t# why", "features:\n  # why", "features.enableNodeAuditSkip=true at c.yaml:4:3"},
		"at a tab":      {"features:\n  enableNodeAuditSkip:\t\n  diskEncryption: true", "features:\n  \n  diskEncryption: true", ""},
		"yes":           {"features: {enableNodeAuditSkip: yes, disablePublicDiscoveryService: \"off\"}", "features: { }", "features.disablePublicDiscoveryService=false at c.yaml:3:38 features.enableNodeAuditSkip=true at c.yaml:3:12"},
		"a number":      {"features:\n  enableNodeAuditSkip: 1", "features:\n  ", "c.yaml:4:24: here stands a number, and true or false is needed"},
		"no value":      {"features:\n  enableNodeAuditSkip:", "features:\n  ", ""},
		"a text":        {"features:\n  enableNodeAuditSkip: yes please", "features:\n  ", "c.yaml:4:24: here stands a text, and true or false is needed"},
		"a list":        {"features:\n  enableNodeAuditSkip: [true]", "features:\n  enableNodeAuditSkip: [true]", "c.yaml:4:3: write `enableNodeAuditSkip: true` or `enableNodeAuditSkip: false` on one line, without anchors, aliases or tags"},
		"an anchor":     {"features:\n  enableNodeAuditSkip: &a true", "features:\n  enableNodeAuditSkip: &a true", "c.yaml:4:3: write `enableNodeAuditSkip: true` or"},
		"elsewhere":     {"labels: {enableNodeAuditSkip: true}", "labels: {enableNodeAuditSkip: true}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			set, _ := template.Find(fstest.MapFS{"c.yaml": {Data: []byte(head + test.features + tail)}}, template.Scope{})
			if len(set.Templates) != 1 {
				t.Fatal("no template")
			}

			var said []string
			for _, s := range set.Templates[0].Settings() {
				value := "=false"
				if s.Value {
					value = "=true"
				}

				said = append(said, s.String()+value+" at "+s.Position.String())
			}

			for _, p := range set.Templates[0].Problems {
				said = append(said, p.Error())
			}

			if got := strings.Join(said, " "); !strings.HasPrefix(got, test.want) || test.want == "" && got != "" {
				t.Errorf("got %s\nwant %s", got, test.want)
			}

			if got := string(set.Templates[0].Inlined()); got != head+test.left+tail {
				t.Errorf("upstream gets %q, want %q", got, head+test.left+tail)
			}
		})
	}
}
