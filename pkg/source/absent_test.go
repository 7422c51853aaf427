package source

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// newCheckout makes a repository at r, with the cluster a in clusters/, b in clusters/apps/, which is a submodule that holds
// the submodule deep with the cluster c, and d in other/. It is what somebody has who committed all of it.
func newCheckout(t testing.TB) (r string) {
	t.Helper()

	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}

	r = base + "/r"
	writeFiles(t, base, map[string]string{
		"deep/c.yaml": smallCluster("c"), "apps/b.yaml": smallCluster("b"),
		"r/clusters/a.yaml": smallCluster("a"), "r/other/d.yaml": smallCluster("d"), "r/other/notes.txt": "x",
	})

	for _, repo := range []string{"deep", "apps", "r"} {
		runGit(t, base, "init", "--quiet", "--initial-branch=main", repo)
		commitAll(t, base+"/"+repo)
	}

	addSubmodule(t, base+"/apps", base+"/deep", "deep")
	addSubmodule(t, r, base+"/apps", "clusters/apps")
	runGit(t, r, "-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init", "--recursive")

	return r
}

// smallCluster is a template that needs nothing else.
func smallCluster(name string) string {
	return fmt.Sprintf("kind: Cluster\nname: %s\nkubernetes: {version: v1.34.3}\ntalos: {version: v1.12.0}\n---\nkind: ControlPlane\n"+
		"machines: [5f3a1c00-0000-4000-8000-0000000000%x]\n", name, name)
}

// copyOf copies a checkout with what is beside it: that is quicker than to make it.
func copyOf(t testing.TB, r string) string {
	t.Helper()

	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}

	if err := os.CopyFS(base, os.DirFS(filepath.Dir(r))); err != nil {
		t.Fatal(err)
	}

	// What is copied looks changed until Git has seen it.
	runGit(t, base+"/r", "status")
	runGit(t, base+"/r/clusters/apps", "status")

	return base + "/r"
}

func commitAll(t testing.TB, dir string) {
	t.Helper()
	runGit(t, dir, "add", "--all", "--sparse")
	runGit(t, dir, "commit", "--quiet", "--allow-empty", "--message", "change")
}

func addSubmodule(t testing.TB, dir, from, path string) {
	t.Helper()
	runGit(t, dir, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", from, path)
	commitAll(t, dir)
}

// clone makes what a pipeline has: a clone without submodules.
func clone(t testing.TB, r string) string {
	t.Helper()
	runGit(t, filepath.Dir(r), "clone", "--quiet", r, "clone")

	return filepath.Dir(r) + "/clone"
}

// clustersIn returns the clusters in a directory, and what is wrong with it.
func clustersIn(t testing.TB, dir string, scope template.Scope) (names, problems string) {
	t.Helper()

	set, all := template.Find(fetch(t, NewDir(quick(dir))).FS, scope)

	var clusters []string
	for _, each := range set.Templates {
		clusters = append(clusters, each.Name)
	}

	slices.Sort(clusters)

	if len(all) > 0 {
		problems = all.Error()
	}

	return strings.Join(clusters, " "), problems
}

// G2: a submodule that is not checked out, and a file that a sparse checkout leaves out, were taken for what left Git, in a
// checkout that Git calls clean, and their clusters were destroyed.
func TestG2_WhatGitLeavesOut(t *testing.T) {
	const (
		submodule = "this is a Git submodule that is not checked out"
		skipped   = "Git leaves it out of this checkout"
	)

	whole := newCheckout(t)
	in := func(r string, commands ...string) func(t *testing.T, r string) string {
		return func(t *testing.T, root string) string {
			for _, command := range commands {
				runGit(t, root, strings.Fields(command)...)
			}

			return filepath.Join(root, r)
		}
	}
	cloned := func(t *testing.T, r string) string { return clone(t, r) }

	for name, test := range map[string]struct {
		make  func(t *testing.T, r string) (dir string)
		scope template.Scope
		found string
		want  string // in the problems; "" for none
	}{
		"nothing":                          {in(""), template.Scope{}, "a b c d", ""},
		"no submodules":                    {cloned, template.Scope{}, "a d", "clusters/apps: cannot read this folder: " + submodule},
		"no submodules, path":              {cloned, template.Scope{Root: "clusters"}, "a", "clusters/apps: cannot read this folder: " + submodule},
		"no submodules, path is one":       {cloned, template.Scope{Root: "clusters/apps"}, "", "clusters/apps: cannot read this folder: " + submodule},
		"no submodules elsewhere":          {cloned, template.Scope{Root: "other"}, "d", ""},
		"no submodules, excluded":          {cloned, template.Scope{Exclude: []string{"clusters/apps"}}, "a d", ""},
		"no submodules, not included":      {cloned, template.Scope{Include: []string{"*/[ad].yaml"}}, "a d", ""},
		"no submodules, folder":            {func(t *testing.T, r string) string { return clone(t, r) + "/clusters" }, template.Scope{}, "a", "apps: cannot read this folder: " + submodule},
		"no submodules, folder elsewhere":  {func(t *testing.T, r string) string { return clone(t, r) + "/other" }, template.Scope{}, "d", ""},
		"the folder is one":                {in("clusters/apps", "submodule deinit --quiet --force clusters/apps"), template.Scope{}, "", "the directory lies in a folder that Git leaves out"},
		"deinitialised":                    {in("", "submodule deinit --quiet --force clusters/apps"), template.Scope{}, "a d", "clusters/apps: cannot read this folder: " + submodule},
		"the folder of one is gone":        {in("", "submodule deinit --quiet --force clusters/apps", "clean -ffdxq"), template.Scope{}, "a d", submodule},
		"a nested one":                     {in("", "-C clusters/apps submodule deinit --quiet --force deep"), template.Scope{}, "a b d", "clusters/apps/deep: cannot read this folder: " + submodule},
		"a nested one, in the outer":       {in("clusters/apps", "-C clusters/apps submodule deinit --quiet --force deep"), template.Scope{}, "b", "deep: cannot read this folder: " + submodule},
		"in one that is checked out":       {in("clusters/apps/deep"), template.Scope{}, "c", ""},
		"one is removed":                   {in("", "rm --quiet -r --force clusters/apps"), template.Scope{}, "a d", ""},
		"a linked working tree":            {in("w", "worktree add --quiet w"), template.Scope{}, "a d", "clusters/apps: cannot read this folder: " + submodule},
		"a linked working tree, elsewhere": {in("w", "worktree add --quiet w"), template.Scope{Root: "other"}, "d", ""},
		"a clone inside of the directory": {func(t *testing.T, r string) string {
			runGit(t, r, "clone", "--quiet", ".", "../all/clone")

			return filepath.Dir(r) + "/all"
		}, template.Scope{Root: "clone/clusters"}, "a", "clone/clusters/apps: cannot read this folder: " + submodule},
		"behind a link": {func(t *testing.T, r string) string {
			dir := clone(t, r)
			symlink(t, "../clusters/apps", dir+"/other/apps")

			return dir
		}, template.Scope{Root: "other"}, "d", "other/apps: cannot read this folder: " + submodule},
		"a folder in place of one": {func(t *testing.T, r string) string {
			dir := clone(t, r)
			writeFiles(t, dir, map[string]string{"clusters/apps/e.yaml": smallCluster("e")})

			return dir
		}, template.Scope{}, "a d", submodule},
		"a .git that leads nowhere": {func(t *testing.T, r string) string {
			writeFiles(t, r, map[string]string{"clusters/apps/.git": "gitdir: /nowhere\n"})

			return r
		}, template.Scope{Root: "clusters"}, "a b c", "the .git of the submodule clusters/apps leads to no repository"},

		"sparse":                    {in("", "sparse-checkout set --no-cone /clusters/"), template.Scope{}, "a b c", "other/d.yaml: cannot be read: " + skipped},
		"sparse, cone":              {in("", "sparse-checkout set clusters"), template.Scope{}, "a b c", "other/d.yaml: cannot be read: " + skipped},
		"sparse, index":             {in("", "sparse-checkout set --sparse-index clusters"), template.Scope{}, "a b c", "other: cannot read this folder: Git leaves it out of this sparse checkout"},
		"sparse, index, elsewhere":  {in("", "sparse-checkout set --sparse-index clusters"), template.Scope{Root: "clusters"}, "a b c", ""},
		"sparse, elsewhere":         {in("", "sparse-checkout set clusters"), template.Scope{Root: "clusters"}, "a b c", ""},
		"sparse, folder":            {in("clusters", "sparse-checkout set clusters"), template.Scope{}, "a b c", ""},
		"sparse, without extension": {in("", "sparse-checkout set --no-cone /clusters/", "config --unset extensions.worktreeConfig"), template.Scope{}, "a b c", "other/d.yaml: cannot be read: " + skipped},
		"sparse, no template":       {in("", "sparse-checkout set --no-cone /clusters/ /other/*.yaml"), template.Scope{}, "a b c d", ""},
		"sparse in a submodule":     {in("", "-C clusters/apps sparse-checkout set --no-cone /deep"), template.Scope{}, "a c d", "clusters/apps/b.yaml: cannot be read: " + skipped},
		"skip-worktree": {func(t *testing.T, r string) string {
			runGit(t, r, "update-index", "--skip-worktree", "other/d.yaml")
			remove(t, r+"/other/d.yaml")

			return r
		}, template.Scope{}, "a b c", "other/d.yaml: cannot be read: " + skipped},
		"skip-worktree that is there": {in("", "update-index --skip-worktree other/d.yaml"), template.Scope{}, "a b c d", ""},
		"a link with skip-worktree": {func(t *testing.T, r string) string {
			symlink(t, "../other", r+"/clusters/more")
			commitAll(t, r)
			runGit(t, r, "update-index", "--skip-worktree", "clusters/more")
			remove(t, r+"/clusters/more")

			return r
		}, template.Scope{Root: "clusters"}, "a b c", "clusters/more: cannot be read: " + skipped},
		// Whoever removes a file of a directory that is followed means it.
		"a file is removed": {func(t *testing.T, r string) string {
			remove(t, r+"/other/d.yaml")

			return r
		}, template.Scope{}, "a b c", ""},

		"a damaged index": {func(t *testing.T, r string) string {
			writeFiles(t, r, map[string]string{".git/index": "DIRC what is this, and where do the entries begin?"})

			return r
		}, template.Scope{Root: "clusters"}, "a b c", "cannot be read, so files may be missing: it is damaged"},
		"no index": {func(t *testing.T, r string) string {
			runGit(t, r, "clone", "--quiet", "--no-checkout", ".", "../all")
			writeFiles(t, filepath.Dir(r), map[string]string{"all/clusters/a.yaml": smallCluster("a")})

			return filepath.Dir(r) + "/all"
		}, template.Scope{Root: "clusters"}, "a", "there is none, so nothing is checked out"},
		"nothing is committed": {func(t *testing.T, r string) string {
			dir := filepath.Dir(r) + "/new"
			runGit(t, r, "init", "--quiet", dir)
			writeFiles(t, dir, map[string]string{"a.yaml": smallCluster("a")})

			return dir
		}, template.Scope{}, "a", ""},
		"no repository": {func(t *testing.T, r string) string {
			remove(t, r+"/.git/HEAD")

			return r
		}, template.Scope{Root: "other"}, "d", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := test.make(t, copyOf(t, whole))

			names, problems := clustersIn(t, dir, test.scope)
			if names != test.found {
				t.Errorf("found %q, want %q", names, test.found)
			}

			if !strings.Contains(problems, test.want) || (test.want == "") != (problems == "") {
				t.Errorf("problems\n%s\nwant\n%s", problems, test.want)
			}
		})
	}
}

// G2: Git removes the files of a sparse checkout before its index says so. A directory that was read in between is read
// again when the index changes, though no file does.
func TestG2_IndexChangesAfterFiles(t *testing.T) {
	r := newCheckout(t)
	d := NewDir(quick(r))

	remove(t, r+"/other/d.yaml")

	before := fetch(t, d)

	runGit(t, r, "update-index", "--skip-worktree", "other/d.yaml")

	after := fetch(t, d)
	if _, problems := template.Find(after.FS, template.Scope{}); len(problems) != 1 || before.ID == after.ID {
		t.Errorf("%s, then %s with %v", before.ID, after.ID, problems)
	}

	// An index that says the same makes no revision.
	writeFiles(t, r, map[string]string{"other/notes.txt": "x"})
	runGit(t, r, "update-index", "--refresh")

	if again := fetch(t, d); again.FS != after.FS {
		t.Error("the same files are another revision")
	}
}

// G2: a directory with more files left out than there may be files has a problem, and takes no more memory.
func TestG2_ManyFilesLeftOut(t *testing.T) {
	for files, want := range map[int]string{
		maxAbsent / 2: "y/00000.yaml: cannot be read", maxAbsent + 10: "z: cannot read this folder", MaxDirFiles + 10: "Git leaves more than",
	} {
		top := &node{name: ".", mode: os.ModeDir | 0o555, loaded: true}
		a := &absent{top: top, nested: map[string]*gitIndex{}, bounded: MaxDirFiles}

		for n := range files {
			a.put(fmt.Sprintf("y/%05d.yaml", n), 0o444, errSkipped)
		}

		for _, name := range []string{"z/1.yaml", "z/2.yaml"} {
			a.put(name, 0o444, errSkipped)
		}

		top.seal()

		if _, problems := template.Find(&tree{root: top, content: memory{}}, template.Scope{}); !strings.Contains(problems.Error(), want) {
			t.Errorf("%d files: %d problems, the first is %v; want %s", files, len(problems), problems[0], want)
		}
	}
}
