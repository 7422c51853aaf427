// Package gitea tests sources and webhooks against a real Gitea: which logins it takes, which
// refs it shows, what it sends. It stands beside the flow and is skipped unless GITEA_BIN
// names a gitea binary, by an absolute path:
//
//	GITEA_BIN=/usr/local/bin/gitea go test -v ./test/gitea
//
// A released binary has all it needs in it. One that is built from the Go module
// code.gitea.io/gitea (tried: v1.26.0) does it, too, though the module has no frontend:
//
//	go build -tags "sqlite sqlite_unlock_notify" -o gitea .
//
// It also needs GITEA_STATIC, the folder with Gitea's templates and options, unless it lies
// there itself.
//
// Gitea is started in a temporary folder, on free ports of the loopback interface, and stopped
// at the end. It has to be able to run git.
package gitea

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/omni-syncd/omni-syncd/pkg/source"
)

// deadline of everything a test waits for; a test that meets it has failed.
const deadline = time.Minute

func TestGitea(t *testing.T) {
	s := start(t)

	for name, test := range map[string]func(*testing.T, *server){
		"HTTPS":   testHTTPS,
		"SSH":     testSSH,
		"Names":   testNames,
		"Refs":    testRefs,
		"Webhook": testWebhook,
		"Daemon":  testDaemon,
	} {
		t.Run(name, func(t *testing.T) { test(t, s) })
	}
}

// Every form of a token is taken, and one that may only read is enough. What is refused is
// refused for its own reason, which does not show it.
func testHTTPS(t *testing.T, s *server) {
	r := s.newRepo(t, "https")
	commit := r.commit(t, "a", "1")
	r.push(t, "main")

	const password = "correct horse battery staple"

	s.api(t, http.MethodPatch, "/admin/users/"+user, map[string]any{"password": password, "login_name": user, "source_id": 0, "must_change_password": false}, nil)

	reader := s.newToken(t, "reader", "read:repository")
	other := s.newToken(t, "other", "read:issue")
	wrong := strings.Repeat("0123456789", 4)

	for name, test := range map[string]struct {
		login  source.Login
		secret string
		want   string // of the error
	}{
		"token":                   {source.Login{TokenFile: file(t, s.token)}, s.token, ""},
		"token of user":           {source.Login{User: user, TokenFile: file(t, s.token)}, s.token, ""},
		"token, any user":         {source.Login{User: "x", TokenFile: file(t, s.token)}, s.token, ""},
		"token that reads":        {source.Login{TokenFile: file(t, reader)}, reader, ""},
		"token of user who reads": {source.Login{User: user, TokenFile: file(t, reader)}, reader, ""},
		"password":                {source.Login{User: user, PasswordFile: file(t, password)}, password, ""},
		"nobody":                  {source.Login{}, s.token, "the server wants credentials"},
		"wrong token":             {source.Login{TokenFile: file(t, wrong)}, wrong, "the server does not accept the login"},
		"wrong token of user":     {source.Login{User: user, TokenFile: file(t, wrong)}, wrong, "the server does not accept the login"},
		"wrong password":          {source.Login{User: user, PasswordFile: file(t, wrong)}, wrong, "the server does not accept the login"},
		// Only with a user: of a bearer token Gitea 1.26 does not ask what it is for.
		"token for other things": {source.Login{User: user, TokenFile: file(t, other)}, other, "the server does not allow the login to read this repository"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGit(t, source.GitConfig{URL: r.url(), Login: test.login, TLS: source.TLS{CAFile: s.caFile}})
			refs := "GET " + r.path() + "/info/refs?service=git-upload-pack"

			s.took()

			rev, err := g.Fetch(t.Context())

			if test.want != "" {
				wantError(t, err, test.want, test.secret)
				wantRequests(t, s, refs)

				return
			}

			if err != nil || rev.ID != "main@sha1:"+commit {
				t.Fatalf("got %s, %v", rev.ID, err)
			}

			wantRequests(t, s, refs, "POST "+r.path()+"/git-upload-pack")

			again, err := g.Fetch(t.Context())
			if err != nil || again.ID != rev.ID {
				t.Errorf("got %s, %v", again.ID, err)
			}

			wantRequests(t, s, refs) // a look without news
		})
	}
}

func wantRequests(t *testing.T, s *server, want ...string) {
	t.Helper()

	if diff := cmp.Diff(want, s.took()); diff != "" {
		t.Errorf("requests: %s", diff)
	}
}

// A repository is found under its name without .git, and under the one that it had before.
func testNames(t *testing.T, s *server) {
	r := s.newRepo(t, "before")
	commit := r.git(t, "rev-parse", "HEAD")

	r.api(t, http.MethodPatch, "", map[string]any{"name": "after"}, nil)

	for _, name := range []string{"after.git", "after", "before.git", "before"} {
		t.Run(name, func(t *testing.T) {
			rev, err := newGit(t, source.GitConfig{
				URL: s.secure + "/" + user + "/" + name, Login: source.Login{TokenFile: file(t, s.token)}, TLS: source.TLS{CAFile: s.caFile},
			}).Fetch(t.Context())
			if err != nil || rev.ID != "main@sha1:"+commit {
				t.Errorf("got %s, %v", rev.ID, err)
			}
		})
	}
}

// A deploy key reads its repository and no other, and the server is who it was known to be.
func testSSH(t *testing.T, s *server) {
	r := s.newRepo(t, "ssh")
	commit := r.commit(t, "a", "1")
	r.push(t, "main")

	key, host := r.deployKey(t), s.hostKey(t)
	foreign := s.newRepo(t, "foreign").deployKey(t)
	stranger, _ := newKey(t)

	known := knownHosts(t, s.ssh, host)
	fingerprint := host.Type() + " " + ssh.FingerprintSHA256(host)

	_, ofOtherKind := newKey(t)

	for name, test := range map[string]struct {
		key, known string
		want       string
	}{
		"deploy key":                   {key, known, ""},
		"key of another repo":          {foreign, known, "is not authorized"},
		"key of nobody":                {stranger, known, "the server does not let git in with the key SHA256:"},
		"host is not known":            {key, knownHosts(t, "git.example.com", host), fingerprint},
		"host had another kind of key": {key, knownHosts(t, s.ssh, ofOtherKind), "has other kinds of host keys (rsa-sha2-256, rsa-sha2-512"},
		"host had another key":         {key, knownHosts(t, s.ssh, ofSameKind(t)), "is not the one that is known"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGit(t, source.GitConfig{URL: r.ssh(), Login: source.Login{SSHKeyFile: test.key, KnownHostsFile: test.known}})

			for range 2 {
				rev, err := g.Fetch(t.Context())

				if test.want != "" {
					wantError(t, err, test.want)

					return
				}

				if err != nil || rev.ID != "main@sha1:"+commit {
					t.Fatalf("got %s, %v", rev.ID, err)
				}
			}
		})
	}
}

// ofSameKind makes a key of the kind that Gitea makes for its ssh server.
func ofSameKind(t *testing.T) ssh.PublicKey {
	t.Helper()

	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}

	key, err := ssh.NewPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}

	return key
}

// Every kind of ref is followed.
func testRefs(t *testing.T, s *server) {
	r := s.newRepo(t, "refs")
	login := source.Login{TokenFile: file(t, s.token)}
	commits := map[string]string{}

	for _, tag := range []string{"v1.2.0", "v1.10.0", "v1.11.0-rc.1", "v2.0.0"} {
		commits[tag] = r.commit(t, "a", tag)
		r.git(t, "tag", "--annotate", "--message", "Release", tag)
	}

	r.git(t, "checkout", "--quiet", "-b", "feature")
	commits["feature"] = r.commit(t, "b", "1")
	r.push(t, "main", "feature", "--tags")

	var pull struct{ Number int }

	r.api(t, http.MethodPost, "/pulls", map[string]any{"head": "feature", "base": "main", "title": "A change"}, &pull)

	head := fmt.Sprintf("refs/pull/%d/head", pull.Number)

	for name, test := range map[string]struct {
		ref      source.Ref
		id, want string
	}{
		"default branch": {source.Ref{}, "main@sha1:" + commits["v2.0.0"], ""},
		"branch":         {source.Ref{Branch: "feature"}, "feature@sha1:" + commits["feature"], ""},
		"tag":            {source.Ref{Tag: "v1.2.0"}, "v1.2.0@sha1:" + commits["v1.2.0"], ""},
		"range":          {source.Ref{SemVer: "^1.2"}, "v1.10.0@sha1:" + commits["v1.10.0"], ""},
		"pre-releases":   {source.Ref{SemVer: ">=1.2.0-0 <2.0.0-0"}, "v1.11.0-rc.1@sha1:" + commits["v1.11.0-rc.1"], ""},
		"commit":         {source.Ref{Commit: commits["v1.10.0"]}, "sha1:" + commits["v1.10.0"], ""},
		"pull request":   {source.Ref{Name: head}, head + "@sha1:" + commits["feature"], ""},
		"merge":          {source.Ref{Name: fmt.Sprintf("refs/pull/%d/merge", pull.Number)}, "", "the server shows no ref \"refs/pull/"},
		"no such branch": {source.Ref{Branch: "gone"}, "", "name one of feature, main"},
	} {
		t.Run(name, func(t *testing.T) {
			rev, err := newGit(t, source.GitConfig{URL: r.url(), Ref: test.ref, Login: login, TLS: source.TLS{CAFile: s.caFile}}).Fetch(t.Context())
			if test.want != "" {
				wantError(t, err, test.want, s.token)

				return
			}

			if err != nil || rev.ID != test.id {
				t.Errorf("got %s, %v, want %s", rev.ID, err, test.id)
			}
		})
	}

	t.Run("push to a pull request", func(t *testing.T) {
		seen := watch(t, newGit(t, source.GitConfig{
			URL: r.url(), Ref: source.Ref{Name: head}, Login: login, TLS: source.TLS{CAFile: s.caFile}, Interval: 100 * time.Millisecond,
		}))
		seen.next(t, head+"@sha1:"+commits["feature"])

		next := r.commit(t, "b", "2")
		r.push(t, "feature")
		seen.next(t, head+"@sha1:"+next)
	})
}

func newGit(t *testing.T, cfg source.GitConfig) *source.Git {
	t.Helper()

	g := source.NewGit(cfg)

	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})

	return g
}

// revisions are the IDs of what a watch told.
type revisions chan string

// watch follows a repository until the test ends.
func watch(t *testing.T, g *source.Git) revisions {
	t.Helper()

	seen, ended := make(revisions, 100), make(chan error, 1)

	go func() {
		ended <- g.Watch(t.Context(), func(rev source.Revision, err error) {
			if err != nil && t.Context().Err() == nil {
				t.Error(err)
			}

			seen <- rev.ID
		})
	}()

	t.Cleanup(func() {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})

	return seen
}

// next waits for a revision, and for no other before it.
func (r revisions) next(t *testing.T, want string) {
	t.Helper()

	select {
	case id := <-r:
		if id != want {
			t.Fatalf("got %q, want %q", id, want)
		}
	case <-time.After(deadline):
		t.Fatalf("no revision; waited for %s", want)
	}
}

// wantError checks that there is an error of one line with a text, and no secret in it.
func wantError(t *testing.T, err error, want string, secrets ...string) {
	t.Helper()

	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)

		return
	}

	for _, secret := range append(secrets, "\n") {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("a secret or a line break is in %q", err)
		}
	}
}
