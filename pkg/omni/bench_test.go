package omni

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/protobuf/server"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// The benchmarks hold 10,000 resources in 100 clusters, as a large fleet has.
func fleet(b *testing.B) (*lab, []Kind) {
	b.Helper()

	var all backup

	created := time.Unix(1_000, 0)

	for c := range 100 {
		cluster := fmt.Sprintf("cluster-%03d", c)
		all = append(all, at(newCluster(cluster), 1, created))

		for p := range 49 {
			all = append(all, at(newPatch(fmt.Sprintf("%s-%d", cluster, p), cluster, strings.Repeat("machine: {}\n", 20)), 1, created))
		}

		for m := range 50 {
			all = append(all, at(newNode(fmt.Sprintf("machine-%d-%d", c, m), cluster), 1, created))
		}
	}

	l := newLab()
	l.core = inmem.NewStateWithOptions(inmem.WithBackingStore(all))(resources.DefaultNamespace)

	return l, labKinds
}

func BenchmarkBootstrap(b *testing.B) {
	l, kinds := fleet(b)
	st := serveState(b, server.NewState(l))

	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		s := NewSnapshot(SnapshotConfig{State: st, Kinds: kinds})
		done := make(chan error, 1)

		go func() { done <- s.Run(ctx) }()

		if err := s.WaitReady(ctx); err != nil {
			b.Fatal(err)
		}

		if n := len(s.List(omni.ConfigPatchType)); n != 4_900 {
			b.Fatalf("%d patches", n)
		}

		cancel()
		<-done
	}

	b.ReportMetric(10_000, "resources")
}

func BenchmarkCluster(b *testing.B) {
	l, kinds := fleet(b)
	s := NewSnapshot(SnapshotConfig{State: state.WrapCore(l), Kinds: kinds})
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)

	go func() { done <- s.Run(ctx) }()

	if err := s.WaitReady(ctx); err != nil {
		b.Fatal(err)
	}

	for b.Loop() {
		if n := len(s.Cluster("cluster-042")); n != 100 {
			b.Fatalf("%d resources", n)
		}
	}

	cancel()
	<-done
}
