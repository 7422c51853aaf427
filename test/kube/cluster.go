package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	rbacclient "k8s.io/client-go/kubernetes/typed/rbac/v1"
	"k8s.io/client-go/rest"
)

// Env names the folder that holds the binaries: etcd, or server as Go names it, and
// kube-apiserver.
const Env = "OMNI_SYNCD_TEST_KUBE"

const (
	// startTime bounds a start; a machine that builds something beside it is slow.
	startTime = 3 * time.Minute
	// tries is how often another port is tried, if somebody else took the one that was free.
	tries = 3
	poll  = 50 * time.Millisecond
)

// Cluster is a kube-apiserver with an etcd, authorized by RBAC and with the admission
// plugins that are on by default. It issues tokens for ServiceAccounts.
type Cluster struct {
	// URL is where the apiserver is: https://127.0.0.1:<port>.
	URL string
	// CA is the PEM of what signed its certificate.
	CA []byte

	dir       string
	admin     pair
	processes []*process
}

// Start starts a cluster for one test, and stops it at the end of that. The test is skipped
// if there are no binaries.
func Start(t testing.TB) *Cluster {
	t.Helper()

	c, err := start(binaries(t))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.logs())
		}

		if err := c.stop(); err != nil {
			t.Error(err)
		}
	})

	return c
}

// shared is the cluster of all tests of this process.
var shared struct {
	sync.Mutex

	wrapped bool
	cluster *Cluster
	err     error
}

// Shared returns the cluster that the tests of a package share, and starts it for the first
// one. The test is skipped if there are no binaries.
func Shared(t testing.TB) *Cluster {
	t.Helper()

	folder := binaries(t)

	shared.Lock()
	defer shared.Unlock()

	if !shared.wrapped {
		t.Fatal("nobody would stop the cluster: run the tests of the package with kube.Wrap, in TestMain")
	}

	if shared.cluster == nil && shared.err == nil {
		shared.cluster, shared.err = start(folder)
	}

	if shared.err != nil {
		t.Fatal(shared.err)
	}

	return shared.cluster
}

// Wrap takes a testing.M, and returns what runs it and stops the shared cluster afterwards:
//
//	func TestMain(m *testing.M) { os.Exit(kube.Wrap(m).Run()) }
func Wrap(m interface{ Run() int }) interface{ Run() int } { return wrapped{m} }

type wrapped struct{ tests interface{ Run() int } }

// Run runs the tests.
func (w wrapped) Run() int {
	shared.Lock()
	shared.wrapped = true
	shared.Unlock()

	code := w.tests.Run()

	shared.Lock()
	defer shared.Unlock()

	if shared.cluster == nil {
		return code
	}

	if code != 0 {
		fmt.Fprintln(os.Stderr, shared.cluster.logs())
	}

	if err := shared.cluster.stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)

		return max(code, 1)
	}

	return code
}

// binaries returns the folder with the binaries.
func binaries(t testing.TB) string {
	t.Helper()

	folder := os.Getenv(Env)
	if folder == "" {
		t.Skipf("%s names no folder with etcd and kube-apiserver: `make test-kube` builds them and runs this", Env)
	}

	if !filepath.IsAbs(folder) {
		t.Fatalf("%s is %s: give an absolute path", Env, folder)
	}

	return folder
}

// binary returns the first of some files that is there.
func binary(folder string, names ...string) (string, error) {
	for _, name := range names {
		path := filepath.Join(folder, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}

	return "", fmt.Errorf("there is no %s in %s, which %s names: `make test-kube` builds it", names[0], folder, Env)
}

// start starts etcd, which listens at a socket that nobody else finds, and kube-apiserver.
func start(folder string) (c *Cluster, err error) {
	etcd, err := binary(folder, "etcd", "server")
	if err != nil {
		return nil, err
	}

	apiserver, err := binary(folder, "kube-apiserver")
	if err != nil {
		return nil, err
	}

	c = &Cluster{}

	// A short path: that of a socket has at most 107 bytes.
	if c.dir, err = os.MkdirTemp("", "kube"); err != nil {
		return nil, err
	}

	defer func() {
		if err != nil {
			err = errors.Join(err, errors.New(c.logs()), c.stop())
			c = nil
		}
	}()

	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()

	if err := c.certify(); err != nil {
		return nil, fmt.Errorf("make the certificates of the cluster: %w", err)
	}

	socket := "unix://" + c.path("etcd.sock")

	if _, err := c.run("etcd", etcd,
		"--data-dir", c.path("etcd"), "--unsafe-no-fsync", "--log-level", "warn",
		"--listen-client-urls", socket, "--advertise-client-urls", "http://127.0.0.1:0", // nobody asks for the latter
		"--listen-peer-urls", "http://127.0.0.1:0",
	); err != nil {
		return nil, err
	}

	for range tries {
		c.processes = c.processes[:1] // etcd

		if err = c.serve(ctx, apiserver, socket); err == nil || !errors.As(err, new(*exitError)) {
			break
		}
	}

	return c, err
}

// serve starts kube-apiserver at a free port, and waits until it is ready.
func (c *Cluster) serve(ctx context.Context, binary, etcd string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}

	address := listener.Addr().String()
	c.URL = "https://" + address
	_, port, _ := net.SplitHostPort(address)

	if err := listener.Close(); err != nil {
		return err
	}

	p, err := c.run("kube-apiserver", binary,
		"--etcd-servers", etcd, "--cert-dir", c.path("apiserver"),
		"--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1", "--secure-port", port, "--endpoint-reconciler-type", "none",
		"--tls-cert-file", c.path("server.crt"), "--tls-private-key-file", c.path("server.key"), "--client-ca-file", c.path("ca.crt"),
		"--authorization-mode", "RBAC", "--allow-privileged", // of the latter PodSecurity decides
		"--service-cluster-ip-range", "10.0.0.0/24",
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", c.path("accounts.key"), "--service-account-signing-key-file", c.path("accounts.key"),
	)
	if err != nil {
		return err
	}

	client, err := rest.HTTPClientFor(c.Config())
	if err != nil {
		return err
	}

	for {
		if ready(ctx, client, c.URL) {
			return nil
		}

		select {
		case <-p.done:
			return &exitError{p.name, p.err}
		case <-ctx.Done():
			return fmt.Errorf("kube-apiserver is not ready after %s", startTime)
		case <-time.After(poll):
		}
	}
}

func ready(ctx context.Context, client *http.Client, url string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
	if err != nil {
		return false
	}

	response, err := client.Do(request)
	if err != nil {
		return false
	}

	return response.Body.Close() == nil && response.StatusCode == http.StatusOK
}

// stop ends the processes and removes what they kept.
func (c *Cluster) stop() error {
	for _, p := range c.processes {
		p.kill()
	}

	return os.RemoveAll(c.dir)
}

// logs returns the last lines that the processes wrote.
func (c *Cluster) logs() string {
	const most = 16 << 10

	var out bytes.Buffer

	for _, p := range c.processes {
		data, err := os.ReadFile(p.log)
		if err != nil {
			data = []byte(err.Error())
		}

		fmt.Fprintf(&out, "--- the log of %s\n%s\n", p.name, data[max(0, len(data)-most):])
	}

	return out.String()
}

func (c *Cluster) path(name string) string { return filepath.Join(c.dir, name) }

// Config returns the access of somebody who may do everything.
func (c *Cluster) Config() *rest.Config {
	return &rest.Config{
		Host:            c.URL,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.CA, CertData: c.admin.cert, KeyData: c.admin.key},
		QPS:             -1, // tests do not wait for each other
	}
}

// Core returns a client of somebody who may do everything.
func (c *Cluster) Core(t testing.TB) coreclient.CoreV1Interface {
	t.Helper()

	return client(t, c.Config(), coreclient.NewForConfig)
}

func (c *Cluster) rbac(t testing.TB) rbacclient.RbacV1Interface {
	t.Helper()

	return client(t, c.Config(), rbacclient.NewForConfig)
}

func (c *Cluster) authorization(t testing.TB) authorizationclient.AuthorizationV1Interface {
	t.Helper()

	return client(t, c.Config(), authorizationclient.NewForConfig)
}

func client[T any](t testing.TB, config *rest.Config, make func(*rest.Config) (T, error)) T {
	t.Helper()

	client, err := make(config)
	if err != nil {
		t.Fatal(err)
	}

	return client
}

// Namespace makes a namespace of a name that nobody else has, with the ServiceAccount
// "default" that a controller makes elsewhere, and returns the name.
func (c *Cluster) Namespace(t testing.TB) string {
	t.Helper()

	made, err := c.Core(t).Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}, metav1.CreateOptions{})
	if err == nil {
		_, err = c.Core(t).ServiceAccounts(made.Name).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	}

	if err != nil {
		t.Fatal(err)
	}

	return made.Name
}
