package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestDirWatch(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(t *testing.T, dir string)
		want   string // content of f
	}{
		{"write", func(t *testing.T, dir string) { writeFiles(t, dir, map[string]string{"f": "2"}) }, "2"},
		{"save as editors do", func(t *testing.T, dir string) {
			writeFiles(t, dir, map[string]string{".f.swp": "2"})
			rename(t, dir+"/.f.swp", dir+"/f")
		}, "2"},
		{"save with a backup", func(t *testing.T, dir string) {
			rename(t, dir+"/f", dir+"/f~")
			writeFiles(t, dir, map[string]string{"f": "2"})
			remove(t, dir+"/f~")
		}, "2"},
		{"remove", func(t *testing.T, dir string) { remove(t, dir+"/f") }, ""},
		{"remove and make again", func(t *testing.T, dir string) {
			remove(t, dir)
			writeFiles(t, dir, map[string]string{"f": "2"})
		}, "2"},
		{"replace", func(t *testing.T, dir string) {
			writeFiles(t, dir+".new", map[string]string{"f": "2"})
			rename(t, dir, dir+".old")
			rename(t, dir+".new", dir)
		}, "2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "fleet")
			writeFiles(t, dir, map[string]string{"f": "1", "sub/g": "1"})

			revs := watchRevisions(t, NewDir(quick(dir)))
			if got := text(t, next(t, revs), "f"); got != "1" {
				t.Fatalf("got %q", got)
			}

			test.change(t, dir)
			until(t, revs, "f", test.want)

			// What was made anew is watched, too.
			writeFiles(t, dir, map[string]string{"f": "3"})
			until(t, revs, "f", "3")
		})
	}
}

func TestDirWatchNewFolders(t *testing.T) {
	dir := t.TempDir()
	revs := watchRevisions(t, NewDir(quick(dir)))
	next(t, revs)

	writeFiles(t, dir, map[string]string{"a/b/c/f": "1"})
	until(t, revs, "a/b/c/f", "1")
	writeFiles(t, dir, map[string]string{"a/b/c/f": "2"})
	until(t, revs, "a/b/c/f", "2")
	rename(t, dir+"/a", dir+"/z")
	until(t, revs, "z/b/c/f", "2")
	writeFiles(t, dir, map[string]string{"z/b/c/f": "3"})
	until(t, revs, "z/b/c/f", "3")
}

// A ConfigMap as the kubelet mounts it: links to ..data, which is a link to the
// folder of this version and is swapped by one rename.
func TestDirWatchConfigMap(t *testing.T) {
	dir := t.TempDir()
	version := func(name, content string) {
		writeFiles(t, dir, map[string]string{name + "/f": content, name + "/sub/g": content})
		symlink(t, name, dir+"/..data_tmp")
		rename(t, dir+"/..data_tmp", dir+"/..data")
	}

	version("..2026_01", "1")
	symlink(t, "..data/f", dir+"/f")
	symlink(t, "..data/sub", dir+"/sub")

	revs := watchRevisions(t, NewDir(quick(dir)))

	first := next(t, revs)
	if err := fstest.TestFS(first.FS, "f", "sub/g"); err != nil {
		t.Error(err)
	}

	if entries, err := fs.ReadDir(first.FS, "."); err != nil || len(entries) != 2 || !entries[0].Type().IsRegular() || !entries[1].IsDir() {
		t.Errorf("listed %v, %v", entries, err)
	}

	for i := 2; i < 5; i++ {
		want := fmt.Sprint(i)
		version("..2026_0"+want, want)
		remove(t, dir+"/..2026_0"+fmt.Sprint(i-1))
		until(t, revs, "f", want)
	}
}

// The directory itself is a link that is swapped.
func TestDirWatchLinkedRoot(t *testing.T) {
	base := t.TempDir()
	writeFiles(t, base, map[string]string{"v1/f": "1", "v2/f": "2"})
	symlink(t, "v1", base+"/current")

	revs := watchRevisions(t, NewDir(quick(base+"/current")))
	until(t, revs, "f", "1")
	symlink(t, "v2", base+"/next")
	rename(t, base+"/next", base+"/current")
	until(t, revs, "f", "2")
}

// Events that leave the files as they were are no revision.
func TestDirWatchSameContent(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"f": "1"})

	revs := watchRevisions(t, NewDir(quick(dir)))
	first := next(t, revs)

	for range 20 {
		writeFiles(t, dir, map[string]string{"g": "", "f": "1"})
		remove(t, dir+"/g")
	}

	writeFiles(t, dir, map[string]string{"f": "2"})

	last := first
	for text(t, last, "f") != "2" || text(t, last, "g") != "" {
		rev := next(t, revs)

		// A revision read while files were changing is reported again, as whole, once they are at rest.
		if rev.ID == last.ID && moving(rev) == moving(last) {
			t.Errorf("%s twice in a row", rev.ID)
		}

		last = rev
	}
}

// Without notifications, and until the directory is there, it is looked at again and
// again.
func TestDirPolls(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "fleet")

	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.WarnLevel)
		d := NewDir(DirConfig{Path: dir, Interval: time.Minute, Logger: zap.New(core)})
		d.notify = func() (*fsnotify.Watcher, error) { return nil, errors.New("no space left on device") }

		var (
			mu   sync.Mutex
			revs []Revision
			errs []error
		)

		ctx, cancel := context.WithCancel(t.Context())

		go d.Watch(ctx, func(rev Revision, err error) { //nolint:errcheck // nil
			mu.Lock()
			defer mu.Unlock()

			if err != nil {
				errs = append(errs, err)
			} else {
				revs = append(revs, rev)
			}
		})

		defer synctest.Wait()
		defer cancel()

		// The lock is held except while time passes.
		advance := func(by time.Duration) {
			mu.Unlock()
			<-time.NewTimer(by).C
			synctest.Wait()
			mu.Lock()
		}

		mu.Lock()
		defer mu.Unlock()

		advance(30 * time.Second)

		if n := len(errs); n < 3 || n > 5 { // after 4, 8, 16 seconds
			t.Errorf("failed %d times: %v", n, errs)
		}

		writeFiles(t, dir, map[string]string{"f": "1"})
		advance(40 * time.Second)

		if len(revs) != 1 {
			t.Fatalf("got %d revisions", len(revs))
		}

		writeFiles(t, dir, map[string]string{"f": "2"})
		advance(2*time.Second + 200*time.Millisecond)

		if len(revs) != 2 || read(t, revs[1].FS, "f") != "2" {
			t.Errorf("got %d revisions", len(revs))
		}

		if logs.Len() != 1 {
			t.Errorf("logged %v", logs.All())
		}
	})
}
