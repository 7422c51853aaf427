package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/test/authority"
	"github.com/omni-syncd/omni-syncd/test/kube"
	"github.com/omni-syncd/omni-syncd/test/secrets"
)

// documentedRole returns the rules of the Role in docs/access.md.
func documentedRole(t *testing.T) []rbacv1.PolicyRule {
	t.Helper()

	docs, err := os.ReadFile("../../docs/access.md")
	check(t, err)

	text := regexp.MustCompile("(?s)```yaml\n([^`]*\nkind: Role\n.*?)```").FindSubmatch(docs)
	if text == nil {
		t.Fatal("docs/access.md shows no Role")
	}

	var role rbacv1.Role

	check(t, yaml.UnmarshalStrict(text[1], &role))

	return role.Rules
}

func check(t *testing.T, err error) {
	t.Helper()

	if err != nil {
		t.Fatal(err)
	}
}

// inCluster is a daemon beside a Kubernetes cluster, an Omni and a Git repository.
type inCluster struct {
	t       *testing.T
	folder  string
	env     []string
	cluster *kube.Cluster
	account *kube.Account
	daemon  *exec.Cmd
	starts  int
}

func newInCluster(t *testing.T) *inCluster {
	t.Helper()

	c := &inCluster{t: t, folder: t.TempDir(), cluster: kube.Shared(t)}
	c.account = c.cluster.Account(t, c.cluster.Namespace(t), "omni-syncd", documentedRole(t)...)

	omni, err := embedded.New(embedded.Config{NoControllers: true})
	check(t, err)

	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)

	go func() { served <- omni.Run(ctx) }()

	t.Cleanup(func() { cancel(); check(t, <-served) })

	c.env = append(os.Environ(), "HOME="+c.folder, "XDG_RUNTIME_DIR=", "RUNTIME_DIRECTORY=", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
		"OMNI_ENDPOINT="+omni.Endpoint(), "OMNI_SERVICE_ACCOUNT_KEY="+omni.ServiceAccountKey(embedded.AccountOperator))
	t.Cleanup(c.kill)

	return c
}

func (c *inCluster) path(name string) string { return filepath.Join(c.folder, name) }

func (c *inCluster) write(name, text string) string {
	c.t.Helper()
	check(c.t, os.MkdirAll(filepath.Dir(c.path(name)), 0o700))
	check(c.t, os.WriteFile(c.path(name), []byte(text), 0o600))

	return c.path(name)
}

// exec runs a program to its end.
func (c *inCluster) exec(args ...string) (string, error) {
	cmd := exec.CommandContext(c.t.Context(), args[0], args[1:]...)
	cmd.Dir, cmd.Env = c.folder, c.env
	out, err := cmd.CombinedOutput()

	return string(out), err
}

// commit makes the clusters of Git these.
func (c *inCluster) commit(clusters ...string) {
	c.t.Helper()
	check(c.t, os.RemoveAll(c.path("fleet/clusters")))
	c.write("fleet/clusters/README.md", "here are the clusters")

	for _, name := range clusters {
		c.write("fleet/clusters/"+name+".yaml", "kind: Cluster\nname: "+name+"\nkubernetes: {version: v1.34.3}\ntalos: {version: v1.12.0}\n---\nkind: ControlPlane\nmachines: []\n")
	}

	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "-A"}, {"commit", "-q", "-m", "clusters", "--allow-empty"}} {
		if out, err := c.exec(append([]string{"git", "-C", "fleet"}, args...)...); err != nil {
			c.t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
}

// start starts the daemon; its log is a file of its own.
func (c *inCluster) start() {
	c.t.Helper()

	c.starts++

	log, err := os.Create(c.logPath())
	check(c.t, err)

	defer log.Close() //nolint:errcheck // the daemon has it

	c.daemon = exec.Command("omni-syncd", "run", "--config", c.path("config.yaml"))
	c.daemon.Dir, c.daemon.Env, c.daemon.Stdout, c.daemon.Stderr = c.folder, c.env, log, log
	check(c.t, c.daemon.Start())
}

func (c *inCluster) logPath() string { return c.path(fmt.Sprintf("log%d", c.starts)) }

func (c *inCluster) log() []byte {
	c.t.Helper()

	data, err := os.ReadFile(c.logPath())
	check(c.t, err)

	return data
}

// kill ends the daemon in the middle of whatever it does.
func (c *inCluster) kill() {
	if c.daemon != nil {
		_ = c.daemon.Process.Kill()
		_ = c.daemon.Wait()
		c.daemon = nil
	}
}

// stop ends it in order.
func (c *inCluster) stop() {
	c.t.Helper()
	check(c.t, c.daemon.Process.Signal(syscall.SIGTERM))

	if err := c.daemon.Wait(); err != nil {
		c.t.Errorf("the daemon ended with %v:\n%s", err, c.log())
	}

	c.daemon = nil
}

// until waits for something.
func (c *inCluster) until(what string, condition func() bool) {
	c.t.Helper()

	for deadline := time.Now().Add(storyTimeout); !condition(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: it never came to that:\n%s", what, c.log())
		}
	}
}

// secret returns a Secret; nil if there is none.
func (c *inCluster) secret(name string) *corev1.Secret {
	c.t.Helper()

	secret, err := c.cluster.Core(c.t).Secrets(c.account.Namespace).Get(c.t.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}

	check(c.t, err)

	return secret
}

// claims returns what is in the token of a Secret for Argo CD.
func claims(t *testing.T, secret *corev1.Secret) (token string, claims struct{ Sub, Cluster string }) {
	t.Helper()

	var config struct{ BearerToken string }

	check(t, json.Unmarshal(secret.Data["config"], &config))

	parts := strings.Split(config.BearerToken, ".")
	if len(parts) != 3 {
		t.Fatal("there is no token in it")
	}

	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	check(t, err)
	check(t, json.Unmarshal(payload, &claims))

	return config.BearerToken, claims
}

// A cluster that is added in Git becomes a cluster of Argo CD, and goes again. The daemon may
// do no more in its Kubernetes cluster than docs/access.md says.
func TestKube_DaemonSecrets(t *testing.T) {
	c := newInCluster(t)
	c.write("config.yaml", fmt.Sprintf(`
stateDir: %s
kubernetes: {kubeconfigFile: %s}
access:
  serviceAccounts: {maxTTL: 1h, users: [argocd], groups: [deployers]}
  secrets: {for: argocd, labels: {environment: lab}, serviceAccount: {user: argocd, groups: [deployers], ttl: 1h}}
sources:
  - {name: fleet, git: {url: %s, branch: main}, path: clusters, interval: 1s, prune: true, deleteAfter: 1s}
`, c.path("state"), c.account.Kubeconfig(t), c.path("fleet")))

	c.commit("one")
	c.start()
	c.until("the first cluster", func() bool { return c.secret("cluster-one") != nil })
	c.commit("one", "two")
	c.until("one that is added", func() bool { return c.secret("cluster-two") != nil })

	two := c.secret("cluster-two")
	token, claim := claims(t, two)

	if claim.Sub != "argocd" || claim.Cluster != "two" {
		t.Errorf("the token is for %+v", claim)
	}

	if two.Labels["environment"] != "lab" || two.Labels["omni-syncd/source"] != "fleet" || two.Labels["omni-syncd/instance"] != "omni-syncd" ||
		!strings.HasSuffix(string(two.Data["server"]), "?cluster=two") || string(two.Data["name"]) != "two" {
		t.Errorf("labels %v, server %s", two.Labels, two.Data["server"])
	}

	logs := c.log()

	// Killed, and started again: it looks at the Secret, and makes no token while that is good.
	for range 3 {
		c.kill()

		two = c.secret("cluster-two")
		delete(two.Labels, "environment")

		_, err := c.cluster.Core(t).Secrets(c.account.Namespace).Update(t.Context(), two, metav1.UpdateOptions{})
		check(t, err)

		c.start()
		c.until("a restart", func() bool { return c.secret("cluster-two").Labels["environment"] == "lab" })

		if again, _ := claims(t, c.secret("cluster-two")); again != token || bytes.Contains(c.log(), []byte("issued a kubeconfig with a token")) {
			t.Errorf("a restart made a token:\n%s", c.log())
		}
	}

	c.commit("two")
	c.until("one that is removed", func() bool { return c.secret("cluster-one") == nil })

	c.stop()

	if found := secrets.Find(append(logs, c.log()...)); found != "" {
		t.Errorf("a secret is in the log: %s…", found)
	}
}

// api.kubernetes asks the cluster that `kubernetes` names.
func TestKube_DaemonAPI(t *testing.T) {
	c := newInCluster(t)
	c.account.Allow(t, "", rbacv1.PolicyRule{APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"tokenreviews"}, Verbs: []string{"create"}},
		rbacv1.PolicyRule{APIGroups: []string{"authorization.k8s.io"}, Resources: []string{"subjectaccessreviews"}, Verbs: []string{"create"}})

	viewer := c.cluster.Account(t, c.account.Namespace, "viewer")
	viewer.Allow(t, "", rbacv1.PolicyRule{APIGroups: []string{"omni-syncd"}, Resources: []string{"clusters"}, Verbs: []string{"get"}})

	_, err := authority.New(c.folder)
	check(t, err)

	port, err := freePort()
	check(t, err)
	c.write("config.yaml", fmt.Sprintf(`
kubernetes: {kubeconfigFile: %s}
api: {socket: none, listen: "127.0.0.1:%s", certFile: server.pem, keyFile: server.key, kubernetes: {}}
sources:
  - {name: fleet, git: {url: %s, branch: main}, path: clusters, interval: 1s}
`, c.account.Kubeconfig(t), port, c.path("fleet")))
	c.commit("one")
	c.start()
	c.until("synced", func() bool { return bytes.Contains(c.log(), []byte("synced cluster=one")) })

	ask := func(token string, more ...string) (string, error) {
		return c.exec(append([]string{"omni-syncd", "status", "--server", "https://127.0.0.1:" + port, "--ca-file", "ca.pem", "--token-file", c.write("token", token)}, more...)...)
	}

	if out, err := ask(viewer.TokenFor(t, "omni-syncd")); err != nil || !regexp.MustCompile(`one +Synced`).MatchString(out) {
		t.Errorf("a viewer: %v: %s", err, out)
	}

	// Who may see one cluster asks for it by name, and cannot list.
	narrow := c.cluster.Account(t, c.account.Namespace, "narrow")
	narrow.Allow(t, "", rbacv1.PolicyRule{APIGroups: []string{"omni-syncd"}, Resources: []string{"clusters"}, Verbs: []string{"get"}, ResourceNames: []string{"one"}})

	if out, err := ask(narrow.TokenFor(t, "omni-syncd"), "one"); err != nil || !strings.Contains(out, "Synced") {
		t.Errorf("a viewer of one, by name: %v: %s", err, out)
	}

	if out, err := ask(narrow.TokenFor(t, "omni-syncd")); err == nil || !strings.Contains(out, "lacks the role viewer") {
		t.Errorf("a viewer of one, the list: %v: %s", err, out)
	}

	nobody := c.cluster.Account(t, c.account.Namespace, "nobody")
	if out, err := ask(nobody.TokenFor(t, "omni-syncd")); err == nil || !strings.Contains(out, "lacks the role viewer") {
		t.Errorf("nobody: %v: %s", err, out)
	}

	if out, err := ask(viewer.Token); err == nil || strings.Contains(out, "Synced") {
		t.Errorf("a token for the API server: %v: %s", err, out)
	}

	c.stop()
}
