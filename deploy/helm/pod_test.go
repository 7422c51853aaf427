package helm

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kruntime "k8s.io/apimachinery/pkg/runtime"

	"github.com/omni-syncd/omni-syncd/test/binary"
)

const podIP = "192.0.2.9"

// container is the chart's container as a kubelet would start it, in a folder of its own in
// place of a file system: what is not mounted is not there, and what is read-only for the
// user stays so.
type container struct {
	spec corev1.Container
	root string
	env  []string
}

// contain makes what the pod mounts from what the chart and the test have.
func contain(t *testing.T, made *unstructured.Unstructured, secrets map[string]map[string]string, binary string, env map[string]string) *container {
	t.Helper()

	var pod corev1.Pod
	if err := kruntime.DefaultUnstructuredConverter.FromUnstructured(made.Object, &pod); err != nil {
		t.Fatal(err)
	}

	c := &container{spec: pod.Spec.Containers[0], root: t.TempDir()}

	// t.TempDir is for its owner alone, and so is what is above it.
	for dir := c.root; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}

	program, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}

	c.write(t, "/usr/bin/omni-syncd", string(program), 0o755)

	volumes := map[string]corev1.Volume{}
	for _, volume := range pod.Spec.Volumes {
		volumes[volume.Name] = volume
	}

	for _, mount := range c.spec.VolumeMounts {
		volume := volumes[mount.Name]

		switch {
		case volume.EmptyDir != nil:
			dir := filepath.Join(c.root, mount.MountPath)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}

			if err := os.Chown(dir, 0, int(*pod.Spec.SecurityContext.FSGroup)); err != nil {
				t.Fatal(err)
			}

			if err := os.Chmod(dir, 0o777|os.ModeSetgid); err != nil {
				t.Fatal(err)
			}
		case volume.Secret != nil:
			for key, value := range secrets[volume.Secret.SecretName] {
				c.write(t, filepath.Join(mount.MountPath, key), value, os.FileMode(*volume.Secret.DefaultMode))

				if err := os.Chown(filepath.Join(c.root, mount.MountPath, key), 0, int(*pod.Spec.SecurityContext.FSGroup)); err != nil {
					t.Fatal(err)
				}
			}
		case volume.ConfigMap != nil:
			for key, value := range secrets[volume.ConfigMap.Name] {
				c.write(t, filepath.Join(mount.MountPath, key), value, 0o644)
			}
		default:
			t.Fatalf("what is the volume of %+v?", mount)
		}
	}

	fields := map[string]string{"metadata.name": pod.Name, "status.podIP": podIP, "metadata.labels['apps.kubernetes.io/pod-index']": pod.Labels["apps.kubernetes.io/pod-index"]}
	// The image's own.
	c.env = []string{"PATH=/usr/bin", "RUNTIME_DIRECTORY=/tmp/omni-syncd"}

	for _, variable := range c.spec.Env {
		if variable.ValueFrom != nil {
			variable.Value = fields[variable.ValueFrom.FieldRef.FieldPath]
		}

		c.env = append(c.env, variable.Name+"="+variable.Value)
	}

	for name, value := range env {
		c.env = append(c.env, name+"="+value)
	}

	return c
}

func (c *container) write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()

	path = filepath.Join(c.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// command is a program in the container, as `kubectl exec` runs one.
func (c *container) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()

	var variables []string
	for _, variable := range c.env {
		name, value, _ := strings.Cut(variable, "=")
		variables = append(variables, "$("+name+")", value)
	}

	expand := strings.NewReplacer(variables...)
	for i := range args {
		args[i] = expand.Replace(args[i])
	}

	cmd := exec.CommandContext(t.Context(), "/usr/bin/omni-syncd", args...)
	cmd.Dir, cmd.Env = "/", c.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: c.root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}

	return cmd
}

func (c *container) exec(t *testing.T, args ...string) string {
	t.Helper()

	out, err := c.command(t, args...).CombinedOutput()
	if err != nil {
		t.Errorf("omni-syncd %v: %v\n%s", args, err, out)
	}

	return string(out)
}

// omni starts the demo's Omni, and returns where it is and a key for it.
func omni(t *testing.T, binary string) (endpoint, key string) {
	t.Helper()

	cmd := exec.CommandContext(t.Context(), binary, "demo", "--omni-only")
	cmd.Stderr = os.Stderr

	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}

	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = cmd.Wait() }) // it ends with the context of the test

	for lines := bufio.NewScanner(out); key == "" && lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "export OMNI_ENDPOINT="); ok {
			endpoint = value
		}

		if value, ok := strings.CutPrefix(lines.Text(), "export OMNI_SERVICE_ACCOUNT_KEY="); ok {
			key = value
		}
	}

	return endpoint, key
}

// certificate makes one for this machine.
func certificate(t *testing.T) (certificate, key string) {
	t.Helper()

	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}

	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "omni-syncd"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}

	public, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}

	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}

	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: public})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}))
}

func freePort(t *testing.T) int {
	t.Helper()

	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // it was there to find the port

	return listener.Addr().(*net.TCPAddr).Port
}

// until waits for something, and shows the log if it does not come.
func until(t *testing.T, what string, log func() string, condition func() bool) {
	t.Helper()

	for deadline := time.Now().Add(90 * time.Second); !condition(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in time\n%s", what, log())
		}
	}
}

// The daemon works as the chart starts it: with its files, its environment, its user, its
// rights in the apiserver and nothing else. There is no kubelet here; a folder and a user stand
// for the container.
func TestPod(t *testing.T) {
	c := connect(t)

	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("it changes its root directory and its user, and needs to be root on Linux for that")
	}

	program := binary.Static(t)

	for name, more := range map[string][]string{
		"replicas": {"--set", "replicas=2"},
		"shards":   {"--set", "shards=1"},
	} {
		t.Run(name, func(t *testing.T) { c.runPod(t, program, name, more) })
	}
}

func (c *cluster) runPod(t *testing.T, binary, name string, more []string) {
	namespace := c.restricted(t)
	endpoint, key := omni(t, binary)
	public, private := certificate(t)
	metrics, api := freePort(t), freePort(t)
	args := append(more,
		"--set", fmt.Sprintf("omni.endpoint=%s,metrics.port=%d,api.enabled=true,api.port=%d,api.tls.existingSecret=tls", endpoint, metrics, api),
		"--set-json", `config.api.kubernetes={}`,
		"--set-json", `config.sources=[{"name": "fleet", "dir": {"path": "/srv/templates"}}]`,
	)

	rendered, failure := template(t, chart, namespace, args...)
	if failure != "" {
		t.Fatal(failure)
	}

	c.install(t, namespace, args...)

	all := objects(t, rendered)
	file, _, _ := unstructured.NestedString(one(t, all, "ConfigMap").Object, "data", "config.yaml")
	apiserver, err := url.Parse(c.URL)
	if err != nil {
		t.Fatal(err)
	}

	in := contain(t, pod(t, all), map[string]map[string]string{
		"omni-syncd": {"config.yaml": file}, "omni-syncd-omni": {"omni-key": key + "\n"}, "tls": {"tls.crt": public, "tls.key": private},
	}, binary, map[string]string{"KUBERNETES_SERVICE_HOST": apiserver.Hostname(), "KUBERNETES_SERVICE_PORT": apiserver.Port()})

	account := "/var/run/secrets/kubernetes.io/serviceaccount/"
	in.write(t, account+"token", c.login(t, namespace, release).BearerToken, 0o644)
	in.write(t, account+"ca.crt", string(c.CA), 0o644)
	in.write(t, account+"namespace", namespace, 0o644)

	if err := os.CopyFS(filepath.Join(in.root, "srv/templates"), os.DirFS("../../examples/templates")); err != nil {
		t.Fatal(err)
	}

	logs, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}

	daemon := in.command(t, in.spec.Args...)
	daemon.Stdout, daemon.Stderr = logs, logs

	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}

	log := func() string {
		text, _ := os.ReadFile(logs.Name())

		return string(text)
	}

	for _, probe := range []*corev1.Probe{in.spec.StartupProbe, in.spec.LivenessProbe, in.spec.ReadinessProbe} {
		until(t, probe.HTTPGet.Path, log, func() bool {
			answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", metrics, probe.HTTPGet.Path))

			return err == nil && answer.Body.Close() == nil && answer.StatusCode == http.StatusOK
		})
	}

	until(t, "every cluster is synced", log, func() bool { return strings.Count(in.exec(t, "status"), "  Synced  ") == 4 })

	leases, err := c.client.CoordinationV1().Leases(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "omni-syncd/lease=omni-syncd"})
	if err != nil || len(leases.Items) != 1 || !strings.HasPrefix(*leases.Items[0].Spec.HolderIdentity, release+"-0_") {
		t.Fatal(leases, err, log())
	}

	in.exec(t, "suspend", "production", "--reason", "test")

	if kept, err := c.client.CoreV1().ConfigMaps(namespace).Get(t.Context(), release+"-suspensions", metav1.GetOptions{}); err != nil {
		t.Error(kept, err, log())
	}

	if name == "replicas" {
		until(t, "the Service leads here", log, func() bool {
			slice, err := c.client.DiscoveryV1().EndpointSlices(namespace).Get(t.Context(), release, metav1.GetOptions{})

			return err == nil && slice.Endpoints[0].Addresses[0] == podIP && *slice.Ports[0].Name == "api" && int(*slice.Ports[0].Port) == api
		})
	}

	// Somebody with a role in this cluster asks over the network.
	c.allow(t, namespace)

	token, err := c.client.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), "default",
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{"omni-syncd"}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}

	in.write(t, "/home/token", token.Status.Token, 0o644)
	in.write(t, "/home/ca.crt", public, 0o644)
	until(t, "the API answers", log, func() bool {
		out, err := in.command(t, "status", "--server", fmt.Sprintf("https://127.0.0.1:%d", api), "--token-file", "/home/token", "--ca-file", "/home/ca.crt").CombinedOutput()

		return err == nil && strings.Contains(string(out), "production")
	})

	if err := daemon.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}

	if err := daemon.Wait(); err != nil {
		t.Error(err, log())
	}

	lease, err := c.client.CoordinationV1().Leases(namespace).Get(t.Context(), leases.Items[0].Name, metav1.GetOptions{})
	if err != nil || (lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity != "") {
		t.Error("the lease was not given back: ", lease, err)
	}

	if strings.Contains(log(), "forbidden") {
		t.Error("it lacks a right:\n", log())
	}
}

// allow lets the ServiceAccount default see the clusters.
func (c *cluster) allow(t *testing.T, namespace string) {
	t.Helper()

	named := metav1.ObjectMeta{Name: namespace + "-viewer"}
	role := &rbacv1.ClusterRole{ObjectMeta: named, Rules: []rbacv1.PolicyRule{{APIGroups: []string{"omni-syncd"}, Resources: []string{"clusters"}, Verbs: []string{"get"}}}}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: named, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: named.Name},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: "default"}},
	}

	if _, err := c.client.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	if _, err := c.client.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}
