package source

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/Masterminds/semver/v3"
	"github.com/go-git/go-git/v5/plumbing"
)

func TestSemVer(t *testing.T) {
	for _, test := range []struct {
		tags, within, want string
	}{
		{"1.0.0 1.9.0 1.10.0", "1.x", "1.10.0"},
		{"v1.0.0 1.0.0", "1.x", "v1.0.0"},
		{"1.0.0+a 1.0.0+b 1.0.0", "1.x", "1.0.0+b"},
		{"1.0.0 2.0.0-alpha 2.0.0-beta", "*", "1.0.0"},
		{"1.0.0 2.0.0-alpha 2.0.0-beta", ">=1.0.0-0", "2.0.0-beta"},
		{"1.0.0 2.0.0-beta", "~2.0.0-0", "2.0.0-beta"},
		{"1 1.0 01.0.0 1.0.0.0 V1.0.0 vv1.0.0 release-1.0.0", "*", ""},
		{"1.2.3 1.3.0 2.0.0", "^1.2", "1.3.0"},
		{"1.2.3 1.3.0 2.0.0", "~1.2", "1.2.3"},
		{"1.2.3 1.3.0 2.0.0", ">=1.2 <1.3 || >=2", "2.0.0"},
		{"1.2.3 1.3.0 2.0.0", "1.0.0 - 1.2.9", "1.2.3"},
		{"18446744073709551616.0.0 1.0.0", "*", "1.0.0"},
	} {
		v := &view{refs: map[plumbing.ReferenceName]plumbing.Hash{"refs/heads/9.9.9": {}}}
		for tag := range strings.FieldsSeq(test.tags) {
			v.refs[plumbing.NewTagReferenceName(tag)] = plumbing.Hash{1}
		}

		got, err := v.pick(Ref{SemVer: test.within})
		if got.name != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s in %s: got %s, %v; want %s", test.within, test.tags, got.name, err, test.want)
		}
	}
}

// Whatever a server sends as its list, and whatever is picked from it, there is no panic,
// and no text that could not be shown.
func FuzzAdvert(f *testing.F) {
	r := newRepo(f, true)
	one := r.commit("one", map[string]string{"n": "1"})
	r.setRef("refs/tags/v1.0.0", r.tagObject("v1.0.0", plumbing.CommitObject, one))

	recorder := httptest.NewRecorder()
	backend(f, r).ServeHTTP(recorder, httptest.NewRequest("GET", "/fleet/info/refs?service="+service, nil))
	f.Add(recorder.Body.Bytes())

	id := strings.Repeat("a", 40)
	for _, line := range []string{
		id + " HEAD\x00symref=HEAD:refs/heads/\x1b[31m", id + " refs/tags/v1.0.0\x00", id + " refs/tags/v1.0.0^{}\x00 symref=HEAD",
		strings.Repeat("0", 40) + " capabilities^{}\x00", "ERR no\x1b[31m", "shallow " + id,
	} {
		f.Add(fmt.Appendf(nil, "%04x%s\n0000", len(line)+5, line))
	}

	refs := []Ref{{}, {Branch: "main"}, {Tag: "v1.0.0"}, {SemVer: "*"}, {SemVer: ">=0-0"}, {Name: "refs/pull/7/merge"}}

	f.Fuzz(func(t *testing.T, data []byte) {
		shown := func(err error) {
			if text := err.Error(); text != clean(text) && len(text) < 200 {
				t.Errorf("bad text: %q", text)
			}
		}

		advert, err := readAdvert(bytes.NewReader(data))
		if err != nil {
			shown(err)

			return
		}

		v := newView(advert, nil)
		v.tips(10)

		for _, ref := range refs {
			found, err := v.pick(ref)
			if err != nil {
				shown(err)

				continue
			}

			if v.refs[found.ref] != found.object || found.name == "" || found.name != clean(found.name) && len(found.name) < 200 {
				t.Errorf("picked %+v", found)
			}
		}
	})
}

// A range is checked the same way wherever it is used, and the tag that wins is in it and
// no other one is above it.
func FuzzSemVer(f *testing.F) {
	f.Add(">=1.0.0-0", "1.0.0", "v2.0.0-rc.1")
	f.Add("1.x || ^2", "1.0.0", "v1.0.0")
	f.Add("~1.2.3", "v1.2.4+build", "1.2.4")
	f.Add("*", "..", "\x1b")

	f.Fuzz(func(t *testing.T, within, one, two string) {
		ref := Ref{SemVer: within}
		v := &view{refs: map[plumbing.ReferenceName]plumbing.Hash{}}

		for _, tag := range []string{one, two} {
			v.refs[plumbing.ReferenceName(tagPrefix+tag)] = plumbing.Hash{1}
		}

		if err := ref.check(); err != nil || within == "" {
			return
		}

		constraint, err := semver.NewConstraint(within)
		if err != nil {
			t.Fatal(err)
		}

		found, err := v.pick(ref)
		if err != nil {
			for _, tag := range []string{one, two} {
				if ref.Follows(tagPrefix+tag) && plumbing.ReferenceName(tagPrefix+tag).Validate() == nil {
					t.Errorf("%q has %q, and nothing was picked: %v", within, tag, err)
				}
			}

			return
		}

		best := versionOf(found.name)
		if !slices.Contains([]string{one, two}, found.name) || best == nil || !constraint.Check(best) || !ref.Follows(tagPrefix+found.name) {
			t.Fatalf("picked %q for %q", found.name, within)
		}

		for _, tag := range []string{one, two} {
			if other := versionOf(tag); other != nil && constraint.Check(other) && other.GreaterThan(best) && plumbing.ReferenceName(tagPrefix+tag).Validate() == nil {
				t.Errorf("%s is above %s", tag, found.name)
			}
		}
	})
}
