package kube_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/omni-syncd/omni-syncd/test/kube"
)

func TestMain(m *testing.M) { os.Exit(kube.Wrap(m).Run()) }

func must(t *testing.T, err error) {
	t.Helper()

	if err != nil {
		t.Fatal(err)
	}
}

// core returns a client of what a kubeconfig gives access to.
func core(t *testing.T, kubeconfig string) (*coreclient.CoreV1Client, *rest.Config) {
	t.Helper()

	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	must(t, err)

	client, err := coreclient.NewForConfig(config)
	must(t, err)

	return client, config
}

var readSecrets = rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get", "list"}}

// Who may what: an account may do what its rules say, in its namespace; nobody is nobody.
func TestAuthorization(t *testing.T) {
	t.Parallel()

	c := kube.Shared(t)
	here, elsewhere := c.Namespace(t), c.Namespace(t)

	admin, _ := core(t, c.Kubeconfig(t))
	for _, namespace := range []string{here, elsewhere} {
		_, err := admin.Secrets(namespace).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "one"}}, metav1.CreateOptions{})
		must(t, err)
	}

	account := c.Account(t, here, "reader", readSecrets)
	reader, _ := core(t, account.Kubeconfig(t))

	_, err := reader.Secrets(here).Get(t.Context(), "one", metav1.GetOptions{})
	must(t, err)

	refused := func(what string, err error) {
		t.Helper()

		if !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v", what, err)
		}
	}

	_, err = reader.Secrets(elsewhere).Get(t.Context(), "one", metav1.GetOptions{})
	refused("another namespace", err)
	refused("another verb", reader.Secrets(here).Delete(t.Context(), "one", metav1.DeleteOptions{}))

	nothing, _ := core(t, c.Account(t, here, "nothing").Kubeconfig(t))
	_, err = nothing.Secrets(here).List(t.Context(), metav1.ListOptions{})
	refused("no rules", err)

	account.Allow(t, "", readSecrets)

	_, err = reader.Secrets("").List(t.Context(), metav1.ListOptions{})
	must(t, err)

	stranger, err := coreclient.NewForConfig(&rest.Config{Host: c.URL, TLSClientConfig: rest.TLSClientConfig{CAData: c.CA}, BearerToken: account.Token + "x"})
	must(t, err)

	if _, err := stranger.Secrets(here).List(t.Context(), metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("a broken token: %v", err)
	}
}

// A token that was renewed is another one, and both are good.
func TestToken(t *testing.T) {
	t.Parallel()

	c := kube.Shared(t)
	account := c.Account(t, c.Namespace(t), "reader", readSecrets)
	before := account.Kubeconfig(t)
	token := account.Token

	// Tokens of the same second are equal.
	for account.Token == token {
		time.Sleep(100 * time.Millisecond)
		account.Renew(t)
	}

	for _, kubeconfig := range []string{before, account.Kubeconfig(t)} {
		client, _ := core(t, kubeconfig)
		_, err := client.Secrets(account.Namespace).List(t.Context(), metav1.ListOptions{})
		must(t, err)
	}
}

// The admission plugins are those of a cluster.
func TestAdmission(t *testing.T) {
	t.Parallel()

	c := kube.Shared(t)
	namespace := c.Namespace(t)
	admin := c.Core(t)

	object, err := admin.Namespaces().Get(t.Context(), namespace, metav1.GetOptions{})
	must(t, err)

	object.Labels["pod-security.kubernetes.io/enforce"] = "restricted"
	_, err = admin.Namespaces().Update(t.Context(), object, metav1.UpdateOptions{})
	must(t, err)

	yes := true
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "pod"},
		Spec:       corev1.PodSpec{HostNetwork: true, Containers: []corev1.Container{{Name: "one", Image: "one", SecurityContext: &corev1.SecurityContext{Privileged: &yes}}}},
	}

	// The plugin sees namespaces with a delay.
	until(t, func() bool {
		_, err := admin.Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})

		return apierrors.IsForbidden(err) && strings.Contains(err.Error(), "PodSecurity")
	})
}

func until(t *testing.T, condition func() bool) {
	t.Helper()

	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never came to that")
		}
	}
}

// What goes through a proxy can be cut, and nothing else is.
func TestProxy(t *testing.T) {
	t.Parallel()

	c := kube.Shared(t)
	account := c.Account(t, c.Namespace(t), "watcher", rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"list", "watch"}})
	direct, _ := core(t, account.Kubeconfig(t))

	proxy := c.Proxy(t)
	through, config := core(t, proxy.Kubeconfig(t, account.Kubeconfig(t)))

	if config.Host != proxy.URL || config.Host == c.URL {
		t.Errorf("the kubeconfig leads to %s", config.Host)
	}

	list := func(client *coreclient.CoreV1Client) error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()

		_, err := client.Secrets(account.Namespace).List(ctx, metav1.ListOptions{})

		return err
	}

	must(t, list(through))

	events, err := through.Secrets(account.Namespace).Watch(t.Context(), metav1.ListOptions{})
	must(t, err)

	defer events.Stop()

	proxy.Cut()

	if _, open := <-events.ResultChan(); open {
		t.Error("a watch went on over a cut network")
	}

	// The client tries again as long as it may.
	if err := list(through); err == nil || !strings.Contains(err.Error(), "connection reset") {
		t.Errorf("a request over a cut network: %v", err)
	}

	must(t, list(direct))
	proxy.Restore()
	must(t, list(through))

	// A stalled one tells nobody, and goes on where it stood.
	events, err = through.Secrets(account.Namespace).Watch(t.Context(), metav1.ListOptions{})
	must(t, err)

	defer events.Stop()

	proxy.Stall()

	_, err = c.Core(t).Secrets(account.Namespace).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "meanwhile"}}, metav1.CreateOptions{})
	must(t, err)

	if err := list(through); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a request over a stalled network: %v", err)
	}

	select {
	case event := <-events.ResultChan():
		t.Errorf("a watch went on over a stalled network: %v", event.Type)
	default:
	}

	must(t, list(direct))
	proxy.Restore()

	if event := <-events.ResultChan(); event.Type != "ADDED" {
		t.Errorf("after the network stalled came %q", event.Type)
	}

	must(t, list(through))

	// From stalled to cut nothing slips through.
	events, err = through.Secrets(account.Namespace).Watch(t.Context(), metav1.ListOptions{ResourceVersion: "0"})
	must(t, err)

	defer events.Stop()
	<-events.ResultChan() // what was made meanwhile

	proxy.Stall()

	_, err = c.Core(t).Secrets(account.Namespace).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "lost"}}, metav1.CreateOptions{})
	must(t, err)
	proxy.Cut()

	if event, open := <-events.ResultChan(); open {
		t.Errorf("what stalled came through a cut network: %v", event.Type)
	}
}

const envChild = "KUBE_TEST_CHILD"

// A cluster ends with the process that started it, also if that is killed.
func TestKilled(t *testing.T) {
	if os.Getenv(envChild) != "" {
		c := kube.Start(t)
		must(t, os.WriteFile(os.Getenv(envChild), []byte(c.URL), 0o600))
		select {}
	}

	t.Parallel()
	kube.Shared(t)

	file := t.TempDir() + "/url"
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestKilled$")
	child.Env = append(os.Environ(), envChild+"="+file, "TMPDIR="+t.TempDir())
	must(t, child.Start())

	defer child.Wait() //nolint:errcheck // it is killed

	until(t, func() bool { data, err := os.ReadFile(file); return err == nil && len(data) > 0 })

	children := processesBelow(t, child.Process.Pid)
	if len(children) != 2 {
		t.Errorf("a cluster is the processes %v", children)
	}

	must(t, child.Process.Kill())
	_ = child.Wait()

	for _, pid := range children {
		until(t, func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || zombie(pid) })
	}
}

// stat returns the fields of a process behind its name: state, parent, and more.
func stat(pid string) []string {
	data, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return nil
	}

	_, rest, _ := strings.Cut(string(data), ") ")

	return strings.Fields(rest)
}

func zombie(pid int) bool {
	fields := stat(strconv.Itoa(pid))

	return len(fields) == 0 || fields[0] == "Z"
}

func processesBelow(t *testing.T, parent int) []int {
	t.Helper()

	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Skip("this system has no /proc")
	}

	var found []int

	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if fields := stat(entry.Name()); err == nil && len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			found = append(found, pid)
		}
	}

	return found
}
