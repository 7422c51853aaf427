package replica_test

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/omni-syncd/omni-syncd/pkg/replica"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// A lease that is given back is taken at once, and not after it expired.
func TestLease_GivenBack(t *testing.T) {
	client, namespace := join(t)

	a, stopA := compete(t, client, namespace, "a", sync.Shard{})
	until(t, a, leads)

	b, stopB := compete(t, client, namespace, "b", sync.Shard{})
	defer stopB()

	now := until(t, b, func(now sync.Leadership) bool { return now.Leader != "" })
	if !strings.HasPrefix(now.Leader, "a_") || now.Term != 0 {
		t.Errorf("b says: %+v", now)
	}

	if _, ok := b.Until(); ok {
		t.Error("b may write")
	}

	stopA()

	if _, ok := a.Until(); ok {
		t.Error("a may write after it gave the lease back")
	}

	began := time.Now()

	until(t, b, leads)

	if took := time.Since(began); took > duration {
		t.Errorf("it took %s, which is as long as a lease that is not given back", took)
	}
}

// A replica whose lease was taken by another one, behind its back, does not give that one's
// lease away when it ends: client-go's own release believes what it remembers.
func TestLease_GivesBackItsOwnOnly(t *testing.T) {
	client, namespace := join(t)

	a, stopA := compete(t, client, namespace, "a", sync.Shard{})
	until(t, a, leads)

	leases := client.CoordinationV1().Leases(namespace)

	lease, err := leases.Get(t.Context(), "syncd", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}

	for taken := false; !taken; {
		lease.Spec.HolderIdentity = new("b_1")
		lease.Spec.LeaseDurationSeconds = new(int32(3600))

		if _, err = leases.Update(t.Context(), lease, metav1.UpdateOptions{}); err == nil {
			taken = true
		} else if lease, err = leases.Get(t.Context(), "syncd", metav1.GetOptions{}); err != nil {
			t.Fatal(err)
		}
	}

	stopA()

	if lease, err = leases.Get(t.Context(), "syncd", metav1.GetOptions{}); err != nil || *lease.Spec.HolderIdentity != "b_1" {
		t.Errorf("the lease of b is %v's, %v", *lease.Spec.HolderIdentity, err)
	}
}

// Who divides the fleet into another number of shards waits until the others are gone; those
// of the same number do not wait for each other.
func TestLease_AnotherNumberOfShards(t *testing.T) {
	client, namespace := join(t)

	a, stopA := compete(t, client, namespace, "a", sync.Shard{Index: 0, Count: 2})
	until(t, a, leads)

	b, stopB := compete(t, client, namespace, "b", sync.Shard{Index: 1, Count: 2})
	until(t, b, leads)

	c, stopC := compete(t, client, namespace, "c", sync.Shard{Index: 0, Count: 3})
	defer stopC()

	d, stopD := compete(t, client, namespace, "d", sync.Shard{}) // without shards
	defer stopD()

	for _, l := range []*replica.Lease{c, d} {
		now := until(t, l, func(now sync.Leadership) bool { return now.Reason != "" })
		if now.Term != 0 || !strings.Contains(now.Reason, "divides the fleet into another number of shards") {
			t.Errorf("%+v", now)
		}

		if _, ok := l.Until(); ok {
			t.Error("it may write")
		}
	}

	stopA()
	stopB()

	// c and d see each other and neither goes first: somebody has to end one of them.
	stopD()
	until(t, c, leads)
}

func TestNewLease(t *testing.T) {
	client, namespace := join(t)

	for _, tt := range []struct {
		duration, deadline time.Duration
		want               string
	}{
		{1500 * time.Millisecond, 400 * time.Millisecond, "whole seconds"},
		{3 * time.Second, 2500 * time.Millisecond, "at least 1s shorter"},
	} {
		_, err := replica.NewLease(replica.LeaseConfig{
			Client: client.CoordinationV1(), Namespace: namespace, Name: "syncd", Duration: tt.duration, RenewDeadline: tt.deadline, RetryPeriod: retry,
		})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s, %s: %v", tt.duration, tt.deadline, err)
		}
	}
}
