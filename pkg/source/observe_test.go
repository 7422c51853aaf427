package source

import (
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Every request is told once, with its server and how it went, and nothing else is.
func TestObserve(t *testing.T) {
	r := newRepo(t, true)
	r.commit("one", map[string]string{"a.yaml": "a"})

	for name, where := range map[string]struct{ url, host string }{
		"http":  {serve(t, r).url(r), "127.0.0.1"},
		"local": {r.dir, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var got []Request

			g := newTestGit(t, GitConfig{URL: where.url, Ref: Ref{Branch: "main"}, Observe: func(request Request) {
				if request.Took < 0 || request.Took > time.Minute {
					t.Errorf("it took %s", request.Took)
				}

				request.Took = 0
				got = append(got, request)
			}})

			fetch(t, g)
			fetch(t, g)
			r.commit("two", map[string]string{"a.yaml": name})
			fetch(t, g)

			if err := os.Rename(r.dir, r.dir+"-gone"); err != nil {
				t.Fatal(err)
			}

			_, err := g.Fetch(t.Context())
			if err == nil {
				t.Fatal("a repository that is gone was fetched")
			}

			if err := os.Rename(r.dir+"-gone", r.dir); err != nil {
				t.Fatal(err)
			}

			look, objects := Request{Host: where.host, Kind: RequestLook}, Request{Host: where.host, Kind: RequestFetch}
			failed := look
			failed.Failed = true

			if d := cmp.Diff([]Request{look, objects, look, look, objects, failed}, got); d != "" {
				t.Error(d)
			}
		})
	}
}
