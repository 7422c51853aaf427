package render

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// Whatever comes and goes: what is counted twice is what is described twice.
func TestClaimsRandomly(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	counted := newClaims()

	var previous []*Target

	for round := range 2000 {
		next := slices.DeleteFunc(slices.Clone(previous), func(*Target) bool { return random.IntN(3) == 0 })

		for range random.IntN(4) {
			target := &Target{}
			for range random.IntN(5) {
				target.Resources = append(target.Resources, resource.Resource(omni.NewConfigPatch(fmt.Sprint(random.IntN(30)))))
			}

			next = append(next, target)
		}

		counted.replace(previous, next)
		previous = next

		times := map[key]int{}
		for _, target := range next {
			for _, r := range target.Resources {
				times[keyOf(r.Metadata())]++
			}
		}

		twice := 0

		for _, n := range times {
			if n > 1 {
				twice++
			}
		}

		if counted.twice != twice || len(counted.counts) != len(times) {
			t.Fatalf("seed %d, round %d: %d of %d are counted twice, want %d of %d", seed, round, counted.twice, len(counted.counts), twice, len(times))
		}
	}
}
