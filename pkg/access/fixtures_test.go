package access_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/google/go-cmp/cmp"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/omni-syncd/omni-syncd/pkg/access"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// secret is the token in fixtures: it must be found in no error and no log.
const secret = "eyJhbGciOiJIUzI1NiJ9.SECRET.TOKEN"

// login is a kubeconfig as Omni writes it.
func login(server, cluster string) []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
  - cluster:
      server: %[1]s
    name: lab-%[2]s
contexts:
  - context:
      cluster: lab-%[2]s
      namespace: default
      user: lab-%[2]s-robot@omni
    name: lab-%[2]s
current-context: lab-%[2]s
users:
- name: lab-%[2]s-robot@omni
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1
      args:
        - oidc-login
        - get-token
        - --oidc-extra-scope=cluster:%[2]s
      command: kubectl
      env: null
      interactiveMode: IfAvailable
      provideClusterInfo: false
`, server, cluster)
}

// withToken is a kubeconfig of a service account as Omni writes it.
func withToken(server, cluster, token string) []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: lab-%[2]s-ci, cluster: {server: %[1]s}}]
contexts: [{name: lab-%[2]s-ci, context: {cluster: lab-%[2]s-ci, namespace: default, user: lab-%[2]s-ci}}]
current-context: lab-%[2]s-ci
users: [{name: lab-%[2]s-ci, user: {token: %[3]s}}]
`, server, cluster, token)
}

// talosconfig is one as Omni writes it.
func talosconfig(endpoint, cluster string) []byte {
	return fmt.Appendf(nil, `context: lab-%[2]s
contexts:
  lab-%[2]s:
    endpoints: [%[1]s]
    auth: {siderov1: {identity: robot@omni}}
    cluster: %[2]s
`, endpoint, cluster)
}

const (
	here      = "https://lab.example.com:8100"
	elsewhere = "https://other.example.com"
)

func must(t *testing.T, err error) {
	t.Helper()

	if err != nil {
		t.Fatal(err)
	}
}

func same(t *testing.T, what string, want, got any) {
	t.Helper()

	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// fails expects an error with some words, and without the token.
func fails(t *testing.T, err error, words ...string) {
	t.Helper()

	if err == nil {
		t.Fatalf("no error, want one with %q", words)
	}

	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error %q does not say %q", err, word)
		}
	}

	if strings.Contains(err.Error(), "SECRET") || strings.Contains(err.Error(), "eyJ") {
		t.Errorf("the error quotes the token: %q", err)
	}
}

// private is a folder that nobody else can write, whatever the umask is.
func private(t *testing.T) string {
	t.Helper()

	path := t.TempDir()
	must(t, os.Chmod(path, 0o700))

	return path
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path, []byte(text), 0o600))

	return path
}

func read(t *testing.T, path string) string {
	t.Helper()

	data, err := os.ReadFile(path)
	must(t, err)

	return string(data)
}

// names returns what is in a folder, with the mode of files.
func names(t *testing.T, dir string) map[string]fs.FileMode {
	t.Helper()

	entries, err := os.ReadDir(dir)
	must(t, err)

	found := map[string]fs.FileMode{}

	for _, e := range entries {
		info, err := e.Info()
		must(t, err)

		found[e.Name()] = info.Mode().Perm()
	}

	return found
}

// contexts returns where the contexts of kubeconfigs lead to, read as kubectl does.
func contexts(t *testing.T, paths ...string) (current string, leads map[string]string) {
	t.Helper()

	rules := clientcmd.ClientConfigLoadingRules{Precedence: paths}

	config, err := rules.Load()
	must(t, err)

	leads = map[string]string{}

	for name, c := range config.Contexts {
		cluster, user := config.Clusters[c.Cluster], config.AuthInfos[c.AuthInfo]

		switch {
		case cluster == nil || user == nil:
			leads[name] = "nowhere"
		case user.Exec != nil:
			leads[name] = fmt.Sprint(cluster.Server, " ", user.Exec.Args[len(user.Exec.Args)-1])
		default:
			leads[name] = fmt.Sprint(cluster.Server, " ", user.Token)
		}
	}

	return config.CurrentContext, leads
}

func mergeKube(t *testing.T, path string, data []byte, opts access.MergeOptions) access.Merged {
	t.Helper()

	merged, err := access.MergeKubeconfig(t.Context(), []string{path}, data, opts)
	must(t, err)

	return merged
}

var errFixture = errors.New("fixture: it fails")

func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()

	return ctx
}

func sprint(v ...any) string { return fmt.Sprint(v...) }

func dial(t *testing.T, o *daemon.Omni, account string) *omni.Conn {
	t.Helper()

	conn, err := omni.Dial(omni.ConnConfig{Endpoint: o.Endpoint(), ServiceAccountKey: o.ServiceAccountKey(account)})
	must(t, err)
	t.Cleanup(func() { conn.Close() }) //nolint:errcheck // nothing is lost with a connection

	return conn
}

func clusterMetadata(name string) *resource.Metadata { return omnires.NewCluster(name).Metadata() }
