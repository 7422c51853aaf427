package config

import (
	"fmt"
	"strings"
)

// AccessSecrets are Secrets of the Kubernetes cluster that the daemon runs in, see
// [Kubernetes]: one for each synced cluster, for the controllers that bring workloads there.
type AccessSecrets struct {
	// For is who reads them: [ArgoCD] or [Flux].
	For string `yaml:"for"`
	// Namespace is where they are. Default: that of [Kubernetes].
	Namespace string `yaml:"namespace"`
	// Name is what each is called; {cluster} stands in it once. Default: cluster-{cluster} for
	// Argo CD, {cluster}-kubeconfig for Flux.
	Name string `yaml:"name"`
	// Labels are put on each.
	Labels map[string]string `yaml:"labels"`
	// Talosconfig puts a talosconfig into each, too; for Flux only.
	Talosconfig bool `yaml:"talosconfig"`
	// Instance tells them from those of another daemon in the same namespace. Default:
	// omni-syncd.
	Instance string `yaml:"instance"`
	// ServiceAccount is whom the tokens in them are for, renewed when half their time is over.
	// A controller cannot log in with a browser, so it is needed.
	ServiceAccount *ServiceAccount `yaml:"serviceAccount"`
}

// The words that `access.secrets.for` takes.
const (
	ArgoCD = "argocd"
	Flux   = "flux"
)

// check says what is wrong; names and labels are looked at when they are used.
func (s *AccessSecrets) check() []error {
	if s == nil {
		return nil
	}

	var problems []error

	complain := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }

	if s.For != ArgoCD && s.For != Flux {
		complain("access.secrets.for: %q means nothing; use %s or %s", s.For, ArgoCD, Flux)
	}

	if s.Talosconfig && s.For == ArgoCD {
		complain("access.secrets.talosconfig: Argo CD has no use for it; leave it out")
	}

	if s.Name != "" && strings.Count(s.Name, "{cluster}") != 1 {
		complain("access.secrets.name: %.100q: {cluster} has to stand in it once", s.Name)
	}

	if s.Namespace != "" {
		problems = append(problems, checkNamespace("access.secrets.namespace", s.Namespace)...)
	}

	if a := s.ServiceAccount; a == nil || a.User == "" || a.TTL <= 0 {
		complain("access.secrets.serviceAccount: user and ttl are needed: a controller has no browser to log in with")
	} else if err := a.checkTTL("access.secrets.serviceAccount"); err != nil {
		problems = append(problems, err)
	}

	return problems
}
