package webhook

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestConfiguration(t *testing.T) {
	good := func() Hook {
		return Hook{Provider: GitHub, SecretFile: secretFile(t, testSecret), Ref: "refs/heads/main", Poke: func() {}}
	}

	for _, c := range []struct {
		name, source string
		change       func(*Hook)
		limits       Limits
		want         string // "": accepted
	}{
		{name: "good", source: "fleet"},
		{name: "no name", source: "", want: "the name must have"},
		{name: "slash", source: "a/b", want: "no slash"},
		{name: "long name", source: strings.Repeat("x", maxName+1), want: "the name must have"},
		{name: "provider", source: "fleet", change: func(h *Hook) { h.Provider = "svn" }, want: `provider "svn" is unknown`},
		{name: "no provider", source: "fleet", change: func(h *Hook) { h.Provider = "" }, want: `provider "" is unknown`},
		{name: "short ref", source: "fleet", change: func(h *Hook) { h.Ref = "main" }, want: "must be a full name"},
		{name: "pattern", source: "fleet", change: func(h *Hook) { h.Ref = "refs/heads/release-*" }, want: "must be a full name"},
		{name: "folder", source: "fleet", change: func(h *Hook) { h.Ref = "refs/heads/" }, want: "must be a full name"},
		{name: "all refs", source: "fleet", change: func(h *Hook) { h.Ref = "refs/*" }},
		{name: "no poke", source: "fleet", change: func(h *Hook) { h.Poke = nil }, want: "Poke"},
		{name: "no secret", source: "fleet", change: func(h *Hook) { h.SecretFile = "" }, want: "mandatory"},
		{name: "missing file", source: "fleet", change: func(h *Hook) { h.SecretFile += "x" }, want: "no such file"},
		{name: "folder as file", source: "fleet", change: func(h *Hook) { h.SecretFile = filepath.Dir(h.SecretFile) }, want: "regular file"},
		{name: "empty", source: "fleet", change: func(h *Hook) { h.SecretFile = secretFile(t, "\n\r\n") }, want: "is empty"},
		{name: "too short", source: "fleet", change: func(h *Hook) { h.SecretFile = secretFile(t, "hunter2hunter2.\n") }, want: "line 1 has 15 bytes, at least 16"},
		{name: "second too short", source: "fleet", change: func(h *Hook) { h.SecretFile = secretFile(t, testSecret+"\nhunter2") }, want: "line 2 has 7 bytes"},
		{name: "many", source: "fleet", change: func(h *Hook) { h.SecretFile = secretFile(t, strings.Repeat(testSecret+"\n", 5)) }, want: "more than 4"},
		{name: "large", source: "fleet", change: func(h *Hook) { h.SecretFile = secretFile(t, strings.Repeat("hunter2", 1000)) }, want: "larger than"},
		{name: "no base64", source: "fleet", change: func(h *Hook) { h.Provider, h.SecretFile = GitLab, secretFile(t, "whsec_hunter2!") }, want: "not base64"},
		{name: "negative", source: "fleet", limits: Limits{SourceBurst: -1}, want: "none may be negative"},
		{name: "memory", source: "fleet", limits: Limits{MaxBody: 10, MaxMemory: 19}, want: "at least twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			hook := good()
			if c.change != nil {
				c.change(&hook)
			}

			_, err := New(Config{Hooks: map[string]Hook{c.source: hook}, Limits: c.limits})
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}

			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the secret is in the error: %v", err)
			}
		})
	}
}

// TestRotation: a changed secret counts at once, two may hold at the same time, and an unusable
// file refuses everything until it is mended.
func TestRotation(t *testing.T) {
	s := senders()["github"]

	var count pokes

	path := secretFile(t, testSecret+"\n")
	server := httptest.NewServer(newHandler(t, Hook{Provider: GitHub, SecretFile: path, Poke: count.poke}, Limits{}, nil))
	defer server.Close()

	try := func(step, secret string, status int) {
		t.Helper()

		s.push.body += " " // not a replay

		response, text := send(t, "POST", server.URL+"/hooks/fleet", s.header(s.push, secret), strings.NewReader(s.push.body))
		if response.StatusCode != status {
			t.Errorf("%s: got %d %s, want %d", step, response.StatusCode, text, status)
		}
	}

	write := func(content string) {
		t.Helper()

		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	try("before", testSecret, 202)
	try("before", otherSecret, 401)
	write(testSecret + "\n" + otherSecret + "\n")
	try("both", testSecret, 202)
	try("both", otherSecret, 202)

	// As a mounted Secret is swapped: by renaming, same size, another inode.
	swap := path + ".new"
	if err := os.WriteFile(swap, []byte(otherSecret), 0o600); err != nil {
		t.Fatal(err)
	}

	if err := os.Rename(swap, path); err != nil {
		t.Fatal(err)
	}

	try("after", testSecret, 401)
	try("after", otherSecret, 202)
	write("")
	try("emptied", otherSecret, 503)
	try("emptied", "", 503)
	write(testSecret)
	try("mended", testSecret, 202)

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}

	try("gone", testSecret, 503)
}

func TestPaths(t *testing.T) {
	s := senders()["github"]
	address, count := start(t, s, "", Limits{FailureBurst: 100})
	base := strings.TrimSuffix(address, "/hooks/fleet")

	for _, path := range []string{"/hooks", "/hooks/", "/hooks/fleet/", "/hooks/fleet/x", "/hooks//fleet", "/hooks/Fleet", "/hooks/fleet%2F", "/hooks/fleet%00", "/x/hooks/fleet", "/", "/hooks/" + strings.Repeat("x", 5000)} {
		response, text := send(t, "POST", base+path, s.header(s.push, s.secret), strings.NewReader(s.push.body))
		if response.StatusCode != 404 || text != "no hook of this name" {
			t.Errorf("%.40s: got %d %s", path, response.StatusCode, text)
		}
	}

	if count.n.Load() != 0 {
		t.Error("another path triggers")
	}

	// A query is nobody's business.
	if response, text := send(t, "POST", address+"?x=1", s.header(s.push, s.secret), strings.NewReader(s.push.body)); response.StatusCode != 202 {
		t.Errorf("got %d %s", response.StatusCode, text)
	}
}

// TestReplayPoisoning: who captured a delivery and is first with it under another event does
// not make the real one a repeat. (The event's name is not signed.)
func TestReplayPoisoning(t *testing.T) {
	s := senders()["github"]
	address, count := start(t, s, "", Limits{})

	for _, event := range []string{"ping", "issues", "push"} {
		send(t, "POST", address, s.header(message{event, s.push.body}, s.secret), strings.NewReader(s.push.body))
	}

	if count.n.Load() != 1 {
		t.Errorf("got %d pokes, want 1", count.n.Load())
	}
}

// TestReplayUnderOtherID: the delivery ID is not signed, so another one makes it no other delivery.
func TestReplayUnderOtherID(t *testing.T) {
	for name, header := range map[string]string{"github": "X-GitHub-Delivery", "gitea": "X-Gitea-Delivery", "bitbucket cloud": "X-Request-UUID"} {
		s := senders()[name]
		address, count := start(t, s, "", Limits{})

		for i := range 5 {
			h := s.header(s.push, s.secret)
			h.Set(header, fmt.Sprint(i))
			send(t, "POST", address, h, strings.NewReader(s.push.body))
		}

		if count.n.Load() != 1 {
			t.Errorf("%s: got %d pokes, want 1", name, count.n.Load())
		}
	}

	// GitLab's token proves nothing about the body. Two events that read the same (a branch
	// moved to and fro) are told apart by what GitLab calls them.
	s := senders()["gitlab token"]
	address, count := start(t, s, "", Limits{})

	for _, key := range []string{"a", "b", "a", "b"} {
		h := s.header(s.push, s.secret)
		h.Set("Idempotency-Key", key)
		send(t, "POST", address, h, strings.NewReader(s.push.body))
	}

	if count.n.Load() != 2 {
		t.Errorf("gitlab: got %d pokes, want 2", count.n.Load())
	}
}

// TestBurst: many deliveries at once are one look, when Poke coalesces as it must.
func TestBurst(t *testing.T) {
	s := senders()["github"]

	const deliveries = 200

	var count pokes

	bell := make(chan struct{}, 1)
	h := newHandler(t, Hook{Provider: GitHub, SecretFile: secretFile(t, s.secret), Poke: func() {
		count.poke()

		select {
		case bell <- struct{}{}:
		default: // a look is asked for already
		}
	}}, Limits{SourceBurst: deliveries, ConcurrentPerRemote: deliveries, Concurrent: deliveries}, nil)

	var all sync.WaitGroup

	for i := range deliveries {
		all.Go(func() {
			m := message{"push", s.push.body + strings.Repeat(" ", i)}

			w := newRecorder()
			h.ServeHTTP(w, request(s.header(m, s.secret), m.body))

			if w.Code != 202 {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		})
	}

	all.Wait()

	if count.n.Load() != deliveries || len(bell) != 1 {
		t.Errorf("got %d pokes and %d looks to make, want %d and 1", count.n.Load(), len(bell), deliveries)
	}
}

// TestConcurrency mixes everything at once. It is for the race detector, and counts.
func TestConcurrency(t *testing.T) {
	limits := Limits{SourceBurst: 1e6, FailureBurst: 1e6, Concurrent: 1e6, ConcurrentPerRemote: 1e6}

	var count pokes

	hooks := map[string]Hook{}
	all := senders()

	for name, s := range all {
		hooks[name] = Hook{Provider: s.provider, SecretFile: secretFile(t, s.secret), Poke: count.poke}
	}

	h, err := New(Config{Hooks: hooks, Limits: limits})
	if err != nil {
		t.Fatal(err)
	}

	var wait sync.WaitGroup

	const rounds = 20

	for i := range rounds {
		for name, s := range all {
			good := message{s.push.event, s.push.body + strings.Repeat("\n", i)}

			for _, r := range []*http.Request{
				request(s.header(good, s.secret), good.body),
				request(s.header(good, otherSecret), good.body),
				request(s.header(s.tag, s.secret), s.tag.body),
				request(http.Header{}, good.body),
			} {
				r.URL.Path = "/hooks/" + name
				r.RemoteAddr = fmt.Sprintf("192.0.2.%d:1", i)

				wait.Go(func() { h.ServeHTTP(newRecorder(), r) })
			}
		}
	}

	wait.Wait()

	if want := int64(rounds * len(all)); count.n.Load() != want {
		t.Errorf("got %d pokes, want %d", count.n.Load(), want)
	}

	if h.memory.Load() != 0 || h.remotes.inside != 0 {
		t.Errorf("%d bytes and %d places were not given back", h.memory.Load(), h.remotes.inside)
	}
}

// TestNoDeadline: a ResponseWriter without deadlines would take away a bound unseen.
func TestNoDeadline(t *testing.T) {
	s := senders()["github"]
	core, lines := observer.New(zapcore.DebugLevel)
	h := newHandler(t, Hook{Provider: GitHub, SecretFile: secretFile(t, testSecret), Poke: func() {}}, Limits{}, zap.New(core))

	w := httptest.NewRecorder()
	h.ServeHTTP(w, request(s.header(s.push, s.secret), s.push.body))

	if w.Code != 500 || lines.FilterLevelExact(zapcore.ErrorLevel).Len() != 1 {
		t.Errorf("got %d and %v", w.Code, lines.All())
	}
}

// TestRemote: who decides on whose budget a request goes.
func TestRemote(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:99": "192.0.2.1", "[2001:db8:1:2:3::4]:99": "2001:db8:1:2::/64", "[::ffff:192.0.2.1]:99": "::ffff:192.0.2.1", "@": "@",
	} {
		if got := connection(&http.Request{RemoteAddr: in}); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

// recorder is a ResponseRecorder on which a read deadline can be set, as on a connection.
type recorder struct{ *httptest.ResponseRecorder }

func newRecorder() recorder { return recorder{httptest.NewRecorder()} }

func (recorder) SetReadDeadline(time.Time) error { return nil }

func request(h http.Header, body string) *http.Request {
	r := httptest.NewRequest("POST", "/hooks/fleet", bytes.NewReader([]byte(body)))
	maps.Copy(r.Header, h)

	return r
}
