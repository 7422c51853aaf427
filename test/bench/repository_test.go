package bench

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/omni-syncd/omni-syncd/pkg/source"
)

// repository is a Git repository that holds a fleet, and what omni-syncd reads it with.
type repository struct {
	dir     string
	git     *source.Git
	commits int
	held    fstest.MapFS
}

func newRepository(tb testing.TB, files fstest.MapFS) *repository {
	tb.Helper()

	r := &repository{dir: filepath.Join(tb.TempDir(), "fleet.git")}
	command(tb, ".", nil, "git", "init", "-q", "--bare", "--initial-branch=main", r.dir)
	r.commit(tb, files)
	r.git = openRepository(tb, r.dir).git

	return r
}

// openRepository reads a repository that exists.
func openRepository(tb testing.TB, dir string) *repository {
	tb.Helper()

	r := &repository{dir: dir, git: source.NewGit(source.GitConfig{URL: dir, StateDir: tb.TempDir(), Ref: source.Ref{Branch: "main"}})}
	tb.Cleanup(func() { r.git.Close() }) //nolint:errcheck // the test is over

	return r
}

// commit makes the files those of the branch; only what is another is sent.
func (r *repository) commit(tb testing.TB, files fstest.MapFS) {
	tb.Helper()

	var stream bytes.Buffer

	r.commits++
	fmt.Fprintf(&stream, "commit refs/heads/main\ncommitter Jane <jane@example.com> %d +0000\ndata 0\n", 1767323045+r.commits)

	if r.commits > 1 {
		stream.WriteString("from refs/heads/main^0\n")
	}

	for path, file := range files {
		if r.held[path] != file {
			fmt.Fprintf(&stream, "M 100644 inline %s\ndata %d\n%s\n", path, len(file.Data), file.Data)
		}
	}

	command(tb, r.dir, &stream, "git", "fast-import", "--quiet")
	r.held = files
}

// fetch returns the newest revision.
func (r *repository) fetch(tb testing.TB) source.Revision {
	tb.Helper()

	revision, err := r.git.Fetch(tb.Context())
	check(tb, err)

	return revision
}

// next commits the files and fetches them.
func (r *repository) next(tb testing.TB, files fstest.MapFS) source.Revision {
	tb.Helper()
	r.commit(tb, files)

	return r.fetch(tb)
}

func command(tb testing.TB, dir string, stdin *bytes.Buffer, name string, args ...string) {
	tb.Helper()

	cmd := exec.CommandContext(tb.Context(), name, args...)
	cmd.Dir = dir

	if stdin != nil {
		cmd.Stdin = stdin
	}

	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

func check(tb testing.TB, err error) {
	tb.Helper()

	if err != nil {
		tb.Fatal(err)
	}
}
