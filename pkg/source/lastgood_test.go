package source

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// told is what a Watch told: the ID of a revision, or "failed".
func told(t *testing.T, g *Git) <-chan string {
	t.Helper()

	ctx, cancel := context.WithCancel(context.Background())
	told, done := make(chan string, 100), make(chan error, 1)

	go func() {
		done <- g.Watch(ctx, func(rev Revision, err error) {
			if err != nil {
				told <- "failed"
			} else {
				told <- rev.ID
			}
		})
	}()

	t.Cleanup(func() {
		cancel()

		if err := <-done; err != nil {
			t.Error(err)
		}
	})

	return told
}

func expectTold(t *testing.T, from <-chan string, want ...string) {
	t.Helper()

	for _, w := range want {
		if got := <-from; got != w {
			t.Fatalf("told %q, want %q", got, w)
		}
	}
}

// After a restart while the newest revision is refused, or the repository is away, the last
// good one is in force again. It once was not: a restart left nothing in force.
func TestLastGood_AfterRestart(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, r *repo) (verify func(Signed) error){
		"refused": func(t *testing.T, r *repo) func(Signed) error {
			bad := r.commit("change", map[string]string{"a.yaml": "evil"})

			return func(s Signed) error {
				if s.CommitID == bad.String() {
					return errors.New("not signed")
				}

				return nil
			}
		},
		"away": func(t *testing.T, r *repo) func(Signed) error {
			if err := os.Rename(r.dir, r.dir+".away"); err != nil {
				t.Fatal(err)
			}

			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t, true)
			good := "main@sha1:" + r.commit("change", map[string]string{"a.yaml": "good"}).String()
			state := t.TempDir()

			first := newTestGit(t, GitConfig{URL: r.dir, StateDir: state})
			fetch(t, first)

			if err := first.Close(); err != nil {
				t.Fatal(err)
			}

			verify := harm(t, r)
			g := newTestGit(t, GitConfig{URL: r.dir, StateDir: state, Verify: verify})
			expectTold(t, told(t, g), good, "failed")

			if got := read(t, g.last.FS, "a.yaml"); got != "good" {
				t.Errorf("a.yaml holds %q", got)
			}
		})
	}
}

// What was good is checked again: the keys may be others now.
func TestLastGood_IsVerifiedAgain(t *testing.T) {
	r := newRepo(t, true)
	r.commit("change", map[string]string{"a.yaml": "good"})

	state := t.TempDir()
	first := newTestGit(t, GitConfig{URL: r.dir, StateDir: state})
	fetch(t, first)

	if err := first.Close(); err != nil {
		t.Fatal(err)
	}

	g := newTestGit(t, GitConfig{URL: r.dir, StateDir: state, Verify: func(Signed) error { return errors.New("no key counts any more") }})
	expectTold(t, told(t, g), "failed")
}

// A note that is damaged, or that somebody else wrote, is no revision.
func TestLastGood_Damaged(t *testing.T) {
	for name, note := range map[string]string{
		"empty": "", "no JSON": "{", "another object": `{"name":"main","ref":"refs/heads/main","object":"0123456789012345678901234567890123456789"}`,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t, true)
			r.commit("change", map[string]string{"a.yaml": "good"})

			state := t.TempDir()
			first := newTestGit(t, GitConfig{URL: r.dir, StateDir: state})
			fetch(t, first)

			if err := errors.Join(first.Close(), os.WriteFile(filepath.Join(state, lastGoodFile), []byte(note), 0o600), os.Rename(r.dir, r.dir+".away")); err != nil {
				t.Fatal(err)
			}

			expectTold(t, told(t, newTestGit(t, GitConfig{URL: r.dir, StateDir: state})), "failed")
		})
	}
}

// A look that succeeds after a failure is told, although nothing is new: else whoever
// shows the failure would show it for ever.
func TestWatch_TellsOfRecovery(t *testing.T) {
	r := newRepo(t, true)
	id := "main@sha1:" + r.commit("change", map[string]string{"a.yaml": "good"}).String()
	g := newTestGit(t, GitConfig{URL: r.dir, StateDir: t.TempDir()})
	from := told(t, g)

	expectTold(t, from, id)

	if err := os.Rename(r.dir, r.dir+".away"); err != nil {
		t.Fatal(err)
	}

	g.Poke()
	expectTold(t, from, "failed")

	if err := os.Rename(r.dir+".away", r.dir); err != nil {
		t.Fatal(err)
	}

	g.Poke()

	for got := range from { // it may have looked once more in between
		if got == id {
			break
		}
	}
}
