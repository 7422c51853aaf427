package render_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestRender runs over archives: a repository, and in the file "want" everything that is rendered from it or wrong
// with it.
func TestRender(t *testing.T) {
	archives, err := filepath.Glob("testdata/render/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives: %v", err)
	}

	for _, name := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}

			fsys, want := fstest.MapFS{}, ""

			for _, file := range archive.Files {
				if file.Name == "want" {
					want = string(file.Data)
				} else {
					fsys[file.Name] = &fstest.MapFile{Data: file.Data}
				}
			}

			got := describe(t, fsys)
			if got == want {
				return
			}

			if !*update {
				t.Fatalf("run with -update if this is right (-want +got):\n%s", cmp.Diff(want, got))
			}

			archive.Files = slices.DeleteFunc(archive.Files, func(file txtar.File) bool { return file.Name == "want" })
			archive.Files = append(archive.Files, txtar.File{Name: "want", Data: []byte(got)})

			if err := os.WriteFile(name, txtar.Format(archive), 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func describe(t *testing.T, fsys fstest.MapFS) string {
	t.Helper()

	set, problems := template.Find(fsys, template.Scope{})
	targets, more := render.New().Render(t.Context(), set)

	var text strings.Builder

	for _, target := range targets {
		fmt.Fprintf(&text, "target %q from %q\n", target.Name, target.Path)

		for _, r := range target.Resources {
			fmt.Fprintf(&text, "  %s from %s\n", resource.String(r), target.Position(r.Metadata()))

			if target.Name == "" {
				var out bytes.Buffer
				if err := render.WriteYAML(&out, []resource.Resource{r}); err != nil {
					t.Fatal(err)
				}

				for line := range strings.Lines(documents(out.String())[0]) {
					text.WriteString("    " + line)
				}

				text.WriteString("\n")
			}
		}
	}

	if problems = append(problems, more...).Sorted(); len(problems) > 0 {
		text.WriteString(problems.Error() + "\n")
	}

	return text.String()
}

func repository(changes map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	add := func(name, content string) { fsys[name] = &fstest.MapFile{Data: []byte(content)} }

	for i := range 5 {
		add(fmt.Sprintf("clusters/c%d.yaml", i), clusterText(i, 2))
	}

	add("clusters/patches/p.yaml", "machine:\n  network:\n    kubespan:\n      enabled: true\n")
	add("fleet/class.yaml", "metadata: {namespace: default, type: MachineClasses.omni.sidero.dev, id: x}\nspec: {matchlabels: [a]}\n")

	for name, content := range changes {
		if add(name, content); content == "" {
			delete(fsys, name)
		}
	}

	return fsys
}

// clusterText is a template with a number of machines that no other cluster has.
func clusterText(cluster, machines int) string {
	var text strings.Builder

	fmt.Fprintf(&text, "kind: Cluster\nname: c%d\nkubernetes:\n  version: v1.34.0\ntalos:\n  version: v1.11.0\npatches:\n  - file: patches/p.yaml\n", cluster)

	for i := range machines {
		switch i {
		case 0:
			text.WriteString("---\nkind: ControlPlane\nmachines:\n")
		case 1:
			text.WriteString("---\nkind: Workers\nmachines:\n")
		}

		fmt.Fprintf(&text, "  - 430d882a-51a8-48b3-ae00-%08x%04x\n", cluster, i)
	}

	return text.String()
}

func mustRender(t *testing.T, r *render.Renderer, fsys fstest.MapFS) map[string]*render.Target {
	t.Helper()

	set, problems := template.Find(fsys, template.Scope{})
	targets, more := r.Render(t.Context(), set)

	if problems = append(problems, more...); len(problems) > 0 {
		t.Fatal(problems)
	}

	byName := map[string]*render.Target{}
	for _, target := range targets {
		byName[target.Name] = target
	}

	return byName
}

func TestUnchangedIsNotRenderedAgain(t *testing.T) {
	r := render.New()
	first := mustRender(t, r, repository(nil))

	if len(first) != 6 {
		t.Fatalf("%d targets", len(first))
	}

	for name, target := range mustRender(t, r, repository(nil)) {
		if target != first[name] {
			t.Errorf("%q was rendered again although nothing changed", name)
		}
	}

	second := mustRender(t, r, repository(map[string]string{"clusters/c3.yaml": clusterText(3, 5), "clusters/c4.yaml": ""}))
	for name, target := range second {
		if same := target == first[name]; same != (name != "c3") {
			t.Errorf("%q: the same target again: %v", name, same)
		}
	}

	if second["c3"].Digest == first["c3"].Digest || len(second["c3"].Resources) != len(first["c3"].Resources)+3 {
		t.Error("the change of c3 was not rendered")
	}

	if third := mustRender(t, r, repository(nil)); third["c4"] == first["c4"] {
		t.Error("a target that left the set is still remembered")
	}

	// A file that all templates refer to, and the manifests.
	for name, target := range mustRender(t, r, repository(map[string]string{"clusters/patches/p.yaml": "machine: {}\n"})) {
		if same := target == first[name]; same != (name == "") {
			t.Errorf("%q after a change of the patch: the same target again: %v", name, same)
		}
	}
}

// Whatever a set has in common with the one before, it renders to what it renders to alone.
func TestRenderRandomly(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	kept, files := render.New(), fstest.MapFS{"patches/p.yaml": {Data: []byte("machine: {}\n")}}

	for step := range 150 {
		for range 1 + random.IntN(3) {
			path := fmt.Sprintf("%d.yaml", random.IntN(6))

			switch n := random.IntN(8); n {
			case 0:
				delete(files, path)
			case 1: // a manifest, maybe of what a template describes
				files[path] = &fstest.MapFile{Data: fmt.Appendf(nil, "metadata: {namespace: default, type: Clusters.omni.sidero.dev, id: c%d}\nspec: {}\n", random.IntN(8))}
			case 2: // two change places
				other := fmt.Sprintf("%d.yaml", random.IntN(6))
				if files[path] != nil && files[other] != nil {
					files[path], files[other] = files[other], files[path]
				}
			default:
				files[path] = &fstest.MapFile{Data: []byte(clusterText(random.IntN(8), 1+random.IntN(2)))}
			}
		}

		set, _ := template.Find(files, template.Scope{})
		got, gotProblems := kept.Render(t.Context(), set)
		want, wantProblems := render.New().Render(t.Context(), set)

		describe := func(targets []*render.Target, problems template.Problems) (lines []string) {
			for _, target := range targets {
				lines = append(lines, fmt.Sprintf("%q %s %s %d", target.Name, target.Path, target.Digest, len(target.Resources)))
			}

			return append(lines, problems.Error())
		}

		if d := cmp.Diff(describe(want, wantProblems), describe(got, gotProblems)); d != "" {
			t.Fatalf("seed %d, step %d: %s", seed, step, d)
		}
	}
}

// A problem between two files goes away with the other file. The template itself has not changed.
func TestProblemBetweenFilesIsNotRemembered(t *testing.T) {
	r := render.New()
	broken := repository(map[string]string{"other.yaml": "kind: Cluster\nname: c1\n"})

	set, _ := template.Find(broken, template.Scope{})
	targets, _ := r.Render(t.Context(), set)

	for _, target := range targets {
		if target.Name == "c1" {
			t.Error("a cluster that is defined twice was rendered")
		}
	}

	if len(targets) != 5 {
		t.Errorf("%d targets: the others are held up", len(targets))
	}

	if mustRender(t, r, repository(nil))["c1"] == nil {
		t.Error("c1 is not back")
	}
}

func TestRenderConcurrently(t *testing.T) {
	r := render.New()

	var group sync.WaitGroup

	for i := range 8 {
		group.Go(func() {
			set, _ := template.Find(repository(map[string]string{"clusters/c9.yaml": clusterText(9, i%3+1)}), template.Scope{})

			targets, problems := r.Render(t.Context(), set)
			if len(targets) != 7 || len(problems) > 0 {
				t.Errorf("%d targets, %v", len(targets), problems)
			}

			if !slices.IsSortedFunc(targets, func(a, b *render.Target) int { return strings.Compare(a.Name, b.Name) }) {
				t.Error("not sorted by name")
			}
		})
	}

	group.Wait()
}

func TestRenderStopsWithItsContext(t *testing.T) {
	set, _ := template.Find(repository(nil), template.Scope{})

	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	targets, problems := render.New().Render(ctx, set)
	if len(targets) > 0 || len(problems) != 1 {
		t.Errorf("%d targets, %v", len(targets), problems)
	}
}

// A secret in a patch must not come out in what is said about the patch (G9).
func TestProblemsHoldNoValues(t *testing.T) {
	const secret = "hunter2hunter2"

	for name, patch := range map[string]string{
		"unknown key":    "machine:\n  registries:\n    config:\n      x:\n        auth:\n          passwrd: " + secret + "\n",
		"unknown keys":   "machine:\n  a: [{b: " + secret + "}]\n  " + secret + "x: y\ncluster:\n  tokn: " + secret + "\n",
		"wrong type":     "machine:\n  network: " + secret + "\n",
		"not a mapping":  secret + "\n",
		"broken":         "machine:\n  x: [" + secret + "\n",
		"other document": "apiVersion: v1alpha1\nkind: Nothing\npassword: " + secret + "\n",
		"forbidden":      "machine:\n  token: " + secret + "\n",
		"wrong number":   "machine:\n  install:\n    wipe: " + secret + "\n",
		"wrong duration": "machine:\n  time:\n    bootTimeout: " + secret + "\n",
		"wrong address":  "cluster:\n  controlPlane:\n    endpoint: \"http://[" + secret + "\"\n",
	} {
		t.Run(name, func(t *testing.T) {
			set, problems := template.Find(repository(map[string]string{"clusters/patches/p.yaml": patch}), template.Scope{})

			_, more := render.New().Render(t.Context(), set)
			if problems = append(problems, more...); len(problems) == 0 {
				t.Skip("upstream accepts this patch")
			}

			t.Log(problems[0])

			if name != "unknown keys" && strings.Contains(problems.Error(), secret[:5]) {
				t.Errorf("a value came out: %s", problems[0])
			}
		})
	}
}

// Manifests that would expand without end are stopped before they are decoded.
func TestBrokenManifestIsNotDecoded(t *testing.T) {
	text := "metadata: {namespace: default, type: MachineClasses.omni.sidero.dev, id: bomb}\nspec:\n  a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c < 'k'; c++ {
		text += fmt.Sprintf("  %c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c, ", c-1), 10), ", "))
	}

	set, problems := template.Find(repository(map[string]string{"fleet/bomb.yaml": text}), template.Scope{})
	targets, more := render.New().Render(t.Context(), set)

	if len(problems) != 1 || len(more) != 0 || len(targets) != 5 || targets[0].Name == "" {
		t.Errorf("%d targets, %v %v", len(targets), problems, more)
	}
}

// A key of a newer template in one that is broken otherwise: of such a template not all is rendered, and it was said that Omni's code
// has no place for the key.
func TestNewerKeyInABrokenTemplate(t *testing.T) {
	set, found := template.Find(fstest.MapFS{"c.yaml": {Data: []byte("kind: Cluster\nname: c\nkubernetes: {version: v1.34.3}\ntalos: {version: v1.13.0}\n" +
		"features:\n  enableNodeAuditSkip: true\nlabels: {a: b, a: c}\n---\nkind: ControlPlane\n")}}, template.Scope{})
	_, problems := render.New().Render(t.Context(), set)

	if got := append(found, problems...); len(got) != 1 || !strings.Contains(got.Error(), "c.yaml:7:16: ") {
		t.Errorf("says %s", got.Error())
	}
}

// A key that this build's protobufs have no name for was not in what `render` prints.
func TestWriteYAML_Newer(t *testing.T) {
	const template = "kind: Cluster\nname: c\nkubernetes: {version: v1.34.3}\ntalos: {version: v1.14.0}\n" +
		"features: {useEmbeddedDiscoveryService: true, disablePublicDiscoveryService: %v}\n---\nkind: ControlPlane\n"

	for on, want := range map[bool]string{true: "disablepublicdiscoveryservice: true\n", false: ""} {
		one := mustRender(t, render.New(), fstest.MapFS{"c.yaml": {Data: fmt.Appendf(nil, template, on)}})["c"]

		var out strings.Builder
		if err := render.WriteYAML(&out, one.Resources); err != nil {
			t.Fatal(err)
		}

		if got := out.String(); strings.Contains(got, "disablepublic") != on || !strings.Contains(got, want) || strings.Count(got, "\n---\n") != 1 {
			t.Errorf("%v: %s", on, got)
		}
	}
}
