package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

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

			rev := fetch(t, newTestGit(t, GitConfig{URL: test.url(t, r), Branch: "main"}))

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

func TestGitErrors(t *testing.T) {
	full, empty := newRepo(t, true), newRepo(t, true)
	full.commit("one", map[string]string{"a": "a"})

	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/private"):
			w.WriteHeader(http.StatusUnauthorized)
		case strings.HasPrefix(r.URL.Path, "/missing"):
			w.WriteHeader(http.StatusNotFound)
		case strings.HasPrefix(r.URL.Path, "/broken"):
			w.WriteHeader(http.StatusBadGateway)
		default:
			fmt.Fprint(w, "<html>a web site</html>")
		}
	}))
	t.Cleanup(web.Close)

	gone := httptest.NewServer(nil)
	gone.Close()

	file := filepath.Join(t.TempDir(), "file")
	writeFiles(t, filepath.Dir(file), map[string]string{"file": ""})

	for _, test := range []struct {
		name, url, branch, want string
	}{
		{"no URL", "", "", "no repository URL"},
		{"missing folder", filepath.Join(t.TempDir(), "x"), "", "no such folder: check the path"},
		{"file", file, "", "this is a file"},
		{"no repository", t.TempDir(), "", `run "git init"`},
		{"empty", empty.dir, "", "the repository is empty: push a first commit"},
		{"empty, branch", empty.dir, "main", "the repository is empty: push a first commit"},
		{"empty, http", serve(t, empty).url(empty), "", "the repository is empty: push a first commit"},
		{"missing branch", full.dir, "prod", `there is no branch "prod": name one of main`},
		{"missing branch, http", serve(t, full).url(full), "prod", `there is no branch "prod": name one of main`},
		{"bad branch", full.dir, "a..b", `"a..b" is no valid branch name`},
		{"private", web.URL + "/private", "", "the server wants credentials"},
		{"missing, http", web.URL + "/missing", "", "no such repository on the server: check the URL"},
		{"bad gateway", web.URL + "/broken", "", `the server answered "502 Bad Gateway"`},
		{"web site", web.URL + "/site", "", "not from a Git repository"},
		{"refused", gone.URL, "", "the server cannot be reached: dial tcp"},
		{"unknown host", "https://host.invalid/x", "", "host.invalid"},
		{"password", "https://jane:SECRET@example.com/x", "", "credentials in the URL are refused"},
		{"token", "https://example.com/x?token=SECRET", "", "has no query"},
		{"unparsable", "https://jane:SECRET%zz@example.com/x", "", "credentials in the URL are refused"},
		{"invalid", "https://example.com/%zz", "", "not a valid URL"},
		{"ssh", "git@example.com:x.git", "", "use the https:// URL"},
		{"ssh URL", "ssh://git@example.com/x.git", "", "use the https:// URL"},
		{"git protocol", "git://example.com/x.git", "", `scheme "git" is not supported`},
		{"file on a host", "file://host/x", "", "file:///absolute/path"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := newTestGit(t, GitConfig{URL: test.url, Branch: test.branch}).Fetch(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q", err, test.want)
			}

			if text := err.Error(); strings.Contains(text, "SECRET") || strings.Contains(text, "\n") {
				t.Errorf("bad text: %s", text)
			}
		})
	}
}

func TestGitTimeout(t *testing.T) {
	stop := make(chan struct{})
	hang := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stop }))

	t.Cleanup(hang.Close)
	t.Cleanup(func() { close(stop) })

	_, err := newTestGit(t, GitConfig{URL: hang.URL, Timeout: 50 * time.Millisecond}).Fetch(t.Context())
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "not done after 50ms") {
		t.Errorf("got %v", err)
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

		names, err := filepath.Glob(filepath.Join(state, "*"))
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

func TestGitRestart(t *testing.T) {
	r := newRepo(t, true)
	r.commit("one", map[string]string{"a": "1"})

	s := serve(t, r)
	cfg := GitConfig{URL: s.url(r), StateDir: filepath.Join(t.TempDir(), "state", "fleet")}
	first := fetch(t, newTestGit(t, cfg))
	s.took()

	second := fetch(t, newTestGit(t, cfg))
	if requests, _ := s.took(); !cmp.Equal(requests, []string{"GET"}) {
		t.Errorf("a restart fetched again: %v", requests)
	}

	if second.ID != first.ID || read(t, second.FS, "a") != "1" {
		t.Errorf("got %+v", second)
	}

	r.commit("two", map[string]string{"a": "2"})

	if rev := fetch(t, newTestGit(t, cfg)); read(t, rev.FS, "a") != "2" {
		t.Error("after a restart a new commit is not seen")
	}
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
			fetch(t, newTestGit(t, cfg))
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

// What strangers write is shown on one line, without control characters.
func TestGitHostileText(t *testing.T) {
	r := newRepo(t, true)
	r.commitTree("main", "\n\x1b[31mred\a\r"+strings.Repeat("x", 10_000)+"\nbody", r.files(nil))

	rev := fetch(t, newTestGit(t, GitConfig{URL: r.dir}))
	if want := "[31mred  " + strings.Repeat("x", 191) + "…"; rev.Message != want {
		t.Errorf("got %q", rev.Message)
	}

	v := &view{head: "refs/heads/\x1b[31m", refs: map[plumbing.ReferenceName]plumbing.Hash{"refs/heads/\x1b[31m": {}}}
	for _, branch := range []string{"", "main"} {
		if _, _, err := v.pick(branch); err == nil || strings.ContainsRune(err.Error(), 0x1b) {
			t.Errorf("got %v", err)
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

func TestGitWatch(t *testing.T) {
	r := newRepo(t, false)
	g := newTestGit(t, GitConfig{URL: r.dir, Interval: time.Millisecond})

	type result struct {
		rev Revision
		err error
	}

	results := make(chan result)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)

	go func() {
		ended <- g.Watch(ctx, func(rev Revision, err error) {
			select {
			case results <- result{rev, err}:
			case <-ctx.Done():
			}
		})
	}()

	if got := <-results; !errors.Is(got.err, errEmpty) {
		t.Errorf("empty repository: %+v", got)
	}

	one := r.commit("one", map[string]string{"a": "1"})

	// There may be failures until the commit is seen: go-git, which writes here, does
	// not replace a branch at once.
	expect := func(commit plumbing.Hash) {
		t.Helper()

		for got := range results {
			if got.err == nil {
				if got.rev.ID != "main@sha1:"+commit.String() {
					t.Errorf("got %s", got.rev.ID)
				}

				return
			}

			t.Log(got.err)
			g.Poke()
		}
	}

	expect(one)
	expect(r.commit("two", map[string]string{"a": "2"}))

	cancel()

	if err := <-ended; err != nil {
		t.Errorf("Watch ended with %v", err)
	}
}

// watchRevisions runs Watch until the test ends and hands out its revisions.
func watchRevisions(t *testing.T, s interface {
	Watch(ctx context.Context, fn func(Revision, error)) error
},
) <-chan Revision {
	t.Helper()

	revs := make(chan Revision)
	ctx, cancel := context.WithCancel(t.Context())

	var running sync.WaitGroup

	running.Go(func() {
		err := s.Watch(ctx, func(rev Revision, err error) {
			if err != nil {
				return // told apart by the tests of errors
			}

			select {
			case revs <- rev:
			case <-ctx.Done():
			}
		})
		if err != nil {
			t.Error(err)
		}
	})

	t.Cleanup(running.Wait)
	t.Cleanup(cancel)

	return revs
}

func next(t *testing.T, revs <-chan Revision) Revision {
	t.Helper()

	select {
	case rev := <-revs:
		return rev
	case <-time.After(20 * time.Second):
		t.Fatal("no new revision")

		return Revision{}
	}
}
