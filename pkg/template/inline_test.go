package template_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/google/go-cmp/cmp"
	upstream "github.com/siderolabs/omni/client/pkg/template"
	"go.yaml.in/yaml/v4"

	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// rest completes a Cluster document to a template that upstream accepts.
const rest = `
---
kind: ControlPlane
machines:
  - 430d882a-51a8-48b3-ae00-90c5b0b5b0b0
`

// cluster is a template with something in its patches.
func cluster(patches string) string {
	return "kind: Cluster\nname: c1\nkubernetes:\n  version: v1.34.0\ntalos:\n  version: v1.11.0\npatches:\n" + patches + rest
}

// find looks at a tree of files as a repository.
func find(files map[string]string) (*template.Set, template.Problems) {
	return template.Find(tree(files), template.Scope{})
}

func tree(files map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, content := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(content)}
	}

	return fsys
}

// verdict is everything upstream has to say about a template.
type verdict struct {
	LoadFails, ValidateFails, TranslateFails bool
	Resources                                []string
}

func judge(load func() (*upstream.Template, error)) (v verdict) {
	tmpl, err := load()
	if err != nil {
		return verdict{LoadFails: true}
	}

	v.ValidateFails = tmpl.Validate() != nil

	// Translate asks for a valid template. It is asked all the same, so that content that is no valid patch is
	// compared too.
	defer func() {
		if recover() != nil {
			v.TranslateFails = true
		}
	}()

	resources, err := tmpl.Translate()
	v.TranslateFails = err != nil

	for _, r := range resources {
		v.Resources = append(v.Resources, print(r))
	}

	return v
}

func print(r resource.Resource) string {
	var text strings.Builder

	md := r.Metadata()
	fmt.Fprintf(&text, "%s %v %v\n", resource.String(r), md.Labels().Raw(), md.Annotations().Raw())

	spec, err := yaml.Marshal(r.Spec())
	if err != nil {
		panic(err)
	}

	text.Write(spec)

	return text.String()
}

// compare holds the inlined form against upstream's reading of the same files on a disk.
func compare(t *testing.T, files map[string]string) {
	t.Helper()

	set, problems := find(files)
	if len(problems) > 0 {
		t.Fatalf("problems:\n%v", problems)
	}

	if len(set.Templates) != 1 {
		t.Fatalf("%d templates", len(set.Templates))
	}

	compareWithDisk(t, files, set.Templates[0])
}

func compareWithDisk(t *testing.T, files map[string]string, tmpl *template.Template) {
	t.Helper()

	dir := t.TempDir()

	for name, content := range files {
		name = filepath.Join(dir, name)

		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}

		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()

	closed, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}

	closed.Close()

	want := judge(func() (*upstream.Template, error) {
		file, err := os.Open(filepath.Join(dir, tmpl.Path))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()

		return upstream.Load(file, upstream.WithRoot(root))
	})
	got := judge(func() (*upstream.Template, error) {
		return upstream.Load(bytes.NewReader(tmpl.Inlined()), upstream.WithRoot(closed))
	})

	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("upstream reads the inlined text differently (-disk +inlined):\n%s\ninlined:\n%s", diff, tmpl.Inlined())
	}
}

func TestInlinedMeansTheSame(t *testing.T) {
	patch := "machine:\n  network:\n    hostname: a\n"

	for name, patches := range map[string]string{
		"plain":                 "  - file: patches/a.yaml\n",
		"comment":               "  - file: patches/a.yaml # why: \"this\" {x}\n",
		"double quoted":         "  - file: \"patches/a.yaml\"\n",
		"escaped":               "  - file: \"patches\\x2fa.yaml\" # \"\n",
		"single quoted":         "  - file: 'patches/a.yaml'\n",
		"quoted apostrophe":     "  - file: 'patches/it''s.yaml'\n",
		"quoted over two lines": "  - file: \"patches/\\\n      a.yaml\"\n    labels: {a: b}\n",
		"quoted key":            "  - \"file\": patches/a.yaml\n",
		"space before colon":    "  - file : patches/a.yaml\n",
		"flow":                  "  - {file: patches/a.yaml, labels: {a: b}}\n",
		"json":                  "  [{\"labels\":{\"a\":\"b\"},\"file\":\"patches/a.yaml\"}]\n",
		"flow in flow":          "  [ {file: patches/a.yaml} , {idOverride: x, file: ./patches/../patches/a.yaml} ]\n",
		"uncleaned":             "  - file: ./patches//a.yaml\n",
		"same indentation":      "- file: patches/a.yaml\n- file: patches/b.yaml\n",
		"name first":            "  - name: n\n    file: patches/a.yaml\n",
		"name last":             "  - file: patches/a.yaml\n    name: n\n",
		"idOverride":            "  - idOverride: o\n    file: patches/a.yaml\n",
		"name is null":          "  - name: ~\n    file: patches/a.yaml\n",
		"name is nothing":       "  - name:\n    file: patches/a.yaml\n",
		"name is nothing, late": "  - file: patches/a.yaml\n    name: # nothing\n",
		"name is empty":         "  - name: \"\"\n    file: patches/a.yaml\n",
		"name is nothing, flow": "  - {file: patches/a.yaml, name: }\n",
		"file is empty":         "  - file: \"\"\n    name: x\n    inline: {machine: {}}\n",
		"file is null":          "  - file:\n    name: x\n    inline: {machine: {}}\n",
		"deep dash":             "  -    file: patches/a.yaml\n       labels:\n         x: y\n",
		"dash on its own":       "  -\n    labels: {x: y}\n    file: patches/a.yaml\n",
		"unicode before it":     "  - {name: ünïcödé 😀 \"x\", file: patches/a.yaml}\n",
		"merged labels":         "  - &l\n    labels: {a: b}\n    name: n\n    inline: {machine: {}}\n  - file: patches/a.yaml\n    labels: {<<: {c: d}}\n",
		"merged name":           "  - name: n\n    labels: &n {name: m}\n    file: patches/a.yaml\n  - <<: *n\n    file: patches/b.yaml\n",
		"literal beside it":     "  - name: x\n    inline: |2\n       a: b\n\n\n      c: d\n  - file: patches/a.yaml\n",
		"folded beside it":      "  - name: x\n    inline: >-\n      a:\n\n       b\n  - file: patches/a.yaml\n",
		"odd comments":          "# one\n     # two\n  # three\n  - file: patches/a.yaml\n         # four\n    # five\n",
		"crlf":                  "  - file: patches/a.yaml\r\n    labels:\r\n      a: b\r\n  - file: 'patches/b.yaml'\r\n",
		"next line character":   "  - name: \"x\u0085 y\"\n    inline: {machine: {}} # \u2028\n  - file: patches/a.yaml\n",
		"unicode file":          "  - file: patches/é😀.yaml\n",
		"number":                "  - file: 12\n",
	} {
		t.Run(name, func(t *testing.T) {
			compare(t, map[string]string{
				"clusters/c.yaml":            cluster(patches),
				"clusters/patches/a.yaml":    patch,
				"clusters/patches/b.yaml":    "machine:\n  env: {a: b}\n",
				"clusters/patches/it's.yaml": patch,
				"clusters/patches/é😀.yaml":   patch,
				"clusters/12":                patch,
			})
		})
	}
}

func TestInlinedManifestsAndHealthchecks(t *testing.T) {
	for name, list := range map[string]string{
		"manifest":              "manifests:\n    - name: m\n      mode: full\n      file: ../shared/m.yaml\n",
		"manifest without name": "manifests:\n    - {mode: full, file: ../shared/m.yaml}\n",
		"same manifest twice":   "manifests:\n    - {mode: full, file: ../shared/m.yaml}\n    - {mode: full, file: ../shared/m.yaml}\n",
		"manifest without mode": "manifests:\n    - file: ../shared/m.yaml\n",
		"health check":          "healthchecks:\n    - name: h\n      interval: 5m\n      file: ../shared/m.yaml\n",
		"health check, id":      "healthchecks:\n    - idOverride: h\n      file: ../shared/m.yaml\n",
		"health check, no name": "healthchecks:\n    - file: ../shared/m.yaml\n",
	} {
		t.Run(name, func(t *testing.T) {
			compare(t, map[string]string{
				"clusters/c.yaml": "kind: Cluster\nname: c1\nkubernetes:\n  version: v1.34.0\n  " + list + "talos:\n  version: v1.11.0" + rest,
				"shared/m.yaml":   "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n",
			})
		})
	}
}

// awkward are contents that other ways to write a string have lost something of.
var awkward = []string{
	"",
	"\n",
	"machine: {}",
	"machine:\n\tx: y\n",
	"machine:\r\n  network: {}\r\n",
	"\n\n  machine:\n    x: y\n\n\n",
	"   leading and trailing   \n   ",
	"\ufeffmachine: {}\n",
	"a\u0085b\u2028c\u2029d\ufffee\uffff\u00a0",
	"emoji 😀 é \U0010ffff",
	"\x00\x01\x1b\x7f",
	"\"quoted\" and \\back\\slashed 'single'",
	"---\nmachine: {}\n---\ncluster: {}\n...\n",
	"# only a comment",
	"key: " + strings.Repeat("long words ", 500),
	strings.Repeat("x", 5000),
	strings.Repeat("\n", 300) + strings.Repeat(" ", 300),
	"{{ not: yaml }} : : %",
}

func FuzzInlinedContent(f *testing.F) {
	for _, content := range awkward {
		f.Add(content)
	}

	text := "kind: Cluster\nname: c1\nkubernetes:\n  version: v1.34.0\n  manifests:\n    - {mode: full, file: m.yaml}\n" +
		"  healthchecks:\n    - name: h\n      file: m.yaml\ntalos:\n  version: v1.11.0\npatches:\n  - file: m.yaml\n" + rest

	f.Fuzz(func(t *testing.T, content string) {
		files := map[string]string{"c.yaml": text, "m.yaml": content}
		set, problems := find(files)

		if !utf8.ValidString(content) {
			if len(problems) != 3 || !strings.Contains(problems.Error(), "not text in UTF-8") {
				t.Errorf("invalid UTF-8 was let through: %v", problems)
			}

			return
		}

		var own *template.Template

		for _, tmpl := range set.Templates {
			if tmpl.Path == "c.yaml" {
				own = tmpl
			}
		}

		compareWithDisk(t, files, own)
	})
}

// FuzzInlinedTemplate changes the template instead of what it refers to.
func FuzzInlinedTemplate(f *testing.F) {
	f.Add(cluster("  - file: a.yaml\n  - {name: , file: 'a.yaml'}\n"))
	f.Add(cluster("  - &x {file: a.yaml}\n  - *x\n"))
	f.Add(cluster("  - ? file\n    : a.yaml\n"))
	f.Add(cluster("  - [file: a.yaml]\n"))
	f.Add(cluster("  [file: a.yaml]\n"))
	f.Add(cluster("  - file: |\n      a.yaml\n"))
	f.Add(cluster("  - file: !!str a.yaml\n"))
	f.Add(cluster("  - file: a.yaml\n    inline: {}\n"))
	f.Add(cluster("  - file: a.yaml\n    <<: {name: x}\n"))
	f.Add(cluster("  - file:\n      a.yaml\n"))
	f.Add(cluster("  - file:\ta.yaml\n"))
	f.Add("\ufeff" + cluster("  - file: a.yaml\n"))
	f.Add("--- {kind: Cluster, name: x, kubernetes: {version: v1.34.0}, talos: {version: v1.11.0}, patches: [{file: a.yaml}]}" + rest)
	f.Add("kind: Machine\nname: x\npatches:\n- file: a.yaml\n---\nkind: Cluster\n")

	f.Fuzz(func(t *testing.T, text string) {
		files := map[string]string{"c.yaml": text, "a.yaml": "machine: {}\n"}
		set, problems := find(files)

		if len(set.Templates) == 1 && len(problems) == 0 {
			compareWithDisk(t, files, set.Templates[0])
		}
	})
}
