package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"
)

// quick settles at once and looks only when told: what is seen came from an event.
func quick(dir string) DirConfig {
	return DirConfig{Path: dir, Settle: time.Millisecond, Interval: time.Hour}
}

func TestDirFetch(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{
		"clusters/prod/cluster.yaml": "kind: Cluster\n",
		"README.md":                  "hi",
		".patches/a.yaml":            "a: b\n",
		".git/HEAD":                  "not ours",
		"sub/.git":                   "gitdir: elsewhere",
	})
	symlink(t, "../../README.md", filepath.Join(dir, "clusters/prod/link.md"))
	symlink(t, "clusters", filepath.Join(dir, "all"))

	d := NewDir(quick(dir))
	rev := fetch(t, d)

	if !strings.HasPrefix(rev.ID, "dir@sha256:") || len(rev.ID) != len("dir@sha256:")+64 {
		t.Errorf("got %s", rev.ID)
	}

	if err := fstest.TestFS(rev.FS, "clusters/prod/cluster.yaml", "README.md", ".patches/a.yaml", "clusters/prod/link.md"); err != nil {
		t.Error(err)
	}

	if got := read(t, rev.FS, "all/prod/link.md"); got != "hi" {
		t.Errorf("got %q", got)
	}

	for _, name := range []string{".git", "sub/.git"} {
		if _, err := fs.Stat(rev.FS, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", name, err)
		}
	}

	if again := fetch(t, d); again.FS != rev.FS {
		t.Error("an unchanged directory is not the same revision")
	}

	writeFiles(t, dir, map[string]string{"README.md": "ho"})

	if changed := fetch(t, d); changed.ID == rev.ID || read(t, changed.FS, "README.md") != "ho" || read(t, rev.FS, "README.md") != "hi" {
		t.Errorf("got %s", changed.ID)
	}
}

// Two directories have the same ID exactly if they hold the same.
func TestDirID(t *testing.T) {
	id := func(prepare func(dir string)) string {
		t.Helper()

		dir := t.TempDir()
		prepare(dir)

		return fetch(t, NewDir(quick(dir))).ID
	}

	trees := map[string]func(dir string){
		"empty":      func(string) {},
		"a":          func(dir string) { writeFiles(t, dir, map[string]string{"a": "x"}) },
		"b":          func(dir string) { writeFiles(t, dir, map[string]string{"b": "x"}) },
		"content":    func(dir string) { writeFiles(t, dir, map[string]string{"a": "y"}) },
		"two":        func(dir string) { writeFiles(t, dir, map[string]string{"a": "", "x": ""}) },
		"folder":     func(dir string) { writeFiles(t, dir, map[string]string{"a/x": ""}) },
		"executable": func(dir string) { writeFiles(t, dir, map[string]string{"a": "x"}); chmod(t, dir+"/a", 0o755) },
		"link":       func(dir string) { symlink(t, "x", dir+"/a") },
	}
	seen := map[string]string{}

	for name, prepare := range trees {
		got := id(prepare)
		if other, ok := seen[got]; ok {
			t.Errorf("%s and %s have the same ID", name, other)
		}

		seen[got] = name

		if again := id(prepare); again != got {
			t.Errorf("%s has two IDs", name)
		}
	}

	private := id(func(dir string) { writeFiles(t, dir, map[string]string{"a": "x"}); chmod(t, dir+"/a", 0o600) })
	if seen[private] != "a" {
		t.Error("permissions that Git does not know make a difference")
	}
}

func TestDirErrors(t *testing.T) {
	big, deep := t.TempDir(), t.TempDir()

	for i := range MaxDirSize/MaxFileSize + 1 {
		grow(t, filepath.Join(big, fmt.Sprint(i)), MaxFileSize)
	}

	writeFiles(t, deep, map[string]string{strings.Repeat("d/", MaxDepth+1) + "f": ""})

	file := filepath.Join(t.TempDir(), "file")
	writeFiles(t, filepath.Dir(file), map[string]string{"file": ""})

	for dir, want := range map[string]string{
		filepath.Join(big, "x"): "it does not exist: check the path",
		file:                    "not a directory",
		"":                      "it does not exist",
		big:                     "more than 64.0 MiB together",
		deep:                    "nested deeper than 128 folders",
	} {
		if _, err := NewDir(quick(dir)).Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestDirMaxFiles(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"a/f": "", "node_modules/g": ""})

	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()

	for free, want := range map[int]string{4: "", 3: "more than 20000 files and folders (17 of them in node_modules): refused"} {
		s := &scan{folders: map[string]fs.FileInfo{}, counts: map[string]int{"node_modules": 15}, found: make([]found, MaxDirFiles-free)}
		if err := s.walk(root, ".", 0); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%d free: got %v, want %q", free, err, want)
		}
	}
}

func TestDirSymlinks(t *testing.T) {
	outside := t.TempDir()
	writeFiles(t, outside, map[string]string{"secret": "SECRET"})

	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"sub/file": "x"})
	symlink(t, filepath.Join(outside, "secret"), dir+"/absolute")
	symlink(t, "../"+filepath.Base(outside)+"/secret", dir+"/relative")
	symlink(t, outside, dir+"/folder")
	symlink(t, "..", dir+"/sub/up")
	symlink(t, "loop", dir+"/loop")

	rev := fetch(t, NewDir(quick(dir)))

	for _, name := range []string{"absolute", "relative", "folder/secret", "loop"} {
		if data, err := fs.ReadFile(rev.FS, name); err == nil {
			t.Errorf("%s: read %q", name, data)
		}
	}

	if got := read(t, rev.FS, "sub/up/sub/file"); got != "x" {
		t.Errorf("got %q", got)
	}
}

// Files that are written one after the other are taken together. Every file says
// the same number; a revision in which they differ is half written.
func TestDirHalfWritten(t *testing.T) {
	dir := t.TempDir()
	write := func(n int) {
		files := map[string]string{}
		for i := range 50 {
			files[fmt.Sprintf("%d/f", i)] = fmt.Sprint(n)
		}

		writeFiles(t, dir, files)
	}

	write(0)

	// Settling takes longer than what this machine may pause between two files.
	revs := watchRevisions(t, NewDir(DirConfig{Path: dir, Settle: 300 * time.Millisecond, Interval: time.Hour}))

	check := func(rev Revision) string {
		t.Helper()

		want := text(t, rev, "0/f")
		for i := range 50 {
			if got := text(t, rev, fmt.Sprintf("%d/f", i)); got != want {
				t.Fatalf("half written: %s and %s", want, got)
			}
		}

		return want
	}

	check(next(t, revs))

	for n := 1; n <= 3; n++ {
		write(n)

		for check(next(t, revs)) != fmt.Sprint(n) {
		}
	}
}

// What keeps the times of its originals, as tar and rsync do, changes all the same.
func TestDirSameTimes(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) {
		writeFiles(t, dir, map[string]string{"f": text})
		backdate(t, dir+"/f")
		backdate(t, dir)
	}

	const settle = 50 * time.Millisecond

	d := NewDir(DirConfig{Path: dir, Settle: settle})

	for _, want := range []string{"1", "2", "3"} {
		write(want)

		start := time.Now()

		if got := read(t, fetch(t, d).FS, "f"); got != want {
			t.Errorf("got %q", got)
		}

		if took := time.Since(start); took < settle/2 {
			t.Errorf("taken after %s, without letting it settle", took)
		}

		d.trusted = true // as if the look had been long after
	}
}

// A file that changes while the directory is read is seen: what was read is not
// taken.
func TestDirChangesWhileRead(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"a": "1", "b": "1"})

	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()

	before, err := scanDir(root)
	if err != nil {
		t.Fatal(err)
	}

	for name, change := range map[string]func(){
		"content": func() { writeFiles(t, dir, map[string]string{"b": "22"}) },
		"new":     func() { writeFiles(t, dir, map[string]string{"c": "1"}) },
		"removed": func() { remove(t, dir+"/a") },
	} {
		change()

		after, err := scanDir(root)
		if err != nil {
			t.Fatal(err)
		}

		if before.same(after) {
			t.Errorf("%s: not seen", name)
		}

		before = after
	}

	remove(t, dir+"/b")

	if _, err = before.load(root); !errors.Is(vanished(err), errChanging) {
		t.Errorf("a file that vanished: %v", err)
	}
}

// A directory that never rests gives an error in bounded time, and is not read
// half-way.
func TestDirRestless(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"f": "0"})

	ctx, cancel := context.WithCancel(t.Context())

	var writer sync.WaitGroup

	writer.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			writeFiles(t, dir, map[string]string{"f": fmt.Sprint(i)})
		}
	})

	defer writer.Wait()
	defer cancel()

	// Either it was lucky, or it says so.
	if _, err := NewDir(quick(dir)).Fetch(t.Context()); err != nil && !strings.Contains(err.Error(), "change all the time") {
		t.Error(err)
	}
}

// until waits for a revision in which a file has that content; "" means it is gone.
func until(t *testing.T, revs <-chan Revision, name, want string) {
	t.Helper()

	for text(t, next(t, revs), name) != want {
	}
}

func text(t *testing.T, rev Revision, name string) string {
	t.Helper()

	data, err := fs.ReadFile(rev.FS, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}

	return string(data)
}

func symlink(t *testing.T, target, name string) {
	t.Helper()

	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()

	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, name string) {
	t.Helper()

	if err := os.RemoveAll(name); err != nil {
		t.Fatal(err)
	}
}

// backdate gives a file the time of a file that is long there.
func backdate(t *testing.T, name string) {
	t.Helper()

	then := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := os.Chtimes(name, then, then); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, name string, mode fs.FileMode) {
	t.Helper()

	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

// grow makes a file of that size that takes no space.
func grow(t *testing.T, name string, size int64) {
	t.Helper()

	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}

	if err = errors.Join(file.Truncate(size), file.Close()); err != nil {
		t.Fatal(err)
	}
}
