package sync_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// gitRepo is a real repository on disk.
type gitRepo struct {
	t   *testing.T
	dir string
}

func newGitRepo(t *testing.T) *gitRepo {
	t.Helper()

	r := &gitRepo{t, t.TempDir()}
	r.git("init", "-q", "-b", "main")

	return r
}

// git runs git in it and returns what that prints.
func (r *gitRepo) git(args ...string) string {
	r.t.Helper()

	cmd := exec.Command("git", append([]string{"-C", r.dir, "-c", "user.name=x", "-c", "user.email=x@x"}, args...)...)

	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %v: %v %s", args, err, out)
	}

	return strings.TrimSpace(string(out))
}

func (r *gitRepo) put(name string, data []byte) {
	r.t.Helper()

	p := filepath.Join(r.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, data, 0o644)); err != nil {
		r.t.Fatal(err)
	}
}

// commit commits everything that is there.
func (r *gitRepo) commit(message string) {
	r.t.Helper()
	r.git("add", "-A")
	r.git("commit", "-q", "--allow-empty", "-m", message)
}
