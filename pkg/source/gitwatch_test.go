package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
)

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

// Several callers share one poll. Each is told every revision, a slow one the newest, and
// none waits for another.
func TestGitWatchShared(t *testing.T) {
	r := newRepo(t, true)
	r.commit("0", map[string]string{"n": "0"})

	s := serve(t, r)
	g := newTestGit(t, GitConfig{URL: s.url(r), Interval: time.Hour})

	// The slow one is stuck with the first revision.
	stuck, free := make(chan struct{}), make(chan struct{})

	var (
		mu       sync.Mutex
		slow     []string
		caught   = make(chan struct{})
		slowDone = make(chan error, 1)
		newest   = "3"
	)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	go func() {
		slowDone <- g.Watch(ctx, func(rev Revision, err error) {
			mu.Lock()
			slow = append(slow, rev.Message)
			n := len(slow)
			mu.Unlock()

			if n == 1 {
				close(stuck)
				<-free
			}

			if rev.Message == newest {
				close(caught)
			}
		})
	}()

	<-stuck

	one, two := watchRevisions(t, g), watchRevisions(t, g)

	for _, want := range []string{"0", "1", "2", "3"} {
		if want != "0" {
			r.commit(want, map[string]string{"n": want})
			g.Poke()
		}

		if a, b := next(t, one), next(t, two); a.Message != want || b.Message != want || a.FS != b.FS {
			t.Errorf("got %s and %s, want %s", a.ID, b.ID, want)
		}
	}

	close(free)
	<-caught

	mu.Lock()
	if diff := cmp.Diff([]string{"0", "3"}, slow); diff != "" {
		t.Error(diff)
	}
	mu.Unlock()

	// One clone and four fetches for all of them.
	var posts int

	requests, _ := s.took()
	for _, method := range requests {
		if method == "POST" {
			posts++
		}
	}

	if posts > 4+2 { // two commits that are not the next one may ask for history
		t.Errorf("%d fetches: %v", posts, requests)
	}

	last, next := g.Polled()
	if last.IsZero() || time.Until(next) < 50*time.Minute || time.Until(next) > 70*time.Minute {
		t.Errorf("last %s, next %s", last, next)
	}

	cancel()

	if err := <-slowDone; err != nil {
		t.Error(err)
	}
}

// When everybody left the poll ends; who comes later starts it again and is told the
// revision, though it is not new.
func TestGitWatchAgain(t *testing.T) {
	r := newRepo(t, true)
	r.commit("one", map[string]string{"n": "1"})

	s := serve(t, r)
	g := newTestGit(t, GitConfig{URL: s.url(r), Interval: time.Hour})

	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())

		var told int

		err := g.Watch(ctx, func(rev Revision, err error) {
			if told++; err != nil || rev.Message != "one" {
				t.Errorf("got %+v, %v", rev, err)
			}

			cancel()
		})
		if err != nil || told != 1 {
			t.Errorf("told %d times, %v", told, err)
		}

		if _, next := g.Polled(); !next.IsZero() {
			t.Errorf("nobody watches, and the next look is at %s", next)
		}
	}
}

// A failure reaches everybody, newcomers too, until it is over.
func TestGitWatchFailure(t *testing.T) {
	r := newRepo(t, false)
	g := newTestGit(t, GitConfig{URL: r.dir, Interval: time.Hour})

	watchErrors := func() <-chan error {
		errs := make(chan error, 10)
		ctx, cancel := context.WithCancel(t.Context())

		var running sync.WaitGroup

		running.Go(func() {
			g.Watch(ctx, func(_ Revision, err error) { errs <- err }) //nolint:errcheck // the configuration is right
		})
		t.Cleanup(running.Wait)
		t.Cleanup(cancel)

		return errs
	}

	one := watchErrors()
	if err := <-one; !errors.Is(err, errEmpty) {
		t.Errorf("got %v", err)
	}

	two := watchErrors()
	if err := <-two; !errors.Is(err, errEmpty) {
		t.Errorf("got %v", err)
	}

	r.commit("one", map[string]string{"n": "1"})

	for _, errs := range []<-chan error{one, two} {
		for done := false; !done; { // go-git, which writes here, does not replace a branch at once
			g.Poke()

			select {
			case err := <-errs:
				done = err == nil
			case <-time.After(20 * time.Second):
				t.Fatal("no revision")
			}
		}
	}

	// A failure that is over without a new revision.
	away := r.dir + ".away"
	if err := os.Rename(r.dir, away); err != nil {
		t.Fatal(err)
	}

	g.Poke()

	for err := range one {
		if err != nil {
			break
		}
	}

	if err := os.Rename(away, r.dir); err != nil {
		t.Fatal(err)
	}

	fetch(t, g)

	third := watchErrors()
	if err := <-third; err != nil {
		t.Errorf("a newcomer is told of a failure that is over: %v", err)
	}

	if err := r.Storer.RemoveReference("refs/heads/main"); err != nil {
		t.Fatal(err)
	}

	g.Poke()

	if err := <-third; !errors.Is(err, errEmpty) {
		t.Errorf("the next failure: %v", err)
	}
}

// A refused revision is looked at again at the normal pace: the server is fine, and what
// mends it is the next push.
func TestGitWatchRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks int

		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()

		watch(ctx, func(ctx context.Context, failures int) bool {
			return newBell().wait(ctx, delay(time.Minute, time.Hour, failures))
		}, func(context.Context) (Revision, error) {
			if looks++; looks == 10 {
				cancel()
			}

			return Revision{}, fmt.Errorf("fetch: %w", &RefusedError{"x", errEmpty})
		}, func(Revision, error) {})

		if took := time.Since(start); took > 10*time.Minute {
			t.Errorf("10 looks took %s", took)
		}
	})
}

// The shortest interval counts, and configurations that may share a Git have one key.
func TestGitShare(t *testing.T) {
	base := GitConfig{URL: "https://example.com/x", Ref: Ref{Branch: "main"}, Login: Login{TokenFile: "t"}, Interval: time.Hour, StateDir: "a"}

	for name, change := range map[string]struct {
		change func(*GitConfig)
		same   bool
	}{
		"nothing":   {func(*GitConfig) {}, true},
		"interval":  {func(c *GitConfig) { c.Interval = 1 }, true},
		"state":     {func(c *GitConfig) { c.StateDir = "b" }, true},
		"logger":    {func(c *GitConfig) { c.Logger = zap.NewNop() }, true},
		"ref":       {func(c *GitConfig) { c.Ref = Ref{Tag: "main"} }, false},
		"URL":       {func(c *GitConfig) { c.URL += "y" }, false},
		"login":     {func(c *GitConfig) { c.Login.TokenFile = "u" }, false},
		"app":       {func(c *GitConfig) { c.Login.GitHubApp = &GitHubApp{AppID: 1} }, false},
		"CA":        {func(c *GitConfig) { c.TLS.CAFile = "c" }, false},
		"proxy":     {func(c *GitConfig) { c.Proxy = "none" }, false},
		"size":      {func(c *GitConfig) { c.MaxSize = 1 }, false},
		"timeout":   {func(c *GitConfig) { c.Timeout = 1 }, false},
		"all parts": {func(c *GitConfig) { c.URL, c.Ref.Branch = "https://example.com/", "xmain" }, false},
	} {
		changed := base
		change.change(&changed)

		if same := changed.Key() == base.Key(); same != change.same || len(changed.Key()) != 64 {
			t.Errorf("%s: the same %v, want %v", name, same, change.same)
		}
	}

	one, two := base, base
	one.Login.GitHubApp, two.Login.GitHubApp = &GitHubApp{AppID: 1}, &GitHubApp{AppID: 1}

	if one.Key() != two.Key() {
		t.Error("equal apps are told apart")
	}

	g := NewGit(base)
	g.Hurry(2 * time.Hour)
	g.Hurry(time.Second * 90)
	g.Hurry(0) // the default, a minute

	if g.hub.interval != time.Minute {
		t.Errorf("got %s", g.hub.interval)
	}
}
