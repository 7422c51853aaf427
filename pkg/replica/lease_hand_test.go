package replica_test

import (
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// A lease that is renewed twice in one second by its holder's clock lasts from the second
// time on: client-go compares the time in whole seconds and would not see that one.
func TestLease_RenewedTwiceInASecond(t *testing.T) {
	client, namespace := join(t)
	leases := client.CoordinationV1().Leases(namespace)

	held := func(at time.Time) coordinationv1.LeaseSpec {
		return coordinationv1.LeaseSpec{
			HolderIdentity: new("a_1"), LeaseDurationSeconds: new(int32(duration / time.Second)), LeaseTransitions: new(int32(0)),
			AcquireTime: &metav1.MicroTime{Time: at}, RenewTime: &metav1.MicroTime{Time: at},
		}
	}

	second := time.Now().Truncate(time.Second)

	lease, err := leases.Create(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "syncd"}, Spec: held(second)}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}

	b, stop := compete(t, client, namespace, "b", sync.Shard{})
	defer stop()

	until(t, b, func(now sync.Leadership) bool { return now.Leader == "a_1" })

	// The clock says a part of a second later, however long it was: it may have been set back.
	time.Sleep(duration / 2)

	lease.Spec.RenewTime = &metav1.MicroTime{Time: second.Add(900 * time.Millisecond)}

	began := time.Now()
	if _, err = leases.Update(t.Context(), lease, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}

	until(t, b, leads)

	if took := time.Since(began); took < duration {
		t.Errorf("b took the lease %s after it was renewed, and it lasts %s", took, duration)
	}
}

// Somebody deletes the Lease while it is held: those who saw that wait until it would have
// expired, and its holder makes it anew.
func TestLease_Deleted(t *testing.T) {
	client, namespace := join(t)

	a, stopA := compete(t, client, namespace, "a", sync.Shard{})
	defer stopA()

	until(t, a, leads)

	b, stopB := compete(t, client, namespace, "b", sync.Shard{})
	defer stopB()

	until(t, b, func(now sync.Leadership) bool { return now.Leader != "" })

	for range 20 {
		if err := admin(t).CoordinationV1().Leases(namespace).Delete(t.Context(), "syncd", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}

		for end := time.Now().Add(2 * retry); time.Now().Before(end); time.Sleep(retry / 20) {
			_, one := a.Until()
			if _, other := b.Until(); one && other {
				t.Fatal("two may write")
			}
		}
	}

	if now := until(t, a, leads); !strings.HasPrefix(now.Leader, "a_") {
		t.Errorf("%+v", now)
	}
}

// Somebody gives the lease to another replica by hand: the one that has it stops when it
// sees that, and not when its time is over.
func TestLease_TakenByHand(t *testing.T) {
	client, namespace := join(t)
	leases := client.CoordinationV1().Leases(namespace)

	a, stop := compete(t, client, namespace, "a", sync.Shard{})
	defer stop()

	until(t, a, leads)

	patch := []byte(`{"spec":{"holderIdentity":"b_1"}}`)
	began := time.Now()

	if _, err := admin(t).CoordinationV1().Leases(namespace).Patch(t.Context(), "syncd", "application/merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}

	now := until(t, a, func(now sync.Leadership) bool { return now.Term == 0 })
	if took := time.Since(began); took > deadline-retry {
		t.Errorf("it stopped after %s", took)
	}

	if _, ok := a.Until(); ok || now.Leader != "b_1" {
		t.Errorf("a may write: %t, %+v", ok, now)
	}

	if lease, err := leases.Get(t.Context(), "syncd", metav1.GetOptions{}); err != nil || *lease.Spec.HolderIdentity != "b_1" {
		t.Errorf("%v, %v", lease, err)
	}
}
