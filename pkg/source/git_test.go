package source

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestGitFetch(t *testing.T) {
	for _, test := range []struct {
		name string
		bare bool
		url  func(t *testing.T, r *repo) string
	}{
		{"working tree", false, func(_ *testing.T, r *repo) string { return r.dir }},
		{"bare", true, func(_ *testing.T, r *repo) string { return r.dir }},
		{"file URL", false, func(_ *testing.T, r *repo) string { return "file://" + r.dir }},
		{"http", true, func(t *testing.T, r *repo) string { return serve(t, r).url(r) }},
		{"linked worktree", false, func(t *testing.T, r *repo) string {
			dir := filepath.Join(t.TempDir(), "linked")
			runGit(t, r.dir, "worktree", "add", "-q", "--detach", dir)

			return dir
		}},
		{"shared clone", false, func(t *testing.T, r *repo) string {
			dir := filepath.Join(t.TempDir(), "shared")
			runGit(t, r.dir, "clone", "-q", "--shared", "--bare", r.dir, dir)

			return dir
		}},
		{"packed", false, func(t *testing.T, r *repo) string {
			runGit(t, r.dir, "gc", "-q")

			return r.dir
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRepo(t, test.bare)
			r.commit("one", map[string]string{"old.yaml": "old"})
			commit := r.commit("Add demo\n\nbody", map[string]string{"clusters/demo.yaml": "kind: Cluster\n", "README.md": "hi"})

			rev := fetch(t, newTestGit(t, GitConfig{URL: test.url(t, r), Ref: Ref{Branch: "main"}}))

			got := Revision{ID: rev.ID, Author: rev.Author, Message: rev.Message, Time: rev.Time.UTC()}
			want := Revision{ID: "main@sha1:" + commit.String(), Author: "Jane <jane@example.com>", Message: "Add demo", Time: jane.When}

			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}

			if got := read(t, rev.FS, "clusters/demo.yaml"); got != "kind: Cluster\n" {
				t.Errorf("got %q", got)
			}

			if _, err := fs.Stat(rev.FS, "old.yaml"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a deleted file is there: %v", err)
			}
		})
	}
}

// A machine without git can follow a repository on it.
func TestGitNeedsNoBinary(t *testing.T) {
	r := newRepo(t, false)
	r.commit("one", map[string]string{"a": "a"})
	t.Setenv("PATH", "")

	for _, url := range []string{r.dir, "file://" + r.dir} {
		fetch(t, newTestGit(t, GitConfig{URL: url}))
	}
}

func TestGitDefaultBranch(t *testing.T) {
	r := newRepo(t, true)
	main := r.commit("main", map[string]string{"a": "main"})
	trunk := r.commitTree("trunk", "trunk", r.files(map[string]string{"a": "trunk"}))

	for _, url := range []string{r.dir, serve(t, r).url(r)} {
		setHead(t, r, plumbing.NewSymbolicReference(plumbing.HEAD, "refs/heads/main"))

		g := newTestGit(t, GitConfig{URL: url})
		if got, want := fetch(t, g).ID, "main@sha1:"+main.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}

		setHead(t, r, plumbing.NewSymbolicReference(plumbing.HEAD, "refs/heads/trunk"))

		if got, want := fetch(t, g).ID, "trunk@sha1:"+trunk.String(); got != want {
			t.Errorf("after the default branch changed: got %s, want %s", got, want)
		}

		setHead(t, r, plumbing.NewHashReference(plumbing.HEAD, main))

		if got, want := fetch(t, g).ID, "HEAD@sha1:"+main.String(); got != want {
			t.Errorf("detached: got %s, want %s", got, want)
		}
	}
}

func setHead(t *testing.T, r *repo, ref *plumbing.Reference) {
	t.Helper()

	if err := r.Storer.SetReference(ref); err != nil {
		t.Fatal(err)
	}
}

// An unchanged branch costs one request; a new commit costs what it adds, of a large
// file only what changed in it.
func TestGitIncremental(t *testing.T) {
	const size = 200 << 10

	r := newRepo(t, true)
	big, long := noise(size), noise(size)
	r.commit("one", map[string]string{"big": big, "long": long, "dir/a": "1"})

	s := serve(t, r)
	g := newTestGit(t, GitConfig{URL: s.url(r)})

	first := fetch(t, g)
	if requests, sent := s.took(); !cmp.Equal(requests, []string{"GET", "POST"}) || sent < size {
		t.Errorf("first fetch: %v, %d bytes", requests, sent)
	}

	if again := fetch(t, g); again.FS != first.FS {
		t.Error("an unchanged revision is not the same")
	}

	if requests, sent := s.took(); !cmp.Equal(requests, []string{"GET"}) || sent > 1000 {
		t.Errorf("unchanged: %v, %d bytes", requests, sent)
	}

	r.commit("two", map[string]string{"big": big, "long": long + "changed", "dir/a": "2"})

	second := fetch(t, g)
	if requests, sent := s.took(); !cmp.Equal(requests, []string{"GET", "POST"}) || sent > 3000 {
		t.Errorf("two files changed: %v, %d bytes", requests, sent)
	}

	if a, b := read(t, first.FS, "dir/a"), read(t, second.FS, "dir/a"); a != "1" || b != "2" {
		t.Errorf("got %s and %s", a, b)
	}

	if read(t, second.FS, "big") != big || read(t, second.FS, "long") != long+"changed" || read(t, first.FS, "long") != long {
		t.Error("wrong content")
	}
}

// noise returns text that cannot be compressed to less than half.
func noise(size int) string {
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(data) //nolint:errcheck // never fails

	return string(data)
}

// Also from a repository on this machine, only what is new is copied.
func TestGitIncrementalLocal(t *testing.T) {
	r := newRepo(t, true)
	g := newTestGit(t, GitConfig{URL: r.dir})

	noise := noise(200 << 10)

	for i := range 3 {
		r.commit("more", map[string]string{"big": noise, "dir/a": fmt.Sprint(i)})
		fetch(t, g)
	}

	packs, err := g.store.packs()
	if err != nil || len(packs) != 3 {
		t.Fatal(packs, err)
	}

	var size int64

	for _, name := range packs {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}

		size += info.Size()
	}

	if size > 200<<10+3000 {
		t.Errorf("the packs have %d bytes", size)
	}
}

func TestGitForcePush(t *testing.T) {
	for _, kind := range []string{"path", "http"} {
		t.Run(kind, func(t *testing.T) {
			r := newRepo(t, true)
			base := r.commit("base", map[string]string{"a": "0"})
			r.commit("one", map[string]string{"a": "1"})

			url := r.dir
			if kind == "http" {
				url = serve(t, r).url(r)
			}

			core, logs := observer.New(zapcore.DebugLevel)
			g := newTestGit(t, GitConfig{URL: url, Logger: zap.New(core)})
			fetch(t, g)

			expect := func(commit plumbing.Hash, content string, forced bool) {
				t.Helper()

				logs.TakeAll()

				rev := fetch(t, g)
				if rev.ID != "main@sha1:"+commit.String() || read(t, rev.FS, "a") != content {
					t.Errorf("got %s", rev.ID)
				}

				if entries := logs.All(); len(entries) != 1 || strings.Contains(entries[0].Message, "forced") != forced {
					t.Errorf("forced %v, logged %v", forced, entries)
				}
			}

			expect(r.commitTree("main", "other", r.files(map[string]string{"a": "2"}), base), "2", true)
			r.commit("more", map[string]string{"a": "3"})
			expect(r.commit("and more", map[string]string{"a": "4"}), "4", false)
			setHead(t, r, plumbing.NewHashReference("refs/heads/main", base))
			expect(base, "0", true) // a commit that was never fetched, older than what was
			expect(r.commitTree("main", "unrelated", r.files(map[string]string{"a": "5"})), "5", true)
		})
	}
}

// Names and content of every revision can be read by many goroutines while newer
// ones are fetched and the store is compacted.
func TestGitConcurrent(t *testing.T) {
	r := newRepo(t, true)
	g := newTestGit(t, GitConfig{URL: r.dir, StateDir: t.TempDir()})

	var readers sync.WaitGroup
	defer readers.Wait()

	const commits = maxPacks + 5

	revs := make([]Revision, commits)
	content := func(i, file int) string { // some of them large, some equal
		return strings.Repeat(fmt.Sprintf("commit %d file %d", i/2, file/2*2), 1+file%3*2000)
	}

	for i := range commits {
		files := map[string]string{"n": fmt.Sprint(i)}
		for file := range 10 {
			files[fmt.Sprintf("dir%d/f", file)] = content(i, file)
		}

		r.commit(fmt.Sprint(i), files)
		revs[i] = fetch(t, g)

		if i%8 != 0 {
			continue
		}

		for file := range 10 {
			readers.Go(func() {
				name := fmt.Sprintf("dir%d/f", file)
				if data, err := fs.ReadFile(revs[i].FS, name); err != nil || string(data) != content(i, file) {
					t.Errorf("commit %d: %s: %q, %v", i, name, data, err)
				}
			})
		}
	}

	readers.Wait()

	for i, rev := range revs {
		if got := read(t, rev.FS, "n"); got != fmt.Sprint(i) {
			t.Errorf("commit %d reads %s", i, got)
		}
	}

	if packs, err := g.store.packs(); err != nil || len(packs) > maxPacks {
		t.Errorf("%d packs, %v", len(packs), err)
	}

	if g.store.number != 2 {
		t.Errorf("compacted %d times", g.store.number-1)
	}
}

// A store that was replaced goes when no revision needs it.
func TestGitStoreIsRemoved(t *testing.T) {
	r := newRepo(t, true)
	state := t.TempDir()
	g := newTestGit(t, GitConfig{URL: r.dir, StateDir: state})

	for i := range maxPacks + 2 {
		r.commit(fmt.Sprint(i), map[string]string{"n": fmt.Sprint(i)})
		fetch(t, g)
	}

	for {
		runtime.GC()

		names, err := filepath.Glob(filepath.Join(state, storePrefix+"*"))
		if err != nil {
			t.Fatal(err)
		}

		if len(names) == 1 {
			return
		}

		select {
		case <-t.Context().Done():
			t.Fatal("the old store is still there")
		default:
			runtime.Gosched()
		}
	}
}

func TestGitProgress(t *testing.T) {
	r := newRepo(t, true)
	noise := noise(1 << 20)
	r.commit("one", map[string]string{"a": noise})

	var texts []string

	fetch(t, newTestGit(t, GitConfig{URL: r.dir, Progress: func(text string) { texts = append(texts, text) }}))

	if len(texts) < 3 || texts[len(texts)-1] != "received 1.0 MiB" {
		t.Errorf("got %q", texts)
	}
}

func TestGitClose(t *testing.T) {
	r := newRepo(t, true)
	r.commit("one", map[string]string{"a": "1"})

	g := NewGit(GitConfig{URL: r.dir})
	fetch(t, g)

	if err := g.Close(); err != nil {
		t.Fatal(err)
	}

	if _, err := os.Stat(g.temp); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary folder is still there: %v", err)
	}

	if _, err := g.Fetch(t.Context()); err == nil {
		t.Error("fetched after Close")
	}
}
