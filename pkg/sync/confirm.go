package sync

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// digestOf names a deletion: what is to be deleted, in a source. Whoever confirms it
// confirms exactly that and nothing that is added later.
func digestOf(source, kind string, names []string) string {
	names = slices.Sorted(slices.Values(names))
	sum := sha256.Sum256([]byte(source + "\x00" + kind + "\x00" + strings.Join(names, "\x00")))

	return hex.EncodeToString(sum[:6])
}

// confirmed reports whether a deletion was confirmed by its digest, in the configuration
// or by request.
func (src *sourceState) confirmed(digest string) bool {
	return slices.Contains(src.Confirm, digest) || src.confirmations.has(digest)
}

// tooMany says why the clusters that left Git must not be deleted together; "" if they may.
func (src *sourceState) tooMany(left map[string]bool) string {
	names := slices.Collect(maps.Keys(left))
	digest := digestOf(src.Name, "clusters", names)

	if len(names) <= src.MaxDelete || src.confirmed(digest) {
		return ""
	}

	return fmt.Sprintf("%d clusters left Git at once, maxDelete allows %d; to delete them all, confirm: %s", len(names), src.MaxDelete, digest)
}

// quorum says why a plan must not be applied: it takes so many machines out of a control plane
// at once that etcd loses its quorum. live is what Omni holds of the cluster.
func (src *sourceState) quorum(plan *diff.Plan, live []resource.Resource) string {
	if plan.Removed {
		return "" // the cluster as a whole goes; that is guarded as such
	}

	leaves := leavingMembers(plan, live)
	if leaves.planned == 0 || !leaves.losesQuorum() {
		return ""
	}

	digest := digestOf(src.Name, "control plane of "+plan.Target, leaves.names)
	if src.confirmed(digest) {
		return ""
	}

	return fmt.Sprintf("%d of %d control plane machines would leave at once, and etcd would lose its quorum; to do it all the same, confirm: %s", leaves.leaving, leaves.members, digest)
}
