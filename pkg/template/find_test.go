package template_test

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/omni-syncd/omni-syncd/pkg/template"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestFind runs over archives: a repository, and in the file "want" what is found in it. The comment of an archive
// can set the scope.
func TestFind(t *testing.T) {
	archives, err := filepath.Glob("testdata/find/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives: %v", err)
	}

	for _, name := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}

			files, want := map[string]string{}, ""

			for _, file := range archive.Files {
				if file.Name == "want" {
					want = string(file.Data)
				} else {
					files[file.Name] = string(file.Data)
				}
			}

			got := describe(template.Find(tree(files), scopeOf(string(archive.Comment))))
			if got == want {
				return
			}

			if !*update {
				t.Fatalf("run with -update if this is right (-want +got):\n%s", cmp.Diff(want, got))
			}

			archive.Files = append(archive.Files[:0:0], archive.Files...)
			if last := len(archive.Files) - 1; archive.Files[last].Name == "want" {
				archive.Files = archive.Files[:last]
			}

			archive.Files = append(archive.Files, txtar.File{Name: "want", Data: []byte(got)})
			if err := os.WriteFile(name, txtar.Format(archive), 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// scopeOf reads lines like "root: x" and "include: a b" in the comment of an archive.
func scopeOf(comment string) template.Scope {
	var scope template.Scope

	for line := range strings.Lines(comment) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")

		switch key {
		case "root":
			scope.Root = value
		case "include":
			scope.Include = strings.Fields(value)
		case "exclude":
			scope.Exclude = strings.Fields(value)
		}
	}

	return scope
}

func describe(set *template.Set, problems template.Problems) string {
	var text strings.Builder

	for _, t := range set.Templates {
		fmt.Fprintf(&text, "template %q in %s", t.Name, t.Path)

		if len(t.Problems) > 0 {
			fmt.Fprintf(&text, ", with problems")
		}

		if t.Inlined() == nil {
			fmt.Fprintf(&text, ", too broken to render")
		}

		text.WriteString("\n")
	}

	for _, m := range set.Manifests {
		fmt.Fprintf(&text, "manifest %s/%s/%s at %s", m.Namespace, m.Type, m.ID, m.Position)

		if len(m.Problems) > 0 {
			fmt.Fprintf(&text, ", with problems")
		}

		text.WriteString("\n")
	}

	if len(problems) > 0 {
		text.WriteString(problems.Error() + "\n")
	}

	return text.String()
}

func TestFindBounds(t *testing.T) {
	fill := func(n int) string { return strings.Repeat("# padding\n", n/10) }
	valid := cluster("  - {name: x, inline: {machine: {}}}\n")

	for name, tt := range map[string]struct {
		files map[string]string
		want  string // in the problems; "" for none
	}{
		"large template":         {map[string]string{"c.yaml": valid + fill(template.MaxTemplateSize)}, "c.yaml: this looks like a cluster template, but it is larger than 1024 KiB"},
		"large something":        {map[string]string{"crds.yaml": "apiVersion: v1\nkind: Cluster\n" + fill(template.MaxTemplateSize)}, ""},
		"large reference":        {map[string]string{"c.yaml": cluster("  - file: p\n"), "p": fill(template.MaxReferenceSize + 10)}, "c.yaml:8:11: file \"p\" is larger than 4 MiB"},
		"many large references":  {map[string]string{"c.yaml": cluster(strings.Repeat("  - file: p\n", 10)), "p": fill(template.MaxReferenceSize - 10)}, "c.yaml:1:1: the files this template refers to are larger than 32 MiB together"},
		"many documents":         {map[string]string{"c.yaml": valid + strings.Repeat("---\na: b\n", template.MaxDocuments)}, "more than 1000 documents in a file"},
		"deep":                   {map[string]string{"c.yaml": cluster("  - {name: x, inline: {a: " + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "}}\n")}, "c.yaml:8:123: more than 100 mappings and sequences inside each other"},
		"very deep":              {map[string]string{"c.yaml": cluster("  - {name: x, inline: {a: " + strings.Repeat("[", 100_000) + "}}\n")}, "this looks like a cluster template, but it is not valid YAML"},
		"aliases to aliases":     {map[string]string{"c.yaml": cluster(bomb("    ", 9))}, "c.yaml:1:1: this document has more than 250000 nodes once its aliases are expanded"},
		"few aliases":            {map[string]string{"c.yaml": cluster(bomb("    ", 2))}, ""},
		"an anchor in itself":    {map[string]string{"c.yaml": cluster("  - &a {name: x, inline: {b: *a}}\n")}, "c.yaml:8:30: anchor \"a\" contains itself"},
		"aliases in a manifest":  {map[string]string{"m.yaml": "metadata: {namespace: default, type: MachineClasses.omni.sidero.dev, id: x}\nspec:\n" + bomb("  ", 9)}, "m.yaml:1:1: this document has more than 250000 nodes"},
		"folders in each other":  {map[string]string{strings.Repeat("d/", 70) + "c.yaml": valid}, "more than 64 folders inside each other"},
		"flow style":             {map[string]string{"c.yaml": "{kind: Cluster, name: [\n"}, "this looks like a cluster template, but it is not valid YAML"},
		"flow style manifest":    {map[string]string{"c.yaml": "metadata: {namespace: default, type: MachineClasses.omni.sidero.dev, id: a}\nspec: {}\n  x: 1\n"}, "this looks like an Omni manifest, but it is not valid YAML"},
		"a fault in its bytes":   {map[string]string{"c.yaml": "kind: Cluster\nname: \xff\n"}, "c.yaml:2:7: this looks like a cluster template, but it is not valid YAML: this byte is no text in UTF-8"},
		"a fault in other bytes": {map[string]string{"c.yaml": "kind: Secret\nname: \xff\n"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, problems := find(tt.files)
			if len(problems) > 1 || !strings.Contains(problems.Error(), tt.want) || tt.want == "" && len(problems) > 0 {
				t.Errorf("got %d problems, want one: %s\n%.500s", len(problems), tt.want, problems.Error())
			}
		})
	}
}

// bomb is a patch that doubles with every level, tenfold.
func bomb(indent string, levels int) string {
	var text strings.Builder

	text.WriteString("  - name: x\n    inline:\n")

	if indent == "  " {
		text.Reset()
	}

	fmt.Fprintf(&text, "%sa0: &a0 [x]\n", indent)

	for i := range levels {
		fmt.Fprintf(&text, "%sa%d: &a%d [%s]\n", indent+"", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 10), ", "))
	}

	return strings.ReplaceAll(text.String(), "\n    a", "\n      a")
}

func TestFindManyFiles(t *testing.T) {
	files := fstest.MapFS{}
	for i := range template.MaxFiles + 5 {
		files[fmt.Sprintf("f%d", i)] = &fstest.MapFile{}
	}

	_, problems := template.Find(files, template.Scope{})
	if len(problems) != 1 || !strings.Contains(problems[0].Message, "more than 100000 files and folders") {
		t.Errorf("got %v", problems)
	}
}

// A ConfigMap in a pod: the files are links to a folder that is a link itself, and both have names that begin with
// "..".
func TestFindInConfigMapMount(t *testing.T) {
	dir := t.TempDir()
	for _, step := range []error{
		os.MkdirAll(filepath.Join(dir, "..2026_01_01/sub"), 0o700),
		os.WriteFile(filepath.Join(dir, "..2026_01_01/c.yaml"), []byte(cluster("  - file: sub/p.yaml\n")), 0o600),
		os.WriteFile(filepath.Join(dir, "..2026_01_01/sub/p.yaml"), []byte("machine: {}\n"), 0o600),
		os.WriteFile(filepath.Join(dir, "..2026_01_01/sub/d.yaml"), []byte(strings.ReplaceAll(cluster("  []\n"), "c1", "c2")), 0o600),
		os.Symlink("..2026_01_01", filepath.Join(dir, "..data")),
		os.Symlink("..data/c.yaml", filepath.Join(dir, "c.yaml")),
		os.Symlink("..data/sub", filepath.Join(dir, "sub")),
		os.Symlink(".", filepath.Join(dir, "loop")),
		os.Symlink("missing", filepath.Join(dir, "broken")),
		os.Symlink("missing", filepath.Join(dir, "broken.yaml")),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}

	got := describe(template.Find(os.DirFS(dir), template.Scope{}))
	// Both clusters use the same machine: they are told apart, and found once each.
	want := `template "c1" in c.yaml, with problems
template "c2" in sub/d.yaml, with problems
broken: this link to "missing" leads nowhere; correct that, or leave it out with exclude "broken"
broken.yaml: this link to "missing" leads nowhere; correct that, or leave it out with exclude "broken.yaml"
c.yaml:13:5: machine 430d882a-51a8-48b3-ae00-90c5b0b5b0b0 is also in cluster "c2", at sub/d.yaml:13:5: it can be in one cluster only
sub/d.yaml:13:5: machine 430d882a-51a8-48b3-ae00-90c5b0b5b0b0 is also in cluster "c1", at c.yaml:13:5: it can be in one cluster only
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// failing is a file system with a file and a folder that cannot be read.
type failing struct{ fs.FS }

func (f failing) Open(name string) (fs.File, error) {
	if strings.HasPrefix(name, "bad") {
		return nil, &fs.PathError{Op: "open", Path: "/secret/place/" + name, Err: errors.New("disk on fire")}
	}

	return f.FS.Open(name)
}

func TestFindSaysWhatCannotBeRead(t *testing.T) {
	fsys := failing{tree(map[string]string{"bad.yaml": "", "badfolder/c.yaml": "", "good.yaml": cluster("  - file: bad.yaml\n"), "bad.txt": ""})}

	got := describe(template.Find(fsys, template.Scope{}))
	want := `template "c1" in good.yaml, with problems
bad.yaml: cannot be read: disk on fire; correct that, or leave it out with exclude "bad.yaml"
badfolder: cannot be read: disk on fire; correct that, or leave it out with exclude "badfolder"
good.yaml:8:11: file "bad.yaml" cannot be read: disk on fire
`

	// fs.Stat of a folder goes through Open as well.
	if diff := cmp.Diff(want, strings.ReplaceAll(got, "cannot read this folder", "cannot be read")); diff != "" {
		t.Error(diff)
	}
}

func TestDigest(t *testing.T) {
	base := map[string]string{"c.yaml": cluster("  - file: p.yaml\n  - file: missing.yaml\n"), "p.yaml": "machine: {}\n", "other.yaml": "a: b\n"}

	digest := func(changes map[string]string) string {
		files := map[string]string{}
		for name, content := range base {
			files[name] = content
		}

		for name, content := range changes {
			files[name] = content
		}

		set, _ := find(files)

		return set.Templates[0].Digest
	}

	before := digest(nil)
	if before != digest(map[string]string{"other.yaml": "a: c\n"}) {
		t.Error("a file that has nothing to do with the template changed its digest")
	}

	for name, changes := range map[string]map[string]string{
		"template":         {"c.yaml": base["c.yaml"] + "# more\n"},
		"reference":        {"p.yaml": "machine: {env: {}}\n"},
		"missing is there": {"missing.yaml": "machine: {}\n"},
	} {
		if before == digest(changes) {
			t.Errorf("%s: the digest is the same", name)
		}
	}
}

func FuzzFind(f *testing.F) {
	archives, err := filepath.Glob("testdata/find/*.txtar")
	if err != nil {
		f.Fatal(err)
	}

	for _, name := range archives {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}

		for _, file := range archive.Files {
			f.Add(file.Data)
		}
	}

	f.Fuzz(func(t *testing.T, data []byte) {
		set, problems := find(map[string]string{"a.yaml": string(data), "sub/b.yaml": cluster("  - file: ../a.yaml\n")})
		lines := strings.Count(string(data), "\n") + strings.Count(string(data), "\r") + strings.Count(string(data), "\u0085") +
			strings.Count(string(data), "\u2028") + strings.Count(string(data), "\u2029") + 20

		for _, problem := range problems {
			if problem.Line > lines || problem.Line < 0 || strings.Contains(problem.Message, "\n") {
				t.Errorf("%+v", problem)
			}
		}

		for _, tmpl := range set.Templates {
			if len(tmpl.Problems) == 0 && tmpl.Inlined() == nil {
				t.Errorf("%s has no text and no problems", tmpl.Path)
			}

			tmpl.Locate(errors.New("x"))
			tmpl.LocateDocument(0, errors.New("x"))
		}
	})
}
