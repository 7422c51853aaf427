package bench

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/server/webhook"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/template"
	"github.com/omni-syncd/omni-syncd/test/fleet"
)

// A repository of some size: what git has to look through.
const (
	pushFiles   = 10_000 // a hundred of them are templates
	pushCommits = 5_000
	pushSecret  = "a secret of the benchmark"
	clusters    = 100
)

var pushFleet = fleet.New(fleet.Config{Clusters: clusters, Machines: 10})

// BenchmarkPushToRender is what follows a push of a commit that changes one template: the
// server's webhook, the look, the fetch, and the targets of the source rendered anew.
// git's own part of it, a fetch and a checkout into a worktree as git-sync does it, is the
// second line.
func BenchmarkPushToRender(b *testing.B) {
	repository := bigRepository(b)
	server := newGitServer(b, repository)
	pushed := 0

	b.Run("omni-syncd", func(b *testing.B) {
		git := source.NewGit(source.GitConfig{URL: server.url, StateDir: b.TempDir(), Interval: time.Hour, Ref: source.Ref{Branch: "main"}})
		defer git.Close() //nolint:errcheck // the benchmark is over

		rendered := make(chan string)
		ctx, stop := context.WithCancel(b.Context())
		done := make(chan error, 1)

		go func() { done <- git.Watch(ctx, renderer(ctx, rendered)) }()

		<-rendered

		announce := newAnnouncer(b, git.Poke)
		looked := time.Duration(0)

		for b.Loop() {
			b.StopTimer()

			pushed++
			push(b, repository, pushed)
			b.StartTimer()

			start := time.Now()
			server.looked.Store(0)
			announce(pushed)

			if got, want := <-rendered, fmt.Sprint("push ", pushed); got != want {
				b.Fatalf("rendered %q, want %q", got, want)
			}

			looked += time.Duration(server.looked.Load() - start.UnixNano())
		}

		b.ReportMetric(float64(looked.Microseconds())/1000/float64(b.N), "ms-to-fetch")
		stop()
		check(b, <-done)
	})

	b.Run("git-fetch-and-worktree", func(b *testing.B) {
		dir := b.TempDir()
		command(b, dir, nil, "git", "clone", "-q", "--bare", "--depth", "1", server.url, "clone")
		clone := filepath.Join(dir, "clone")

		for b.Loop() {
			b.StopTimer()

			pushed++
			push(b, repository, pushed)
			b.StartTimer()

			tree := filepath.Join(dir, fmt.Sprint("tree-", pushed))
			command(b, clone, nil, "git", "fetch", "-q", "--depth", "1", "origin", "+refs/heads/main:refs/heads/main")
			command(b, clone, nil, "git", "worktree", "add", "-q", "--detach", tree, "main")
		}
	})
}

// renderer finds and renders every revision and tells its message.
func renderer(ctx context.Context, rendered chan<- string) func(source.Revision, error) {
	cache := render.New()

	return func(revision source.Revision, err error) {
		if err != nil {
			rendered <- err.Error()

			return
		}

		set, problems := template.Find(revision.FS, template.Scope{Root: "clusters"})
		targets, refused := cache.Render(ctx, set)

		if len(problems)+len(refused) > 0 || len(targets) != clusters {
			rendered <- fmt.Sprint(len(targets), problems, refused)

			return
		}

		rendered <- revision.Message
	}
}

// newAnnouncer returns a function that sends the webhook of a push.
func newAnnouncer(tb testing.TB, poke func()) func(n int) {
	tb.Helper()

	secret := filepath.Join(tb.TempDir(), "secret")
	check(tb, os.WriteFile(secret, []byte(pushSecret), 0o600))

	handler, err := webhook.New(webhook.Config{
		Hooks:  map[string]webhook.Hook{"fleet": {Provider: webhook.Generic, SecretFile: secret, Ref: "refs/heads/main", Poke: poke}},
		Limits: webhook.Limits{SourceRate: 1000, SourceBurst: 1000},
	})
	check(tb, err)

	hooks := httptest.NewServer(handler)
	tb.Cleanup(hooks.Close)

	return func(n int) {
		body := fmt.Appendf(nil, `{"ref": "refs/heads/main", "push": %d}`, n)
		mac := hmac.New(sha256.New, []byte(pushSecret))
		mac.Write(body)

		req, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, hooks.URL+"/hooks/fleet", bytes.NewReader(body))
		check(tb, err)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Signature", "sha256="+hex.EncodeToString(mac.Sum(nil)))

		res, err := hooks.Client().Do(req)
		check(tb, err)
		check(tb, res.Body.Close())

		if res.StatusCode != http.StatusAccepted {
			tb.Fatal(res.Status)
		}
	}
}

// gitServer is git's own http server.
type gitServer struct {
	url    string
	looked atomic.Int64 // when the first request since it was set to 0 arrived, in Unix nanoseconds
}

func newGitServer(tb testing.TB, repository string) *gitServer {
	tb.Helper()

	path, err := exec.Command("git", "--exec-path").Output()
	check(tb, err)

	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + filepath.Dir(repository), "GIT_HTTP_EXPORT_ALL=1"},
	}
	s := &gitServer{}

	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.looked.CompareAndSwap(0, time.Now().UnixNano())
		backend.ServeHTTP(w, r)
	}))
	tb.Cleanup(server.Close)

	s.url = server.URL + "/" + filepath.Base(repository)

	return s
}

// bigRepository makes a bare repository with the templates of the fleet among other files.
func bigRepository(b *testing.B) string {
	b.Helper()

	dir := filepath.Join(b.TempDir(), "fleet.git")
	command(b, "", nil, "git", "init", "-q", "--bare", "--initial-branch=main", dir)

	var stream bytes.Buffer

	stream.WriteString("reset refs/heads/main\n")
	pushed(&stream, "first", "")

	for name, file := range pushFleet.Files {
		write(&stream, name, file.Data)
	}

	other := func(n, version int) {
		write(&stream, fmt.Sprintf("other/%02d/%04d.yaml", n/100, n), fmt.Appendf(nil, "version: %d\n%s", version, strings.Repeat("text: some\n", 30)))
	}

	for n := range pushFiles - clusters {
		other(n, 0)
	}

	for n := 1; n < pushCommits; n++ {
		pushed(&stream, fmt.Sprint("change ", n), "")
		other(n*7919%(pushFiles-clusters), n)
	}

	command(b, dir, &stream, "git", "fast-import", "--quiet", "--force")
	command(b, dir, nil, "git", "repack", "-adq")

	return dir
}

// push commits a change to one template.
func push(b *testing.B, repository string, n int) {
	b.Helper()

	var stream bytes.Buffer

	pushed(&stream, fmt.Sprint("push ", n), "from refs/heads/main^0\n")
	write(&stream, fleet.Path(0), pushFleet.With(0, n).Files[fleet.Path(0)].Data)
	command(b, repository, &stream, "git", "fast-import", "--quiet", "--force")
}

func pushed(stream *bytes.Buffer, message, from string) {
	fmt.Fprintf(stream, "commit refs/heads/main\ncommitter Jane <jane@example.com> 1767322800 +0000\ndata %d\n%s\n%s", len(message), message, from)
}

func write(stream *bytes.Buffer, name string, data []byte) {
	fmt.Fprintf(stream, "M 100644 inline %s\ndata %d\n%s\n", name, len(data), data)
}
