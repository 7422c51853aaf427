package helm

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// kept are what the daemon made, which is not the chart's.
func (c *cluster) kept(t *testing.T, namespace string) map[string]string {
	t.Helper()

	versions := map[string]string{}

	leases, err := c.client.CoordinationV1().Leases(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}

	for _, lease := range leases.Items {
		versions["Lease "+lease.Name] = lease.ResourceVersion
	}

	slices, err := c.client.DiscoveryV1().EndpointSlices(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}

	for _, slice := range slices.Items {
		versions["EndpointSlice "+slice.Name] = slice.ResourceVersion
	}

	maps, err := c.client.CoreV1().ConfigMaps(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}

	for _, m := range maps.Items {
		if m.Labels["app.kubernetes.io/managed-by"] == "omni-syncd" {
			versions["ConfigMap "+m.Name] = m.ResourceVersion
		}
	}

	return versions
}

// helm installs, changes and removes a release in a real cluster. What the daemon wrote there
// outlives a change, also between one writer and shards, and a removal.
func TestRelease(t *testing.T) {
	c := connect(t)
	namespace, kubeconfig := c.restricted(t), c.Kubeconfig(t)

	do := func(verb string, args ...string) string {
		t.Helper()

		args = append([]string{verb, release}, args...)
		if verb != "uninstall" {
			args = append(args, chart, "-f", "testdata/values/minimal.yaml", "-f", "testdata/values/api-kubernetes.yaml")
		}

		out, failure := helm(t, append(args, "--namespace", namespace, "--kubeconfig", kubeconfig)...)
		if failure != "" {
			t.Fatalf("helm %s: %s", strings.Join(args, " "), failure)
		}

		return out
	}

	notes := do("install")
	for _, want := range []string{"kubectl -n " + namespace + " rollout status deployment/omni-syncd", "exec deployment/omni-syncd -- omni-syncd status", "get lease -l omni-syncd/lease=omni-syncd"} {
		if !strings.Contains(notes, want) {
			t.Errorf("%q is not in the notes:\n%s", want, notes)
		}
	}

	use(t, c.login(t, namespace, release), namespace, sync.Shard{}, true)

	before := c.kept(t, namespace)
	if len(before) != 3 {
		t.Fatalf("the daemon made %v", before)
	}

	same := func(when string) {
		t.Helper()

		after := c.kept(t, namespace)
		for name, version := range before {
			if after[name] != version {
				t.Errorf("%s: %s changed", when, name)
			}
		}
	}

	do("upgrade", "--set", "replicas=3", "--set", "config.sources[0].interval=5m")
	same("after the upgrade")

	deployment, err := c.client.AppsV1().Deployments(namespace).Get(t.Context(), release, metav1.GetOptions{})
	if err != nil || *deployment.Spec.Replicas != 3 {
		t.Fatal(deployment, err)
	}

	config, err := c.client.CoreV1().ConfigMaps(namespace).Get(t.Context(), release, metav1.GetOptions{})
	if err != nil || !strings.Contains(config.Data["config.yaml"], "interval: 5m") {
		t.Error(config, err)
	}

	if notes := do("upgrade", "--set", "shards=2", "--set", "replicas=1"); !strings.Contains(notes, "statefulset/omni-syncd") {
		t.Error(notes)
	}

	same("with shards")

	if _, err := c.client.AppsV1().Deployments(namespace).Get(t.Context(), release, metav1.GetOptions{}); err == nil {
		t.Error("the Deployment is still there beside the shards")
	}

	access := c.login(t, namespace, release)
	for index := range 2 {
		use(t, access, namespace, sync.Shard{Index: index, Count: 2}, false)
	}

	do("upgrade", "--set", "shards=3", "--set", "replicas=1")

	if set, err := c.client.AppsV1().StatefulSets(namespace).Get(t.Context(), release, metav1.GetOptions{}); err != nil || *set.Spec.Replicas != 3 {
		t.Error(set, err)
	}

	do("upgrade")
	before = c.kept(t, namespace)
	do("uninstall")
	same("after the removal")

	if len(before) != 5 {
		t.Errorf("the daemon made %v", before)
	}

	// As docs/install-kubernetes.md removes it.
	if kubectl, err := exec.LookPath("kubectl"); err == nil {
		for _, what := range []string{"lease -l omni-syncd/lease=omni-syncd", "configmap omni-syncd-suspensions", "endpointslice omni-syncd"} {
			run(t, kubectl, append([]string{"--kubeconfig", kubeconfig, "--namespace", namespace, "delete"}, strings.Fields(what)...)...)
		}

		if left := c.kept(t, namespace); len(left) > 0 {
			t.Errorf("%v is left", left)
		}
	}

	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		all, err := c.client.AppsV1().StatefulSets(namespace).List(t.Context(), metav1.ListOptions{})
		services, err2 := c.client.CoreV1().Services(namespace).List(t.Context(), metav1.ListOptions{})
		roles, err3 := c.client.RbacV1().ClusterRoles().List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=omni-syncd"})

		if err != nil || err2 != nil || err3 != nil {
			t.Fatal(err, err2, err3)
		}

		left := len(all.Items) + len(services.Items)
		for _, role := range roles.Items {
			if strings.HasPrefix(role.Name, namespace) {
				left++
			}
		}

		if left == 0 {
			break
		}

		if time.Now().After(deadline) {
			t.Fatalf("%d objects of the chart are left", left)
		}
	}
}
