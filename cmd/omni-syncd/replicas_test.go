package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/zap"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/replica"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	stages "github.com/omni-syncd/omni-syncd/test/daemon"
)

// When the daemon stops while Omni can still be read, the competition for the lease goes on
// until close and does not begin anew.
func TestReplicas_CompeteOnce(t *testing.T) {
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "http://127.0.0.1:1"}) // nobody is there
	if err != nil {
		t.Fatal(err)
	}

	lease, err := replica.NewLease(replica.LeaseConfig{
		Client: client.CoordinationV1(), Namespace: "n", Name: "l", Duration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}

	d := stages.Start(t, stages.StartOmni(t, embedded.Config{NoControllers: true}), nil)
	d.Until(t, func(s sync.Status) bool { return s.Ready })

	r := &replicas{lease: lease, fence: replica.NewFence(lease), log: zap.NewNop()}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)

	go func() { done <- r.competeWhileReady(ctx, d.Engine) }()

	time.Sleep(100 * time.Millisecond)
	stop()

	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("it goes on")
	}

	select {
	case <-r.over:
		t.Error("it ended before close")
	default:
	}

	r.close()
	<-r.over
}

// A part that fails ends the daemon, also if nobody ever takes the lead from it.
func TestWhileLeading_Fails(t *testing.T) {
	failed := errors.New("it fails")
	engine := sync.New(sync.Config{Snapshot: omni.NewSnapshot(omni.SnapshotConfig{})})
	done := make(chan error, 1)

	go func() {
		done <- whileLeading(func(context.Context, *sync.Engine) error { return failed })(t.Context(), engine)
	}()

	select {
	case err := <-done:
		if !errors.Is(err, failed) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("nobody hears of it")
	}
}
