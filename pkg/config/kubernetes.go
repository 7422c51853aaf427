package config

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Kubernetes is the Kubernetes cluster that the daemon runs in, or another one that it is
// to use in its place.
type Kubernetes struct {
	// KubeconfigFile says how to reach it. Default: the service account of the pod.
	KubeconfigFile string `yaml:"kubeconfigFile"`
	// Namespace is where the daemon keeps what it keeps in the cluster. Default: that of the
	// pod, or of the current context of the kubeconfig.
	Namespace string `yaml:"namespace"`
	// LeaderElection lets several replicas run, of which one writes. Default: this daemon
	// runs alone.
	LeaderElection *LeaderElection `yaml:"leaderElection"`
	// Suspensions is the name of a ConfigMap in which `omni-syncd suspend` is remembered, for
	// all replicas and restarts. Default: in stateDir, for this replica.
	Suspensions string `yaml:"suspensions"`
	// LeaderEndpoints is the name of a Service without a selector: the replica that leads
	// keeps an EndpointSlice of this name, with its own address. Default: none.
	LeaderEndpoints string `yaml:"leaderEndpoints"`
}

// LeaderElection says how replicas agree on which one writes.
type LeaderElection struct {
	// Lease is the name of the Lease that who writes holds; with shards each has one of its
	// own. Default: omni-syncd.
	Lease string `yaml:"lease"`
	// LeaseDuration is how long the others wait, when the one that leads is not heard of, until
	// one of them takes its place; whole seconds. Default 15s.
	LeaseDuration Duration `yaml:"leaseDuration"`
	// RenewDeadline is how long who leads writes without having renewed the lease. Default 10s.
	RenewDeadline Duration `yaml:"renewDeadline"`
	// RetryPeriod is the time between two tries to renew the lease, or to take it. Default 2s.
	RetryPeriod Duration `yaml:"retryPeriod"`
}

// The defaults of `kubernetes.leaderElection`.
const (
	DefaultLease         = "omni-syncd"
	DefaultLeaseDuration = 15 * time.Second
	DefaultRenewDeadline = 10 * time.Second
	DefaultRetryPeriod   = 2 * time.Second
)

// Bounds of the durations: shorter ones flood the apiserver, longer ones leave a fleet alone.
const (
	minRetryPeriod   = 100 * time.Millisecond
	maxLeaseDuration = 10 * time.Minute
	// leaseMargin is how much shorter than the lease the time to write is, at least.
	leaseMargin = time.Second
)

func (k *Kubernetes) setDefaults() {
	if l := k.LeaderElection; l != nil {
		l.Lease = cmp.Or(l.Lease, DefaultLease)
		l.LeaseDuration = cmp.Or(l.LeaseDuration, Duration(DefaultLeaseDuration))
		l.RenewDeadline = cmp.Or(l.RenewDeadline, Duration(DefaultRenewDeadline))
		l.RetryPeriod = cmp.Or(l.RetryPeriod, Duration(DefaultRetryPeriod))
	}
}

func (k *Kubernetes) check() []error {
	var problems []error

	if k.Namespace != "" {
		problems = append(problems, checkNamespace("kubernetes.namespace", k.Namespace)...)
	}

	if k.LeaderElection != nil {
		problems = append(problems, k.LeaderElection.check()...)
	} else if k.LeaderEndpoints != "" {
		problems = append(problems, errors.New("kubernetes.leaderEndpoints: it needs leaderElection: without it every replica would point at itself"))
	}

	for key, name := range map[string]string{"kubernetes.suspensions": k.Suspensions, "kubernetes.leaderEndpoints": k.LeaderEndpoints} {
		if wrong := validation.IsDNS1123Subdomain(name); name != "" && len(wrong) > 0 {
			problems = append(problems, fmt.Errorf("%s: %.100q is no name: %s", key, name, strings.Join(wrong, "; ")))
		}
	}

	return problems
}

func (l *LeaderElection) check() []error {
	var problems []error

	complain := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("kubernetes.leaderElection."+format, args...))
	}

	duration, deadline, retry := time.Duration(l.LeaseDuration), time.Duration(l.RenewDeadline), time.Duration(l.RetryPeriod)

	// The name is the value of a label, too.
	if wrong := validation.IsDNS1123Label(l.Lease); len(wrong) > 0 {
		complain("lease: %.100q is no name of a lease: %s", l.Lease, strings.Join(wrong, "; "))
	}

	if duration%time.Second != 0 || duration > maxLeaseDuration {
		complain("leaseDuration: %s: it has to be whole seconds, %s at most", duration, maxLeaseDuration)
	}

	if deadline+leaseMargin > duration {
		complain("renewDeadline: %s: it has to be at least %s shorter than leaseDuration, which is %s", deadline, leaseMargin, duration)
	}

	if retry < minRetryPeriod || 2*retry > deadline {
		complain("retryPeriod: %s: it has to be at least %s, and at most half of renewDeadline, which is %s", retry, minRetryPeriod, deadline)
	}

	return problems
}

func checkNamespace(key, namespace string) []error {
	if problems := validation.IsDNS1123Label(namespace); len(problems) > 0 {
		return []error{fmt.Errorf("%s: %.100q is no name of a namespace: %s", key, namespace, strings.Join(problems, "; "))}
	}

	return nil
}
