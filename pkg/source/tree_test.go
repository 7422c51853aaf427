package source

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestGitTreeFS(t *testing.T) {
	r := newRepo(t, true)
	r.commit("one", map[string]string{
		"README.md":                   "hi",
		"clusters/prod/cluster.yaml":  "kind: Cluster\n",
		"clusters/prod/patch.yaml@":   "../../shared/patch.yaml",
		"clusters/prod/patches@":      "../../shared",
		"clusters-2/empty.yaml":       "",
		"clusters.yaml":               "sorts between the two",
		"shared/patch.yaml":           "a: b\n",
		"shared/deep/er/than/any.yml": "x",
	})

	rev := fetch(t, newTestGit(t, GitConfig{URL: r.dir}))
	if err := fstest.TestFS(rev.FS, "README.md", "clusters/prod/cluster.yaml", "clusters/prod/patch.yaml", "shared/deep/er/than/any.yml", "clusters.yaml"); err != nil {
		t.Error(err)
	}

	if got := read(t, rev.FS, "clusters/prod/patches/deep/er/than/any.yml"); got != "x" {
		t.Errorf("got %q", got)
	}

	var walked []string

	err := fs.WalkDir(rev.FS, "clusters", func(path string, d fs.DirEntry, err error) error {
		walked = append(walked, path+" "+d.Type().String())

		return err
	})
	if err != nil {
		t.Error(err)
	}

	if got, want := strings.Join(walked, "\n"), `clusters d---------
clusters/prod d---------
clusters/prod/cluster.yaml ----------
clusters/prod/patch.yaml ----------
clusters/prod/patches L---------`; got != want {
		t.Errorf("walked\n%s", got)
	}
}

func TestSymlinks(t *testing.T) {
	r := newRepo(t, true)
	files := map[string]string{
		"file":            "content",
		"dir/file":        "below",
		"to-file@":        "file",
		"to-dir@":         "dir",
		"chain@":          "to-dir/../to-file",
		"dir/up@":         "../file",
		"dir/here@":       "./file",
		"dir/root@":       "..",
		"leaves@":         "../outside",
		"dir/leaves@":     "a/../../../file",
		"absolute@":       "/etc/passwd",
		"missing@":        "nowhere",
		"loop@":           "loop",
		"loop-a@":         "loop-b",
		"loop-b@":         "loop-a",
		"through-a-file@": "file/x",
		"empty@":          "",
		"growing@":        strings.Repeat("growing/", 500),
	}
	r.commit("one", files)
	git := fetch(t, newTestGit(t, GitConfig{URL: r.dir})).FS

	for _, test := range []struct{ name, content, err string }{
		{"to-file", "content", ""},
		{"to-dir/file", "below", ""},
		{"chain", "content", ""},
		{"dir/up", "content", ""},
		{"dir/here", "below", ""},
		{"dir/root/dir/root/to-file", "content", ""},
		{"leaves", "", "leaves the tree"},
		{"dir/leaves", "", "does not exist"},
		{"absolute", "", "/etc/passwd, outside of the tree: refused"},
		{"missing", "", "does not exist"},
		{"loop", "", "loop"},
		{"loop-a", "", "loop"},
		{"growing", "", "loop"},
		{"through-a-file", "", "does not exist"},
		{"empty", "", "no valid target"},
		{"to-dir", "", "is a directory"},
	} {
		data, err := fs.ReadFile(git, test.name)
		if string(data) != test.content || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %q, %v; want %q, %q", test.name, data, err, test.content, test.err)
		}
	}

	if info, err := fs.Stat(git, "to-dir"); err != nil || !info.IsDir() || info.Name() != "to-dir" {
		t.Errorf("to-dir: %v, %v", info, err)
	}

	entries, err := fs.ReadDir(git, ".")
	if err != nil {
		t.Fatal(err)
	}

	for _, e := range entries {
		links := []string{"leaves", "absolute", "missing", "loop", "loop-a", "loop-b", "growing", "through-a-file", "empty", "to-dir"}
		if (e.Type() == fs.ModeSymlink) != slices.Contains(links, e.Name()) {
			t.Errorf("%s is listed as %s", e.Name(), e.Type())
		}
	}
}

func TestLargeFile(t *testing.T) {
	r := newRepo(t, true)
	r.commit("one", map[string]string{"image.iso": strings.Repeat("x", MaxFileSize+1)})

	dir := t.TempDir()
	grow(t, dir+"/image.iso", MaxFileSize+1)
	grow(t, dir+"/limit", MaxFileSize)

	trees := map[string]fs.FS{
		"git": fetch(t, newTestGit(t, GitConfig{URL: r.dir})).FS,
		"dir": fetch(t, NewDir(DirConfig{Path: dir})).FS,
	}

	for name, fsys := range trees {
		if _, err := fs.ReadFile(fsys, "image.iso"); err == nil || !strings.Contains(err.Error(), "image.iso: the file has 16.0 MiB, more than the limit of 16.0 MiB") {
			t.Errorf("%s: got %v", name, err)
		}

		if info, err := fs.Stat(fsys, "image.iso"); err != nil || info.Size() != MaxFileSize+1 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}

	if got := read(t, trees["dir"], "limit"); len(got) != MaxFileSize {
		t.Errorf("%d bytes", len(got))
	}
}

// Whatever name is asked for, nothing but the three files is ever read.
func FuzzTreeName(f *testing.F) {
	r := newRepo(f, true)
	r.commit("one", map[string]string{"a": "1", "d/b": "2", "d/up@": "../a", "d/out@": "../../a", "d/d@": ".", "top@": "d/../d"})
	fsys := fetch(f, newTestGit(f, GitConfig{URL: r.dir})).FS

	for _, name := range []string{"a", "d/b", "d/up", "d/out", "d/d/d/b", "top/up", "..", "/a", "d/../a", "d//b", ""} {
		f.Add(name)
	}

	f.Fuzz(func(t *testing.T, name string) {
		data, err := fs.ReadFile(fsys, name)
		info, statErr := fs.Stat(fsys, name)

		switch {
		case err == nil:
			if got := string(data); got != "1" && got != "2" {
				t.Errorf("%q reads %q", name, got)
			}

			if statErr != nil || info.Size() != int64(len(data)) {
				t.Errorf("%q: %v, %v", name, info, statErr)
			}
		case !fs.ValidPath(name) && !errors.Is(err, fs.ErrInvalid):
			t.Errorf("%q: %v", name, err)
		}
	})
}
