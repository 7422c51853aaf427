package gitea

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/omni-syncd/omni-syncd/pkg/server/webhook"
	"github.com/omni-syncd/omni-syncd/pkg/source"
)

const (
	secret      = "correct horse battery staple"
	otherSecret = "another secret of enough length"
)

// delivery is what Gitea sent, and what it was told.
type delivery struct {
	header http.Header
	body   []byte
	status int
	answer string
	at     time.Time
}

// payload is the JSON in a delivery, which may be in a form.
func (d delivery) payload(t *testing.T) string {
	t.Helper()

	if d.header.Get("Content-Type") == "application/json" {
		return string(d.body)
	}

	fields, err := url.ParseQuery(string(d.body))
	if err != nil {
		t.Fatal(err)
	}

	return fields.Get("payload")
}

// deliveries are those that came to a hook.
type deliveries chan delivery

// next waits for the delivery of an event about a commit ("" for any) and checks its
// answer. It leaves out others, such as those of an earlier push, which may come late.
func (d deliveries) next(t *testing.T, event, commit string, status int, answer string) delivery {
	t.Helper()

	timeout := time.After(deadline)

	for {
		select {
		case got := <-d:
			if got.header.Get("X-Gitea-Event") != event || !strings.Contains(got.payload(t), commit) {
				continue
			}

			if got.status != status || got.answer != answer {
				t.Errorf("%s was answered with %d %q, want %d %q", event, got.status, got.answer, status, answer)
			}

			return got
		case <-timeout:
			t.Fatalf("Gitea delivered no %s about %q", event, commit)
		}
	}
}

// receiver serves a hook, and notes what comes to it.
func receiver(t *testing.T, hook webhook.Hook) (string, deliveries) {
	t.Helper()

	handler, err := webhook.New(webhook.Config{Hooks: map[string]webhook.Hook{"fleet": hook}})
	if err != nil {
		t.Fatal(err)
	}

	came := make(deliveries, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d := delivery{header: r.Header, at: time.Now()}

		var err error
		if d.body, err = io.ReadAll(r.Body); err != nil {
			t.Error(err)
		}

		r.Body = io.NopCloser(bytes.NewReader(d.body))
		noted := &note{ResponseWriter: w}

		handler.ServeHTTP(noted, r)

		d.status, d.answer = noted.status, strings.TrimSpace(noted.body.String())
		came <- d
	}))
	t.Cleanup(server.Close)

	return server.URL + "/hooks/fleet", came
}

// note is a ResponseWriter that keeps a copy.
type note struct {
	http.ResponseWriter

	status int
	body   bytes.Buffer
}

func (n *note) Unwrap() http.ResponseWriter { return n.ResponseWriter }

func (n *note) WriteHeader(status int) {
	n.status = status
	n.ResponseWriter.WriteHeader(status)
}

func (n *note) Write(data []byte) (int, error) {
	n.body.Write(data)

	return n.ResponseWriter.Write(data)
}

// newHook makes Gitea announce pushes at a URL, and returns the path of the hook in its API.
func (r *repo) newHook(t *testing.T, kind, contentType, url, secret string) string {
	t.Helper()

	var hook struct{ ID int }

	r.api(t, http.MethodPost, "/hooks", map[string]any{
		"type": kind, "active": true, "events": []string{"push", "create", "delete", "pull_request", "pull_request_sync"},
		"config": map[string]string{"url": url, "content_type": contentType, "secret": secret},
	}, &hook)

	return fmt.Sprintf("/hooks/%d", hook.ID)
}

func testWebhook(t *testing.T, s *server) {
	for name, test := range map[string]func(*testing.T, *server){
		"push":         testPush,
		"tag":          testTag,
		"form":         testForm,
		"wrong secret": testWrongSecret,
	} {
		t.Run(name, func(t *testing.T) { test(t, s) })
	}
}

// A push is announced, and found by nothing but that: the next poll would be in an hour.
// What else Gitea sends is told apart.
func testPush(t *testing.T, s *server) {
	for _, kind := range []string{"gitea", "gogs"} {
		t.Run(kind, func(t *testing.T) {
			r := s.newRepo(t, "hook-"+kind)
			g := r.hourly(t, source.Ref{Branch: "main"})
			url, came := receiver(t, webhook.Hook{Provider: webhook.Gitea, SecretFile: file(t, secret), Ref: "refs/heads/main", Poke: g.Poke})
			hook := r.newHook(t, kind, "json", url, secret)

			seen := watch(t, g)
			seen.next(t, "main@sha1:"+r.git(t, "rev-parse", "HEAD"))

			commit := r.commit(t, "a", "1")
			r.push(t, "main")

			pushed := time.Now()
			delivered := came.next(t, "push", commit, http.StatusAccepted, "accepted")

			seen.next(t, "main@sha1:"+commit)
			t.Logf("delivered %s after the push, and fetched %s later",
				delivered.at.Sub(pushed).Round(time.Millisecond), time.Since(delivered.at).Round(time.Millisecond))
			t.Logf("signed in %q", signatures(delivered.header))

			r.git(t, "checkout", "--quiet", "-b", "feature")
			elsewhere := r.commit(t, "b", "1")
			r.push(t, "feature")
			came.next(t, "push", elsewhere, http.StatusAccepted, "ignored: another ref")

			r.push(t, "--delete", "feature")
			came.next(t, "delete", "feature", http.StatusAccepted, "ignored: another ref")

			// A test is a push event about the default branch.
			r.api(t, http.MethodPost, hook+"/tests", nil, nil)
			came.next(t, "push", commit, http.StatusAccepted, "accepted")
		})
	}
}

// A source that follows a range of versions is told of a new tag.
func testTag(t *testing.T, s *server) {
	r := s.newRepo(t, "hook-tag")
	first := r.git(t, "rev-parse", "HEAD")
	r.git(t, "tag", "v1.2.0")
	r.push(t, "v1.2.0")

	g := r.hourly(t, source.Ref{SemVer: "1.x"})
	url, came := receiver(t, webhook.Hook{Provider: webhook.Gitea, SecretFile: file(t, secret), Ref: "refs/tags/*", Poke: g.Poke})
	r.newHook(t, "gitea", "json", url, secret)

	seen := watch(t, g)
	seen.next(t, "v1.2.0@sha1:"+first)

	second := r.commit(t, "a", "2")
	r.push(t, "main")
	came.next(t, "push", second, http.StatusAccepted, "ignored: another ref")

	r.git(t, "tag", "v1.3.0")
	r.push(t, "v1.3.0")

	came.next(t, "push", "refs/tags/v1.3.0", http.StatusAccepted, "accepted")
	seen.next(t, "v1.3.0@sha1:"+second)
}

// Gitea can send a form, as GitHub does. But it signs the JSON that is in the form and not
// the form, so what arrives is not what was signed, and it is refused.
func testForm(t *testing.T, s *server) {
	r := s.newRepo(t, "hook-form")
	url, came := receiver(t, webhook.Hook{
		Provider: webhook.Gitea, SecretFile: file(t, secret), Ref: "refs/heads/main", Poke: func() { t.Error("poked") },
	})

	r.api(t, http.MethodPost, r.newHook(t, "gitea", "form", url, secret)+"/tests", nil, nil)
	got := came.next(t, "push", "", http.StatusUnsupportedMediaType, "the content type must be application/json")

	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(got.payload(t)))

	if want := hex.EncodeToString(mac.Sum(nil)); got.header.Get("X-Gitea-Signature") != want {
		t.Errorf("Gitea signs something else: %s, want %s", got.header.Get("X-Gitea-Signature"), want)
	}
}

// A delivery with another secret, or with none, is refused and causes nothing.
func testWrongSecret(t *testing.T, s *server) {
	r := s.newRepo(t, "hook-secret")
	url, came := receiver(t, webhook.Hook{
		Provider: webhook.Gitea, SecretFile: file(t, secret), Ref: "refs/heads/main", Poke: func() { t.Error("poked") },
	})

	for given, answer := range map[string]string{otherSecret: "the signature is wrong", "": "the signature is missing or malformed"} {
		hook := r.newHook(t, "gitea", "json", url, given)
		r.api(t, http.MethodPost, hook+"/tests", nil, nil)
		came.next(t, "push", "", http.StatusUnauthorized, answer)
		r.api(t, http.MethodDelete, hook, nil, nil)
	}
}

// hourly follows a ref of the repository, and looks once an hour unless it is poked.
func (r *repo) hourly(t *testing.T, ref source.Ref) *source.Git {
	t.Helper()

	return newGit(t, source.GitConfig{
		URL: r.url(), Ref: ref, Login: source.Login{TokenFile: file(t, r.server.token)}, TLS: source.TLS{CAFile: r.server.caFile}, Interval: time.Hour,
	})
}

// signatures are the headers in which a delivery is signed.
func signatures(h http.Header) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(h)), func(name string) bool { return !strings.Contains(name, "Signature") })
}
