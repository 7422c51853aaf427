package render_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/google/go-cmp/cmp"
	"github.com/siderolabs/omni/client/pkg/template/operations"

	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// fixtures is the folder of upstream's own templates, in the module cache.
var fixtures = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/siderolabs/omni/client").Output()

	return filepath.Join(strings.TrimSpace(string(out)), "pkg", "template", "testdata"), err
})

func fixtureFiles(t *testing.T) (dir string, valid, invalid []string) {
	t.Helper()

	dir, err := fixtures()
	if err != nil {
		t.Fatal(err)
	}

	files, err := filepath.Glob(filepath.Join(dir, "cluster*.yaml"))
	if err != nil {
		t.Fatal(err)
	}

	for _, file := range files {
		switch name := filepath.Base(file); {
		case strings.HasPrefix(name, "cluster-bad"), strings.HasPrefix(name, "cluster-invalid"):
			invalid = append(invalid, name)
		case !strings.HasSuffix(name, "-resources.yaml"):
			valid = append(valid, name)
		}
	}

	if len(valid) < 8 || len(invalid) < 11 {
		t.Fatalf("upstream's fixtures have moved: found %q and %q", valid, invalid)
	}

	return dir, valid, invalid
}

// upstreamRender is what omnictl prints for a template, by document and in rank order.
func upstreamRender(t testing.TB, dir, file string) []string {
	t.Helper()

	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()

	input, err := os.Open(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	defer input.Close()

	var out bytes.Buffer
	if err := operations.RenderTemplate(input, &out, root); err != nil {
		t.Fatalf("upstream refuses %s: %v", file, err)
	}

	return documents(out.String())
}

// documents splits what was printed, and takes the time of day out of it.
func documents(text string) []string {
	docs := strings.Split(text, "\n---\n")
	for i, doc := range docs {
		lines := strings.Split(strings.TrimSuffix(doc, "\n"), "\n")
		docs[i] = strings.Join(slices.DeleteFunc(lines, func(line string) bool {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			_, err := time.Parse(time.RFC3339, value)

			return err == nil && (key == "created" || key == "updated")
		}), "\n")
	}

	return docs
}

func TestUpstreamFixturesRenderAsUpstream(t *testing.T) {
	dir, valid, _ := fixtureFiles(t)

	for _, file := range valid {
		t.Run(file, func(t *testing.T) {
			set, problems := template.Find(os.DirFS(dir), template.Scope{Include: []string{file}})
			if len(problems) > 0 {
				t.Fatal(problems)
			}

			targets, problems := render.New().Render(t.Context(), set)
			if len(problems) > 0 || len(targets) != 1 {
				t.Fatalf("%d targets, problems: %v", len(targets), problems)
			}

			var out bytes.Buffer
			if err := render.WriteYAML(&out, targets[0].Resources); err != nil {
				t.Fatal(err)
			}

			got, want := documents(out.String()), upstreamRender(t, dir, file)

			slices.Sort(got)
			slices.Sort(want)

			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("not what omnictl renders (-omnictl +ours):\n%s", diff)
			}

			if !slices.IsSortedFunc(targets[0].Resources, func(a, b resource.Resource) int {
				return render.Rank(a.Metadata().Type()) - render.Rank(b.Metadata().Type())
			}) {
				t.Error("resources are not in rank order")
			}

			for _, r := range targets[0].Resources {
				if at := targets[0].Position(r.Metadata()); at.File != file || at.Line == 0 {
					t.Errorf("%s: position %s", resource.String(r), at)
				} else {
					t.Logf("%s: %s", at, resource.String(r))
				}
			}
		})
	}
}

func TestUpstreamInvalidFixturesHavePositions(t *testing.T) {
	dir, _, invalid := fixtureFiles(t)

	for _, file := range invalid {
		t.Run(file, func(t *testing.T) {
			set, problems := template.Find(os.DirFS(dir), template.Scope{Include: []string{file}})

			targets, more := render.New().Render(t.Context(), set)
			if len(targets) > 0 {
				t.Errorf("an invalid template was rendered")
			}

			problems = append(problems, more...).Sorted()
			if len(problems) == 0 {
				t.Fatal("no problem found")
			}

			for _, problem := range problems {
				t.Log(problem)
				if problem.File != file && problem.Other.File != file || problem.Line == 0 || problem.Column == 0 || strings.Contains(problem.Message, "\n") {
					t.Errorf("no exact position, or more than a line: %q", problem.Error())
				}
			}
		})
	}
}
