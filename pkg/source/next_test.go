package source

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// Machines are not looked at again when no template names a new one: two that come to name the same one are found all the
// same, and so is that they no longer do.
func TestNextMachines(t *testing.T) {
	named := func(cluster, machines string) string {
		return strings.Replace(clusterFile(cluster, "p"), "machines: []", "machines: ["+machines+"]", 1)
	}
	steps := []map[string]string{
		{"p": "a: b\n", "a.yaml": named("a", "m1"), "b.yaml": named("b", "m2")},
		{"p": "a: b\n", "a.yaml": named("a", "m1"), "b.yaml": named("b", "m2, m1")},                               // one takes another's
		{"p": "a: c\n", "a.yaml": named("a", "m1"), "b.yaml": named("b", "m2, m1")},                               // and still has it
		{"p": "a: c\n", "b.yaml": named("b", "m2, m1")},                                                           // the other gives way
		{"p": "a: c\n", "b.yaml": named("b", "m2, m1"), "c.yaml": named("c", "M1")},                               // a new one takes it
		{"p": "a: c\n", "b.yaml": named("b", "m2"), "c.yaml": named("c", "m1")},                                   // it is let go
		{"p": "a: c\n", "b.yaml": named("b", "m2"), "d.yaml": named("c", "m1")},                                   // a file is renamed
		{"p": "a: c\n", "b.yaml": named("b", "m2"), "c.yaml": "a: b\n", "d.yaml": named("c", "m1")},               // one that holds no template
		{"p": "a: c\n", "b.yaml": named("b", "m2"), "c.yaml": named("e", "m2"), "d.yaml": named("c", "m1")},       // and then one
		{"p": "a: c\n", "b.yaml": named("b", "m1"), "c.yaml": named("e", "m2"), "d.yaml": named("c", "m3, m4")},   // they change places
		{"p": "a: c\n", "b.yaml": named("b", "m1"), "c.yaml": named("e", "m2"), "d.yaml": named("c", "m4, m1")},   // not all of them
		{"p": "a: c\n", "b.yaml": named("b", "m1"), "c.yaml": named("e", "m2"), "d.yaml": named("c", "m4, m4")},   // twice in one
		{"p": "a: c\n", "b.yaml": named("b", "m1"), "c.yaml": named("e", "m2"), "e.yaml@": "c.yaml", "g": "link"}, // one file by two names
	}

	nextFinds(t, steps...)
}

// A link that leads from one file to another of the same bytes was taken for unchanged, though the other one cannot be
// opened.
func TestNextUnreadable(t *testing.T) {
	text := clusterFile("a", "p")

	nextFinds(t,
		map[string]string{"p": "a: b\n", "a.yaml@": "one", "one": text, "two\x01": text},
		map[string]string{"p": "a: b\n", "a.yaml@": "two\x01", "one": text, "two\x01": text},
		map[string]string{"p": "a: b\n", "a.yaml@": "one", "one": text, "two\x01": text},
	)
}

// A folder that is the same is not the same when a link in it leads elsewhere, or when what its templates refer to is
// another.
func TestNextFolders(t *testing.T) {
	base := map[string]string{
		"one/file.yaml@": "../.data/a.yaml", ".data/a.yaml": clusterFile("a", "../p"),
		"two/deep/folder@": "../../.data/b", ".data/b/b.yaml": clusterFile("b", "../../p"),
		"three/c.yaml": clusterFile("c", "../p"), "three/d.yaml": "kind: Workers\n", "three/ref.yaml": clusterFile("e", "d.yaml"), "p": "a: b\n",
	}
	steps := changed(base,
		map[string]string{".data/a.yaml": clusterFile("other", "../p")},
		map[string]string{".data/b/b.yaml": clusterFile("another", "../../p")},
		map[string]string{"p": "a: c\n"},
		map[string]string{"p": ""},
		map[string]string{"p": "a: b\n"},
		map[string]string{"three/ref.yaml": ""}, // d.yaml is a broken template now
		map[string]string{"new.yaml": clusterFile("c", "p")},
		map[string]string{"new.yaml": ""},
	)

	nextFinds(t, steps...)
}

// What is over a limit is so in the next revision, too, though nothing of it is listed again.
func TestNextLimits(t *testing.T) {
	r := newRepo(t, true)
	st := newStore(r.dir)
	folder := func(name string, tree plumbing.Hash) object.TreeEntry {
		return object.TreeEntry{Name: name, Mode: filemode.Dir, Hash: tree}
	}
	templateFile := func(name string) object.TreeEntry {
		return object.TreeEntry{Name: name + ".yaml", Mode: filemode.Regular, Hash: r.object(plumbing.BlobObject, []byte(clusterFile(name, "p")))}
	}

	deep := r.tree(templateFile("deep"))
	for range template.MaxFolderDepth + 1 {
		deep = r.tree(folder("d", deep))
	}

	var files []object.TreeEntry
	for n := range 999 {
		files = append(files, object.TreeEntry{Name: fmt.Sprintf("%04d", n), Mode: filemode.Regular, Hash: r.object(plumbing.BlobObject, nil)})
	}

	many := r.tree(append(files, templateFile("many"))...)
	revision := func(folders int, more ...object.TreeEntry) fs.FS {
		entries := append(more, folder("a", deep))
		for n := range folders {
			entries = append(entries, folder(fmt.Sprintf("b%03d", n), many))
		}

		return newGitTree(st, r.tree(entries...), time.Time{})
	}

	nextFindsIn(t, template.Scope{}, revision(1), revision(1, templateFile("z")), revision(98), revision(100), revision(100, templateFile("z")), revision(98, templateFile("z")),
		revision(98, folder("aa", many), folder("ab", many)), revision(98))
}

// Where the walk turns back, because a link leads up again, depends on the way there: what was found by one way is not what
// is found by another, though the folder is the same.
func TestNextWays(t *testing.T) {
	base := map[string]string{
		"clusters/l1@": "../other/x", "other/x/l2@": "..", "other/x/t.yaml": clusterFile("t", "p"), "q/l2@": "../other",
		"clusters/a.yaml": clusterFile("a", "p"), "clusters/p": "a: b\n", "other/x/p": "a: b\n",
		// A file that is not there, behind a link that nobody walks along.
		"clusters/b.yaml": clusterFile("b", "..h/b/c"), "clusters/..h/x": "", "far/x": "",
	}
	steps := changed(base,
		map[string]string{"clusters/l1@": "../q"},
		map[string]string{"clusters/l1@": "../other/x"},
		map[string]string{"clusters/..h/x": "", "clusters/..h@": "../far"},
		map[string]string{"far/b/c": "a: b\n"},
		map[string]string{"far/b/c": "a: c\n"},
	)

	nextFindsIn(t, template.Scope{Root: "clusters"}, gitTrees(t)(steps...)...)
}

// G12: the way to a file is walked along part by part, so its length is bounded; a template of half a million folders that are
// not there took minutes, in every revision.
func TestNextLongPath(t *testing.T) {
	long := strings.Repeat("a/", 250_000) + "a"
	set, problems := template.Find(gitTrees(t)(map[string]string{"c.yaml": clusterFile("c", long)})[0], template.Scope{})

	if len(set.Templates) != 1 || len(problems) == 0 || !strings.Contains(problems.Error(), "is longer than 1024 bytes") {
		t.Errorf("%d templates: %.300v", len(set.Templates), problems)
	}
}

// asked is the content of a tree, which writes down what is listed and what is read.
type asked struct {
	content

	names []string
}

func (a *asked) list(dir *node) ([]*node, error) {
	a.names = append(a.names, dir.name+"/")

	return a.content.list(dir)
}

func (a *asked) read(file *node) ([]byte, error) {
	a.names = append(a.names, file.name)

	return a.content.read(file)
}

// A revision costs what it changes: folders that stay are not listed, files that stay are not read, however many there are;
// wherever the files are that templates refer to.
func TestNextAsks(t *testing.T) {
	base := map[string]string{"shared/p": "machine: {}\n", "top.yaml": clusterFile("top", "shared/p"), "linked/l.yaml@": "../shared/p"}
	refers := func(cluster, n int) string {
		return clusterFile(fmt.Sprint("c", cluster), fmt.Sprintf("../../patches/n%d/p%d\n  - file: ../../shared/p", n, n))
	}

	for n := range 9 {
		base[fmt.Sprintf("clusters/d%d/%d.yaml", n%3, n)] = refers(n, n)
		base[fmt.Sprintf("patches/n%d/p%d", n, n)] = "machine: {}\n"
	}

	for name, test := range map[string]struct {
		root   string
		change map[string]string
		want   string
	}{
		"a template":           {".", map[string]string{"clusters/d1/4.yaml": refers(44, 4)}, "./ 4.yaml clusters/ d1/ l.yaml linked/ shared/"},
		"a template, of a few": {"clusters", map[string]string{"clusters/d1/4.yaml": refers(44, 4)}, "./ 4.yaml clusters/ d1/"},
		"another file for it":  {".", map[string]string{"clusters/d1/4.yaml": refers(4, 5)}, "./ 4.yaml clusters/ d1/ l.yaml linked/ n5/ p5 patches/ shared/"},
		"a new one":            {".", map[string]string{"clusters/d1/9.yaml": refers(9, 8)}, "./ 9.yaml clusters/ d1/ l.yaml linked/ n8/ p8 patches/ shared/"},
		"one goes":             {".", map[string]string{"clusters/d1/4.yaml": ""}, "./ clusters/ d1/ l.yaml linked/ shared/"},
		"something else in it": {".", map[string]string{"clusters/d1/README": "x"}, "./ clusters/ d1/ l.yaml linked/ shared/"},
		"something elsewhere":  {".", map[string]string{"README": "x"}, "./ l.yaml linked/ shared/"},
		"elsewhere, of a few":  {"clusters", map[string]string{"README": "x"}, "./"},
		"its own patch":        {".", map[string]string{"patches/n4/p4": "a: b\n"}, "./ 4.yaml clusters/ d1/ l.yaml linked/ n4/ p4 patches/ shared/"},
	} {
		trees, scope := gitTrees(t)(changed(base, test.change)...), template.Scope{Root: test.root}
		now := &asked{content: trees[1].(*tree).content}
		trees[1].(*tree).content = now

		set, problems := template.Find(trees[0], scope)
		if len(problems) > 0 {
			t.Fatal(problems)
		}

		if !set.SameIn(trees[1], scope) {
			set.Next(trees[1], scope)
		}

		slices.Sort(now.names)
		now.names = slices.Compact(now.names)

		if got := strings.Join(now.names, " "); got != test.want {
			t.Errorf("%s: asked for\n%s\nwant\n%s", name, got, test.want)
		}
	}
}

// nextFinds holds what is found in trees, one after the other, against what is found in each alone.
func nextFinds(t *testing.T, trees ...map[string]string) {
	t.Helper()
	nextFindsIn(t, template.Scope{}, gitTrees(t)(trees...)...)
}

func nextFindsIn(t *testing.T, scope template.Scope, trees ...fs.FS) {
	t.Helper()

	var set *template.Set

	for i, tree := range trees {
		want, wantProblems := template.Find(tree, scope)

		if i > 0 && set.SameIn(tree, scope) {
			if was, wasProblems := template.Find(trees[i-1], scope); foundIn(was, wasProblems) != foundIn(want, wantProblems) {
				t.Errorf("step %d is said to be the same", i)
			}
		}

		var problems template.Problems

		set, problems = set.Next(tree, scope)

		if got, want := foundIn(set, problems), foundIn(want, wantProblems); got != want {
			t.Errorf("step %d: found\n%s\nand not\n%s", i, got, want)
		}
	}
}

// changed returns a tree and what becomes of it with each change; a file without content goes.
func changed(tree map[string]string, changes ...map[string]string) (steps []map[string]string) {
	steps = append(steps, tree)

	for _, change := range changes {
		tree = maps.Clone(tree)

		for name, content := range change {
			if tree[name] = content; content == "" {
				delete(tree, name)
			}
		}

		steps = append(steps, tree)
	}

	return steps
}
