package source

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"github.com/google/go-cmp/cmp"

	"github.com/omni-syncd/omni-syncd/pkg/template"
)

const pointer = `version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 12345
`

func TestIsPointer(t *testing.T) {
	lines := func(lines ...string) string { return strings.Join(lines, "\n") + "\n" }
	version, oid, size := "version https://git-lfs.github.com/spec/v1", "oid sha256:4d7a", "size 1"

	for name, test := range map[string]struct {
		data string
		want bool
	}{
		"pointer":          {pointer, true},
		"with extension":   {lines(version, "ext-0-foo sha256:aa", oid, size), true},
		"carriage returns": {strings.ReplaceAll(pointer, "\n", "\r\n"), true},
		"next version":     {lines("version https://git-lfs.github.com/spec/v2", oid, size), true},
		"before launch":    {lines("version https://hawser.github.com/spec/v1", oid, size), true},
		"alpha":            {lines("version http://git-media.io/v/2", oid, size), true},
		"padded":           {pointer + strings.Repeat("x", maxPointer-len(pointer)), true},
		"too large":        {pointer + strings.Repeat("x", maxPointer-len(pointer)+1), false},
		"empty":            {"", false}, // by the specification: the pointer to an empty file
		"cut":              {"version https://git-lfs", false},
		"only the version": {lines(version), false},
		"not first":        {"\n" + pointer, false},
		"a comment":        {"# " + pointer, false},
		"another version":  {lines("version https://example.com/spec/v1", oid, size), false},
		"a template":       {"kind: Cluster\nname: " + pointer, false},
	} {
		if got := isPointer([]byte(test.data)); got != test.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

const clusterText = `kind: Cluster
name: NAME
kubernetes: {version: v1.34.1}
talos: {version: v1.11.3}
patches:
  - file: FILE
---
kind: ControlPlane
machines: []
`

func clusterFile(name, file string) string {
	return strings.NewReplacer("NAME", name, "FILE", file).Replace(clusterText)
}

// What is not in the repository itself is told, wherever it is met, and its stand-in is
// never taken for the content.
func TestNotInTheRepository(t *testing.T) {
	r := newRepo(t, true)
	files := map[string]string{
		"clusters/lfs.yaml":         pointer,
		"clusters/patch.yaml":       clusterFile("patch", "../blobs/patch.bin"),
		"clusters/submodule.yaml":   clusterFile("submodule", "../charts/patch.yaml"),
		"clusters/the-folder.yaml":  clusterFile("the-folder", "../charts"),
		"clusters/link-to-lfs.yaml": clusterFile("link-to-lfs", "linked-patch"),
		"clusters/linked-patch@":    "../blobs/patch.bin",
		"clusters/linked.yaml@":     "../blobs/patch.bin",
		"clusters/linked-folder@":   "../charts",
		"clusters/in-sub.yaml@":     "../charts/cluster.yaml",
		"clusters/notes.txt":        pointer, // nobody reads it
		"clusters/good.yaml":        clusterFile("good", "../blobs/good.yaml"),
		"blobs/patch.bin":           pointer,
		"blobs/good.yaml":           "machine: {}\n",
	}
	commit := func(submodules ...string) Revision {
		root := r.files(files)

		entries, err := readTree(localObjects{mustOpenLocal(t, r.dir)}, root)
		if err != nil {
			t.Fatal(err)
		}

		module := object.TreeEntry{Mode: filemode.Submodule, Hash: plumbing.NewHash(strings.Repeat("a", 40))}

		for i, e := range entries {
			if e.Name != "clusters" {
				continue
			}

			below, err := readTree(localObjects{mustOpenLocal(t, r.dir)}, e.Hash)
			if err != nil {
				t.Fatal(err)
			}

			for _, name := range submodules[1:] {
				module.Name = name
				below = append(below, module)
			}

			entries[i].Hash = r.tree(below...)
		}

		module.Name = submodules[0]
		r.commitTree("main", "submodules", r.tree(append(entries, module)...))

		return fetch(t, newTestGit(t, GitConfig{URL: r.dir}))
	}

	rev := commit("charts", "vendor", "x.yaml", ".hidden")

	_, problems := template.Find(rev.FS, template.Scope{Root: "clusters"})

	var got []string
	for _, p := range problems {
		got = append(got, p.Error())
	}

	const (
		lfs = `this is a Git LFS pointer, and LFS is not supported: commit the file itself (see "git lfs untrack"), or exclude it`
		sub = "this is a Git submodule, which is not supported: copy the files into the repository, or exclude the folder"
	)

	want := []string{
		"clusters/in-sub.yaml: cannot be read: " + sub,
		"clusters/lfs.yaml: cannot be read: " + lfs,
		`clusters/link-to-lfs.yaml:6:11: file "linked-patch" cannot be read: ` + lfs,
		"clusters/linked-folder: cannot read this folder: " + sub,
		"clusters/linked.yaml: cannot be read: " + lfs,
		`clusters/patch.yaml:6:11: file "../blobs/patch.bin" cannot be read: ` + lfs,
		`clusters/submodule.yaml:6:11: file "../charts/patch.yaml" cannot be read: ` + sub,
		`clusters/the-folder.yaml:6:11: file "../charts" is a folder: name the file in it`,
		"clusters/vendor: cannot read this folder: " + sub,
		"clusters/x.yaml: cannot read this folder: " + sub,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	for root, want := range map[string]string{
		"charts":     "charts: cannot read this folder: " + sub,
		"charts/sub": `path "charts/sub" cannot be read: ` + sub,
	} {
		if _, problems := template.Find(rev.FS, template.Scope{Root: root}); problems.Error() != want {
			t.Errorf("%s: got %v", root, problems)
		}
	}

	// The text of a pointer comes out nowhere.
	for _, name := range []string{"blobs/patch.bin", "clusters/linked-patch"} {
		if data, err := fs.ReadFile(rev.FS, name); err == nil {
			t.Errorf("%s: read %q", name, data)
		}

		if file, err := rev.FS.Open(name); err == nil {
			t.Errorf("%s: opened %v", name, file)
		}
	}
}

// A clone without LFS that is followed as a directory holds pointers, too.
func TestPointerInDirectory(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"lfs.yaml": pointer})

	_, problems := template.Find(fetch(t, NewDir(quick(dir))).FS, template.Scope{})
	if !strings.HasPrefix(problems.Error(), "lfs.yaml: cannot be read: this is a Git LFS pointer") {
		t.Errorf("got %v", problems)
	}
}

func mustOpenLocal(t *testing.T, dir string) *filesystem.Storage {
	t.Helper()

	objects, err := openLocal(dir)
	if err != nil {
		t.Fatal(err)
	}

	return objects
}
