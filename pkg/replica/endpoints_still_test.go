package replica_test

import (
	"context"
	"net/netip"
	gosync "sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	discovery "k8s.io/client-go/kubernetes/typed/discovery/v1"

	"github.com/omni-syncd/omni-syncd/pkg/replica"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/kube"
)

// A leader that says again that it is one changes nothing: every change of an EndpointSlice is
// told to each node of the cluster.
func TestEndpointsStayStill(t *testing.T) {
	client, namespace := join(t)

	admin, err := discovery.NewForConfig(kube.Shared(t).Config())
	if err != nil {
		t.Fatal(err)
	}

	lease, _ := compete(t, client, namespace, "a", sync.Shard{})

	leading, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()

	for now, changed := lease.Leadership(); now.Term == 0; now, changed = lease.Leadership() {
		select {
		case <-changed:
		case <-leading.Done():
			t.Fatal("the lease was not got")
		}
	}

	ctx, stop := context.WithCancel(t.Context())

	var running gosync.WaitGroup

	t.Cleanup(running.Wait)
	t.Cleanup(stop)

	version := ""

	for range 16 { // each says it at once
		e := replica.NewEndpoints(replica.EndpointsConfig{
			Client: client.DiscoveryV1(), Namespace: namespace, Service: "api", Address: netip.MustParseAddr("192.0.2.1"), Ports: map[string]int32{"api": 8443, "webhooks": 9292}, Lead: lease,
		})

		running.Go(func() { _ = e.Run(ctx) }) // it returns nil

		said, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		<-said.Done()
		cancel()

		slice, err := admin.EndpointSlices(namespace).Get(t.Context(), "api", metav1.GetOptions{})
		if apierrors.IsNotFound(err) && version == "" {
			continue // a slow machine
		}

		if err != nil {
			t.Fatal(err)
		}

		if version != "" && slice.ResourceVersion != version {
			t.Fatalf("it changed, to %v", slice.Ports)
		}

		version = slice.ResourceVersion
	}

	if version == "" {
		t.Fatal("there is no EndpointSlice")
	}
}
