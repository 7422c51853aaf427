package main

import (
	"context"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/omni-syncd/omni-syncd/pkg/forge/forgetest"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

// A fleet is what a job of CI has: a checked-out repository with a branch, an Omni in which
// the main branch is synced, and the server that shows the pull request.
type fleet struct {
	t      *testing.T
	dir    string // the work tree; origin/main is where its branch began
	omni   *embedded.Server
	server *forgetest.Server
	// env is what the job has set besides what its service sets.
	env map[string]string
	// inputs are given with each run.
	inputs map[string]string
	// run runs the job as its service would.
	run func(inputs map[string]string) ciResult
	// head is the newest commit, as the service tells the job.
	head string
}

// ciResult is what a service sees of a job.
type ciResult struct {
	code    int
	log     string
	outputs map[string]string
	summary string
}

const fleetTemplate = `kind: Cluster
name: one
labels:
  env: test
kubernetes:
  version: v1.34.3
talos:
  version: v1.12.0
---
kind: ControlPlane
machines:
  - 00000000-0000-4000-8000-000000000001
---
kind: Workers
`

// newFleet starts an Omni, syncs the main branch to it, and begins a branch.
func newFleet(t *testing.T) *fleet {
	t.Helper()

	f := &fleet{t: t, dir: filepath.Join(t.TempDir(), "fleet"), env: map[string]string{}, inputs: map[string]string{"source": "clusters", "source-name": "fleet"}}
	f.startOmni()

	origin := filepath.Join(t.TempDir(), "origin.git")
	f.must("git", "init", "--quiet", "--bare", "--initial-branch=main", origin)
	f.must("git", "clone", "--quiet", origin, f.dir)
	f.commit("Add a cluster", map[string]string{
		"clusters/one.yaml": fleetTemplate, "clusters/two.yaml": strings.NewReplacer("name: one", "name: two", "000001", "000002").Replace(fleetTemplate),
	})
	f.git("push", "--quiet", "origin", "HEAD:main")

	sync := exec.Command("omni-syncd", "sync", "clusters", "--name", "fleet")
	sync.Dir = f.dir
	sync.Env = f.environment(map[string]string{envEndpoint: f.omni.Endpoint(), envKey: f.omni.ServiceAccountKey(embedded.AccountOperator)})

	if out, err := sync.CombinedOutput(); err != nil {
		t.Fatalf("syncing the main branch: %v\n%s", err, out)
	}

	f.git("checkout", "--quiet", "-b", "change")
	f.env[envEndpoint], f.env[envKey] = f.omni.Endpoint(), f.omni.ServiceAccountKey(embedded.AccountReader)

	return f
}

func (f *fleet) startOmni() {
	server, err := embedded.New(embedded.Config{HealthyMachines: true})
	if err != nil {
		f.t.Fatal(err)
	}

	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)

	go func() { done <- server.Run(ctx) }()

	f.t.Cleanup(func() {
		stop()

		if err := <-done; err != nil {
			f.t.Error("embedded Omni: ", err)
		}
	})

	f.omni = server
}

// environment is that of a process: nothing of the person who runs the tests, but for what
// finds the programs.
func (f *fleet) environment(more ...map[string]string) []string {
	env := map[string]string{
		"PATH": os.Getenv("PATH"), "HOME": f.t.TempDir(), "LANG": "C.UTF-8", "GIT_CONFIG_NOSYSTEM": "1", "TMPDIR": f.t.TempDir(),
		"GIT_AUTHOR_NAME": "Jane", "GIT_AUTHOR_EMAIL": "jane@example.com", "GIT_COMMITTER_NAME": "Jane", "GIT_COMMITTER_EMAIL": "jane@example.com",
	}
	for _, m := range more {
		maps.Copy(env, m)
	}

	var list []string
	for name, value := range env {
		list = append(list, name+"="+value)
	}

	return list
}

func (f *fleet) must(name string, args ...string) string {
	f.t.Helper()

	cmd := exec.Command(name, args...)
	cmd.Env = f.environment()

	out, err := cmd.CombinedOutput()
	if err != nil {
		f.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}

	return strings.TrimSpace(string(out))
}

func (f *fleet) git(args ...string) string {
	f.t.Helper()

	return f.must("git", append([]string{"-C", f.dir}, args...)...)
}

// commit writes files and commits them; the server knows the new head at once, as after a push.
func (f *fleet) commit(message string, files map[string]string) {
	f.t.Helper()

	for name, text := range files {
		path := filepath.Join(f.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			f.t.Fatal(err)
		}

		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			f.t.Fatal(err)
		}
	}

	f.git("add", "clusters")
	f.git("commit", "--quiet", "--message", message)
	f.pushed()
}

func (f *fleet) pushed() {
	f.t.Helper()

	f.head = f.git("rev-parse", "HEAD")
	if f.server != nil {
		f.server.SetHead(f.head)
	}
}

// sh runs a script in the work tree.
func (f *fleet) sh(shell []string, script string, env ...map[string]string) (int, string) {
	f.t.Helper()

	path := filepath.Join(f.t.TempDir(), "script.sh")
	if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
		f.t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(f.t.Context(), storyTimeout)
	defer cancel()

	cmd := exec.CommandContext(ctx, shell[0], append(shell[1:], path)...)
	cmd.Dir = f.dir
	cmd.Env = f.environment(env...)

	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		f.t.Fatalf("the script hangs:\n%s", out)
	}

	if exit := (*exec.ExitError)(nil); err != nil && !asExitOf(err, &exit) {
		f.t.Fatal(err)
	}

	for _, secret := range []string{forgetest.Token, f.omni.ServiceAccountKey(embedded.AccountReader), "PRIVATE KEY"} {
		if strings.Contains(string(out), secret) {
			f.t.Errorf("a secret is in the log:\n%s", out)
		}
	}

	return cmd.ProcessState.ExitCode(), string(out)
}

func asExitOf(err error, exit **exec.ExitError) (ok bool) {
	*exit, ok = err.(*exec.ExitError) //nolint:errorlint // it comes from exec itself

	return ok
}

func exists(path string) bool {
	_, err := os.Stat(path)

	return err == nil
}

func read(t *testing.T, path string) string {
	t.Helper()

	data, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}

	return string(data)
}

// nobody returns an address on which nobody listens.
func nobody(t *testing.T) string {
	t.Helper()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // nobody connected

	return "http://" + listener.Addr().String()
}

// hostile is what somebody may call a branch or a pull request.
const hostile = "$(touch owned)`touch owned`';touch owned;\"\n::add-mask::x\n${{ secrets.KEY }} --show-secrets"
