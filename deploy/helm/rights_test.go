package helm

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/omni-syncd/omni-syncd/pkg/replica"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// rights returns what somebody may do in a namespace and beside them, as the apiserver tells
// it, one rule a line.
func rights(t *testing.T, access *rest.Config, namespace string) (all []string) {
	t.Helper()

	client, err := kubernetes.NewForConfig(access)
	if err != nil {
		t.Fatal(err)
	}

	review := &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace}}

	answer, err := client.AuthorizationV1().SelfSubjectRulesReviews().Create(t.Context(), review, metav1.CreateOptions{})
	if err != nil || answer.Status.Incomplete {
		t.Fatal(answer, err)
	}

	for _, rule := range answer.Status.ResourceRules {
		text := strings.Join(rule.Verbs, ",") + " " + strings.Join(rule.Resources, ",")
		if len(rule.ResourceNames) > 0 {
			text += " " + strings.Join(rule.ResourceNames, ",")
		}

		all = append(all, text)
	}

	slices.Sort(all)

	return all
}

// The daemon may do what the features in use need, in its own namespace, and nothing else.
// docs/install-kubernetes.md has the same table.
func TestRights(t *testing.T) {
	var (
		lease       = []string{"create,list leases", "get,update leases omni-syncd"}
		suspensions = []string{"create configmaps", "get,list,watch,update configmaps omni-syncd-suspensions"}
		endpoints   = []string{"create endpointslices", "patch endpointslices omni-syncd"}
		reviews     = []string{"create tokenreviews", "create subjectaccessreviews"}
	)

	for name, want := range map[string][][]string{
		"minimal":           {lease, suspensions},
		"ha":                {lease, suspensions},
		"monitoring":        {lease, suspensions},
		"alone":             {},
		"alone-webhooks":    {suspensions},
		"webhooks-tls":      {lease, suspensions, endpoints},
		"api-tokens":        {lease, suspensions, endpoints},
		"api-oidc":          {lease, suspensions, endpoints},
		"api-kubernetes":    {lease, suspensions, endpoints, reviews},
		"shards":            {{"create,list leases", "get,update leases omni-syncd,omni-syncd-0-of-4,omni-syncd-1-of-4,omni-syncd-2-of-4,omni-syncd-3-of-4"}, suspensions},
		"shards-everything": {{"create,list leases", "get,update leases omni-syncd,omni-syncd-0-of-2,omni-syncd-1-of-2"}, suspensions, reviews},
		"shards-unled":      {suspensions},
		"credentials":       {lease, suspensions},
		"secrets":           {lease, suspensions},
		"secrets-elsewhere": {lease, suspensions},
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t)
			namespace := c.restricted(t)
			c.install(t, namespace, valuesOf(name)...)

			// What everybody may who is logged in.
			want := append(slices.Concat(want...), rights(t, c.login(t, namespace, "default"), namespace)...)
			slices.Sort(want)

			access := c.login(t, namespace, release)

			// The authorizer learns of a role with a watch.
			var got []string
			for range 100 {
				if got = rights(t, access, namespace); slices.Equal(want, got) {
					break
				}

				time.Sleep(50 * time.Millisecond)
			}

			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}

			if strings.HasPrefix(name, "secrets") { // those are in another namespace, and there nothing else is
				want := append(rights(t, c.login(t, namespace, "default"), "default"), "get,list,create,update,delete secrets")
				slices.Sort(want)

				if d := cmp.Diff(want, rights(t, access, "default")); d != "" {
					t.Errorf("where the Secrets are:\n%s", d)
				}
			}

			other := c.Namespace(t)
			if slices.Contains(want, "create tokenreviews") {
				return // those are beside the namespaces
			}

			if d := cmp.Diff(rights(t, c.login(t, namespace, "default"), other), rights(t, access, other)); d != "" {
				t.Errorf("in another namespace:\n%s", d)
			}
		})
	}
}

// no role is made if somebody else makes them.
func TestNoRoles(t *testing.T) {
	out, failure := template(t, chart, namespace, append(valuesOf("everything"), "--set", "rbac.create=false")...)
	if failure != "" || strings.Contains(out, "rbac.authorization.k8s.io") {
		t.Error(out, failure)
	}
}

// adopter remembers what was suspended elsewhere.
type adopter chan []sync.Suspension

func (a adopter) AdoptSuspensions(kept func() ([]sync.Suspension, bool)) {
	if all, ok := kept(); ok {
		a <- all
	}
}

// use runs what the daemon does in Kubernetes, with the chart's rights and names: it takes the
// lease, points the Service at itself, and keeps and watches what is suspended.
func use(t *testing.T, access *rest.Config, namespace string, shard sync.Shard, service bool) {
	t.Helper()

	client, err := kubernetes.NewForConfig(access)
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	lease, err := replica.NewLease(replica.LeaseConfig{
		Client: client.CoordinationV1(), Namespace: namespace, Name: release, Shard: shard, Replica: "test",
		Duration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}

	done := make(chan error, 3)
	running := 1

	go func() { done <- lease.Run(ctx) }()

	for now, changed := lease.Leadership(); now.Term == 0; now, changed = lease.Leadership() {
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatal("the lease was not got")
		}
	}

	if service {
		running++

		endpoints := replica.NewEndpoints(replica.EndpointsConfig{
			Client: client.DiscoveryV1(), Namespace: namespace, Service: release, Address: netip.MustParseAddr("192.0.2.7"), Ports: map[string]int32{"api": 8443}, Lead: lease,
		})

		go func() { done <- endpoints.Run(ctx) }()
	}

	name := release + "-suspensions"
	one := replica.NewSuspensions(replica.SuspensionsConfig{Client: client, Namespace: namespace, Name: name})
	other := replica.NewSuspensions(replica.SuspensionsConfig{Client: client, Namespace: namespace, Name: name})
	seen := make(adopter, 8)
	running++

	if _, err := one.Load(ctx); err != nil {
		t.Error(err)
	}

	go func() { done <- other.Run(ctx, seen) }()

	for _, cluster := range []string{"one", "two"} { // the first makes the ConfigMap
		if err := one.Keep([]sync.Suspension{{Source: "fleet", Target: &cluster, By: "test", Since: time.Now()}}); err != nil {
			t.Error(err)
		}
	}

	for found := false; !found; {
		select {
		case all := <-seen:
			found = len(all) == 1 && all[0].Target != nil && *all[0].Target == "two"
		case <-ctx.Done():
			t.Fatal("the other replica did not see what was suspended")
		}
	}

	cancel()

	for range running {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
