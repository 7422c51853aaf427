package source

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/google/go-cmp/cmp"

	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// Trees that git would never make, and how they are refused.
func TestHostileTrees(t *testing.T) {
	blob := func(r *repo) plumbing.Hash { return r.object(plumbing.BlobObject, []byte("x")) }
	file := func(r *repo, name string) object.TreeEntry {
		return object.TreeEntry{Name: name, Mode: filemode.Regular, Hash: blob(r)}
	}

	for _, test := range []struct {
		name string
		tree func(r *repo) plumbing.Hash
		want string
	}{
		{"dot dot", func(r *repo) plumbing.Hash { return r.tree(file(r, "..")) }, `forbidden name ".."`},
		{"dot", func(r *repo) plumbing.Hash { return r.tree(file(r, ".")) }, `forbidden name "."`},
		{"git", func(r *repo) plumbing.Hash { return r.tree(file(r, ".git")) }, `forbidden name ".git"`},
		{"git in capitals", func(r *repo) plumbing.Hash { return r.tree(file(r, ".GIT")) }, `forbidden name ".GIT"`},
		{"absolute", func(r *repo) plumbing.Hash { return r.tree(file(r, "/etc/passwd")) }, `forbidden name "/etc/passwd"`},
		{"NUL", func(r *repo) plumbing.Hash { return r.tree(file(r, "a\x00b")) }, "makes no sense"},
		{"no name", func(r *repo) plumbing.Hash { return r.tree(file(r, "")) }, "makes no sense"},
		{"cut short", func(r *repo) plumbing.Hash {
			return r.object(plumbing.TreeObject, []byte("100644 a\x00abc"))
		}, "makes no sense"},
		{"a mode of its own", func(r *repo) plumbing.Hash {
			return r.object(plumbing.TreeObject, []byte("rw-rw a\x00"+strings.Repeat("x", 20)))
		}, "makes no sense"},
		{"a file for a folder", func(r *repo) plumbing.Hash {
			return r.tree(object.TreeEntry{Name: "d", Mode: filemode.Dir, Hash: blob(r)})
		}, "makes no sense"},
		{"listed in 17 MiB", func(r *repo) plumbing.Hash {
			entries := slices.Repeat([]object.TreeEntry{file(r, "")}, 70_000)
			for i := range entries {
				entries[i].Name = fmt.Sprintf("%0250d", i)
			}

			return r.tree(entries...)
		}, "the folder is listed in"},
		{"slash", func(r *repo) plumbing.Hash { return r.tree(file(r, "../../etc/x")) }, `forbidden name "../../etc/x"`},
		{"twice", func(r *repo) plumbing.Hash { return r.tree(file(r, "a"), file(r, "a")) }, `holds "a" twice`},
		{"not UTF-8", func(r *repo) plumbing.Hash { return r.tree(file(r, "a\xff")) }, "not valid UTF-8: rename it"},
		{"links", func(r *repo) plumbing.Hash {
			entries := slices.Repeat([]object.TreeEntry{{Mode: filemode.Symlink, Hash: blob(r)}}, MaxLinks+1)
			for i := range entries {
				entries[i].Name = fmt.Sprint("l", i)
			}

			return r.tree(entries...)
		}, "more than 10000 symbolic links"},
		{"submodule", func(r *repo) plumbing.Hash {
			return r.tree(object.TreeEntry{Name: "charts", Mode: filemode.Submodule, Hash: plumbing.NewHash(strings.Repeat("a", 40))})
		}, "Git submodule, which is not supported"},
		{"deep", func(r *repo) plumbing.Hash {
			tree := r.tree(file(r, "f"))
			for range MaxDepth + 1 {
				tree = r.tree(object.TreeEntry{Name: "d", Mode: filemode.Dir, Hash: tree})
			}

			return tree
		}, "nested deeper than 128 folders"},
		{"bomb", func(r *repo) plumbing.Hash { // 10^10 files, a few kilobytes
			tree := r.tree(file(r, "f"))
			for range 10 {
				var entries []object.TreeEntry
				for i := range 10 {
					entries = append(entries, object.TreeEntry{Name: fmt.Sprint(i), Mode: filemode.Dir, Hash: tree})
				}

				tree = r.tree(entries...)
			}

			return tree
		}, "more than 200000 files and folders"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRepo(t, true)
			st := newStore(r.dir)
			rev := Revision{FS: newGitTree(st, test.tree(r), time.Time{})}

			var got error

			err := fs.WalkDir(rev.FS, ".", func(path string, d fs.DirEntry, err error) error {
				if got = err; err != nil {
					return fs.SkipAll
				}

				return nil
			})
			if st.damaged.Load() {
				t.Error("what was made so is taken for damage, and fetched again and again")
			}

			if err != nil || got == nil || !strings.Contains(got.Error(), test.want) {
				t.Errorf("got %v, want %q", got, test.want)
			}
		})
	}
}

// Names that are odd but harmless are read as what they are; those that could do
// something to a terminal are refused one by one.
func TestOddNames(t *testing.T) {
	r := newRepo(t, true)
	r.commit("odd", map[string]string{
		`a\b.yaml`:              clusterFile("backslash", `x\..\p`),
		`x\..\p`:                "machine: {}\n",
		`..\up.yaml`:            clusterFile("never-read", "x"), // begins with two dots, as Kubernetes' own
		"new\nline.yaml":        clusterFile("newline", "x"),
		"escape\x1b[2J.yaml":    clusterFile("escape", "x"),
		"Icon\r":                "as macOS makes it",
		"con.yaml":              clusterFile("con", `x\..\p`),
		"ünï ćödé/cluster.yaml": clusterFile("unicode", `../x\..\p`),
	})

	rev := fetch(t, newTestGit(t, GitConfig{URL: r.dir}))
	set, problems := template.Find(rev.FS, template.Scope{})

	var names []string
	for _, found := range set.Templates {
		names = append(names, found.Name)
	}

	if want := []string{"backslash", "con", "unicode"}; !slices.Equal(names, want) {
		t.Errorf("found %v, want %v", names, want)
	}

	const want = "escape\ufffd[2J.yaml: cannot be read: the name holds control characters: rename it\n" +
		"new\ufffdline.yaml: cannot be read: the name holds control characters: rename it"
	if diff := cmp.Diff(want, problems.Error()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Links are followed inside of the tree, as a template's folder, as a template and on
// the way to what it refers to; what is refused is told.
func TestFindThroughLinks(t *testing.T) {
	r := newRepo(t, true)
	r.commit("links", map[string]string{
		"current@":                "versions/2",
		"versions/2/a.yaml":       clusterFile("a", "patches/p.yaml"),
		"versions/2/b.yaml@":      "../../templates/b.yaml",
		"versions/2/patches@":     "../../patches",
		"versions/2/here@":        ".",
		"versions/2/up@":          "../2/..",
		"versions/2/loop@":        "loop",
		"versions/2/loop-a@":      "loop-b",
		"versions/2/loop-b@":      "./loop-a",
		"versions/2/out@":         "../../../out",
		"versions/2/out.yaml@":    "/etc/passwd",
		"versions/2/litter@":      "nowhere",
		"versions/2/litter.yaml@": "nowhere",
		"templates/b.yaml":        clusterFile("b", "patches/p.yaml"),
		"patches/p.yaml@":         "../deep/er/p",
		"deep/er/p":               "machine: {}\n",
	})

	rev := fetch(t, newTestGit(t, GitConfig{URL: r.dir}))
	set, problems := template.Find(rev.FS, template.Scope{Root: "current", Exclude: []string{"up"}})

	var names []string
	for _, found := range set.Templates {
		names = append(names, found.Name+" in "+found.Path)
	}

	if want := []string{"a in current/a.yaml", "b in current/b.yaml"}; !slices.Equal(names, want) {
		t.Errorf("found %q, want %q", names, want)
	}

	const want = `current/litter: this link to "nowhere" leads nowhere; correct that, or leave it out with exclude "litter"
current/litter.yaml: this link to "nowhere" leads nowhere; correct that, or leave it out with exclude "litter.yaml"
current/loop: cannot be read: too many symbolic links, probably a loop; correct that, or leave it out with exclude "loop"
current/loop-a: cannot be read: too many symbolic links, probably a loop; correct that, or leave it out with exclude "loop-a"
current/loop-b: cannot be read: too many symbolic links, probably a loop; correct that, or leave it out with exclude "loop-b"
current/out: cannot be read: the symbolic link leaves the tree: refused; correct that, or leave it out with exclude "out"
current/out.yaml: cannot be read: the symbolic link points to /etc/passwd, outside of the tree: refused; correct that, or leave it out with exclude "out.yaml"`
	if diff := cmp.Diff(want, problems.Error()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// As many links as are allowed, each as long a way as a link can be: bounded, and soon
// done.
func TestLongLinks(t *testing.T) {
	r := newRepo(t, true)
	files := map[string]string{"d/f": "", "big@": strings.Repeat("x", maxTarget+1)}

	way := strings.Repeat("d/../", maxTarget/5-10)
	for i := range 30 {
		files[fmt.Sprintf("chain%02d@", i)] = way + fmt.Sprintf("chain%02d", i+1)
	}

	var entries []object.TreeEntry

	root := r.files(files)
	st := newStore(r.dir)

	entries, err := readTree(st, root)
	if err != nil {
		t.Fatal(err)
	}

	for i := range MaxLinks - len(entries) {
		e := entries[slices.IndexFunc(entries, func(e object.TreeEntry) bool { return e.Name == "chain00" })]
		e.Name = fmt.Sprint("link", i)
		entries = append(entries, e)
	}

	fsys := newGitTree(st, r.tree(entries...), time.Time{})
	start := time.Now()

	if _, err = fs.ReadDir(fsys, "."); err != nil {
		t.Error(err)
	}

	t.Logf("%d links in %s", MaxLinks, time.Since(start))

	for _, name := range []string{"big", "chain00"} {
		if _, err := fs.ReadFile(fsys, name); err == nil || !strings.Contains(err.Error(), "symbolic link") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
