package signature

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Options of allowed_signers lines, with git's and ssh-keygen's opinion beside ours.
func TestAllowedSigners(t *testing.T) {
	r := newRepo(t)
	key := r.sshKey("id", "-t", "ed25519")
	r.useSSH(key, "")
	r.env = append(r.env, "GIT_COMMITTER_DATE=2024-06-15T12:00:00Z")
	commit, tag := r.commit("first"), r.tag("v1")

	for _, tc := range []struct {
		options string
		want    error
		text    string
	}{
		{"", nil, ""},
		{`namespaces="git"`, nil, ""},
		{`NameSpaces="file,git"`, nil, ""},
		{`namespaces="g*"`, nil, ""},
		{`namespaces="?it"`, nil, ""},
		{`namespaces="*t*"`, nil, ""},
		{`namespaces="file"`, ErrKeyNotValid, `does not allow the namespace "git"`},
		{`namespaces="gi"`, ErrKeyNotValid, "namespace"},
		{`namespaces="gitt"`, ErrKeyNotValid, "namespace"},
		{`namespaces="git?"`, ErrKeyNotValid, "namespace"},
		{`namespaces="*,!git"`, ErrKeyNotValid, "namespace"},
		{`valid-after="20240101Z"`, nil, ""},
		{`valid-before="20240616Z"`, nil, ""}, // though it is over now: the commit is from before
		{`valid-after="202406151200Z"`, nil, ""},
		{`valid-before="20240615120000Z"`, nil, ""},
		{`valid-after="20240615120001Z"`, ErrKeyNotValid, "valid only after 2024-06-15T12:00:01Z"},
		{`valid-before="20240615115959Z"`, ErrKeyNotValid, "valid only before 2024-06-15T11:59:59Z"},
		{`valid-after="20250101"`, ErrKeyNotValid, "valid only after"},
		{`namespaces="git",valid-after="20240101Z",valid-before="20250101Z"`, nil, ""},
	} {
		t.Run(tc.options, func(t *testing.T) {
			allowed := r.useSSH(key, tc.options)
			v := load(t, ModeTagAndHEAD, allowed)

			_, err := v.Verify(commit, &tag)
			if tc.want == nil && err != nil {
				t.Error(err)
			} else if tc.want != nil {
				checkError(t, err, tc.want, tc.text, "line 1", "SHA256:")
			}

			if accepted, gitErr := r.accepts("commit", commit.ID); accepted != (tc.want == nil) {
				t.Errorf("git accepts it: %v (%v)", accepted, gitErr)
			}
		})
	}
}

func TestSSHTimes(t *testing.T) {
	r := newRepo(t)
	key := r.sshKey("id", "-t", "ed25519")
	allowed := r.useSSH(key, `valid-after="20300101Z"`)
	public := read(t, key+".pub")

	r.env = append(r.env, "GIT_COMMITTER_DATE=2031-01-01T00:00:00Z")
	ahead := r.commit("from the future")

	v := load(t, ModeHEAD, allowed)
	v.now = func() time.Time { return time.Date(2029, 1, 1, 0, 0, 0, 0, time.UTC) }
	_, err := v.Verify(ahead, nil)
	checkError(t, err, ErrKeyNotValid, "valid only after 2030-01-01")

	v.now = func() time.Time { return time.Date(2030, 6, 1, 0, 0, 0, 0, time.UTC) }
	if _, err := v.Verify(ahead, nil); err != nil {
		t.Error(err)
	}

	// Two lines for one key: one that covers the object is enough.
	write(t, allowed, "jane valid-before=\"20250101Z\" "+public+"jane@new valid-after=\"20250101Z\" "+public)

	signer, err := v.Verify(ahead, nil)
	if err != nil || signer.Identity != "jane@new" {
		t.Errorf("signer is %v, error is %v", signer, err)
	}

	// No time to compare with.
	raw := replaced(t, ahead.Raw, gpgsig(t, ahead.Raw), "")
	raw = replaced(t, raw, "<jane@example.com> 1924992000 +0000\n\n", "<jane@example.com>\n\n")
	_, err = v.Verify(signSSH(t, r, key, raw, "git"), nil)
	checkError(t, err, ErrKeyNotValid, "the object states none")
}

// signSSH signs a commit without git, so that everything can be wrong with it.
func signSSH(t *testing.T, r *repo, key string, payload []byte, namespace string, args ...string) Object {
	t.Helper()

	args = append([]string{"-Y", "sign", "-f", key, "-n", namespace}, args...)

	sig, err := r.try(payload, "ssh-keygen", args...)
	if err != nil {
		t.Fatal(err)
	}

	folded := "gpgsig " + strings.ReplaceAll(strings.TrimSuffix(sig, "\n"), "\n", "\n ") + "\n"

	return r.store("commit", replaced(t, payload, "\n\n", "\n"+folded+"\n"))
}

func TestSSHRefused(t *testing.T) {
	r := newRepo(t)
	key := r.sshKey("id", "-t", "ed25519")
	stranger := r.sshKey("stranger", "-t", "ed25519")
	r.useSSH(key, "")

	commit := r.commit("first")
	payload := replaced(t, commit.Raw, gpgsig(t, commit.Raw), "")
	v := load(t, ModeHEAD, key+".pub")

	if _, err := v.Verify(signSSH(t, r, key, payload, "git"), nil); err != nil {
		t.Fatal(err)
	}

	if _, err := v.Verify(signSSH(t, r, key, payload, "git", "-O", "hashalg=sha256"), nil); err != nil {
		t.Fatal(err)
	}

	for _, namespace := range []string{"file", "git ", "Git", "gi"} {
		object := signSSH(t, r, key, payload, namespace)
		_, err := v.Verify(object, nil)
		compareWithGit(t, r, "commit", object, err, ErrBadSignature, false)
		checkError(t, err, ErrBadSignature, "SHA256:", "made it for the namespace "+clip(namespace))
	}

	object := signSSH(t, r, stranger, payload, "git")
	_, err := v.Verify(object, nil)
	fingerprint := strings.Fields(r.run("ssh-keygen", "-l", "-f", stranger))[1]
	compareWithGit(t, r, "commit", object, err, ErrUnknownKey, false)
	checkError(t, err, ErrUnknownKey, fingerprint, "add its public key")
}

func TestSSHKeyFiles(t *testing.T) {
	r := newRepo(t)
	public := strings.TrimSpace(read(t, r.sshKey("id", "-t", "ed25519")+".pub"))
	private := read(t, filepath.Join(r.dir, ".git", "id"))
	ca := r.sshKey("ca", "-t", "ed25519")
	weak := strings.TrimSpace(read(t, r.sshKey("weak", "-t", "rsa", "-b", "1024")+".pub"))
	r.sshKey("certified", "-t", "ed25519")
	certified := filepath.Join(r.dir, ".git", "certified")
	r.run("ssh-keygen", "-q", "-s", ca, "-I", "jane", "-n", "jane", certified+".pub")
	certificate := strings.TrimSpace(read(t, certified+"-cert.pub"))

	kind, rest, _ := strings.Cut(public, " ")

	for _, tc := range []struct {
		name, content, text string
	}{
		{"comments and blanks", "# a\n\n  \t\n" + public + "\r\n# b", ""},
		{"quoted principal", `"jane doe" ` + public, ""},
		{"tabs", "jane\tnamespaces=\"git\"\t" + strings.ReplaceAll(public, " ", "\t"), ""},
		{"empty", "", "holds no key"},
		{"only comments", "# nothing\n", "holds no key"},
		{"private key", private, "holds a private key"},
		{"not a key", "hello", "line 1: found \"\""},
		{"no key", "jane namespaces=\"git\"", "line 1: found \"\""},
		{"no base64", "\n" + kind + " !", "line 2: the key is not valid base64"},
		{"cut", public[:len(kind)+1+28], "line 1: the key cannot be read"},
		{"other type", "ssh-rsa " + rest, "the line says ssh-rsa but the key is a \"ssh-ed25519\""},
		{"weak", public + "\n" + weak, "line 2: the RSA key has 1024 bits"},
		{"certificate", certificate, "type ssh-ed25519-cert-v01@openssh.com are not accepted"},
		{"certificate authority", "* cert-authority " + public, "certificates are not supported"},
		{"certificate authority among others", `* namespaces="git",cert-authority ` + public, "certificates are not supported"},
		{"authorized_keys option", "restrict " + public, "option of authorized_keys"},
		{"authorized_keys certificate authority", "Cert-Authority " + public, "option of authorized_keys"},
		{"authorized_keys expiry", `expiry-time="20200101" ` + public, "option of authorized_keys"},
		{"options without a principal", `namespaces="git" ` + public, "option of authorized_keys"},
		{"negated principal", "*,!jane " + public, "negated principals"},
		{"unknown option", "jane verify-required " + public, "\"verify-required\" is neither"},
		{"unquoted value", "jane namespaces=git " + public, "name=\"value\""},
		{"unterminated value", `jane namespaces="git ` + public, "quotation marks"},
		{"empty namespaces", `jane namespaces="" ` + public, "namespaces is empty"},
		{"twice", `jane namespaces="git",namespaces="file" ` + public, "there twice"},
		{"dangling comma", `jane namespaces="git", ` + public, "separated by commas"},
		{"bad time", `jane valid-after="2024" ` + public, "is no time"},
		{"impossible time", `jane valid-after="20241350Z" ` + public, "is no time"},
		{"no time", `jane valid-before ` + public, "is no time"},
		{"empty window", `jane valid-after="20250101Z",valid-before="20240101Z" ` + public, "not before valid-before"},
		{"too many", strings.Repeat(public+"\n", MaxKeys+1), "more than 1000 keys"},
		{"too large", strings.Repeat("#", MaxKeyFile+1), "more than 1048576 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "keys")
			write(t, file, tc.content)

			_, err := Load(Config{Mode: ModeHEAD, KeyFiles: []string{file}})
			if tc.text == "" {
				if err != nil {
					t.Fatal(err)
				}

				return
			}

			checkError(t, err, ErrKeyFile, file, tc.text)
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()

	for _, tc := range []struct {
		name string
		cfg  Config
		text string
	}{
		{"mode", Config{Mode: "head", KeyFiles: []string{"x"}}, `unknown verification mode "head"`},
		{"no keys", Config{Mode: ModeHEAD}, "no key file is listed"},
		{"many files", Config{Mode: ModeHEAD, KeyFiles: make([]string, MaxKeyFiles+1)}, "limit is 64"},
		{"missing", Config{Mode: ModeHEAD, KeyFiles: []string{filepath.Join(dir, "missing")}}, "no such file"},
		{"directory", Config{Mode: ModeHEAD, KeyFiles: []string{dir}}, "not a regular file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := Load(tc.cfg); err == nil || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("error is %v, want %q in it", err, tc.text)
			}
		})
	}
}
