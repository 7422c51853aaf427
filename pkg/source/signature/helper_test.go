package signature

import (
	"bytes"
	"crypto/sha1"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// needTool skips the test if a program is missing, unless all of them are required.
func needTool(t testing.TB, names ...string) {
	t.Helper()

	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("OMNI_SYNCD_TEST_TOOLS") == "required" {
				t.Fatalf("%s is required: %v", name, err)
			}

			t.Skipf("%s is missing: %v", name, err)
		}
	}
}

// repo is a repository of the real git, away from this machine's configuration.
type repo struct {
	t   testing.TB
	dir string
	env []string
}

func newRepo(t testing.TB) *repo {
	t.Helper()
	needTool(t, "git")

	dir := t.TempDir()
	r := &repo{t: t, dir: dir, env: []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GNUPGHOME=" + filepath.Join(dir, "none"), "TZ=UTC",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C",
		"GIT_AUTHOR_NAME=Jane", "GIT_AUTHOR_EMAIL=jane@example.com",
		"GIT_COMMITTER_NAME=Jane", "GIT_COMMITTER_EMAIL=jane@example.com",
	}}
	r.git("init", "-q", "-b", "main")
	r.git("config", "commit.cleanup", "verbatim")

	return r
}

func (r *repo) try(stdin []byte, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env, cmd.Stdin = r.dir, r.env, bytes.NewReader(stdin)

	var stderr bytes.Buffer
	cmd.Stderr = &stderr

	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, stderr.String())
	}

	return string(out), err
}

func (r *repo) run(name string, args ...string) string {
	r.t.Helper()

	out, err := r.try(nil, name, args...)
	if err != nil {
		r.t.Fatal(err)
	}

	return out
}

func (r *repo) git(args ...string) string {
	r.t.Helper()

	return strings.TrimSuffix(r.run("git", args...), "\n")
}

// commit makes a signed commit and returns it.
func (r *repo) commit(message string, args ...string) Object {
	r.t.Helper()
	r.git(append([]string{"commit", "-q", "--allow-empty", "--allow-empty-message", "-S", "-m", message}, args...)...)

	return r.object("commit", r.git("rev-parse", "HEAD"))
}

// tag makes a signed tag of HEAD and returns it.
func (r *repo) tag(name string, args ...string) Object {
	r.t.Helper()
	r.git(append([]string{"tag", "-s", "-m", "release " + name, name}, args...)...)

	return r.object("tag", r.git("rev-parse", "refs/tags/"+name))
}

func (r *repo) object(kind, id string) Object {
	r.t.Helper()

	out, err := r.try(nil, "git", "cat-file", kind, id)
	if err != nil {
		r.t.Fatal(err)
	}

	return Object{Raw: []byte(out), ID: id}
}

// store writes an object of any content, as an attacker's server would have it.
func (r *repo) store(kind string, raw []byte) Object {
	r.t.Helper()

	id, err := r.try(raw, "git", "hash-object", "-t", kind, "-w", "--literally", "--stdin")
	if err != nil {
		r.t.Fatal(err)
	}

	return Object{Raw: raw, ID: strings.TrimSpace(id)}
}

// accepts asks git itself about an object that is in the repository.
func (r *repo) accepts(kind, id string) (bool, error) {
	_, err := r.try(nil, "git", "verify-"+kind, id)

	return err == nil, err
}

// sshKey makes a key pair and returns the path of the private key.
func (r *repo) sshKey(name string, args ...string) string {
	r.t.Helper()
	needTool(r.t, "ssh-keygen")

	path := filepath.Join(r.dir, ".git", name)
	r.run("ssh-keygen", append([]string{"-q", "-N", "", "-C", name + " key", "-f", path}, args...)...)

	return path
}

// useSSH makes git sign with that key, and check with that allowed_signers line.
func (r *repo) useSSH(key, options string) (allowedSigners string) {
	r.t.Helper()

	allowedSigners = filepath.Join(r.dir, ".git", "allowed")
	write(r.t, allowedSigners, strings.TrimSpace("jane@example.com "+options)+" "+read(r.t, key+".pub"))
	r.git("config", "gpg.format", "ssh")
	r.git("config", "user.signingkey", key)
	r.git("config", "gpg.ssh.allowedSignersFile", allowedSigners)

	return allowedSigners
}

// useGPG makes a key with gpg, makes git sign with it, and returns the exported key.
func (r *repo) useGPG(algo string) (fingerprint, exported string) {
	r.t.Helper()
	needTool(r.t, "gpg", "gpgconf")

	// Not t.TempDir: the agent's socket must have a short path.
	home, err := os.MkdirTemp("", "gpg")
	if err != nil {
		r.t.Fatal(err)
	}

	r.env = append(r.env, "GNUPGHOME="+home)
	r.t.Cleanup(func() {
		r.run("gpgconf", "--kill", "gpg-agent") // the one of this GNUPGHOME

		if err := os.RemoveAll(home); err != nil {
			r.t.Error(err)
		}
	})

	r.run("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "Jane <jane@example.com>", algo, "cert,sign", "never")
	fingerprint = r.fingerprint()
	r.git("config", "gpg.format", "openpgp")
	r.git("config", "user.signingkey", fingerprint)

	exported = filepath.Join(r.dir, ".git", "jane.asc")
	write(r.t, exported, r.run("gpg", "--batch", "--armor", "--export", fingerprint))

	return fingerprint, exported
}

// fingerprint returns the fingerprint of the first key in gpg's keyring.
func (r *repo) fingerprint() string {
	r.t.Helper()

	for line := range strings.SplitSeq(r.run("gpg", "--batch", "--with-colons", "--list-keys"), "\n") {
		if fields := strings.Split(line, ":"); fields[0] == "fpr" {
			return fields[9]
		}
	}

	r.t.Fatal("gpg lists no key")

	return ""
}

func write(t testing.TB, path, content string) {
	t.Helper()

	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) string {
	t.Helper()

	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	return string(content)
}

func load(t testing.TB, mode Mode, files ...string) *Verifier {
	t.Helper()

	v, err := Load(Config{Mode: mode, KeyFiles: files})
	if err != nil {
		t.Fatal(err)
	}

	return v
}

// withID gives content the ID that git would.
func withID(kind string, raw []byte) Object {
	return Object{Raw: raw, ID: fmt.Sprintf("%x", sha1.Sum(fmt.Appendf(nil, "%s %d\x00%s", kind, len(raw), raw)))}
}

// replaced is strings.Replace for one occurrence, which must be there.
func replaced(t testing.TB, raw []byte, old, new string) []byte {
	t.Helper()

	if !bytes.Contains(raw, []byte(old)) {
		t.Fatalf("%q is not in\n%s", old, raw)
	}

	return bytes.Replace(raw, []byte(old), []byte(new), 1)
}
