package render_test

import (
	"path"
	"strings"
	"testing"
	"testing/fstest"
	"unicode"

	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

const hostileTemplate = `kind: Cluster
name: c
kubernetes: {version: v1.34.0}
talos: {version: v1.11.0}
patches:
  - file: p.yaml
  - {name: inline, inline: {machine: {token: hunter2, type: [hunter2], sysctl: {a: hunter2}, network: hunter2}}}
---
kind: ControlPlane
machines: [430d882a-51a8-48b3-ae00-90c5b0b5b0b0]
`

// validated returns the problems of a repository, and fails if one cannot be shown or is nowhere.
func validated(t *testing.T, files fstest.MapFS) template.Problems {
	t.Helper()

	set, problems := template.Find(files, template.Scope{})
	_, more := render.New().Render(t.Context(), set)
	problems = append(problems, more...).Sorted()

	for _, problem := range problems {
		text := problem.Error()
		if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("not printable: %q", text)
		}

		if problem.File == "" {
			continue
		}

		file := files[path.Clean(problem.File)]
		if file == nil {
			t.Fatalf("no such file: %q", text)
		}

		if line := problem.Line; line > 0 {
			row, ok := template.Lines(file.Data)(line)
			if !ok && line > 1 {
				t.Errorf("no such line: %q", text)
			} else if length := len([]rune(row)); problem.Column < 1 || problem.Column > length+1 {
				t.Errorf("column %d of %d: %q in %q", problem.Column, length, text, row)
			}
		}
	}

	return problems
}

// FuzzProblems: whatever a template and a patch hold, every problem is one printable line, and is where it says.
func FuzzProblems(f *testing.F) {
	f.Add(hostileTemplate, "machine:\n  kubelet:\n    imag: x\n---\nmachine: [\n")
	f.Add(hostileTemplate, "\ufeffmachine: {token: x}\r\n--- {kind: x}\u2028")
	f.Add("kind: Cluster\nnmae: c\nname: x\nname: y\npatches: &a\n  - file: p.yaml\n    inline: |2\n      x: [\n---\nkind: Worker\n<<: *a\n---\n---\n", "- a")
	f.Add("\xff\xfek\x00i\x00", "")

	f.Fuzz(func(t *testing.T, text, patch string) {
		if len(text)+len(patch) > 1<<14 {
			return
		}

		validated(t, fstest.MapFS{"a.yaml": {Data: []byte(text)}, "p.yaml": {Data: []byte(patch)}})
	})
}

// TestG9_NoValuesInProblems: what is wrong in a patch is told without what it holds.
func TestG9_NoValuesInProblems(t *testing.T) {
	for _, patch := range []string{
		"machine: {token: hunter2, kubelt: hunter2, network: hunter2}\n",
		"machine:\n  network:\n    interfaces:\n      - {interface: e, addresses: {a: hunter2}, mtu: hunter2, adress: hunter2}\n",
		"machine:\n  time: {bootTimeout: hunter2}\n  install: {diskSelector: {size: hunter2}}\n  files: [{permissions: hunter2}]\n",
		"cluster:\n  secret: hunter2\n  network: {podSubnets: hunter2}\n  controlPlane: {endpoint: 'http://[hunter2'}\n  ca: {crt: 'hunter2!', key: 'hunter2!'}\n",
		"apiVersion: v1alpha1\nkind: WireguardConfig\nprivateKey: [hunter2]\npeers: hunter2\n",
		"machine:\n  token: 'hunter2\n",
		"hunter2\n",
	} {
		problems := validated(t, fstest.MapFS{"a.yaml": {Data: []byte(hostileTemplate)}, "p.yaml": {Data: []byte(patch)}})

		inPatch := 0
		for _, problem := range problems {
			if problem.File == "p.yaml" {
				inPatch++
			}
		}

		if text := problems.Error(); strings.Contains(text, "hunter2") || inPatch == 0 {
			t.Errorf("%s%s", patch, text)
		}

		t.Log(problems.Error())
	}
}
