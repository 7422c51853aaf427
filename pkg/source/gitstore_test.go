package source

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestGitRestart(t *testing.T) {
	r := newRepo(t, true)
	r.commit("one", map[string]string{"a": "1"})

	s := serve(t, r)
	cfg := GitConfig{URL: s.url(r), StateDir: filepath.Join(t.TempDir(), "state", "fleet")}
	first := fetchOnce(t, cfg)
	s.took()

	g := newTestGit(t, cfg)
	second := fetch(t, g)
	if requests, _ := s.took(); !cmp.Equal(requests, []string{"GET"}) {
		t.Errorf("a restart fetched again: %v", requests)
	}

	if second.ID != first.ID || read(t, second.FS, "a") != "1" {
		t.Errorf("got %+v", second)
	}

	r.commit("two", map[string]string{"a": "2"})

	if err := g.Close(); err != nil {
		t.Fatal(err)
	}

	if rev := fetch(t, newTestGit(t, cfg)); read(t, rev.FS, "a") != "2" {
		t.Error("after a restart a new commit is not seen")
	}
}

// fetchOnce is one run of a process.
func fetchOnce(t *testing.T, cfg GitConfig) Revision {
	t.Helper()

	g := NewGit(cfg)
	rev := fetch(t, g)

	if err := g.Close(); err != nil {
		t.Fatal(err)
	}

	return rev
}

func TestGitCorrupted(t *testing.T) {
	overwrite := func(pattern string, data []byte) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			names, err := filepath.Glob(filepath.Join(dir, "*", pattern))
			if err != nil || len(names) == 0 {
				t.Fatal(pattern, err)
			}

			for _, name := range names {
				if err = os.Chmod(name, 0o600); err != nil {
					t.Fatal(err)
				}

				if err = os.WriteFile(name, data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}

	for _, test := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		logged bool
	}{
		{"pack", overwrite("objects/pack/*.pack", []byte("PACK garbage, but long enough to hold a checksum")), true},
		{"empty pack", overwrite("objects/pack/*.pack", nil), true},
		{"index", overwrite("objects/pack/*.idx", []byte("garbage")), true},
		{"tip", overwrite("refs/omni-syncd/tip", nil), false},
		{"other tip", overwrite("refs/omni-syncd/tip", bytes.Repeat([]byte("a"), 40)), true},
		{"all gone", func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, "objects-000001", "objects")); err != nil {
				t.Fatal(err)
			}
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRepo(t, true)
			r.commit("one", map[string]string{"a": "1", "dir/b": "2"})

			core, logs := observer.New(zapcore.WarnLevel)
			cfg := GitConfig{URL: r.dir, StateDir: t.TempDir(), Logger: zap.New(core)}
			fetchOnce(t, cfg)
			test.damage(t, cfg.StateDir)

			rev := fetch(t, newTestGit(t, cfg))
			if read(t, rev.FS, "a") != "1" || read(t, rev.FS, "dir/b") != "2" {
				t.Error("wrong content")
			}

			if got := logs.FilterMessageSnippet("damaged").Len() == 1; got != test.logged {
				t.Errorf("logged %v", logs.All())
			}
		})
	}
}

// A store that breaks while it is in use is made anew by the next look, and Watch
// hands out the same revision again, readable.
func TestGitHealsWhileRunning(t *testing.T) {
	r := newRepo(t, true)
	r.commit("one", map[string]string{"dir/a": "1"})

	state := t.TempDir()
	g := newTestGit(t, GitConfig{URL: r.dir, StateDir: state, Interval: time.Hour})
	revs := watchRevisions(t, g)
	first := next(t, revs)

	packs, err := g.store.packs()
	if err != nil {
		t.Fatal(err)
	}

	for _, name := range packs {
		if err = errors.Join(os.Chmod(name, 0o600), os.Truncate(name, 0)); err != nil {
			t.Fatal(err)
		}
	}

	if _, err = fs.ReadFile(first.FS, "dir/a"); err == nil {
		t.Fatal("can still be read")
	}

	g.Poke()

	second := next(t, revs)
	if second.ID != first.ID || read(t, second.FS, "dir/a") != "1" {
		t.Errorf("got %+v", second)
	}
}

func TestGitMaxSize(t *testing.T) {
	r := newRepo(t, true)
	noise := noise(100_000)
	r.commit("one", map[string]string{"a": noise})

	for _, url := range []string{r.dir, serve(t, r).url(r)} {
		state := t.TempDir()
		g := newTestGit(t, GitConfig{URL: url, StateDir: state, MaxSize: 50_000})

		for range 3 {
			if _, err := g.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "larger than the limit of 0.0 MiB") {
				t.Errorf("got %v", err)
			}
		}

		if left, err := filepath.Glob(filepath.Join(state, "*/objects/pack/*")); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
	}
}

// A state directory is for one at a time, and free again after Close.
func TestGitLock(t *testing.T) {
	r := newRepo(t, true)
	r.commit("one", map[string]string{"a": "1"})

	cfg := GitConfig{URL: r.dir, StateDir: t.TempDir()}
	first, second := newTestGit(t, cfg), newTestGit(t, cfg)
	fetch(t, first)

	_, err := second.Fetch(t.Context())
	wantError(t, err, fmt.Sprintf("is in use by another omni-syncd (process %d): stop that one, or set another state directory", os.Getpid()))

	fetch(t, first)

	if err = first.Close(); err != nil {
		t.Fatal(err)
	}

	fetch(t, second)
}

// Revisions that are refused do not fill the disk, whether there was a good one or not.
func TestGitRefusedRoom(t *testing.T) {
	for _, good := range []bool{true, false} {
		r := newRepo(t, true)
		first := r.commit("good", map[string]string{"n": "good"})
		state := t.TempDir()
		g := newTestGit(t, GitConfig{URL: r.dir, StateDir: state, Verify: func(s Signed) error {
			if good && s.CommitID == first.String() {
				return nil
			}

			return errors.New("unsigned")
		}})

		rev, err := g.Fetch(t.Context())
		if (err == nil) != good {
			t.Fatal(err)
		}

		for i := range maxPacks + 5 {
			r.commit("bad", map[string]string{"n": fmt.Sprint(i)})

			if _, err = g.Fetch(t.Context()); err == nil {
				t.Fatal("accepted")
			}
		}

		packs, err := g.store.packs()
		if err != nil || len(packs) > maxPacks {
			t.Errorf("%d packs, %v", len(packs), err)
		}

		if good && read(t, rev.FS, "n") != "good" {
			t.Error("the good revision cannot be read")
		}
	}
}

// Making room keeps what is needed: nothing is sent twice.
func TestGitCompactKeeps(t *testing.T) {
	const size = 200 << 10

	r := newRepo(t, true)
	big := noise(size)
	r.commit("first", map[string]string{"big": big})

	s := serve(t, r)
	g := newTestGit(t, GitConfig{URL: s.url(r)})
	fetch(t, g)
	s.took()

	for i := range maxPacks + 2 {
		r.commit("more", map[string]string{"big": big, "n": fmt.Sprint(i)})
		fetch(t, g)
	}

	if _, sent := s.took(); sent > size {
		t.Errorf("%d bytes were sent", sent)
	}

	if packs, err := g.store.packs(); err != nil || len(packs) > maxPacks {
		t.Errorf("%d packs, %v", len(packs), err)
	}
}
