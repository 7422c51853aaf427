package chaos

import (
	"fmt"
	"slices"
)

// controlPlane returns the machines of a cluster's control plane: always the same, so that
// no way from one revision to another costs etcd its quorum. Of two sets only one does
// that to the other: see gitControlPlane.
func controlPlane(name string, other bool) []string {
	i := slices.Index(allClusters, name)
	n := 1

	if i%3 == 0 {
		n = 3
	}

	var ids []string

	for j := range n {
		if other {
			j += n
		}

		ids = append(ids, machine(maxMachines+6*i+j))
	}

	return ids
}

func machine(i int) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", i+1, i+1) }

// free returns the workers that no template has.
func (t *tree) free() []string {
	used := map[string]bool{}

	for _, c := range t.clusters {
		for _, id := range c.workers {
			used[id] = true
		}
	}

	var free []string

	for i := range maxMachines {
		if id := machine(i); !used[id] {
			free = append(free, id)
		}
	}

	return free
}

// take returns n free machines.
func (t *tree) take(n int, pick uint64) []string {
	free := t.free()

	var taken []string

	for range n {
		i := int(pick % uint64(len(free)))
		taken = append(taken, free[i])
		free = slices.Delete(free, i, i+1)
	}

	return taken
}
