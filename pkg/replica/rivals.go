package replica

import (
	"context"
	"fmt"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
)

// The labels of a Lease.
const (
	// LabelLease is the name that all Leases of an installation have in common.
	LabelLease = "omni-syncd/lease"
	// LabelShards is into how many shards the fleet is divided for its holder.
	LabelShards = "omni-syncd/shards"
)

// rivals are the replicas of the same installation that divide the fleet into another number
// of shards, while that is changed: clusters that are theirs are ours, too. So a new lease
// counts only once none of theirs is held. It is taken first and they are looked for
// afterwards, and they do the same: of two that come at the same time at least one sees the
// other and waits.
type rivals struct {
	client coordination.LeaseInterface
	base   string
	shards int
	// seen is since when a rival's lease is what it is, by its name.
	seen map[string]sighting
}

type sighting struct {
	version string
	since   time.Time
}

func (r *rivals) labels() map[string]string {
	return map[string]string{LabelLease: r.base, LabelShards: strconv.Itoa(r.shards)}
}

// gone returns an error that names a rival that may still write. Like leader election it
// believes no clock but its own: a lease has expired when it did not change for its duration.
func (r *rivals) gone(ctx context.Context) error {
	leases, err := r.client.List(ctx, metav1.ListOptions{LabelSelector: fmt.Sprintf("%s=%s,%s!=%d", LabelLease, r.base, LabelShards, r.shards)})
	if err != nil {
		return fmt.Errorf("looking for replicas with another number of shards: %w", err)
	}

	before := r.seen
	r.seen = map[string]sighting{}

	for i := range leases.Items {
		lease := &leases.Items[i]
		if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
			continue
		}

		now := sighting{lease.ResourceVersion, time.Now()}
		if last, ok := before[lease.Name]; ok && last.version == now.version {
			now.since = last.since
		}

		r.seen[lease.Name] = now

		// Without a duration it is held until somebody changes it.
		if d := lease.Spec.LeaseDurationSeconds; d == nil || time.Since(now.since) < time.Duration(*d)*time.Second {
			err = fmt.Errorf("waiting for %s, which holds the lease %s and divides the fleet into another number of shards", *lease.Spec.HolderIdentity, lease.Name)
		}
	}

	return err
}
