package access

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	gosync "sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
)

const (
	// ClusterPlaceholder stands for the cluster in the names of Secrets.
	ClusterPlaceholder = "{cluster}"

	// maxSecret is how much a Secret may hold, in bytes; Kubernetes takes twice that.
	maxSecret = 512 << 10
	// listPage is how many Secrets are listed at a time, and writeTries how often one that
	// changes under our hands is looked at again.
	listPage, writeTries = 200, 5
)

// SecretsConfig configures a [Secrets].
type SecretsConfig struct {
	// Client is for the Secrets of one namespace. It has to be allowed to get, list, create,
	// update and delete them.
	Client coreclient.SecretInterface
	// Namespace is the name of that, for people.
	Namespace string
	// Form is for whom they are.
	Form Form
	// Name is what they are called; [ClusterPlaceholder] stands in it once. Default:
	// cluster-{cluster} for Argo CD, {cluster}-kubeconfig for Flux.
	Name string
	// Labels are put on each besides those that the form and the marks need.
	Labels map[string]string
	// Instance tells the Secrets of this daemon from those of another one in the same
	// namespace. Replicas of one daemon have the same.
	Instance string
	// Mine, if not nil, says whether a cluster is this process's to care for. What is kept of
	// others is no business of it.
	Mine func(cluster string) bool
}

// Secrets is a [Store] in Secrets of a Kubernetes cluster, one for each cluster, in the form
// that Argo CD or Flux reads. So a cluster that is added in Git can get its workloads without
// anybody's hand.
//
// A Secret is ours while it carries our marks: managed by omni-syncd, the instance, the
// cluster. Any other is neither changed nor removed, whatever its name. What the form needs
// in ours is put right if somebody changes it; what others add stays. A write carries the
// version it was made from, and a deletion that and the UID, so nothing that happens in
// between is lost.
//
// Check asks the API server for a dry run, so that neither a right that is missing nor an
// admission webhook is found out after a token was made.
type Secrets struct {
	SecretsConfig

	mu gosync.Mutex
	// strays are Secrets of ours with names that they would not get now.
	strays map[string][]string
}

// NewSecrets returns a store. Nothing is asked of the API server.
func NewSecrets(cfg SecretsConfig) (*Secrets, error) {
	if cfg.Name == "" {
		cfg.Name = map[Form]string{ArgoCD: "cluster-" + ClusterPlaceholder, Flux: ClusterPlaceholder + "-kubeconfig"}[cfg.Form]
	}

	if cfg.Form != ArgoCD && cfg.Form != Flux {
		return nil, fmt.Errorf("for: %q is unknown; use %s or %s", cfg.Form, ArgoCD, Flux)
	}

	if strings.Count(cfg.Name, ClusterPlaceholder) != 1 {
		return nil, fmt.Errorf("name: %.300q: %s has to stand in it once", cfg.Name, ClusterPlaceholder)
	}

	if problems := validation.IsDNS1123Subdomain(strings.Replace(cfg.Name, ClusterPlaceholder, "x", 1)); len(problems) > 0 {
		return nil, fmt.Errorf("name: %.300q is no name of a Secret: %s", cfg.Name, strings.Join(problems, "; "))
	}

	if problems := validation.IsValidLabelValue(cfg.Instance); len(problems) > 0 || cfg.Instance == "" {
		return nil, fmt.Errorf("instance: %.300q is no value of a label", cfg.Instance)
	}

	for key, value := range cfg.Labels {
		problems := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...)

		switch {
		case len(problems) > 0:
			return nil, fmt.Errorf("labels: %.300q: %s", key, strings.Join(problems, "; "))
		case key == managedByLabel, key == argoLabel, strings.HasPrefix(key, markPrefix):
			return nil, fmt.Errorf("labels: %s is set by omni-syncd itself", key)
		}
	}

	return &Secrets{SecretsConfig: cfg, strays: map[string][]string{}}, nil
}

// nameOf returns the name of the Secret of a cluster.
func (s *Secrets) nameOf(cluster string) (string, error) {
	name := strings.Replace(s.Name, ClusterPlaceholder, cluster, 1)

	if len(validation.IsDNS1123Label(cluster)) > 0 || len(validation.IsDNS1123Subdomain(name)) > 0 {
		return "", fmt.Errorf("the cluster %.300q has a name that is no DNS name: it gets no Secret", cluster)
	}

	return name, nil
}

func (s *Secrets) foreign(name string) error {
	return &ForeignError{"the Secret " + s.Namespace + "/" + name, "rename or delete it"}
}

// failed says which Secret an error of the API server is about; it never quotes what it holds.
func (s *Secrets) failed(verb, name string, err error) error {
	if apierrors.IsForbidden(err) {
		return fmt.Errorf("%s the Secret %s/%s: the Role of omni-syncd does not allow it, or a policy of the cluster refuses it: %w", verb, s.Namespace, name, err)
	}

	return fmt.Errorf("%s the Secret %s/%s: %w", verb, s.Namespace, name, err)
}

// List implements [Store].
func (s *Secrets) List(ctx context.Context) ([]string, error) {
	var (
		clusters []string
		strays   = map[string][]string{}
		options  = metav1.ListOptions{Limit: listPage, LabelSelector: labels.Set{managedByLabel: managedBy, instanceLabel: s.Instance}.String()}
	)

	for {
		page, err := s.Client.List(ctx, options)
		if err != nil {
			return nil, fmt.Errorf("list the Secrets of omni-syncd in the namespace %s: %w", s.Namespace, err)
		}

		for i := range page.Items {
			secret := &page.Items[i]
			cluster := secret.Labels[clusterLabel]

			name, err := s.nameOf(cluster)
			if err != nil || s.Mine != nil && !s.Mine(cluster) {
				continue
			}

			clusters = append(clusters, cluster)

			if secret.Name != name {
				strays[cluster] = append(strays[cluster], secret.Name)
			}
		}

		if options.Continue = page.Continue; options.Continue == "" {
			break
		}
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	s.strays = strays
	slices.Sort(clusters)

	return slices.Compact(clusters), nil
}

// get returns a Secret; nil if there is none.
func (s *Secrets) get(ctx context.Context, name string) (*corev1.Secret, error) {
	secret, err := s.Client.Get(ctx, name, metav1.GetOptions{})

	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, s.failed("get", name, err)
	}

	return secret, nil
}

// Check implements [Store]. There is room for both configs or for none.
func (s *Secrets) Check(ctx context.Context, cluster string) (Room, error) {
	name, err := s.nameOf(cluster)
	if err != nil {
		return Room{}, err
	}

	secret, err := s.get(ctx, name)

	switch {
	case err != nil:
		return Room{}, err
	case secret == nil:
		next := s.marked(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Type: corev1.SecretTypeOpaque}, cluster, Origin{}, nil)
		if _, err := s.Client.Create(ctx, next, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil && !apierrors.IsAlreadyExists(err) {
			return Room{}, s.failed("create", name, err)
		}
	case !s.ours(secret, cluster):
		return Room{}, s.foreign(name)
	case secret.Immutable != nil && *secret.Immutable: // the dry run changes nothing, and would pass
		return Room{}, fmt.Errorf("the Secret %s/%s is immutable: delete it, and it is made anew", s.Namespace, name)
	default:
		if _, err := s.Client.Update(ctx, secret, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil && !apierrors.IsConflict(err) {
			return Room{}, s.failed("update", name, err)
		}
	}

	return Room{Kubeconfig: true, Talosconfig: true}, nil
}

// Recall implements [Recaller].
func (s *Secrets) Recall(ctx context.Context, cluster string) (Configs, error) {
	name, err := s.nameOf(cluster)
	if err != nil {
		return Configs{}, err
	}

	secret, err := s.get(ctx, name)
	if err != nil || secret == nil || !s.ours(secret, cluster) || secret.Annotations[digestMark] != digestOfData(secret.Data) {
		return Configs{}, err
	}

	marks := secret.Annotations
	renew, err := time.Parse(time.RFC3339, marks[renewMark])
	expires, failed := time.Parse(time.RFC3339, marks[expiresMark])

	if err != nil || failed != nil && marks[expiresMark] != "" {
		return Configs{}, nil // made anew
	}

	configs, err := s.Form.decode(secret.Data)
	if err != nil {
		return Configs{}, nil // in the form of somebody who is not served any more
	}

	configs.Origin = Origin{Source: secret.Labels[sourceLabel], Request: marks[requestMark], Renew: renew, Expires: expires}

	return configs, nil
}

// Put implements [Store].
func (s *Secrets) Put(ctx context.Context, cluster string, configs Configs) error {
	if configs.Kubeconfig == nil && configs.Talosconfig == nil {
		return nil // something is in the way of it; what is ours goes with the cluster
	}

	name, err := s.nameOf(cluster)
	if err != nil {
		return err
	}

	data, err := s.Form.encode(cluster, configs)
	if err != nil {
		return err
	}

	size := 0
	for _, value := range data {
		size += len(value)
	}

	if size > maxSecret {
		return fmt.Errorf("the configs of the cluster %s have more than %d bytes: they do not fit into a Secret", cluster, maxSecret)
	}

	if err := s.bring(ctx, name, func(secret *corev1.Secret) error {
		switch {
		case secret == nil:
			next := s.marked(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Type: corev1.SecretTypeOpaque}, cluster, configs.Origin, data)
			_, err := s.Client.Create(ctx, next, metav1.CreateOptions{})

			return err
		case !s.ours(secret, cluster):
			return s.foreign(name)
		}

		if next := s.marked(secret, cluster, configs.Origin, data); !sameSecret(secret, next) {
			_, err := s.Client.Update(ctx, next, metav1.UpdateOptions{})

			return err
		}

		return nil
	}); err != nil {
		return err
	}

	return s.removeStrays(ctx, cluster)
}

// Remove implements [Store].
func (s *Secrets) Remove(ctx context.Context, cluster string) error {
	name, err := s.nameOf(cluster)
	if err != nil || s.Mine != nil && !s.Mine(cluster) {
		return nil // it never got one, or not from here
	}

	return errors.Join(s.remove(ctx, cluster, name), s.removeStrays(ctx, cluster))
}

// removeStrays removes what is kept of a cluster by other names.
func (s *Secrets) removeStrays(ctx context.Context, cluster string) error {
	s.mu.Lock()
	strays := s.strays[cluster]
	s.mu.Unlock()

	for _, name := range strays {
		if err := s.remove(ctx, cluster, name); err != nil {
			return err
		}
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	delete(s.strays, cluster)

	return nil
}

func (s *Secrets) remove(ctx context.Context, cluster, name string) error {
	return s.bring(ctx, name, func(secret *corev1.Secret) error {
		switch {
		case secret == nil || secret.DeletionTimestamp != nil:
			return nil
		case s.ours(secret, cluster):
			err := s.Client.Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &secret.UID, ResourceVersion: &secret.ResourceVersion}})
			if apierrors.IsNotFound(err) {
				return nil
			}

			return err
		case secret.Labels[instanceLabel] == s.Instance:
			return s.foreign(name) // it was ours once
		default:
			return nil
		}
	})
}

// bring looks at a Secret and changes it, and looks again if it changed meanwhile.
func (s *Secrets) bring(ctx context.Context, name string, change func(*corev1.Secret) error) error {
	for tries := 1; ; tries++ {
		secret, err := s.get(ctx, name)
		if err != nil {
			return err
		}

		err = change(secret)
		_, foreign := errors.AsType[*ForeignError](err)

		switch {
		case err == nil || foreign:
			return err
		case tries < writeTries && (apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) && secret != nil):
		default:
			return s.failed("write", name, err)
		}
	}
}
