package replica_test

import (
	"context"
	"os"
	gosync "sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/omni-syncd/omni-syncd/pkg/replica"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/kube"
)

func TestMain(m *testing.M) { os.Exit(kube.Wrap(m).Run()) }

// rights are what a replica may do in its namespace: what the docs and the chart say.
var rights = []rbacv1.PolicyRule{
	{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"get", "list", "create", "update"}},
	{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"create"}},
	{APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{"suspensions"}, Verbs: []string{"get", "list", "watch", "update"}},
	{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: []string{"create"}},
	{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, ResourceNames: []string{"api"}, Verbs: []string{"patch"}},
}

// join returns a client with those rights in a new namespace.
func join(t *testing.T) (client *kubernetes.Clientset, namespace string) {
	t.Helper()

	cluster := kube.Shared(t)
	namespace = cluster.Namespace(t)

	access := cluster.Account(t, namespace, "replica", rights...).Config()
	access.QPS = -1

	client, err := kubernetes.NewForConfig(access)
	if err != nil {
		t.Fatal(err)
	}

	return client, namespace
}

// admin returns a client that may do everything.
func admin(t *testing.T) *kubernetes.Clientset {
	t.Helper()

	client, err := kubernetes.NewForConfig(kube.Shared(t).Config())
	if err != nil {
		t.Fatal(err)
	}

	return client
}

const (
	duration = 3 * time.Second
	deadline = 1500 * time.Millisecond
	retry    = 200 * time.Millisecond
	limit    = time.Minute
)

// compete starts a replica that wants the lease; stop ends it in order.
func compete(t *testing.T, client *kubernetes.Clientset, namespace, name string, shard sync.Shard) (l *replica.Lease, stop func()) {
	t.Helper()

	return competeAfter(t, client, namespace, name, shard, nil)
}

func competeAfter(t *testing.T, client *kubernetes.Clientset, namespace, name string, shard sync.Shard, before func(context.Context) error) (l *replica.Lease, stop func()) {
	t.Helper()

	core, _ := observer.New(zap.DebugLevel)

	l, err := replica.NewLease(replica.LeaseConfig{
		Client: client.CoordinationV1(), Namespace: namespace, Name: "syncd", Shard: shard, Replica: name,
		Duration: duration, RenewDeadline: deadline, RetryPeriod: retry, Before: before, Logger: zap.New(core),
	})
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)

	go func() { done <- l.Run(ctx) }()

	return l, gosync.OnceFunc(func() {
		cancel()

		if err := <-done; err != nil {
			t.Error(err)
		}

		l.GiveBack()
	})
}

// until waits until a lease says something of its leadership.
func until(t *testing.T, l *replica.Lease, condition func(sync.Leadership) bool) sync.Leadership {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()

	for {
		now, changed := l.Leadership()
		if condition(now) {
			return now
		}

		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("not in %s: %+v", limit, now)
		}
	}
}

func leads(now sync.Leadership) bool { return now.Term != 0 }
