package source

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	git "github.com/go-git/go-git/v5"
)

const (
	benchFiles   = 10_000
	benchCommits = 5_000
)

// benchRepo makes a repository of some size: files of 400 bytes, a hundred in a folder,
// and commits that change one each.
func benchRepo(b *testing.B) (*repo, *server) {
	b.Helper()

	r := newRepo(b, true)

	var stream bytes.Buffer

	stream.WriteString("reset refs/heads/main\n")
	head(&stream, "first", "")

	for n := range benchFiles {
		stream.WriteString(change(n, 0))
	}

	for i := 1; i < benchCommits; i++ {
		head(&stream, fmt.Sprint("change ", i), "")
		stream.WriteString(change(i*7919%benchFiles, i))
	}

	fastImport(b, r, stream.Bytes())
	runGit(b, r.dir, "repack", "-adq")

	reopened, err := git.PlainOpen(r.dir)
	if err != nil {
		b.Fatal(err)
	}

	r.Repository = reopened

	return r, serve(b, r)
}

func head(stream *bytes.Buffer, message, from string) {
	fmt.Fprintf(stream, "commit refs/heads/main\ncommitter Jane <jane@example.com> 1767322800 +0000\ndata %d\n%s\n%s", len(message), message, from)
}

func change(file, version int) string {
	text := strings.Repeat(fmt.Sprintf("file: %d, version: %d\n", file, version), 20)

	return fmt.Sprintf("M 100644 inline clusters/%02d/%04d.yaml\ndata %d\n%s\n", file/100, file, len(text), text)
}

func fastImport(b *testing.B, r *repo, stream []byte) {
	b.Helper()

	cmd := exec.Command(lookTool(b, "git"), "fast-import", "--quiet", "--force")
	cmd.Dir, cmd.Stdin = r.dir, bytes.NewReader(stream)

	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
}

// push makes a commit that changes one file, and returns the file.
func push(b *testing.B, r *repo, n int) string {
	b.Helper()

	var stream bytes.Buffer

	file := n * 31 % benchFiles
	head(&stream, fmt.Sprint("push ", n), "from refs/heads/main^0\n")
	stream.WriteString(change(file, benchCommits+n))
	fastImport(b, r, stream.Bytes())

	return fmt.Sprintf("clusters/%02d/%04d.yaml", file/100, file)
}

// sent reports what the server sent for one operation.
func sent(b *testing.B, s *server, total int64) {
	b.Helper()
	b.ReportMetric(float64(total)/float64(b.N), "sent-B/op")
	s.took()
}

// BenchmarkFirstFetch is the start with an empty state directory, until one file is read.
func BenchmarkFirstFetch(b *testing.B) {
	r, s := benchRepo(b)

	b.Run("omni-syncd", func(b *testing.B) {
		s.took()

		for b.Loop() {
			g := NewGit(GitConfig{URL: s.url(r), StateDir: b.TempDir()})
			read(b, fetch(b, g).FS, "clusters/00/0000.yaml")

			if err := g.Close(); err != nil {
				b.Fatal(err)
			}
		}

		_, n := s.took()
		sent(b, s, n)
	})

	b.Run("git clone and worktree", func(b *testing.B) {
		for b.Loop() {
			newWorktrees(b, s.url(r)).sync()
		}

		_, n := s.took()
		sent(b, s, n)
	})
}

// BenchmarkPoll is a look at a branch that did not change.
func BenchmarkPoll(b *testing.B) {
	r, s := benchRepo(b)

	b.Run("omni-syncd", func(b *testing.B) {
		g := newTestGit(b, GitConfig{URL: s.url(r), StateDir: b.TempDir()})
		fetch(b, g)
		s.took()

		for b.Loop() {
			fetch(b, g)
		}

		requests, n := s.took()
		if len(requests) != b.N {
			b.Errorf("%d requests in %d looks", len(requests), b.N)
		}

		sent(b, s, n)
	})

	b.Run("git ls-remote", func(b *testing.B) {
		for b.Loop() {
			runGit(b, r.dir, "ls-remote", "-q", s.url(r), "refs/heads/main")
		}

		_, n := s.took()
		sent(b, s, n)
	})

	b.Run("git fetch", func(b *testing.B) {
		w := newWorktrees(b, s.url(r))
		w.sync()
		s.took()

		for b.Loop() {
			w.fetch()
		}

		_, n := s.took()
		sent(b, s, n)
	})
}

// BenchmarkFetchOneFileCommit is what follows the push of a commit that changes one file,
// until that file is read.
func BenchmarkFetchOneFileCommit(b *testing.B) {
	r, s := benchRepo(b)
	pushed := 0

	run := func(name string, setUp func(b *testing.B) func(file string) string) {
		b.Run(name, func(b *testing.B) {
			get := setUp(b)

			var total int64

			for b.Loop() {
				b.StopTimer()

				pushed++
				file := push(b, r, pushed)
				s.took()
				b.StartTimer()

				if text := get(file); !strings.Contains(text, fmt.Sprintf("version: %d\n", benchCommits+pushed)) {
					b.Fatalf("old content: %.40s", text)
				}

				_, n := s.took()
				total += n
			}

			sent(b, s, total)
		})
	}

	run("omni-syncd", func(b *testing.B) func(string) string {
		g := newTestGit(b, GitConfig{URL: s.url(r), StateDir: b.TempDir()})
		fetch(b, g)

		return func(file string) string { return read(b, fetch(b, g).FS, file) }
	})

	run("git fetch and worktree", func(b *testing.B) func(string) string {
		w := newWorktrees(b, s.url(r))
		w.sync()

		return func(file string) string {
			data, err := os.ReadFile(filepath.Join(w.sync(), file))
			if err != nil {
				b.Fatal(err)
			}

			return string(data)
		}
	})
}

// worktrees is what git-sync does: a shallow fetch, and each commit checked out to a
// worktree of its own, after which the last one goes.
type worktrees struct {
	b    *testing.B
	dir  string
	url  string
	last string
	n    int
}

func newWorktrees(b *testing.B, url string) *worktrees {
	b.Helper()

	w := &worktrees{b: b, dir: b.TempDir(), url: url}
	runGit(b, w.dir, "init", "-q", "--bare", "repo")

	return w
}

func (w *worktrees) fetch() {
	runGit(w.b, filepath.Join(w.dir, "repo"), "fetch", "-q", "--depth=1", "--no-tags", "--no-auto-gc", w.url, "+refs/heads/main:refs/heads/synced")
}

func (w *worktrees) sync() string {
	w.fetch()
	w.n++

	next := filepath.Join(w.dir, fmt.Sprint(w.n))
	runGit(w.b, filepath.Join(w.dir, "repo"), "worktree", "add", "-q", "--force", "--detach", next, "refs/heads/synced")

	if w.last != "" {
		if err := os.RemoveAll(w.last); err != nil {
			w.b.Fatal(err)
		}

		runGit(w.b, filepath.Join(w.dir, "repo"), "worktree", "prune")
	}

	w.last = next

	return next
}
