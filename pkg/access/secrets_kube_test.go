package access_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/omni-syncd/omni-syncd/pkg/access"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/kube"
)

// secretVerbs are all that a Secrets needs, as docs/access.md says.
var secretVerbs = []string{"get", "list", "create", "update", "delete"}

func onSecrets(verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: verbs}
}

// home is a namespace in which Secrets are kept, and an account that may do that.
type home struct {
	*kube.Cluster

	namespace string
	admin     coreclient.SecretInterface
	client    coreclient.SecretInterface
}

func newHome(t *testing.T) *home {
	t.Helper()

	c := kube.Shared(t)
	h := &home{Cluster: c, namespace: c.Namespace(t)}
	h.admin = c.Core(t).Secrets(h.namespace)
	h.client = h.as(t, secretVerbs...)

	return h
}

// as returns a client of an account with these verbs.
func (h *home) as(t *testing.T, verbs ...string) coreclient.SecretInterface {
	t.Helper()

	account := h.Account(t, h.namespace, "omni-syncd-"+strings.ToLower(strings.Join(verbs, "-")), onSecrets(verbs...))

	client, err := coreclient.NewForConfig(account.Config())
	must(t, err)

	return client.Secrets(h.namespace)
}

// open returns a store; change may be nil.
func (h *home) open(t *testing.T, form access.Form, change func(*access.SecretsConfig)) *access.Secrets {
	t.Helper()

	cfg := access.SecretsConfig{Client: h.client, Namespace: h.namespace, Form: form, Instance: "one", Labels: map[string]string{"fleet": "lab"}}
	if change != nil {
		change(&cfg)
	}

	s, err := access.NewSecrets(cfg)
	must(t, err)

	return s
}

func (h *home) get(t *testing.T, name string) *corev1.Secret {
	t.Helper()

	secret, err := h.admin.Get(t.Context(), name, metav1.GetOptions{})
	must(t, err)

	return secret
}

// names returns the names of all Secrets.
func (h *home) names(t *testing.T) []string {
	t.Helper()

	list, err := h.admin.List(t.Context(), metav1.ListOptions{})
	must(t, err)

	names := []string{}
	for _, secret := range list.Items {
		names = append(names, secret.Name)
	}

	return names
}

// edit changes a Secret behind the store's back.
func (h *home) edit(t *testing.T, name string, change func(*corev1.Secret)) *corev1.Secret {
	t.Helper()

	secret := h.get(t, name)
	change(secret)

	secret, err := h.admin.Update(t.Context(), secret, metav1.UpdateOptions{})
	must(t, err)

	return secret
}

// usual are configs of a cluster that does not exist.
func usual(token string) access.Configs {
	return access.Configs{
		Kubeconfig: withToken(here, "prod", token),
		Origin:     access.Origin{Source: "fleet", Request: "r", Renew: time.Now().Add(time.Hour).Truncate(time.Second).UTC(), Expires: time.Now().Add(2 * time.Hour).Truncate(time.Second).UTC()},
	}
}

func isForeign(t *testing.T, err error) {
	t.Helper()
	fails(t, err, "somebody else", "rename or delete it")

	if _, ok := errors.AsType[*access.ForeignError](err); !ok {
		t.Errorf("the error is %T", err)
	}
}

// workloads is an engine and an issuer of kubeconfigs that lead, with a token that is good,
// to the cluster of the test: that is the workload cluster, too.
type workloads struct {
	*script

	account *kube.Account
	t       *testing.T
}

func newWorkloads(t *testing.T, h *home) *workloads {
	return &workloads{newScript(), h.Account(t, h.Namespace(t), "workload", onSecrets("list")), t}
}

func (w *workloads) Kubeconfig(ctx context.Context, req access.Request) ([]byte, error) {
	if _, err := w.script.Kubeconfig(ctx, req); err != nil {
		return nil, err
	}

	token := w.account.Token
	for w.account.Token == token { // those of one second are equal
		time.Sleep(100 * time.Millisecond)
		w.account.Renew(w.t)
	}

	return []byte(read(w.t, w.account.Kubeconfig(w.t))), nil
}

// works uses an access.
func (w *workloads) works(t *testing.T, config *rest.Config) {
	t.Helper()

	client, err := coreclient.NewForConfig(config)
	must(t, err)

	_, err = client.Secrets(w.account.Namespace).List(t.Context(), metav1.ListOptions{})
	must(t, err)

	if _, err := client.Secrets("default").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("it leads to somebody else: %v", err)
	}
}

// toldSecrets tells when it was used.
type toldSecrets struct {
	*access.Secrets

	events chan string
}

func (s toldSecrets) Put(ctx context.Context, cluster string, configs access.Configs) error {
	err := s.Secrets.Put(ctx, cluster, configs)
	s.events <- map[bool]string{true: "put ", false: "no put "}[err == nil] + cluster

	return err
}

func (s toldSecrets) Remove(ctx context.Context, cluster string) error {
	err := s.Secrets.Remove(ctx, cluster)
	s.events <- "remove " + cluster

	return err
}

// asArgo reads a Secret as Argo CD does.
func asArgo(t *testing.T, secret *corev1.Secret) *rest.Config {
	t.Helper()

	var config struct {
		BearerToken     string `json:"bearerToken"`
		TLSClientConfig struct {
			Insecure bool   `json:"insecure"`
			CAData   []byte `json:"caData"`
		} `json:"tlsClientConfig"`
	}

	same(t, "type", "cluster", secret.Labels["argocd.argoproj.io/secret-type"])
	must(t, json.Unmarshal(secret.Data["config"], &config))

	return &rest.Config{
		Host: strings.TrimRight(string(secret.Data["server"]), "/"), BearerToken: config.BearerToken,
		TLSClientConfig: rest.TLSClientConfig{Insecure: config.TLSClientConfig.Insecure, CAData: config.TLSClientConfig.CAData},
	}
}

// asFlux reads a Secret as Flux does.
func asFlux(t *testing.T, secret *corev1.Secret) *rest.Config {
	t.Helper()

	config, err := clientcmd.RESTConfigFromKubeConfig(secret.Data["value"])
	must(t, err)

	return config
}

// The whole way, for both: a cluster comes, its Secret works, a restart makes no token, its
// half time does, and it goes with the cluster.
func TestKube_Secrets(t *testing.T) {
	for form, test := range map[access.Form]struct {
		name string
		read func(*testing.T, *corev1.Secret) *rest.Config
		keys []string
	}{
		access.ArgoCD: {"cluster-prod", asArgo, []string{"config", "name", "server"}},
		access.Flux:   {"prod-kubeconfig", asFlux, []string{"talosconfig", "value"}},
	} {
		t.Run(string(form), func(t *testing.T) {
			t.Parallel()

			h := newHome(t)
			w := newWorkloads(t, h)
			log, recorded := logs()
			events := make(chan string, 1000)
			account := &access.ServiceAccount{User: "deployer", TTL: time.Hour}
			tokens := []string{}

			begin := func() (stop func()) {
				return keep(t, access.KeeperConfig{
					Store: toldSecrets{h.open(t, form, nil), events}, Issuer: w, Engine: w, Kubeconfig: true, Talosconfig: form == access.Flux, ServiceAccount: account, Logger: log,
				})
			}

			stop := begin()
			w.change(func() { w.clusters["prod"] = nil })
			await(t, events, "put prod")

			secret := h.get(t, test.name)
			tokens = append(tokens, test.read(t, secret).BearerToken)
			w.works(t, test.read(t, secret))
			same(t, "keys", test.keys, slices.Sorted(maps.Keys(secret.Data)))

			marks := map[string]string{"app.kubernetes.io/managed-by": "omni-syncd", "omni-syncd/instance": "one", "omni-syncd/cluster": "prod", "omni-syncd/source": "src", "fleet": "lab"}
			if form == access.ArgoCD {
				marks["argocd.argoproj.io/secret-type"] = "cluster"
				same(t, "name", "prod", string(secret.Data["name"]))
				same(t, "server", h.URL+"?cluster=prod", string(secret.Data["server"]))
			}

			same(t, "labels", marks, secret.Labels)

			expires, err := time.Parse(time.RFC3339, secret.Annotations["omni-syncd/expires"])
			must(t, err)

			if left := time.Until(expires); left < 58*time.Minute || left > time.Hour {
				t.Errorf("it says that the token ends in %s", left)
			}

			// A restart, and another replica.
			for range 3 {
				stop()

				stop = begin()
				await(t, events, "put prod")
			}

			same(t, "tokens", 1, w.count("prod"))
			same(t, "version", secret.ResourceVersion, h.get(t, test.name).ResourceVersion)

			// Somebody else is to be served.
			stop()

			account = &access.ServiceAccount{User: "other", TTL: 4 * time.Second}
			stop = begin()

			await(t, events, "put prod")
			same(t, "tokens", 2, w.count("prod"))

			// Half of its time is over.
			await(t, events, "put prod")
			stop()

			secret = h.get(t, test.name)
			w.works(t, test.read(t, secret))
			tokens = append(tokens, test.read(t, secret).BearerToken)

			if w.count("prod") < 3 || tokens[0] == tokens[1] {
				t.Errorf("the token is not renewed: %d were made", w.count("prod"))
			}

			// It stays while nobody can tell, and goes with the cluster.
			account = &access.ServiceAccount{User: "other", TTL: time.Hour}

			w.change(func() { w.clusters["prod"] = &sync.NotYetError{Cluster: "prod", Unread: true} })

			stop = begin()
			time.Sleep(500 * time.Millisecond)
			same(t, "Secrets", []string{test.name}, h.names(t))
			stop()

			w.change(func() { delete(w.clusters, "prod") })

			stop = begin()
			await(t, events, "remove prod")
			stop()
			same(t, "Secrets", []string{}, h.names(t))
			noSecret(t, recorded, tokens...)
		})
	}
}

// What somebody changes in a Secret of ours is put right; what they add stays.
func TestKube_SecretsPutRight(t *testing.T) {
	t.Parallel()

	h := newHome(t)
	s := h.open(t, access.ArgoCD, nil)
	configs := usual("a")

	must(t, s.Put(t.Context(), "prod", configs))

	before := h.get(t, "cluster-prod")
	must(t, s.Put(t.Context(), "prod", configs))
	same(t, "version of what was right", before.ResourceVersion, h.get(t, "cluster-prod").ResourceVersion)

	recalled, err := s.Recall(t.Context(), "prod")
	must(t, err)
	same(t, "origin", configs.Origin, recalled.Origin)
	must(t, s.Put(t.Context(), "prod", recalled))
	same(t, "version of what was recalled", before.ResourceVersion, h.get(t, "cluster-prod").ResourceVersion)

	h.edit(t, "cluster-prod", func(secret *corev1.Secret) {
		secret.Data["config"], secret.Data["project"] = []byte("{}"), []byte("platform")
		secret.Labels["mine"], secret.Labels["fleet"], secret.Labels["omni-syncd/source"] = "yes", "other", "nobody"
		secret.Annotations["mine"] = "yes"
		delete(secret.Labels, "argocd.argoproj.io/secret-type")
	})

	recalled, err = s.Recall(t.Context(), "prod")
	must(t, err)
	same(t, "what somebody changed", access.Configs{}, recalled)

	must(t, s.Put(t.Context(), "prod", configs))

	after := h.get(t, "cluster-prod")
	before.Labels["mine"], before.Annotations["mine"], before.Data["project"] = "yes", "yes", []byte("platform")
	same(t, "labels", before.Labels, after.Labels)
	same(t, "annotations", before.Annotations, after.Annotations)
	same(t, "data", before.Data, after.Data)

	// Another form, another name, another label: what was of the old ones goes.
	s = h.open(t, access.Flux, func(cfg *access.SecretsConfig) { cfg.Labels = nil; cfg.Name = "cluster-{cluster}" })
	must(t, s.Put(t.Context(), "prod", configs))

	after = h.get(t, "cluster-prod")
	same(t, "keys", []string{"project", "value"}, slices.Sorted(maps.Keys(after.Data)))
	same(t, "labels", []string{"app.kubernetes.io/managed-by", "mine", "omni-syncd/cluster", "omni-syncd/instance", "omni-syncd/source"}, slices.Sorted(maps.Keys(after.Labels)))

	s = h.open(t, access.Flux, nil)
	clusters, err := s.List(t.Context())
	must(t, err)
	same(t, "list", []string{"prod"}, clusters)
	same(t, "before the new one is there", []string{"cluster-prod"}, h.names(t))
	must(t, s.Put(t.Context(), "prod", configs))
	same(t, "Secrets", []string{"prod-kubeconfig"}, h.names(t))

	// One that is missing comes back; one that goes does so once.
	must(t, h.admin.Delete(t.Context(), "prod-kubeconfig", metav1.DeleteOptions{}))
	must(t, s.Put(t.Context(), "prod", configs))
	must(t, s.Remove(t.Context(), "prod"))
	must(t, s.Remove(t.Context(), "prod"))
	same(t, "Secrets", []string{}, h.names(t))
}
