package helm

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/omni-syncd/omni-syncd/test/kube"
)

// cluster is a kube-apiserver that knows the Prometheus operator's resources.
type cluster struct {
	*kube.Cluster

	client kubernetes.Interface
	any    dynamic.Interface
	mapper meta.RESTMapper
	warned warnings
}

// warnings are what the apiserver warned of.
type warnings struct {
	mu  sync.Mutex
	all []string
}

func (w *warnings) HandleWarningHeader(_ int, _ string, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.all = append(w.all, text)
}

// take returns them, and forgets them.
func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()

	all := w.all
	w.all = nil

	return all
}

func connect(t *testing.T) *cluster {
	t.Helper()

	tool(t, "helm")

	c := &cluster{Cluster: kube.Shared(t)}
	config := c.Config()
	config.WarningHandler = &c.warned

	var err error
	if c.client, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}

	if c.any, err = dynamic.NewForConfig(config); err != nil {
		t.Fatal(err)
	}

	c.define(t)

	return c
}

// define makes the resources of the Prometheus operator known, as that itself does: the
// definitions come from its module.
func (c *cluster) define(t *testing.T) {
	t.Helper()

	folder := strings.TrimSpace(run(t, "go", "-C", "crds", "mod", "download", "-json", "github.com/prometheus-operator/prometheus-operator"))
	_, folder, _ = strings.Cut(folder, `"Dir": "`)
	folder, _, _ = strings.Cut(folder, `"`)

	definitions := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

	for _, name := range []string{"servicemonitors", "prometheusrules"} {
		text, err := os.ReadFile(filepath.Join(folder, "example/prometheus-operator-crd", "monitoring.coreos.com_"+name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}

		for _, definition := range objects(t, strings.TrimPrefix(string(text), "---\n")) {
			if _, err := c.any.Resource(definitions).Create(t.Context(), definition, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
				t.Fatal(err)
			}
		}
	}

	for {
		groups, err := restmapper.GetAPIGroupResources(discovery.NewDiscoveryClient(c.client.CoreV1().RESTClient()))
		if err != nil {
			t.Fatal(err)
		}

		c.mapper = restmapper.NewDiscoveryRESTMapper(groups)

		_, one := c.mapper.RESTMapping(schema.GroupKind{Group: "monitoring.coreos.com", Kind: "ServiceMonitor"})
		_, other := c.mapper.RESTMapping(schema.GroupKind{Group: "monitoring.coreos.com", Kind: "PrometheusRule"})

		if one == nil && other == nil {
			return
		}

		time.Sleep(50 * time.Millisecond)
	}
}

// restricted makes a namespace that takes restricted pods only.
func (c *cluster) restricted(t *testing.T) string {
	t.Helper()

	name := c.Namespace(t)
	patch := `{"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}}}`

	if _, err := c.client.CoreV1().Namespaces().Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}

	return name
}

func (c *cluster) resource(t *testing.T, object *unstructured.Unstructured) dynamic.ResourceInterface {
	t.Helper()

	kind := object.GroupVersionKind()

	mapping, err := c.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		t.Fatal(err)
	}

	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		return c.any.Resource(mapping.Resource)
	}

	return c.any.Resource(mapping.Resource).Namespace(object.GetNamespace())
}

// create makes an object; an unknown field is an error.
func (c *cluster) create(t *testing.T, object *unstructured.Unstructured) error {
	t.Helper()

	_, err := c.resource(t, object).Create(t.Context(), object, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})

	return err
}

// pod returns the pod that a controller would make of a Deployment or StatefulSet.
func pod(t *testing.T, all []*unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()

	workload := one(t, all, "Deployment", "StatefulSet")
	template, _, _ := unstructured.NestedMap(workload.Object, "spec", "template")

	made := &unstructured.Unstructured{Object: template}
	made.SetAPIVersion("v1")
	made.SetKind("Pod")
	made.SetNamespace(workload.GetNamespace())
	made.SetName(workload.GetName() + "-0")

	if workload.GetKind() == "Deployment" {
		return made
	}

	labels := made.GetLabels()
	labels["apps.kubernetes.io/pod-index"] = "0"
	made.SetLabels(labels)

	claims, _, _ := unstructured.NestedSlice(workload.Object, "spec", "volumeClaimTemplates")
	volumes, _, _ := unstructured.NestedSlice(made.Object, "spec", "volumes")

	for range claims {
		volumes = append(volumes, map[string]any{"name": "state", "persistentVolumeClaim": map[string]any{"claimName": "state-" + made.GetName()}})
	}

	if err := unstructured.SetNestedSlice(made.Object, volumes, "spec", "volumes"); err != nil {
		t.Fatal(err)
	}

	return made
}

// A real apiserver takes everything that the chart renders, in a namespace for restricted pods,
// and has no warning about it. It also takes the pod itself: of a Deployment it would warn only.
func TestAdmitted(t *testing.T) {
	c := connect(t)

	for _, name := range cases(t) {
		t.Run(name, func(t *testing.T) {
			namespace := c.restricted(t)

			out, failure := template(t, chart, namespace, append(valuesOf(name), "--api-versions", "monitoring.coreos.com/v1")...)
			if failure != "" {
				t.Fatal(failure)
			}

			c.warned.take()

			all := objects(t, out)
			for _, object := range append(all, pod(t, all)) {
				if err := c.create(t, object); err != nil {
					t.Errorf("%s %s: %v", object.GetKind(), object.GetName(), err)
				}
			}

			if got := c.warned.take(); len(got) > 0 {
				t.Errorf("it warns: %s", strings.Join(got, "\n"))
			}
		})
	}
}

// The namespace of TestAdmitted does refuse what is not restricted, and the apiserver what it
// does not know.
func TestAdmittedCanFail(t *testing.T) {
	c := connect(t)
	namespace := c.restricted(t)

	out, failure := template(t, chart, namespace, "--set", "securityContext.allowPrivilegeEscalation=true")
	if failure != "" {
		t.Fatal(failure)
	}

	c.warned.take()

	all := objects(t, out)
	if err := c.create(t, one(t, all, "ServiceAccount")); err != nil {
		t.Fatal(err)
	}

	if err := c.create(t, pod(t, all)); err == nil || !strings.Contains(err.Error(), "allowPrivilegeEscalation != false") {
		t.Error(err)
	}

	if err := c.create(t, one(t, all, "Deployment")); err != nil || len(c.warned.take()) == 0 {
		t.Error("no warning about a Deployment with such pods: ", err)
	}

	monitor := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": map[string]any{"name": "x", "namespace": namespace},
		"spec": map[string]any{"selector": map[string]any{}, "endpoints": []any{map[string]any{"porte": "metrics"}}},
	}}
	if err := c.create(t, monitor); err == nil || !strings.Contains(err.Error(), "porte") {
		t.Error(err)
	}
}

// login returns the access of a ServiceAccount.
func (c *cluster) login(t *testing.T, namespace, name string) *rest.Config {
	t.Helper()

	answer, err := c.client.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}

	return &rest.Config{Host: c.URL, TLSClientConfig: rest.TLSClientConfig{CAData: c.CA}, BearerToken: answer.Status.Token, QPS: -1}
}

// install makes what the chart renders, but for its workload.
func (c *cluster) install(t *testing.T, namespace string, args ...string) {
	t.Helper()

	out, failure := template(t, chart, namespace, args...)
	if failure != "" {
		t.Fatal(failure)
	}

	for _, object := range objects(t, out) {
		if slices.Contains([]string{"Deployment", "StatefulSet"}, object.GetKind()) {
			continue
		}

		if err := c.create(t, object); err != nil {
			t.Fatal(err)
		}
	}
}
