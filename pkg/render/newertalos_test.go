package render_test

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

func newerTalosText(talos, patch string) string {
	return "kind: Cluster\nname: c\nkubernetes: {version: v1.34.3}\ntalos: {version: " + talos + "}\npatches:\n  - name: p\n    inline: |\n      " +
		strings.ReplaceAll(patch, "\n", "\n      ") + "\n---\nkind: ControlPlane\n"
}

// F7: documents of a newer Talos were refused: "Talos knows no document of kind …". They are handed on in a cluster whose Talos may
// know them, byte for byte; what is wrong besides is wrong all the same.
func TestDocumentsOfANewerTalos(t *testing.T) {
	const (
		unknown = "apiVersion: v1alpha1\nkind: FromTheFutureConfig\nname: x"
		known   = "machine:\n  nodeLabels: {a: b}"
		wrong   = "machine:\n  nodeLables: {a: b}"
		note    = "c.yaml:8:7: patch \"p\": this omni-syncd knows no Talos document of kind FromTheFutureConfig in v1alpha1: it is handed on as it is, and Omni judges it"
		refusal = "c.yaml:8:7: patch \"p\": this omni-syncd (Talos 1.14) knows no document of kind FromTheFutureConfig in v1alpha1: correct its kind or apiVersion; if a newer Talos has it, update omni-syncd"
	)

	for name, test := range map[string]struct{ talos, patch, notes, problems string }{
		"a newer Talos":             {"v1.14.0", unknown, note, ""},
		"a beta of it":              {"v1.14.0-beta.1", unknown, note, ""},
		"one after it":              {"v1.20.3", unknown, note, ""},
		"an older one":              {"v1.13.9", unknown, "", refusal},
		"after one that is known":   {"v1.14.0", known + "\n---\n" + unknown, strings.Replace(note, "8:7", "11:7", 1), ""},
		"beside one that is wrong":  {"v1.14.0", unknown + "\n---\n" + wrong, "", "c.yaml:13:9: patch \"p\": unknown key machine.nodeLables"},
		"without an apiVersion":     {"v1.14.0", "kind: FromTheFutureConfig", "", "c.yaml:7:13: patch \"p\": this patch is empty"},
		"all of it is known":        {"v1.14.0", known, "", ""},
		"a version that is no such": {"newest", unknown, "", "c.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			set, found := template.Find(fstest.MapFS{"c.yaml": {Data: []byte(newerTalosText(test.talos, test.patch))}}, template.Scope{})
			targets, problems := render.New().Render(context.Background(), set)

			if problems = append(found, problems...); test.problems != "" {
				if len(targets) != 0 || len(problems) == 0 || !strings.HasPrefix(problems[0].Error(), test.problems) {
					t.Fatalf("%d targets, %q, want %q", len(targets), problems, test.problems)
				}

				return
			}

			if len(targets) != 1 || len(problems) != 0 {
				t.Fatalf("%d targets: %q", len(targets), problems)
			}

			var notes []string
			for _, n := range targets[0].Notes {
				notes = append(notes, n.Error())
			}

			if got := strings.Join(notes, "\n"); got != test.notes {
				t.Errorf("notes %q, want %q", got, test.notes)
			}

			for _, r := range targets[0].Resources {
				if text := patchText(t, r); text != "" && !strings.Contains(text, test.patch) {
					t.Errorf("handed on is %q, want %q", text, test.patch)
				}
			}
		})
	}
}

func patchText(t *testing.T, r resource.Resource) string {
	t.Helper()

	patch, ok := r.(*omni.ConfigPatch)
	if !ok {
		return ""
	}

	data, err := patch.TypedSpec().Value.GetUncompressedData()
	if err != nil {
		t.Fatal(err)
	}

	defer data.Free()

	return string(data.Data())
}

// TestFirstNewerTalos: the release whose documents are not known whole is the one that the machinery module leads to.
func TestFirstNewerTalos(t *testing.T) {
	version, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", "github.com/siderolabs/talos/pkg/machinery").Output()
	if err != nil {
		t.Fatal(err)
	}

	if got := strings.TrimSpace(string(version)); !strings.HasPrefix(got, "v1.14.0-") {
		t.Errorf("the machinery module is %s: say in pkg/template which Talos is newer now", got)
	}
}

// A newer key behind a merge was called unknown, and the message offered the same key.
func TestNewerKeyThatCannotBeTakenOut(t *testing.T) {
	for _, features := range []string{"<<: {enableNodeAuditSkip: true}", "enableNodeAuditSkip: &a true", "enableNodeAuditSkip: [true]"} {
		text := strings.Replace(newerTalosText("v1.13.0", "machine: {}"), "patches:", "features:\n  "+features+"\npatches:", 1)
		set, problems := template.Find(fstest.MapFS{"c.yaml": {Data: []byte(text)}}, template.Scope{})
		targets, more := render.New().Render(context.Background(), set)
		all := append(problems, more...).Sorted()

		if len(targets) != 0 || len(all) != 1 || !strings.Contains(all[0].Message, "write `enableNodeAuditSkip: true` or") {
			t.Errorf("%s: %q", features, all)
		}
	}
}

// What is wrong with a patch as a whole, or behind a document that this build does not know, is wrong all the same. Talos' code stops at
// the first such document, and what came after it was handed on.
func TestNewerTalosDocuments_WrongBesides(t *testing.T) {
	const (
		unknown = "apiVersion: v1alpha1\nkind: FromTheFutureConfig\nname: x\n"
		link    = "apiVersion: v1alpha1\nkind: SideroLinkConfig\napiUrl: https://a\n"
	)

	for name, test := range map[string]struct{ patch, want string }{
		"no YAML":            {unknown + "---\nmachine: {nodeLabels: {a: b}\n", "p.yaml:6:1: this patch is not valid YAML: "},
		"two main documents": {unknown + "---\nmachine: {nodeLabels: {a: b}}\n---\nmachine: {nodeLabels: {c: d}}\n", "two documents of this patch are Talos' main one (the second in line 7): make one of them"},
		"around it":          {"machine: {nodeLabels: {a: b}}\n---\n" + unknown + "--- {machine: {nodeLabels: {c: d}}}\n", "two documents of this patch are Talos' main one (the second in line 6): make one of them"},
		"two of one name":    {link + "---\n" + unknown + "---\n" + link, "p.yaml:9:1: two documents of this patch are v1alpha1/SideroLinkConfig/"},
		"too many":           {strings.Repeat(unknown+"---\n", 100) + "machine: {nodeLables: {a: b}}\n", "p.yaml:401:1: this patch has more than 100 documents, and not all can be looked at: make several patches of it"},
	} {
		set, found := template.Find(fstest.MapFS{
			"c.yaml": {Data: []byte("kind: Cluster\nname: c\nkubernetes: {version: v1.34.3}\ntalos: {version: v1.14.0}\npatches:\n  - file: p.yaml\n---\nkind: ControlPlane\n")},
			"p.yaml": {Data: []byte(test.patch)},
		}, template.Scope{})
		targets, problems := render.New().Render(t.Context(), set)

		if got := append(found, problems...).Error(); len(targets) != 0 || !strings.Contains(got, test.want) {
			t.Errorf("%s: %d targets, says %s\nwant %s", name, len(targets), got, test.want)
		}
	}
}

// An empty document beside one that this build does not know is nothing wrong: it was taken for the one that follows, and that for a
// second one.
func TestNewerTalosDocuments_EmptyBesides(t *testing.T) {
	const unknown = "apiVersion: v1alpha1\nkind: FromTheFutureConfig\nname: x\n"

	for _, patch := range []string{
		"apiVersion: v1alpha1\nkind: HostnameConfig\nhostname: x\n---\n# only a comment\n---\nmachine: {sysctls: {a: b}}\n---\n" + unknown,
		"---\n---\nmachine: {sysctls: {a: b}}\n---\n" + unknown,
		"# head\n---\n# more\n---\n" + unknown + "---\nmachine: {sysctls: {a: b}}\n---\n",
	} {
		set, found := template.Find(fstest.MapFS{
			"c.yaml": {Data: []byte("kind: Cluster\nname: c\nkubernetes: {version: v1.34.3}\ntalos: {version: v1.14.1}\npatches:\n  - file: p.yaml\n---\nkind: ControlPlane\n")},
			"p.yaml": {Data: []byte(patch)},
		}, template.Scope{})

		if targets, problems := render.New().Render(t.Context(), set); len(targets) != 1 {
			t.Errorf("%q: %v", patch, append(found, problems...))
		}
	}
}
