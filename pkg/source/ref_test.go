package source

import (
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// setRef sets any ref.
func (r *repo) setRef(name string, id plumbing.Hash) {
	r.t.Helper()

	if err := r.Storer.SetReference(plumbing.NewHashReference(plumbing.ReferenceName(name), id)); err != nil {
		r.t.Fatal(err)
	}
}

// tagObject stores an annotated tag.
func (r *repo) tagObject(name string, typ plumbing.ObjectType, target plumbing.Hash) plumbing.Hash {
	r.t.Helper()

	tag := &object.Tag{Name: name, Tagger: jane, Message: "tag " + name + "\n", TargetType: typ, Target: target}

	obj := r.Storer.NewEncodedObject()
	if err := tag.Encode(obj); err != nil {
		r.t.Fatal(err)
	}

	return r.store(obj)
}

// transports serves a repository in every way there is.
func transports(t *testing.T, r *repo) map[string]GitConfig {
	t.Helper()

	s := serveSSH(t, "ed25519")
	key, _, public := newKey(t, "")
	s.admit(public)

	return map[string]GitConfig{
		"path": {URL: r.dir},
		"http": {URL: serve(t, r).url(r)},
		"ssh":  {URL: s.url(r), Login: Login{SSHKeyFile: key, KnownHostsFile: s.known("ed25519")}},
	}
}

func TestRefs(t *testing.T) {
	r := newRepo(t, true)
	commit := func(n string) plumbing.Hash { return r.commit(n, map[string]string{"n": n}) }
	one, two, three := commit("1"), commit("2"), commit("3")
	pull := r.commitTree("temp", "pull", r.files(map[string]string{"n": "pull"}), three)

	r.setRef("refs/heads/release/1.x", one)
	r.setRef("refs/pull/7/merge", pull)
	r.setRef("refs/tags/light", one)

	annotated := r.tagObject("annotated", plumbing.CommitObject, two)
	r.setRef("refs/tags/annotated", annotated)
	r.setRef("refs/tags/nested", r.tagObject("nested", plumbing.TagObject, annotated))
	r.setRef("refs/tags/v1.0.0", r.tagObject("v1.0.0", plumbing.CommitObject, one))
	r.setRef("refs/tags/1.2.0", two)
	r.setRef("refs/tags/v1.10.0", two)
	r.setRef("refs/tags/v2.0.0-rc.1", three)
	r.setRef("refs/tags/v1", three)
	r.setRef("refs/tags/v9.9", three)
	r.setRef("refs/tags/notaversion", three)

	folder := r.files(nil)
	r.setRef("refs/tags/folder", r.tagObject("folder", plumbing.TreeObject, folder))
	r.setRef("refs/tags/file", r.object(plumbing.BlobObject, []byte("x")))

	deep := annotated
	for range maxTags {
		deep = r.tagObject("deep", plumbing.TagObject, deep)
	}

	r.setRef("refs/tags/deep", deep)

	if err := r.Storer.RemoveReference("refs/heads/temp"); err != nil {
		t.Fatal(err)
	}

	for name, cfg := range transports(t, r) {
		for _, test := range []struct {
			ref     Ref
			id, n   string
			fullRef string
			want    string
		}{
			{Ref{}, "main@sha1:" + three.String(), "3", "refs/heads/main", ""},
			{Ref{Branch: "release/1.x"}, "release/1.x@sha1:" + one.String(), "1", "refs/heads/release/1.x", ""},
			{Ref{Tag: "light"}, "light@sha1:" + one.String(), "1", "refs/tags/light", ""},
			{Ref{Tag: "annotated"}, "annotated@sha1:" + two.String(), "2", "refs/tags/annotated", ""},
			{Ref{Tag: "nested"}, "nested@sha1:" + two.String(), "2", "refs/tags/nested", ""},
			{Ref{SemVer: "1.x"}, "v1.10.0@sha1:" + two.String(), "2", "refs/tags/v1.10.0", ""},
			{Ref{SemVer: "<1.2"}, "v1.0.0@sha1:" + one.String(), "1", "refs/tags/v1.0.0", ""},
			{Ref{SemVer: ">=1.0.0-0"}, "v2.0.0-rc.1@sha1:" + three.String(), "3", "refs/tags/v2.0.0-rc.1", ""},
			{Ref{SemVer: "*"}, "v1.10.0@sha1:" + two.String(), "2", "refs/tags/v1.10.0", ""},
			{Ref{Commit: two.String()}, "sha1:" + two.String(), "2", "", ""},
			{Ref{Name: "refs/pull/7/merge"}, "refs/pull/7/merge@sha1:" + pull.String(), "pull", "refs/pull/7/merge", ""},
			{Ref{Name: "refs/heads/main"}, "refs/heads/main@sha1:" + three.String(), "3", "refs/heads/main", ""},
			{Ref{Branch: "light"}, "", "", "", `there is no branch "light": name one of main, release/1.x`},
			{Ref{Tag: "main"}, "", "", "", `there is no tag "main": name one of 1.2.0, annotated`},
			{Ref{Name: "refs/pull/8/merge"}, "", "", "", `the server shows no ref "refs/pull/8/merge"`},
			{Ref{SemVer: "3.x"}, "", "", "", "none of 4 versions is in 3.x"},
			{Ref{Commit: strings.Repeat("0123", 10)}, "", "", "", strings.Repeat("0123", 10)},
			{Ref{Tag: "folder"}, "", "", "", "is on a tree, not on a commit"},
			{Ref{Tag: "file"}, "", "", "", "is a blob, not a commit"},
			{Ref{Tag: "deep"}, "", "", "", "more than 5 times"},
		} {
			// What is picked is the same everywhere, and with ssh a look takes a while.
			if name == "ssh" && test.want != "" {
				continue
			}

			t.Run(name+" "+test.ref.String(), func(t *testing.T) {
				cfg := cfg
				cfg.Ref = test.ref

				g := newTestGit(t, cfg)

				rev, err := g.Fetch(t.Context())
				if test.want != "" {
					wantError(t, err, test.want)

					return
				}

				if err != nil {
					t.Fatal(err)
				}

				if rev.ID != test.id || read(t, rev.FS, "n") != test.n || rev.Ref != test.fullRef || !strings.HasSuffix(rev.ID, rev.Commit) {
					t.Errorf("got %+v", rev)
				}

				if name == "ssh" {
					return
				}

				if again := fetch(t, g); again.FS != rev.FS {
					t.Error("an unchanged ref is not the same revision")
				}

				if test.ref.Follows(rev.Ref) != (rev.Ref != "") || test.ref.Follows("refs/heads/other") && test.ref != (Ref{}) {
					t.Error("Follows")
				}
			})
		}
	}
}

// A tag that is made anew, on the same or on another commit, is seen; so is a new version.
func TestRefsMove(t *testing.T) {
	r := newRepo(t, true)
	one, two := r.commit("1", map[string]string{"n": "1"}), r.commit("2", map[string]string{"n": "2"})
	r.setRef("refs/tags/v1.0.0", r.tagObject("first", plumbing.CommitObject, one))

	for name, cfg := range transports(t, r) {
		t.Run(name, func(t *testing.T) {
			var asked []string

			cfg.Ref.Tag = "v1.0.0"
			cfg.Verify = func(s Signed) error {
				asked = append(asked, s.TagID)

				return nil
			}

			g := newTestGit(t, cfg)
			first := fetch(t, g)

			r.setRef("refs/tags/v1.0.0", r.tagObject("again "+name, plumbing.CommitObject, one))

			if again := fetch(t, g); again.ID != first.ID || again.Forced || len(asked) != 2 || asked[0] == asked[1] {
				t.Errorf("got %+v, asked %q", again, asked)
			}

			r.setRef("refs/tags/v1.0.0", two)

			if moved := fetch(t, g); moved.Commit != two.String() || !moved.Forced || len(asked) != 3 || asked[2] != "" {
				t.Errorf("got %+v, asked %q", moved, asked)
			}

			cfg.Ref = Ref{SemVer: ">=1"}
			g = newTestGit(t, cfg)
			fetch(t, g)
			r.setRef("refs/tags/v1.0.1", one)

			if rev := fetch(t, g); rev.ID != "v1.0.1@sha1:"+one.String() || !rev.Forced { // a higher version on an older commit
				t.Errorf("got %+v", rev)
			}

			if err := r.Storer.RemoveReference("refs/tags/v1.0.1"); err != nil {
				t.Fatal(err)
			}

			r.setRef("refs/tags/v1.0.0", r.tagObject("first", plumbing.CommitObject, one))
		})
	}
}
