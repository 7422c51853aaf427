package source

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/google/go-cmp/cmp"
)

// A commit is found however the server allows it, and once it is there nobody is asked.
func TestCommit(t *testing.T) {
	r := newRepo(t, true)
	old := r.commit("old", map[string]string{"n": "old"})

	for i := range 150 {
		r.commit(fmt.Sprint(i), map[string]string{"n": fmt.Sprint(i)})
	}

	tagged := r.commit("tagged", map[string]string{"n": "tagged"})
	r.setRef("refs/tags/v1", r.tagObject("v1", plumbing.CommitObject, tagged))
	r.commit("new", map[string]string{"n": "new"})

	s := serve(t, r)
	set := func(allow string) {
		cfg, err := r.Config()
		if err != nil {
			t.Fatal(err)
		}

		cfg.Raw.Section("uploadpack").SetOption("allowReachableSHA1InWant", allow)

		if err = r.Storer.SetConfig(cfg); err != nil {
			t.Fatal(err)
		}
	}

	for _, test := range []struct {
		name, allow string
		commit      plumbing.Hash
		n           string
		requests    []string
	}{
		{"tag", "false", tagged, "tagged", []string{"GET", "POST"}},
		{"by ID", "true", old, "old", []string{"GET", "POST"}},
		{"deeper", "false", old, "old", []string{"GET", "POST", "POST"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			set(test.allow)
			s.took()

			cfg := GitConfig{URL: s.url(r), Ref: Ref{Commit: test.commit.String()}, StateDir: t.TempDir()}

			rev := fetchOnce(t, cfg)
			if rev.ID != "sha1:"+test.commit.String() || rev.Message != test.n {
				t.Errorf("got %+v", rev)
			}

			requests, sent := s.took()
			if !cmp.Equal(requests, test.requests) {
				t.Errorf("%d requests: %v", len(requests), requests)
			}

			if test.name != "deeper" && sent > 3000 {
				t.Errorf("%d bytes: there is history in it", sent)
			}

			// After a restart, too.
			g := newTestGit(t, cfg)
			fetch(t, g)

			if rev = fetch(t, g); read(t, rev.FS, "n") != test.n {
				t.Error("wrong content")
			}

			if requests, _ := s.took(); len(requests) != 0 {
				t.Errorf("asked again: %v", requests)
			}
		})
	}

	unknown := strings.Repeat("0123", 10)

	for allow, want := range map[string]string{
		"true":  "cannot be fetched: check that it was pushed and is on a branch or tag: the server refused: not our ref " + unknown,
		"false": "is not among the last 10000 of any of 2 branches and tags, and the server fetches no commit by its ID",
	} {
		set(allow)

		_, err := newTestGit(t, GitConfig{URL: s.url(r), Ref: Ref{Commit: unknown}}).Fetch(t.Context())
		wantError(t, err, want)
	}
}

// What is handed to Verify is what Git stores, and an error keeps the revision back.
func TestVerify(t *testing.T) {
	r := newRepo(t, true)
	one := r.commit("one", map[string]string{"n": "1"})
	tag := r.tagObject("v1", plumbing.CommitObject, one)
	r.setRef("refs/tags/v1", tag)
	r.setRef("refs/tags/nested", r.tagObject("nested", plumbing.TagObject, tag))

	for name, cfg := range transports(t, r) {
		for ref, tags := range map[Ref]int{{}: 0, {Tag: "v1"}: 1, {Tag: "nested"}: 2, {Commit: one.String()}: 0} {
			t.Run(name+" "+ref.String(), func(t *testing.T) {
				var got Signed

				cfg := cfg
				cfg.Ref = ref
				cfg.Verify = func(s Signed) error {
					got = s

					return nil
				}
				rev := fetch(t, newTestGit(t, cfg))

				if got.Ref != rev.Ref || got.CommitID != one.String() || plumbing.ComputeHash(plumbing.CommitObject, got.Commit) != one {
					t.Errorf("got %+v", got)
				}

				if tags > 0 && plumbing.ComputeHash(plumbing.TagObject, got.Tag).String() != got.TagID || (tags > 0) != (got.Tag != nil) {
					t.Errorf("got tag %q %s", got.Tag, got.TagID)
				}

				if want := []string{"", one.String(), tag.String()}[tags]; got.TagTarget != want {
					t.Errorf("the tag is on %s, want %s", got.TagTarget, want)
				}
			})
		}
	}

	bad := errors.New("signed by nobody we know")
	refuse := true
	g := newTestGit(t, GitConfig{URL: r.dir, Verify: func(s Signed) error {
		if refuse && s.CommitID != one.String() {
			return bad
		}

		return nil
	}})

	good := fetch(t, g)
	two := r.commit("two", map[string]string{"n": "2"})

	for range 2 { // it is asked every time
		_, err := g.Fetch(t.Context())
		wantError(t, err, "revision main@sha1:"+two.String()+" is refused: signed by nobody we know")

		if refused := (*RefusedError)(nil); !errors.As(err, &refused) || !errors.Is(err, bad) || refused.ID != "main@sha1:"+two.String() {
			t.Errorf("got %#v", err)
		}
	}

	if read(t, good.FS, "n") != "1" {
		t.Error("the good revision cannot be read")
	}

	r.setRef("refs/heads/main", one)

	if again := fetch(t, g); again.FS != good.FS {
		t.Error("back on the good commit: not the same revision")
	}

	r.setRef("refs/heads/main", two)

	refuse = false
	if rev := fetch(t, g); rev.Commit != two.String() {
		t.Errorf("got %s", rev.ID)
	}
}
