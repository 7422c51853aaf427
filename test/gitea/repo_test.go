package gitea

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// repo is a private repository in Gitea, and a clone of it from which is pushed. It has a
// commit from the start: of one that is empty Gitea says so until a moment after the push.
type repo struct {
	server *server
	name   string
	dir    string
}

func (s *server) newRepo(t *testing.T, name string) *repo {
	t.Helper()

	s.api(t, http.MethodPost, "/user/repos", map[string]any{"name": name, "private": true, "default_branch": "main", "auto_init": true}, nil)

	r := &repo{s, name, t.TempDir()}
	r.git(t, "init", "--quiet", "--initial-branch=main")
	r.git(t, "remote", "add", "origin", s.plain+r.path())
	r.git(t, "pull", "--quiet", "origin", "main")

	return r
}

func (r *repo) path() string { return "/" + user + "/" + r.name + ".git" }

// url is its address over https.
func (r *repo) url() string { return r.server.secure + r.path() }

// ssh is its address over ssh.
func (r *repo) ssh() string { return "ssh://git@" + r.server.ssh + r.path() }

// api calls Gitea's API below the repository.
func (r *repo) api(t *testing.T, method, path string, in, out any) {
	t.Helper()

	r.server.api(t, method, "/repos/"+user+"/"+r.name+path, in, out)
}

// git runs git in the clone, with the owner's token.
func (r *repo) git(t *testing.T, args ...string) string {
	t.Helper()

	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = r.dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Jane", "GIT_AUTHOR_EMAIL=jane@example.com", "GIT_COMMITTER_NAME=Jane", "GIT_COMMITTER_EMAIL=jane@example.com",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=http.extraHeader", "GIT_CONFIG_VALUE_0=Authorization: Bearer " + r.server.token,
	}

	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v: %s", strings.Join(args, " "), err, out)
	}

	return strings.TrimSpace(string(out))
}

// commit writes a file and commits it. It returns the commit's ID.
func (r *repo) commit(t *testing.T, name, text string) string {
	t.Helper()

	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}

	r.git(t, "add", "--all")
	r.git(t, "commit", "--quiet", "--message", "Write "+name)

	return r.git(t, "rev-parse", "HEAD")
}

// push pushes refs to Gitea.
func (r *repo) push(t *testing.T, refs ...string) {
	t.Helper()

	r.git(t, append([]string{"push", "--quiet", "origin"}, refs...)...)
}

// deployKey makes a key that may read the repository, and returns its file.
func (r *repo) deployKey(t *testing.T) string {
	t.Helper()

	name, public := newKey(t)
	r.api(t, http.MethodPost, "/keys", map[string]any{"title": "omni-syncd", "key": string(ssh.MarshalAuthorizedKey(public)), "read_only": true}, nil)

	return name
}

// newKey makes an SSH key: the file of its private half, and its public half.
func newKey(t *testing.T) (string, ssh.PublicKey) {
	t.Helper()

	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}

	block, err := ssh.MarshalPrivateKey(private, "omni-syncd")
	if err != nil {
		t.Fatal(err)
	}

	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}

	return file(t, string(pem.EncodeToMemory(block))), key
}
