package source

import (
	"context"
	"io"
	"io/fs"
	"log"
	"maps"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

var jane = object.Signature{Name: "Jane", Email: "jane@example.com", When: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}

// repo is a real repository in a temporary folder, written by go-git.
type repo struct {
	*git.Repository

	t   testing.TB
	dir string
}

func newRepo(t testing.TB, bare bool) *repo {
	t.Helper()

	dir := filepath.Join(t.TempDir(), "fleet")

	r, err := git.PlainInitWithOptions(dir, &git.PlainInitOptions{
		Bare:        bare,
		InitOptions: git.InitOptions{DefaultBranch: "refs/heads/main"},
	})
	if err != nil {
		t.Fatal(err)
	}

	return &repo{r, t, dir}
}

// object stores one object.
func (r *repo) object(typ plumbing.ObjectType, data []byte) plumbing.Hash {
	r.t.Helper()

	obj := r.Storer.NewEncodedObject()
	obj.SetType(typ)

	w, err := obj.Writer()
	if err != nil {
		r.t.Fatal(err)
	}

	if _, err = w.Write(data); err != nil {
		r.t.Fatal(err)
	}

	return r.store(obj)
}

func (r *repo) store(obj plumbing.EncodedObject) plumbing.Hash {
	r.t.Helper()

	id, err := r.Storer.SetEncodedObject(obj)
	if err != nil {
		r.t.Fatal(err)
	}

	return id
}

// tree stores a folder with exactly these entries, sensible or not.
func (r *repo) tree(entries ...object.TreeEntry) plumbing.Hash {
	r.t.Helper()

	var data []byte

	for _, e := range entries {
		data = append(data, e.Mode.String()[1:]+" "+e.Name+"\x00"...)
		data = append(data, e.Hash[:]...)
	}

	return r.object(plumbing.TreeObject, data)
}

// commitTree commits a folder to a branch, over its present commit.
func (r *repo) commitTree(branch, message string, tree plumbing.Hash, parents ...plumbing.Hash) plumbing.Hash {
	r.t.Helper()

	commit := &object.Commit{Author: jane, Committer: jane, Message: message, TreeHash: tree, ParentHashes: parents}

	obj := r.Storer.NewEncodedObject()
	if err := commit.Encode(obj); err != nil {
		r.t.Fatal(err)
	}

	id := r.store(obj)
	if err := r.Storer.SetReference(plumbing.NewHashReference(plumbing.NewBranchReferenceName(branch), id)); err != nil {
		r.t.Fatal(err)
	}

	return id
}

// commit commits files, by path, as the only content of main. A name that ends in "@"
// is a link to its content.
func (r *repo) commit(message string, files map[string]string) plumbing.Hash {
	r.t.Helper()

	var parents []plumbing.Hash
	if ref, err := r.Reference("refs/heads/main", true); err == nil {
		parents = append(parents, ref.Hash())
	}

	return r.commitTree("main", message, r.files(files), parents...)
}

func (r *repo) files(files map[string]string) plumbing.Hash {
	r.t.Helper()

	entries := map[string]object.TreeEntry{}
	below := map[string]map[string]string{}

	for name, data := range files {
		if dir, rest, ok := cutDir(name); ok {
			if below[dir] == nil {
				below[dir] = map[string]string{}
			}

			below[dir][rest] = data

			continue
		}

		e := object.TreeEntry{Name: name, Mode: filemode.Regular, Hash: r.object(plumbing.BlobObject, []byte(data))}
		if name[len(name)-1] == '@' {
			e.Name, e.Mode = name[:len(name)-1], filemode.Symlink
		}

		entries[e.Name] = e
	}

	for name, files := range below {
		entries[name+"/"] = object.TreeEntry{Name: name, Mode: filemode.Dir, Hash: r.files(files)}
	}

	var sorted []object.TreeEntry
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		sorted = append(sorted, entries[name])
	}

	return r.tree(sorted...)
}

func cutDir(name string) (dir, rest string, ok bool) {
	for i := range name {
		if name[i] == '/' {
			return name[:i], name[i+1:], true
		}
	}

	return "", "", false
}

// server serves a repository with git's own http-backend and counts what it does.
type server struct {
	*httptest.Server

	mu       sync.Mutex
	requests []string // "GET", "POST"
	sent     int64
}

func serve(t testing.TB, r *repo) *server {
	t.Helper()

	allowFilter(t, r)

	s := &server{}
	s.Server = httptest.NewServer(s.counting(backend(t, r)))
	t.Cleanup(s.Close)

	return s
}

// counting counts what a handler does.
func (s *server) counting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, req.Method)
		s.mu.Unlock()

		next.ServeHTTP(countingWriter{w, s}, req)
	})
}

// backend is git's own http-backend, which serves all repositories beside this one.
func backend(t testing.TB, r *repo) http.Handler {
	t.Helper()

	return &cgi.Handler{
		Path: lookTool(t, "git"),
		Args: []string{"http-backend"},
		Env: []string{
			"GIT_PROJECT_ROOT=" + filepath.Dir(r.dir), "GIT_HTTP_EXPORT_ALL=1",
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
		},
		Stderr: io.Discard,
		Logger: log.New(io.Discard, "", 0),
	}
}

func (s *server) url(r *repo) string { return s.URL + "/" + filepath.Base(r.dir) }

// took returns the requests since the last call, and how many bytes were sent.
func (s *server) took() ([]string, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()

	requests, sent := s.requests, s.sent
	s.requests, s.sent = nil, 0

	return requests, sent
}

type countingWriter struct {
	http.ResponseWriter

	server *server
}

func (w countingWriter) Write(p []byte) (int, error) {
	w.server.mu.Lock()
	w.server.sent += int64(len(p))
	w.server.mu.Unlock()

	return w.ResponseWriter.Write(p)
}

// newTestGit closes the Git at the end of the test.
func newTestGit(t testing.TB, cfg GitConfig) *Git {
	t.Helper()

	g := NewGit(cfg)
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})

	return g
}

func fetch(t testing.TB, s interface {
	Fetch(ctx context.Context) (Revision, error)
},
) Revision {
	t.Helper()

	rev, err := s.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	return rev
}

func read(t testing.TB, fsys fs.FS, name string) string {
	t.Helper()

	data, err := fs.ReadFile(fsys, name)
	if err != nil {
		t.Fatal(err)
	}

	return string(data)
}

// writeFiles writes files, by path, below dir.
func writeFiles(t testing.TB, dir string, files map[string]string) {
	t.Helper()

	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}

		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// runGit runs the git binary, for what go-git cannot make.
func runGit(t testing.TB, dir string, args ...string) {
	t.Helper()

	cmd := exec.Command(lookTool(t, "git"), args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=Jane", "GIT_AUTHOR_EMAIL=jane@example.com", "GIT_COMMITTER_NAME=Jane", "GIT_COMMITTER_EMAIL=jane@example.com")

	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}
