package source

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestForkOf(t *testing.T) {
	dir := t.TempDir()
	git := func(folder string, args ...string) string {
		t.Helper()

		cmd := exec.Command("git", append([]string{"-C", filepath.Join(dir, folder), "-c", "user.name=t", "-c", "user.email=t@example.com"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")

		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %s: %v\n%s", args, err, out)
		}

		return strings.TrimSpace(string(out))
	}
	commit := func(message string) string {
		t.Helper()
		git("fleet", "commit", "--quiet", "--allow-empty", "-m", message)

		return git("fleet", "rev-parse", "HEAD")
	}

	if err := os.MkdirAll(filepath.Join(dir, "fleet", "clusters"), 0o755); err != nil {
		t.Fatal(err)
	}

	git("fleet", "init", "--quiet", "-b", "main")
	commit("one")
	fork := commit("two")
	git("fleet", "tag", "v1")
	git("fleet", "switch", "--quiet", "-c", "change")
	commit("mine")
	git("fleet", "switch", "--quiet", "main")
	tip := commit("theirs")
	git("fleet", "switch", "--quiet", "change")
	git("fleet", "worktree", "add", "--quiet", "../linked", "-b", "linked")
	git(".", "clone", "--quiet", "--shared", "fleet", "shared")
	git(".", "clone", "--quiet", "fleet", "sparse")
	git("sparse", "sparse-checkout", "set", "clusters")
	git(".", "clone", "--quiet", "--depth", "2", "--no-single-branch", "file://"+filepath.Join(dir, "fleet"), "deep-enough")
	git(".", "clone", "--quiet", "--depth", "1", "--no-single-branch", "file://"+filepath.Join(dir, "fleet"), "shallow")

	for _, test := range []struct{ dir, ref, folder, base, err string }{
		{"fleet", "main", ".", fork, ""},
		{"fleet/clusters", "main", "clusters", fork, ""},
		{"fleet", "v1", ".", fork, ""},
		{"fleet", tip, ".", fork, ""},
		{"fleet", "main~1", ".", fork, ""},
		{"linked", "main", ".", fork, ""},
		{"shared", "origin/main", ".", fork, ""},
		{"sparse", "origin/main", ".", fork, ""},
		{"deep-enough", "origin/main", ".", fork, ""},
		{"fleet", "nobody", "", "", `there is no "nobody" in this clone: fetch it`},
		{"shallow", "origin/main", "", "", "too shallow to find where it left origin/main"},
		{".", "main", "", "", "is in no Git working tree"},
	} {
		f, err := ForkOf(filepath.Join(dir, test.dir), test.ref)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s, %s: %v, want … %s …", test.dir, test.ref, err, test.err)
			}

			continue
		}

		if err != nil || f.Folder != test.folder || f.Base != test.base {
			t.Errorf("%s, %s: %+v, %v, want %s at %s", test.dir, test.ref, f, err, test.folder, test.base)
		}
	}
}
