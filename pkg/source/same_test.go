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
