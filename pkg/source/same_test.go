package source

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// What one commit changes, and whether the templates have to be read again.
func TestSameIn(t *testing.T) {
	base := map[string]string{
		"clusters/a.yaml":           clusterFile("a", "../shared/a.yaml"),
		"clusters/b.yaml":           clusterFile("b", "../shared/absent.yaml"),
		"clusters/c.yaml":           clusterFile("c", "patches/../.hidden/c"),
		"clusters/d.yaml@":          "../elsewhere/d.yaml",
		"clusters/e@":               "../elsewhere/e",
		"clusters/.hidden@":         "../hidden",
		"clusters/litter@":          "nowhere",
		"clusters/patches/p.yaml":   "machine: {}\n",
		"elsewhere/d.yaml":          clusterFile("d", "x"),
		"elsewhere/e/f.yaml":        "a: b\n",
		"elsewhere/e/g@":            "../../far/g",
		"elsewhere/not-linked.yaml": "",
		"far/g":                     "",
		"hidden/c@":                 "../far/c",
		"far/c":                     "machine: {}\n",
		"clusters/up@":              "../m",
		"m@":                        "clusters",
		"hidden/more":               "",
		"shared/a.yaml":             "machine: {}\n",
		"shared/b.yaml":             "machine: {sysctls: {}}\n",
		"current@":                  "clusters",
	}

	for name, content := range maps.Clone(base) {
		if below, ok := strings.CutPrefix(name, "clusters/"); ok {
			base["copy/"+below] = content
		}
	}

	kinds := map[string]func(files ...map[string]string) []fs.FS{"git": gitTrees(t), "dir": dirTrees(t)}

	for name, test := range map[string]struct {
		change map[string]string // "-": removed
		differ string            // the roots that are not the same: "clusters current ."
	}{
		"nothing":                  {nil, ""},
		"an unrelated file":        {map[string]string{"README.md": "new"}, "."},
		"an unrelated sibling":     {map[string]string{"shared/b.yaml": "x"}, "."},
		"beside a linked file":     {map[string]string{"elsewhere/not-linked.yaml": "x"}, "."},
		"a template":               {map[string]string{"clusters/a.yaml": "x"}, "clusters current ."},
		"below the root":           {map[string]string{"clusters/patches/p.yaml": "x"}, "clusters current ."},
		"a reference outside":      {map[string]string{"shared/a.yaml": "machine: {env: {}}\n"}, "clusters current ."},
		"a reference goes":         {map[string]string{"shared/a.yaml": "-"}, "clusters current ."},
		"a missing one comes":      {map[string]string{"shared/absent.yaml": "x"}, "clusters current ."},
		"a linked file":            {map[string]string{"elsewhere/d.yaml": "x"}, "clusters current ."},
		"a linked file goes":       {map[string]string{"elsewhere/d.yaml": "-"}, "clusters current ."},
		"in a linked folder":       {map[string]string{"elsewhere/e/f.yaml": "x"}, "clusters current ."},
		"linked in a linked one":   {map[string]string{"far/g": "x"}, "clusters current ."},
		"through a hidden link":    {map[string]string{"far/c": "x"}, "clusters current ."},
		"up, but not the same up":  {map[string]string{"m@": "copy"}, "clusters current ."},
		"where litter points":      {map[string]string{"clusters/nowhere": "x"}, "clusters current ."},
		"the link of the root":     {map[string]string{"current@": "elsewhere"}, "current ."},
		"the same link otherwise":  {map[string]string{"current@": "./clusters"}, "."},
		"the root goes":            {map[string]string{"clusters/*": "-"}, "clusters current ."},
		"links in a circle":        {map[string]string{"elsewhere/d.yaml": "-", "elsewhere/d.yaml@": "d.yaml"}, "clusters current ."},
		"the file becomes a link":  {map[string]string{"shared/a.yaml": "-", "shared/a.yaml@": "b.yaml"}, "clusters current ."},
		"a folder becomes a link":  {map[string]string{"elsewhere/e/f.yaml": "-", "elsewhere/e/g@": "-", "elsewhere/e@": "../shared"}, "clusters current ."},
		"a link to a missing file": {map[string]string{"shared/absent.yaml@": "b.yaml"}, "clusters current ."},
	} {
		next := maps.Clone(base)

		for name, content := range test.change {
			maps.DeleteFunc(next, func(file, _ string) bool {
				ok, _ := path.Match(name, strings.TrimSuffix(file, "@"))

				return content == "-" && (ok || file == name || strings.HasSuffix(name, "/*") && strings.HasPrefix(file, name[:len(name)-1]))
			})

			if content != "-" {
				next[name] = content
			}
		}

		for kind, revisions := range kinds {
			trees := revisions(base, next)

			for _, root := range []string{"clusters", "current", "."} {
				differs := slices.Contains(strings.Fields(test.differ), root)

				set, _ := template.Find(trees[0], template.Scope{Root: root})
				if got := set.SameIn(trees[1], template.Scope{Root: root}); got == differs {
					t.Errorf("%s, %s, root %s: same is %v", kind, name, root, got)
				}

				if set.SameIn(trees[1], template.Scope{Root: root, Exclude: []string{"x"}}) {
					t.Errorf("%s, %s, root %s: the same in another scope", kind, name, root)
				}
			}
		}
	}
}

// Whatever is edited: if it is said to be the same, reading it again finds the same. What is
// found with the help of the revision before is what is found without.
func TestSameInRandomly(t *testing.T) {
	for kind, revisions := range map[string]func(files ...map[string]string) []fs.FS{"git": gitTrees(t), "dir": dirTrees(t)} {
		t.Run(kind, func(t *testing.T) {
			seed := rand.Uint64()
			random := rand.New(rand.NewPCG(seed, 0))
			same, rounds := 0, 500

			if kind == "dir" || testing.Short() {
				rounds = 100
			}

			for range rounds {
				// Folders with links are read again each time, so a third of the trees has none.
				links := random.IntN(3) > 0

				before := map[string]string{}
				for range 12 {
					edit(random, before, links)
				}

				after := maps.Clone(before)
				for range 1 + random.IntN(2) {
					edit(random, after, links)
				}

				trees := revisions(before, after)
				scope := template.Scope{Root: pick(random, "", "a", "a/b", "b", "l", "a/l")}

				if random.IntN(4) == 0 {
					scope.Exclude = []string{pick(random, "b/**", "**/l", "*.yaml")}
				}

				set, problems := template.Find(trees[0], scope)
				again, problemsAgain := template.Find(trees[1], scope)
				first := foundIn(set, problems)

				// Twice: what was kept is kept on.
				next, problemsNext := set.Next(trees[1], scope)
				third, problemsThird := next.Next(trees[1], scope)

				for _, got := range []string{foundIn(next, problemsNext), foundIn(third, problemsThird)} {
					if want := foundIn(again, problemsAgain); got != want {
						t.Fatalf("seed %d, scope %+v: after\n%q\nin\n%q\nis found\n%s\nand not\n%s", seed, scope, before, after, got, want)
					}
				}

				back, problemsBack := third.Next(trees[0], scope)
				if got := foundIn(back, problemsBack); got != first {
					t.Fatalf("seed %d, scope %+v: back from\n%q\nto\n%q\nis found\n%s\nand not\n%s", seed, scope, after, before, got, first)
				}

				if now := foundIn(set, problems); now != first {
					t.Fatalf("seed %d: the first set was changed from\n%s\nto\n%s", seed, first, now)
				}

				if !set.SameIn(trees[1], scope) {
					continue
				}

				same++

				if one, two := foundIn(set, problems), foundIn(again, problemsAgain); one != two {
					t.Fatalf("seed %d, scope %+v: said to be the same\n%q\n%q\nbut found\n%s\nand\n%s", seed, scope, before, after, one, two)
				}
			}

			t.Logf("seed %d: %d of %d were the same", seed, same, rounds)

			if same < rounds/10 || same > rounds*9/10 {
				t.Errorf("the edits tell nothing: %d of %d were the same", same, rounds)
			}
		})
	}
}

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
	steps := []map[string]string{base}

	for _, change := range []map[string]string{
		{".data/a.yaml": clusterFile("other", "../p")},
		{".data/b/b.yaml": clusterFile("another", "../../p")},
		{"p": "a: c\n"},
		{"p": ""},
		{"p": "a: b\n"},
		{"three/ref.yaml": ""}, // d.yaml is a broken template now
		{"new.yaml": clusterFile("c", "p")},
		{"new.yaml": ""},
	} {
		next := maps.Clone(steps[len(steps)-1])
		for name, content := range change {
			if next[name] = content; content == "" {
				delete(next, name)
			}
		}

		steps = append(steps, next)
	}

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
	steps := []map[string]string{base}

	for _, change := range []map[string]string{
		{"clusters/l1@": "../q"},
		{"clusters/l1@": "../other/x"},
		{"clusters/..h/x": "", "clusters/..h@": "../far"},
		{"far/b/c": "a: b\n"},
		{"far/b/c": "a: c\n"},
	} {
		next := maps.Clone(steps[len(steps)-1])
		for name, content := range change {
			if next[name] = content; content == "" {
				delete(next, name)
			}
		}

		steps = append(steps, next)
	}

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
		after := maps.Clone(base)
		for name, content := range test.change {
			if after[name] = content; content == "" {
				delete(after, name)
			}
		}

		trees, scope := gitTrees(t)(base, after), template.Scope{Root: test.root}
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

func pick(random *rand.Rand, from ...string) string { return from[random.IntN(len(from))] }

// edit changes one file of a small tree in which everything refers to everything.
func edit(random *rand.Rand, files map[string]string, links bool) {
	dir := pick(random, "", "a/", "a/b/", "b/", "b/a/", ".h/", "a/.h/")
	names := func() string {
		return pick(random, "..", "../..", ".", "b", "../b", "../a", "l", "../l", "a/l", "x.yaml", "../x.yaml", "../b/y.yaml", "x\x01.yaml", "p", "../p", "b/../p", ".h", ".h/p", "l/p", "l/l/p", "/p")
	}

	if len(files) > 0 && random.IntN(4) == 0 {
		delete(files, pick(random, slices.Sorted(maps.Keys(files))...))

		return
	}

	var name, content string

	kind := random.IntN(6)
	if kind < 2 && !links {
		kind += 3
	}

	switch kind {
	case 2:
		name, content = dir+"p", pick(random, "machine: {}\n", "a: b\n", "\xff", pointer)
	case 0, 1:
		name, content = dir+pick(random, "l", "x.yaml", "y.yaml", "p", "b")+"@", names()
	case 3:
		name, content = dir+"x\x01.yaml", clusterFile("one", "p") // cannot be opened
	default:
		name, content = dir+pick(random, "x.yaml", "y.yaml", "z.yaml"), clusterFile(pick(random, "one", "two", "three"), names())
		content = strings.Replace(content, "machines: []", "machines: "+pick(random, "[]", "[m1]", "[m2]", "[M1, m3]", "[m2, m2]"), 1)
	}

	// A name is one thing only, and what is above it are folders.
	plain := strings.TrimSuffix(name, "@")
	maps.DeleteFunc(files, func(other, _ string) bool {
		other = strings.TrimSuffix(other, "@")

		return other == plain || strings.HasPrefix(other, plain+"/") || strings.HasPrefix(plain, other+"/")
	})

	files[name] = content
}

// foundIn writes down everything that Find says.
func foundIn(set *template.Set, problems template.Problems) string {
	var text strings.Builder

	for _, t := range set.Templates {
		fmt.Fprintf(&text, "%s %s %s %q %v\n", t.Name, t.Path, t.Digest, t.Inlined(), t.Problems)
	}

	for _, m := range set.Manifests {
		fmt.Fprintf(&text, "%+v %s %v\n", m.Position, m.Digest, m.Problems)
	}

	return text.String() + problems.Error()
}

// gitTrees returns a function that stores trees in a repository and serves each.
func gitTrees(t *testing.T) func(files ...map[string]string) []fs.FS {
	r := newRepo(t, true)
	st := newStore(r.dir)

	return func(files ...map[string]string) (trees []fs.FS) {
		for _, f := range files {
			trees = append(trees, newGitTree(st, r.files(f), time.Time{}))
		}

		return trees
	}
}

// dirTrees returns a function that writes each tree to a directory and reads it.
func dirTrees(t *testing.T) func(files ...map[string]string) []fs.FS {
	base := t.TempDir()

	return func(files ...map[string]string) (trees []fs.FS) {
		for _, f := range files {
			dir := filepath.Join(base, "tree")
			remove(t, dir)

			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}

			for name, content := range f {
				if link, ok := strings.CutSuffix(name, "@"); ok {
					writeFiles(t, dir, map[string]string{path.Dir(link) + "/.keep": ""})
					symlink(t, content, filepath.Join(dir, link))
				} else {
					writeFiles(t, dir, map[string]string{name: content})
				}
			}

			trees = append(trees, fetch(t, NewDir(quick(dir))).FS)
		}

		return trees
	}
}
