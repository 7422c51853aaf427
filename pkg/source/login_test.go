package source

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

const (
	secret      = "S3CRET/tök en"
	otherSecret = "S3CRET-2"
)

// guard lets requests in that carry the one Authorization.
type guard struct {
	next http.Handler

	mu     sync.Mutex
	want   string
	offers string // WWW-Authenticate
	repeat bool   // answer with what was sent, as no server should
	seen   []string
}

func (g *guard) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	got := req.Header.Get("Authorization")

	g.mu.Lock()
	want, repeat := g.want, g.repeat
	g.seen = append(g.seen, got)
	g.mu.Unlock()

	switch {
	case got == want:
		g.next.ServeHTTP(w, req)
	case repeat:
		w.Header().Set("Content-Type", advertType)
		line := "ERR you sent " + got
		fmt.Fprintf(w, "%04x%s", len(line)+4, line)
	default:
		w.Header().Set("WWW-Authenticate", g.offers)
		http.Error(w, "you sent "+got, http.StatusUnauthorized)
	}
}

func (g *guard) set(want string) {
	g.mu.Lock()
	defer g.mu.Unlock()

	g.want = want
}

// took returns the different Authorizations since the last call.
func (g *guard) took() []string {
	g.mu.Lock()
	defer g.mu.Unlock()

	var seen []string

	for _, got := range g.seen {
		if len(seen) == 0 || seen[len(seen)-1] != got {
			seen = append(seen, got)
		}
	}

	g.seen = nil

	return seen
}

func basicOf(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func TestLoginHTTP(t *testing.T) {
	r := newRepo(t, true)
	r.commit("one", map[string]string{"a": "1"})

	gate := &guard{next: backend(t, r), offers: `Basic realm="git"`}
	server := httptest.NewServer(gate)
	t.Cleanup(server.Close)

	for _, test := range []struct {
		name, accepts string
		login         Login
		want          string
	}{
		{"password", basicOf("jane", secret), Login{User: "jane", PasswordFile: secretFile(t, secret+"\n")}, ""},
		{"password with line end of Windows", basicOf("jane", secret), Login{User: "jane", PasswordFile: secretFile(t, secret+"\r\n")}, ""},
		{"token as a password", basicOf("oauth2", secret), Login{User: "oauth2", TokenFile: secretFile(t, secret)}, ""},
		{"token", "Bearer S3CRET", Login{TokenFile: secretFile(t, "S3CRET\n")}, ""},
		{"wrong password", basicOf("jane", "x"), Login{User: "jane", PasswordFile: secretFile(t, secret)}, "does not accept the login"},
		{"token where a user is wanted", basicOf("jane", "S3CRET"), Login{TokenFile: secretFile(t, "S3CRET")}, "takes no bearer token: name a user"},
		{"nothing", basicOf("jane", secret), Login{}, "wants credentials"},
		{"missing file", "", Login{TokenFile: filepath.Join(t.TempDir(), "x")}, "does not exist"},
		{"empty file", "", Login{TokenFile: secretFile(t, "\n")}, "is empty: put the token into it"},
		{"two lines", "", Login{TokenFile: secretFile(t, "S3CRET\nS3CRET")}, "holds more than one line"},
		{"large file", "", Login{TokenFile: secretFile(t, strings.Repeat("S3CRET", 1<<20))}, "is larger than 1.0 MiB"},
		{"folder", "", Login{TokenFile: t.TempDir()}, "is no regular file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			gate.set(test.accepts)

			_, err := newTestGit(t, GitConfig{URL: server.URL + "/fleet", Login: test.login}).Fetch(t.Context())
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}

				return
			}

			wantError(t, err, test.want, secret, "S3CRET", "UzNDUkVU")
		})
	}

	// A server that repeats what it got does not make us show it.
	gate.repeat = true
	gate.set("")

	for _, login := range []Login{
		{User: "jane", PasswordFile: secretFile(t, secret)},
		{TokenFile: secretFile(t, "S3CRET")},
	} {
		_, err := newTestGit(t, GitConfig{URL: server.URL + "/fleet", Login: login}).Fetch(t.Context())
		wantError(t, err, "you sent", secret, "S3CRET", "UzNDUkVU", base64.StdEncoding.EncodeToString([]byte("jane:"+secret)))
	}
}

// A file that is replaced counts from the next look on, as a Secret in Kubernetes is:
// a link that is switched. Everything is sent with the first request, and nothing secret
// is logged.
func TestLoginRotation(t *testing.T) {
	r := newRepo(t, true)
	r.commit("one", map[string]string{"a": "1"})

	gate := &guard{next: backend(t, r), want: "Bearer " + otherSecret + "1"}
	server := httptest.NewServer(gate)
	t.Cleanup(server.Close)

	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"1/token": otherSecret + "1", "2/token": otherSecret + "2\n"})

	point := func(to string) {
		t.Helper()

		next := filepath.Join(dir, "next")
		if err := os.Symlink(to, next); err != nil {
			t.Fatal(err)
		}

		if err := os.Rename(next, filepath.Join(dir, "now")); err != nil {
			t.Fatal(err)
		}
	}

	point("1")

	core, logs := observer.New(zapcore.DebugLevel)
	g := newTestGit(t, GitConfig{URL: server.URL + "/fleet", Login: Login{TokenFile: filepath.Join(dir, "now", "token")}, Logger: zap.New(core)})
	fetch(t, g)
	gate.set("Bearer " + otherSecret + "2")

	_, err := g.Fetch(t.Context())
	wantError(t, err, "does not accept the login", otherSecret)

	point("2")
	r.commit("two", map[string]string{"a": "2"})

	if rev := fetch(t, g); read(t, rev.FS, "a") != "2" {
		t.Error("wrong content")
	}

	if diff := cmp.Diff([]string{"Bearer " + otherSecret + "1", "Bearer " + otherSecret + "2"}, gate.took()); diff != "" {
		t.Error(diff)
	}

	var warned int

	for _, entry := range logs.All() {
		if text := entry.Message + fmt.Sprint(entry.ContextMap()); strings.Contains(text, "S3CRET") {
			t.Errorf("a secret is logged: %s", text)
		}

		if strings.Contains(entry.Message, "everybody on this machine can read") {
			warned++
		}
	}

	if warned != 1 { // the files are 0644
		t.Errorf("%d warnings about the file", warned)
	}
}

func TestLoginCheck(t *testing.T) {
	token := Login{TokenFile: "token"}
	key := Login{SSHKeyFile: "key", KnownHostsFile: "known"}
	app := func(url string, id int64) Login {
		return Login{GitHubApp: &GitHubApp{AppID: id, InstallationID: 2, PrivateKeyFile: "key", BaseURL: url}}
	}

	for _, test := range []struct {
		name string
		cfg  GitConfig
		want string
	}{
		{"https", GitConfig{URL: "https://example.com/x", Login: token}, ""},
		{"ssh", GitConfig{URL: "git@example.com:x", Login: key}, ""},
		{"loopback", GitConfig{URL: "http://127.0.0.1:3000/x", Login: token}, ""},
		{"loopback by name", GitConfig{URL: "http://localhost/x", Login: token}, ""},
		{"loopback, IPv6", GitConfig{URL: "http://[::1]/x", Login: token}, ""},
		{"app", GitConfig{URL: "https://example.com/x", Login: app("https://example.com/api/v3", 1)}, ""},
		{"plain http", GitConfig{URL: "http://example.com/x", Login: token}, "in clear text: use the https:// URL"},
		{"plain http, name that looks local", GitConfig{URL: "http://localhost.example.com/x", Login: token}, "in clear text"},
		{"loopback through a proxy elsewhere", GitConfig{URL: "http://127.0.0.1/x", Login: token, Proxy: "http://proxy.example.com:3128"}, "in clear text"},
		{"path", GitConfig{URL: "/srv/x", Login: token}, "needs no login"},
		{"key for https", GitConfig{URL: "https://example.com/x", Login: key}, "do not go with an http URL"},
		{"token for ssh", GitConfig{URL: "git@example.com:x", Login: token}, "do not go with ssh"},
		{"no known hosts", GitConfig{URL: "git@example.com:x", Login: Login{SSHAgent: true}}, "ssh needs a file of known hosts"},
		{"no key", GitConfig{URL: "git@example.com:x", Login: Login{KnownHostsFile: "known"}}, "ssh needs a key"},
		{"passphrase without key", GitConfig{URL: "git@example.com:x", Login: Login{KnownHostsFile: "k", SSHAgent: true, SSHPassphraseFile: "p"}}, "no key file"},
		{"user alone", GitConfig{URL: "https://example.com/x", Login: Login{User: "jane"}}, "give exactly one"},
		{"two", GitConfig{URL: "https://example.com/x", Login: Login{User: "jane", TokenFile: "t", PasswordFile: "p"}}, "give exactly one"},
		{"password without user", GitConfig{URL: "https://example.com/x", Login: Login{PasswordFile: "p"}}, "no user"},
		{"odd user", GitConfig{URL: "https://example.com/x", Login: Login{User: "a:b", PasswordFile: "p"}}, "must not contain a colon"},
		{"app over http", GitConfig{URL: "https://example.com/x", Login: app("http://example.com/api", 1)}, "has to be https"},
		{"app without ID", GitConfig{URL: "https://example.com/x", Login: app("", 0)}, "no app ID"},
		{"half a certificate", GitConfig{URL: "https://example.com/x", TLS: TLS{CertFile: "c"}}, "give both or none"},
		{"TLS for http", GitConfig{URL: "http://example.com/x", TLS: TLS{CAFile: "c"}}, "https:// URL only"},
		{"password in a proxy", GitConfig{URL: "https://example.com/x", Proxy: "http://jane:S3CRET@example.com:1"}, "holds a password"},
		{"odd proxy", GitConfig{URL: "https://example.com/x", Proxy: "http://jane:S3C%RET@example.com:1"}, "the proxy is no valid URL"},
		{"proxy's scheme", GitConfig{URL: "https://example.com/x", Proxy: "ftp://example.com"}, "use http://, https:// or socks5://"},
		{"proxy password alone", GitConfig{URL: "https://example.com/x", ProxyPasswordFile: "p"}, "no proxy"},
		{"proxy for a path", GitConfig{URL: "/srv/x", Proxy: "http://example.com:1"}, "needs no proxy"},
		{"two refs", GitConfig{URL: "/srv/x", Ref: Ref{Branch: "a", Tag: "b"}}, "keep one"},
		{"short commit", GitConfig{URL: "/srv/x", Ref: Ref{Commit: "abcdef1"}}, "give all 40 digits"},
		{"short name", GitConfig{URL: "/srv/x", Ref: Ref{Name: "main"}}, "is no full name of a ref"},
		{"odd tag", GitConfig{URL: "/srv/x", Ref: Ref{Tag: "a..b"}}, "is no valid tag name"},
		{"odd range", GitConfig{URL: "/srv/x", Ref: Ref{SemVer: "latest!"}}, "is no range of versions"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := NewGit(test.cfg).Validate()
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}

				return
			}

			wantError(t, err, test.want, "S3C")
		})
	}
}

// Where a server is known to take no bearer tokens from Git, the token has a user name.
func TestLoginTokenUsers(t *testing.T) {
	login := Login{TokenFile: secretFile(t, "token")}

	for host, want := range map[string]string{
		"github.com":         basicOf("x-access-token", "token"),
		"GitHub.com":         basicOf("x-access-token", "token"),
		"gitlab.com":         basicOf("oauth2", "token"),
		"bitbucket.org":      basicOf("x-token-auth", "token"),
		"dev.azure.com":      basicOf("token", "token"),
		"git.example.com":    "Bearer token",
		"notgithub.com":      "Bearer token",
		"github.com.evil.eu": "Bearer token",
	} {
		if got, err := login.forHTTP(host, &secretFiles{log: zap.NewNop()}); err != nil || got.header != want {
			t.Errorf("%s: got %s, %v", host, got.header, err)
		}
	}
}
