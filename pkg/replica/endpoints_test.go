package replica_test

import (
	"context"
	"net/netip"
	"slices"
	gosync "sync"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	discovery "k8s.io/client-go/kubernetes/typed/discovery/v1"

	"github.com/omni-syncd/omni-syncd/pkg/replica"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/kube"
)

// The Service leads to whoever leads.
func TestEndpoints(t *testing.T) {
	client, namespace := join(t)

	admin, err := discovery.NewForConfig(kube.Shared(t).Config())
	if err != nil {
		t.Fatal(err)
	}

	start := func(name, address string) (l *replica.Lease, stop, end func()) {
		l, stop = compete(t, client, namespace, name, sync.Shard{})
		e := replica.NewEndpoints(replica.EndpointsConfig{
			Client: client.DiscoveryV1(), Namespace: namespace, Service: "api", Address: netip.MustParseAddr(address), Ports: map[string]int32{"api": 8443, "webhooks": 9292}, Lead: l,
		})

		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)

		go func() { done <- e.Run(ctx) }()

		end = gosync.OnceFunc(func() {
			cancel()

			if err := <-done; err != nil {
				t.Error(err)
			}
		})

		t.Cleanup(end)

		return l, stop, end
	}

	leadsTo := func(addresses ...string) {
		t.Helper()

		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()

		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()

		for {
			slice, err := admin.EndpointSlices(namespace).Get(ctx, "api", metav1.GetOptions{})
			if err == nil && slices.EqualFunc(slice.Endpoints, addresses, func(e discoveryv1.Endpoint, a string) bool { return e.Addresses[0] == a }) {
				if slice.Labels[discoveryv1.LabelServiceName] != "api" || len(slice.Ports) != 2 {
					t.Errorf("%v %v", slice.Labels, slice.Ports)
				}

				return
			}

			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("it does not lead to %s: %v, %v", addresses, slice, err)
			}
		}
	}

	a, stopA, endA := start("a", "10.0.0.1")
	until(t, a, leads)

	_, stopB, endB := start("b", "10.0.0.2")
	defer stopB()

	leadsTo("10.0.0.1")

	// One that ends in order leaves nothing behind.
	endA()
	leadsTo()
	stopA()
	leadsTo("10.0.0.2")
	endB()
	leadsTo()
}
