package access_test

import (
	"context"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/omni-syncd/omni-syncd/pkg/access"
)

// A Secret of somebody else is never touched, in whatever way it is that.
func TestKube_SecretsForeign(t *testing.T) {
	t.Parallel()

	for name, takeOver := range map[string]func(*corev1.Secret){
		"no mark":          func(s *corev1.Secret) { s.Labels, s.Annotations = nil, nil },
		"another instance": func(s *corev1.Secret) { s.Labels["omni-syncd/instance"] = "two" },
		"another cluster":  func(s *corev1.Secret) { s.Labels["omni-syncd/cluster"] = "other" },
		"taken over":       func(s *corev1.Secret) { s.Labels["app.kubernetes.io/managed-by"] = "Helm" },
		"a mark removed":   func(s *corev1.Secret) { delete(s.Labels, "app.kubernetes.io/managed-by") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			h := newHome(t)
			s := h.open(t, access.Flux, nil)
			must(t, s.Put(t.Context(), "prod", usual("a")))

			theirs := h.edit(t, "prod-kubeconfig", takeOver)

			room, err := s.Check(t.Context(), "prod")
			isForeign(t, err)
			same(t, "room", access.Room{}, room)

			isForeign(t, s.Put(t.Context(), "prod", usual("b")))

			recalled, err := s.Recall(t.Context(), "prod")
			must(t, err)
			same(t, "recalled", access.Configs{}, recalled)

			// Only of one that was ours there is something to tell.
			if err := s.Remove(t.Context(), "prod"); err != nil {
				isForeign(t, err)
			}

			same(t, "version", theirs.ResourceVersion, h.get(t, "prod-kubeconfig").ResourceVersion)

			// It is gone, and ours takes its place.
			must(t, h.admin.Delete(t.Context(), "prod-kubeconfig", metav1.DeleteOptions{}))
			must(t, s.Put(t.Context(), "prod", usual("b")))
			same(t, "instance", "one", h.get(t, "prod-kubeconfig").Labels["omni-syncd/instance"])
		})
	}
}

// No token is made for a place that somebody else has.
func TestKube_SecretsForeignCostsNoToken(t *testing.T) {
	t.Parallel()

	h := newHome(t)
	w := newWorkloads(t, h)
	log, recorded := logs()
	events := make(chan string, 1000)

	_, err := h.admin.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "prod-kubeconfig"}}, metav1.CreateOptions{})
	must(t, err)

	w.change(func() { w.clusters["prod"], w.clusters["test"] = nil, nil })

	for range 2 {
		stop := keep(t, access.KeeperConfig{
			Store: toldSecrets{h.open(t, access.Flux, nil), events}, Issuer: w, Engine: w, Kubeconfig: true, ServiceAccount: &access.ServiceAccount{User: "a", TTL: time.Hour}, Logger: log,
		})
		await(t, events, "put prod", "put test")
		stop()
	}

	same(t, "tokens", []int{0, 1}, []int{w.count("prod"), w.count("test")})
	same(t, "told at each start", 2, recorded.FilterMessage("the configs of a cluster are not kept as they should be").Len())
}

// No token is made for a Secret of ours that somebody made immutable: it could not be put there.
func TestKube_SecretsImmutableCostsNoToken(t *testing.T) {
	t.Parallel()

	h := newHome(t)
	w := newWorkloads(t, h)
	s := h.open(t, access.Flux, nil)
	must(t, s.Put(t.Context(), "prod", usual("a")))
	h.edit(t, "prod-kubeconfig", func(secret *corev1.Secret) { secret.Immutable = new(true) })

	room, err := s.Check(t.Context(), "prod")
	fails(t, err, "prod-kubeconfig", "immutable", "delete it")
	same(t, "room", access.Room{}, room)

	w.change(func() { w.clusters["prod"], w.clusters["test"] = nil, nil })

	events := make(chan string, 1000)
	stop := keep(t, access.KeeperConfig{
		Store: toldSecrets{s, events}, Issuer: w, Engine: w, Kubeconfig: true, ServiceAccount: &access.ServiceAccount{User: "a", TTL: time.Hour},
	})
	await(t, events, "put test")
	time.Sleep(2 * time.Second)
	stop()
	same(t, "tokens", []int{0, 1}, []int{w.count("prod"), w.count("test")})

	// It goes with its cluster all the same.
	must(t, s.Remove(t.Context(), "prod"))
	same(t, "Secrets", []string{"test-kubeconfig"}, h.names(t))
}

// racing lets somebody else act in the moment before a write.
type racing struct {
	coreclient.SecretInterface

	before func()
}

func (r *racing) act(dryRun []string) {
	if before := r.before; before != nil && dryRun == nil {
		r.before = nil
		before()
	}
}

func (r *racing) Create(ctx context.Context, secret *corev1.Secret, opts metav1.CreateOptions) (*corev1.Secret, error) {
	r.act(opts.DryRun)

	return r.SecretInterface.Create(ctx, secret, opts)
}

func (r *racing) Update(ctx context.Context, secret *corev1.Secret, opts metav1.UpdateOptions) (*corev1.Secret, error) {
	r.act(opts.DryRun)

	return r.SecretInterface.Update(ctx, secret, opts)
}

func (r *racing) Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error {
	r.act(opts.DryRun)

	return r.SecretInterface.Delete(ctx, name, opts)
}

// What somebody else does between a look and a write is neither lost nor overwritten.
func TestKube_SecretsRaces(t *testing.T) {
	t.Parallel()

	const name = "prod-kubeconfig"

	h := newHome(t)
	race := &racing{SecretInterface: h.client}
	s := h.open(t, access.Flux, func(cfg *access.SecretsConfig) { cfg.Client = race })

	room, err := s.Check(t.Context(), "prod")
	must(t, err)
	same(t, "room", access.Room{Kubeconfig: true, Talosconfig: true}, room)
	same(t, "a look leaves nothing behind", []string{}, h.names(t))

	// Somebody takes the place.
	race.before = func() {
		_, err := h.admin.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: map[string]string{"mine": "yes"}}, metav1.CreateOptions{})
		must(t, err)
	}

	isForeign(t, s.Put(t.Context(), "prod", usual("a")))
	same(t, "theirs", map[string][]byte{"mine": []byte("yes")}, h.get(t, name).Data)
	must(t, h.admin.Delete(t.Context(), name, metav1.DeleteOptions{}))
	must(t, s.Put(t.Context(), "prod", usual("a")))

	// Somebody edits it: both are in force.
	race.before = func() { h.edit(t, name, func(secret *corev1.Secret) { secret.Labels["mine"] = "yes" }) }

	must(t, s.Put(t.Context(), "prod", usual("b")))
	same(t, "label", "yes", h.get(t, name).Labels["mine"])
	same(t, "value", string(usual("b").Kubeconfig), string(h.get(t, name).Data["value"]))

	// Somebody removes it.
	race.before = func() { must(t, h.admin.Delete(t.Context(), name, metav1.DeleteOptions{})) }

	must(t, s.Put(t.Context(), "prod", usual("c")))
	same(t, "value", string(usual("c").Kubeconfig), string(h.get(t, name).Data["value"]))

	// Somebody takes it over, before a write and before it is removed.
	takeOver := func() {
		h.edit(t, name, func(secret *corev1.Secret) { secret.Labels["app.kubernetes.io/managed-by"] = "me" })
	}

	race.before = takeOver
	isForeign(t, s.Put(t.Context(), "prod", usual("d")))
	same(t, "value", string(usual("c").Kubeconfig), string(h.get(t, name).Data["value"]))

	h.edit(t, name, func(secret *corev1.Secret) { secret.Labels["app.kubernetes.io/managed-by"] = "omni-syncd" })

	race.before = takeOver
	isForeign(t, s.Remove(t.Context(), "prod"))
	same(t, "Secrets", []string{name}, h.names(t))

	h.edit(t, name, func(secret *corev1.Secret) { secret.Labels["app.kubernetes.io/managed-by"] = "omni-syncd" })

	// Somebody puts another one of the same name in its place.
	race.before = func() {
		must(t, h.admin.Delete(t.Context(), name, metav1.DeleteOptions{}))
		_, err := h.admin.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		must(t, err)
	}

	must(t, s.Remove(t.Context(), "prod"))
	same(t, "Secrets", []string{name}, h.names(t))
}

// Two daemons in one namespace, and two shards of one, leave each other alone.
func TestKube_SecretsOfOthers(t *testing.T) {
	t.Parallel()

	h := newHome(t)
	one := h.open(t, access.Flux, nil)
	two := h.open(t, access.Flux, func(cfg *access.SecretsConfig) { cfg.Instance = "two" })
	half := h.open(t, access.Flux, func(cfg *access.SecretsConfig) { cfg.Mine = func(cluster string) bool { return cluster == "b" } })

	must(t, one.Put(t.Context(), "a", usual("a")))
	must(t, one.Put(t.Context(), "b", usual("b")))
	isForeign(t, two.Put(t.Context(), "a", usual("a")))

	for store, want := range map[*access.Secrets][]string{one: {"a", "b"}, two: nil, half: {"b"}} {
		got, err := store.List(t.Context())
		must(t, err)

		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}

	must(t, two.Remove(t.Context(), "a"))
	must(t, half.Remove(t.Context(), "a"))
	same(t, "Secrets", []string{"a-kubeconfig", "b-kubeconfig"}, h.names(t))
	must(t, half.Remove(t.Context(), "b"))
	same(t, "Secrets", []string{"a-kubeconfig"}, h.names(t))
}
