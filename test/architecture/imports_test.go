// Package architecture holds the project to the picture in docs/architecture.md.
package architecture

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/omni-syncd/omni-syncd/"

// allowed says which packages of this module a package may import. What is not listed
// here is not allowed to exist: name it, and say where it stands in the flow.
var allowed = map[string][]string{
	// The flow: source → template → render → diff → sync → omni. Each stage knows the
	// data of the stages before it; source and omni are leaves.
	"pkg/source":           {},
	"pkg/source/signature": {},
	"pkg/template":         {"pkg/template/schema"},
	"pkg/template/schema":  {},
	"pkg/render":           {"pkg/template", "pkg/template/schema", "pkg/omni", "pkg/omni/installdisk"},
	"pkg/omni":             {},
	"pkg/omni/installdisk": {},
	"pkg/omni/embedded":    {"pkg/omni/installdisk"},
	"pkg/diff":             {"pkg/diff/mask", "pkg/template/schema", "pkg/render", "pkg/omni", "pkg/omni/installdisk", "pkg/report"},
	"pkg/diff/mask":        {"pkg/omni"},
	"pkg/preflight":        {"pkg/template/schema", "pkg/render", "pkg/diff", "pkg/omni", "pkg/omni/installdisk"},
	"pkg/sync":             {"pkg/source", "pkg/template", "pkg/render", "pkg/diff", "pkg/diff/mask", "pkg/preflight", "pkg/omni", "pkg/history", "pkg/statefile"},
	// Beside the flow.
	"pkg/report":          {},
	"pkg/forge":           {},
	"pkg/forge/forgetest": {},
	"pkg/access":          {"pkg/sync", "pkg/omni"},
	"pkg/replica":         {"pkg/sync"},
	"pkg/server":          {},
	"pkg/server/webhook":  {},
	"pkg/server/auth":     {},
	"pkg/server/metrics":  {"pkg/source", "pkg/diff", "pkg/omni", "pkg/sync"},
	"pkg/server/api": {
		"pkg/server", "pkg/server/auth", "pkg/access", "pkg/sync", "pkg/diff", "pkg/history", "api/omnisyncd/v1", "api/omnisyncd/v1/omnisyncdv1connect",
	},
	"api/omnisyncd/v1":                    {},
	"api/omnisyncd/v1/omnisyncdv1connect": {"api/omnisyncd/v1"},
	"pkg/config":                          {},
	"pkg/history":                         {"pkg/statefile"},
	"pkg/statefile":                       {},
	"examples":                            {},
	"cmd/omni-syncd": {
		"pkg/config", "pkg/source", "pkg/template", "pkg/template/schema", "pkg/render", "pkg/diff", "pkg/omni", "pkg/omni/embedded", "pkg/omni/installdisk", "pkg/sync", "pkg/replica", "pkg/history", "pkg/source/signature",
		"pkg/server", "pkg/server/webhook", "pkg/server/auth", "pkg/server/metrics", "pkg/server/api", "pkg/access", "pkg/report", "pkg/forge", "pkg/diff/mask", "api/omnisyncd/v1", "api/omnisyncd/v1/omnisyncdv1connect", "examples",
	},
	"deploy/helm":       {"pkg/config", "pkg/replica", "pkg/sync", "test/kube"},
	"deploy/image":      {},
	"deploy/monitoring": {},
	"deploy/packages":   {},
	"deploy/systemd":    {},
	"test/architecture": {},
	"test/authority":    {},
	"test/bench":        {},
	"test/binary":       {},
	"test/chaos":        {},
	"test/e2e":          {"pkg/omni"},
	"test/failover":     {},
	"test/conformance":  {},
	"test/fleet":        {},
	"test/gitea":        {},
	"test/daemon":       {"pkg/diff", "pkg/omni", "pkg/omni/embedded", "pkg/source", "pkg/sync", "test/secrets"},
	"test/kube":         {},
	"test/secrets":      {},
}

func TestImportDirection(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}

	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		pkg := strings.TrimPrefix(words[0], module)

		may, known := allowed[pkg]
		if !known {
			t.Errorf("%s is not in the picture", pkg)
		}

		for _, imported := range words[1:] {
			if name, ours := strings.CutPrefix(imported, module); ours && !slices.Contains(may, name) {
				t.Errorf("%s must not import %s", pkg, name)
			}
		}
	}
}
