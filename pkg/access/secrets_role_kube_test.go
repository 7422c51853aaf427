package access_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/omni-syncd/omni-syncd/pkg/access"
)

// Every verb of the Role is needed, and no other one. Without one, that is found out before
// a token is made.
func TestKube_SecretsRole(t *testing.T) {
	t.Parallel()

	for i, verb := range append([]string{"none"}, secretVerbs...) {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()

			h := newHome(t)
			verbs := slices.Clone(secretVerbs)

			if i > 0 {
				verbs = slices.Delete(verbs, i-1, i)
			}

			must(t, h.open(t, access.Flux, nil).Put(t.Context(), "old", usual("a")))

			client := h.client
			if i > 0 {
				client = h.as(t, verbs...)
			}

			s := h.open(t, access.Flux, func(cfg *access.SecretsConfig) { cfg.Client = client })

			failed := map[string]bool{}
			note := func(step string, err error) {
				if err == nil {
					return
				}

				failed[step] = true
				fails(t, err, "forbidden", verb)
			}

			_, err := s.List(t.Context())
			note("list", err)
			_, err = s.Check(t.Context(), "new")
			note("check new", err)
			_, err = s.Check(t.Context(), "old")
			note("check old", err)
			_, err = s.Recall(t.Context(), "old")
			note("recall", err)
			note("create", s.Put(t.Context(), "new", usual("b")))
			note("update", s.Put(t.Context(), "old", usual("b")))
			note("remove", s.Remove(t.Context(), "old"))

			want := map[string][]string{
				"none": {}, "list": {"list"}, "create": {"check new", "create"}, "update": {"check old", "update"}, "delete": {"remove"},
				"get": {"check new", "check old", "create", "recall", "remove", "update"},
			}[verb]
			same(t, "what fails", want, append([]string{}, slices.Sorted(maps.Keys(failed))...))
		})
	}
}

// Nothing is fetched, and nothing goes, while the apiserver cannot be reached; after that it
// all goes on.
func TestKube_SecretsCutOff(t *testing.T) {
	t.Parallel()

	h := newHome(t)
	w := newWorkloads(t, h)
	events := make(chan string, 1000)
	proxy := h.Proxy(t)
	account := h.Account(t, h.namespace, "cut-off", onSecrets(secretVerbs...))

	config, err := clientcmd.BuildConfigFromFlags("", proxy.Kubeconfig(t, account.Kubeconfig(t)))
	must(t, err)

	client, err := coreclient.NewForConfig(config)
	must(t, err)

	log, recorded := logs()
	begin := func() (stop func()) {
		return keep(t, access.KeeperConfig{
			Store:  toldSecrets{h.open(t, access.Flux, func(cfg *access.SecretsConfig) { cfg.Client = client.Secrets(h.namespace) }), events},
			Issuer: w, Engine: w, Kubeconfig: true, ServiceAccount: &access.ServiceAccount{User: "a", TTL: time.Hour}, Logger: log,
			RetryMin: 10 * time.Millisecond, RetryMax: 100 * time.Millisecond,
		})
	}

	w.change(func() { w.clusters["a"] = nil })

	stop := begin()
	await(t, events, "put a")
	proxy.Cut()
	w.change(func() { w.clusters["b"] = nil; delete(w.clusters, "a") })
	time.Sleep(time.Second)
	stop() // a stop is not held up

	same(t, "tokens", 0, w.count("b"))
	same(t, "Secrets", []string{"a-kubeconfig"}, h.names(t))

	stop = begin()
	proxy.Restore()
	await(t, events, "put b", "remove a")
	stop()
	same(t, "Secrets", []string{"b-kubeconfig"}, h.names(t))
	same(t, "tokens", []int{1, 1}, []int{w.count("a"), w.count("b")})
	noSecret(t, recorded, w.account.Token)
}
