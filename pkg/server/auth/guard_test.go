package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// way is a way in of a test. It is asked outside, so it has no recall.
type way struct {
	asked  int
	answer func(ctx context.Context, token string) (*Caller, error)
}

func (w *way) Authenticate(ctx context.Context, token string) (*Caller, error) {
	w.asked++

	return w.answer(ctx, token)
}

// guarded is a guard of a test, and what it lets through.
type guarded struct {
	*Guard

	logs *observer.ObservedLogs
	seen []*http.Request
}

func guard(cfg Config) *guarded {
	g := &guarded{}

	core, logs := observer.New(zap.DebugLevel)
	cfg.Logger, g.logs = zap.New(core), logs
	g.Guard = Require(cfg, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.seen = append(g.seen, r)
		_, _ = io.WriteString(w, "in")
	}))

	return g
}

func (g *guarded) ask(token, remote string, edit ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", "/omnisyncd.v1.StatusService/ListClusters", strings.NewReader("{}"))
	r.RemoteAddr = remote
	r.Header.Set("Content-Type", "application/json")

	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}

	for _, edit := range edit {
		edit(r)
	}

	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)

	return w
}

const here = "192.0.2.1:1234"

func TestGuardLetsIn(t *testing.T) {
	token, hash := newToken(t)
	tokens, _, _ := tokensOf(t, "tokens:\n"+entryOf("ci", hash, "    expires: 2999-01-01T00:00:00Z\n"+viewAll))
	g := guard(Config{Authenticators: []Authenticator{tokens}})

	var sent *http.Request

	w := g.ask(token, here, func(r *http.Request) { sent = r; r.Header.Set("X-Other", "x") })
	if w.Code != 200 || len(g.seen) != 1 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}

	r := g.seen[0]

	caller, ok := Of(r.Context())
	if deadline, has := r.Context().Deadline(); !ok || caller.Name != "token ci" || !has || !deadline.Equal(caller.Expires) {
		t.Errorf("%+v, deadline %s", caller, deadline)
	}

	if sent.Header.Get("Authorization") == "" {
		t.Error("the request of whoever stands in front was changed")
	}

	if len(r.Header.Values("Authorization")) != 0 || r.Header.Get("X-Other") != "x" {
		t.Error(r.Header)
	}
}

func TestGuardRefuses(t *testing.T) {
	token, _ := newToken(t)
	nobody := &way{answer: func(context.Context, string) (*Caller, error) {
		return nil, fmt.Errorf("%w: wrong audience", ErrUnknown)
	}}
	away := &way{answer: func(context.Context, string) (*Caller, error) {
		return nil, &UnavailableError{"the issuer https://private.example.com", errors.New("connection refused")}
	}}
	late := &way{answer: func(context.Context, string) (*Caller, error) {
		return nil, &ExpiredError{"token old", time.Unix(0, 0)}
	}}
	nothing := &way{answer: func(context.Context, string) (*Caller, error) { return nil, nil }}
	in := &way{answer: func(context.Context, string) (*Caller, error) { return Owner("x"), nil }}

	for name, test := range map[string]struct {
		ways   []Authenticator
		token  string
		status int
		text   string
		log    string
	}{
		"no way in":            {nil, token, 401, "not known", "not known"},
		"no token":             {[]Authenticator{in}, "", 401, "has no token: send", "has no token"},
		"a token with a comma": {[]Authenticator{in}, token + ",x", 401, "characters", "characters"},
		"unknown":              {[]Authenticator{nobody}, token, 401, "the token is not known", "wrong audience"},
		"no caller, no error":  {[]Authenticator{nothing}, token, 401, "the token is not known", "not known"},
		"expired":              {[]Authenticator{nobody, late, in}, token, 401, "token old expired", "token old expired"},
		"away":                 {[]Authenticator{nobody, away, nobody}, token, 503, "try again", "private.example.com"},
		"away, but known":      {[]Authenticator{away, in}, token, 200, "in", ""},
		"unknown, then known":  {[]Authenticator{nobody, in}, token, 200, "in", ""},
		"away, but expired":    {[]Authenticator{away, late}, token, 401, "expired", "expired"},
	} {
		t.Run(name, func(t *testing.T) {
			g := guard(Config{Authenticators: test.ways})

			w := g.ask(test.token, here)
			if w.Code != test.status || !strings.Contains(w.Body.String(), test.text) || strings.Contains(w.Body.String(), "private") {
				t.Errorf("%d %s, want %d %s", w.Code, w.Body, test.status, test.text)
			}

			if challenge := w.Header().Get("WWW-Authenticate"); (challenge != "") != (w.Code == 401) {
				t.Errorf("%d with WWW-Authenticate: %q", w.Code, challenge)
			}

			if let := len(g.seen) > 0; let != (test.status == 200) {
				t.Errorf("%d, and let in: %t", w.Code, let)
			}

			text := fmt.Sprint(g.logs.All())
			if !strings.Contains(text, test.log) || test.log != "" && !strings.Contains(text, "192.0.2.1") || leaked(text, token)+leaked(w.Body.String(), token) != "" {
				t.Error("log:", text)
			}
		})
	}
}

// A refusal is one of the protocol that the request speaks.
func TestGuardProtocols(t *testing.T) {
	g := guard(Config{})

	for name, test := range map[string]struct {
		method, contentType, query string
		status                     int
		header, value, body        string
	}{
		"connect":        {"POST", "application/proto", "", 401, "Content-Type", "application/json", `"code":"unauthenticated"`},
		"JSON":           {"POST", "application/json", "", 401, "Content-Type", "application/json", `"code":"unauthenticated"`},
		"connect by GET": {"GET", "", "connect=v1&encoding=json", 401, "Content-Type", "application/json", `"code":"unauthenticated"`},
		"streaming":      {"POST", "application/connect+json", "", 200, "Content-Type", "application/connect+json", `"code":"unauthenticated"`},
		"gRPC":           {"POST", "application/grpc+proto", "", 200, "Grpc-Status", "16", ""},
		"gRPC-Web":       {"POST", "application/grpc-web", "", 200, "Grpc-Status", "16", ""},
		"a browser":      {"GET", "", "", 401, "Content-Type", "text/plain; charset=utf-8", "has no token"},
		"a form":         {"POST", "multipart/form-data", "", 401, "Content-Type", "text/plain; charset=utf-8", "has no token"},
		"a preflight":    {"OPTIONS", "", "", 401, "Access-Control-Allow-Origin", "", "has no token"},
	} {
		w := g.ask("", here, func(r *http.Request) {
			r.Method, r.URL.RawQuery = test.method, test.query
			r.Header.Set("Content-Type", test.contentType)
		})

		value := w.Header().Get(test.header)
		if value == "" {
			value = w.Result().Trailer.Get(test.header)
		}

		if w.Code != test.status || value != test.value || !strings.Contains(w.Body.String(), test.body) {
			t.Errorf("%s: %d %v %s", name, w.Code, w.Result(), w.Body)
		}
	}

	if len(g.seen) > 0 {
		t.Error("somebody was let in")
	}
}

// Guessing gets slow, and costs others nothing; a good token that needs no question gets in all the same.
func TestFailureBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token, hash := newToken(t)
		tokens, _, _ := tokensOf(t, "tokens:\n"+entryOf("ci", hash, viewAll))
		outside := &way{answer: func(_ context.Context, token string) (*Caller, error) {
			if token == "good" {
				return Owner("x"), nil
			}

			return nil, ErrUnknown
		}}
		g := guard(Config{Authenticators: []Authenticator{tokens, outside}, FailureBurst: 5, FailuresPerSecond: 0.1})

		expect := func(what string, w *httptest.ResponseRecorder, code, asked int) {
			t.Helper()

			if w.Code != code || outside.asked != asked {
				t.Errorf("%s: %d after %d questions, want %d and %d: %s", what, w.Code, outside.asked, code, asked, w.Body)
			}
		}

		for i := range 5 {
			expect("a guess", g.ask("guess", here), 401, i+1)
		}

		w := g.ask("guess", here)
		expect("over the budget", w, 429, 5)

		if after := w.Header().Get("Retry-After"); after != "10" || !strings.Contains(w.Body.String(), "resource_exhausted") {
			t.Errorf("Retry-After: %s, %s", after, w.Body)
		}

		expect("another port", g.ask("guess", "192.0.2.1:9"), 429, 5)
		expect("mapped", g.ask("guess", "[::ffff:192.0.2.1]:9"), 429, 5)
		expect("a good token of the file", g.ask(token, here), 200, 5)
		expect("a good one that needs a question", g.ask("good", here), 429, 5)
		expect("another address", g.ask("good", "192.0.2.2:1"), 200, 6)
		expect("no token", g.ask("", here), 401, 6)

		time.Sleep(10 * time.Second)
		expect("a good one after a while", g.ask("good", here), 200, 7)
		expect("one guess after a while", g.ask("guess", here), 401, 8)
		expect("and no other", g.ask("guess", here), 429, 8)
	})
}

func (f authenticatorFunc) Authenticate(ctx context.Context, token string) (*Caller, error) {
	return f(ctx, token)
}

func TestCallerRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := guard(Config{Burst: 3, RequestsPerSecond: 0.5, Authenticators: []Authenticator{&way{answer: func(_ context.Context, token string) (*Caller, error) {
			return Owner("token " + token), nil
		}}}})

		for i, want := range []int{200, 200, 200, 429, 429} {
			if w := g.ask("a", fmt.Sprintf("192.0.2.%d:1", i)); w.Code != want {
				t.Errorf("request %d: %d, want %d", i, w.Code, want)
			}
		}

		if w := g.ask("a", here); w.Header().Get("Retry-After") != "2" || !strings.Contains(w.Body.String(), "too many requests of token a: wait 2s") {
			t.Errorf("%v %s", w.Header(), w.Body)
		}

		if w := g.ask("b", here); w.Code != 200 {
			t.Errorf("another caller: %d", w.Code)
		}

		time.Sleep(2 * time.Second)

		if w := g.ask("a", here); w.Code != 200 {
			t.Errorf("after a while: %d", w.Code)
		}
	})
}

// A stream of a caller ends when its token does.
func TestGuardEndsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, ends := time.Now(), time.Now().Add(time.Minute)

		g := Require(Config{Authenticators: []Authenticator{&way{answer: func(context.Context, string) (*Caller, error) {
			caller := Owner("x")
			caller.Expires = ends

			return caller, nil
		}}}}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()

			var expired *ExpiredError
			if !errors.As(context.Cause(r.Context()), &expired) || ConnectError(context.Cause(r.Context())).Code() != connect.CodeUnauthenticated {
				t.Error(context.Cause(r.Context()))
			}
		}))

		(&guarded{Guard: g}).ask("x", here)

		if took := time.Since(start); took != time.Minute {
			t.Errorf("it ended after %s", took)
		}
	})
}
