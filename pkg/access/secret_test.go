package access_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/omni-syncd/omni-syncd/pkg/access"
)

// A file that a token is merged into is its owner's alone, whatever it was before.
func TestMergeKubeconfig_SecretShutsFile(t *testing.T) {
	t.Parallel()

	for _, mode := range []fs.FileMode{0o644, 0o664, 0o640, 0o604, 0o620} {
		t.Run(fmt.Sprintf("%o", mode), func(t *testing.T) {
			t.Parallel()

			dir := t.TempDir()
			path := write(t, filepath.Join(dir, "config"), others)
			must(t, os.Chmod(path, mode))

			// A login is no secret: the mode is for its owner to choose.
			same(t, "a login", access.Merged{Path: path, Context: "lab-prod", Current: true, Changed: true}, mergeKube(t, path, login(here, "prod"), access.MergeOptions{}))
			same(t, "files", map[string]fs.FileMode{"config": mode}, names(t, dir))

			want := access.Merged{Path: path, Context: "lab-prod-ci", Current: true, Changed: true, Shut: path}
			same(t, "a token", want, mergeKube(t, path, withToken(here, "prod", "t"), access.MergeOptions{}))
			same(t, "files", map[string]fs.FileMode{"config": 0o600}, names(t, dir))

			// Also if there is nothing to write.
			must(t, os.Chmod(path, mode))

			before, stat := read(t, path), must1(t)(os.Stat(path))
			want.Changed = false
			same(t, "the same token", want, mergeKube(t, path, withToken(here, "prod", "t"), access.MergeOptions{}))
			same(t, "files", map[string]fs.FileMode{"config": 0o600}, names(t, dir))
			same(t, "file", before, read(t, path))

			if !os.SameFile(stat, must1(t)(os.Stat(path))) {
				t.Error("the file was replaced by an equal one")
			}

			want.Shut = ""
			same(t, "once more", want, mergeKube(t, path, withToken(here, "prod", "t"), access.MergeOptions{}))
		})
	}
}

// Of several files it is the one that the token goes into.
func TestMergeKubeconfig_SecretShutsOneFile(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	first, second := write(t, filepath.Join(dir, "first"), others), filepath.Join(dir, "second")
	mergeKube(t, second, withToken(here, "prod", "old"), access.MergeOptions{})
	must(t, os.Chmod(first, 0o644))
	must(t, os.Chmod(second, 0o644))

	merged, err := access.MergeKubeconfig(t.Context(), []string{first, second}, withToken(here, "prod", "new"), access.MergeOptions{})
	must(t, err)
	same(t, "merged", access.Merged{Path: second, Context: "lab-prod-ci", Current: true, Changed: true, Shut: second}, merged)
	same(t, "files", map[string]fs.FileMode{"first": 0o644, "second": 0o600}, names(t, dir))
}

// Every kind of secret counts, also one that Omni does not hand out.
func TestMergeKubeconfig_Secrets(t *testing.T) {
	t.Parallel()

	for user, want := range map[string]fs.FileMode{
		"token: a":                      0o600,
		"client-key-data: YQ==":         0o600,
		"{username: a, password: b}":    0o600,
		"auth-provider: {name: gcp}":    0o600,
		"client-certificate-data: YQ==": 0o644,
	} {
		path := write(t, filepath.Join(t.TempDir(), "config"), "")
		must(t, os.Chmod(path, 0o644))
		mergeKube(t, path, fmt.Appendf(nil, `{apiVersion: v1, kind: Config, current-context: a, clusters: [{name: a, cluster: {server: %s}}],
contexts: [{name: a, context: {cluster: a, user: a}}], users: [{name: a, user: %s}]}`, here, braced(user)), access.MergeOptions{})
		same(t, user, map[string]fs.FileMode{"config": want}, names(t, filepath.Dir(path)))
	}
}

func braced(text string) string {
	if text[0] == '{' {
		return text
	}

	return "{" + text + "}"
}

// The same for a talosconfig with a key.
func TestMergeTalosconfig_SecretShutsFile(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	path := write(t, filepath.Join(dir, "config"), otherTalos)
	must(t, os.Chmod(path, 0o644))
	same(t, "a login", "", mergeTalos(t, path, talosconfig(here, "prod"), access.MergeOptions{}).Shut)
	same(t, "files", map[string]fs.FileMode{"config": 0o644}, names(t, dir))

	withKey := []byte("context: lab-key\ncontexts:\n  lab-key: {endpoints: [" + here + "], key: Y2E=}\n")
	same(t, "a key", path, mergeTalos(t, path, withKey, access.MergeOptions{}).Shut)
	same(t, "files", map[string]fs.FileMode{"config": 0o600}, names(t, dir))
}
