package source

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/omni-syncd/omni-syncd/pkg/template"
)

func fifo(t *testing.T, name string) {
	t.Helper()

	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
}

func inTime(t *testing.T, fn func()) {
	t.Helper()

	done := make(chan struct{})

	go func() {
		defer close(done)
		fn()
	}()

	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for somebody who writes to the pipe")
	}
}

// G2: a template that was replaced by a pipe or a socket counted as removed.
func TestG2_NeitherFileNorFolder(t *testing.T) {
	for name, test := range map[string]struct {
		replace func(t *testing.T, dir string)
		want    string
	}{
		"a pipe": {func(t *testing.T, dir string) {
			remove(t, dir+"/b.yaml")
			fifo(t, dir+"/b.yaml")
		}, "b.yaml: this is a named pipe, not a file; correct that"},
		"a socket": {func(t *testing.T, dir string) {
			remove(t, dir+"/b.yaml")

			listener, err := net.Listen("unix", dir+"/b.yaml")
			if err != nil {
				t.Skip(err) // the path is too long for one
			}

			t.Cleanup(func() { listener.Close() }) //nolint:errcheck // a socket
		}, "b.yaml: this is a socket, not a file"},
		"a device": {func(t *testing.T, dir string) {
			remove(t, dir+"/b.yaml")

			if err := syscall.Mknod(dir+"/b.yaml", syscall.S_IFCHR|0o600, 1<<8|3); err != nil {
				t.Skip(err)
			}
		}, "b.yaml: this is a device, not a file"},
		"a pipe for a folder": {func(t *testing.T, dir string) {
			remove(t, dir+"/sub")
			fifo(t, dir+"/sub")
		}, "sub: this is a named pipe, not a file"},
		"a link to a pipe": {func(t *testing.T, dir string) {
			remove(t, dir+"/b.yaml")
			fifo(t, dir+"/.pipe")
			symlink(t, ".pipe", dir+"/b.yaml")
		}, "b.yaml: this link leads to a named pipe"},
		"a pipe that a template refers to": {func(t *testing.T, dir string) {
			remove(t, dir+"/p")
			fifo(t, dir+"/p")
		}, `a.yaml:6:11: file "p" is not a regular file`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeFiles(t, dir, map[string]string{"a.yaml": clusterFile("a", "p"), "b.yaml": clusterFile("b", "p"), "sub/c.yaml": clusterFile("c", "../p"), "p": "machine: {}\n"})

			d := NewDir(quick(dir))
			before := fetch(t, d)

			set, problems := template.Find(before.FS, template.Scope{})
			if len(set.Templates) != 3 || len(problems) > 0 {
				t.Fatal(problems)
			}

			test.replace(t, dir)

			inTime(t, func() {
				after := fetch(t, d)
				if after.ID == before.ID {
					t.Error("it is the same revision")
				}

				if _, problems = set.Next(after.FS, template.Scope{}); !strings.Contains("\n"+problems.Error(), "\n"+test.want) {
					t.Errorf("got %v, want %s", problems, test.want)
				}

				if _, err := fs.ReadFile(after.FS, "b.yaml"); err == nil && strings.HasPrefix(test.want, "b.yaml") {
					t.Error("it can be read")
				}
			})
		})
	}
}

// To open a pipe waits for whoever writes to it, so it is never opened: not as the directory itself, and not where a file or
// folder was a moment ago.
func TestDirDoesNotWaitForPipes(t *testing.T) {
	dir := t.TempDir()
	fifo(t, dir+"/pipe")

	root, err := openRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()

	inTime(t, func() {
		if _, err := NewDir(quick(dir + "/pipe")).Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "not a directory") {
			t.Errorf("as the directory: %v", err)
		}

		if _, err := readFile(root, "pipe"); !errors.Is(err, errChanging) {
			t.Errorf("as a file: %v", err)
		}

		s := &scan{folders: map[string]fs.FileInfo{}, counts: map[string]int{}}
		if err := s.walk(root, "pipe", 1); err == nil {
			t.Error("as a folder: no error")
		}
	})
}

// asNobody runs a function with the right of nobody to files, if it is root that tests.
func asNobody(t *testing.T, dir string, fn func()) {
	t.Helper()

	if os.Geteuid() != 0 {
		fn()

		return
	}

	chmod(t, filepath.Dir(dir), 0o755)

	runtime.LockOSThread() // which the right belongs to
	defer runtime.UnlockOSThread()

	if err := syscall.Setfsuid(65534); err != nil {
		t.Fatal(err)
	}
	defer syscall.Setfsuid(0) //nolint:errcheck // it was so before

	if _, err := os.ReadDir(dir); err != nil {
		t.Skip(err) // the temporary folder is private
	}

	fn()
}

// G2: a folder that may not be read is not an empty one.
func TestG2_UnreadableFolder(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"a.yaml": clusterFile("a", "p"), "sub/b.yaml": clusterFile("b", "p"), "p": "machine: {}\n"})
	symlink(t, "sub", dir+"/link")
	chmod(t, dir, 0o755)
	chmod(t, dir+"/sub", 0)
	t.Cleanup(func() { chmod(t, dir+"/sub", 0o700) })

	for _, name := range []string{"a.yaml", "p"} {
		chmod(t, filepath.Join(dir, name), 0o644)
	}

	asNobody(t, dir, func() {
		_, problems := template.Find(fetch(t, NewDir(quick(dir))).FS, template.Scope{})

		const want = `link: cannot read this folder: permission denied; correct that, or leave it out with exclude "link"
sub: cannot read this folder: permission denied; correct that, or leave it out with exclude "sub"`
		if got := problems.Error(); got != want {
			t.Errorf("got %s", got)
		}
	})
}

// G2: nobody waits for who writes to a pipe in place of what Git reads.
func TestG2_PipesInGit(t *testing.T) {
	for name, want := range map[string]string{"index": "it is not a file", "HEAD": "", "commondir": ""} {
		dir := t.TempDir()
		writeFiles(t, dir, map[string]string{"a.yaml": smallCluster("a")})
		runGit(t, dir, "init", "--quiet", "x")
		remove(t, dir+"/x/.git/"+name)
		fifo(t, dir+"/x/.git/"+name)
		writeFiles(t, dir, map[string]string{"x/b.yaml": smallCluster("b")})

		inTime(t, func() {
			if names, problems := clustersIn(t, dir, template.Scope{}); names != "a b" || !strings.Contains(problems, want) {
				t.Errorf("%s: %s; %s", name, names, problems)
			}
		})
	}
}
