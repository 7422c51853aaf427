package sync

import (
	"fmt"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// Shard is the part of a fleet that one engine works on, for fleets that are too large for
// one: Index of Count, from 0. The zero value is all of it.
//
// A cluster belongs to the same shard whatever source it is in, and all fleet resources
// belong to one. With another Count only the clusters move that have to (rendezvous hashing).
// Everything else is the whole fleet's also in a shard: what left Git, how many clusters may
// leave at once, and whether a revision is whole (G2, G11).
type Shard struct{ Index, Count int }

// ParseShard reads INDEX/COUNT; "" is everything.
func ParseShard(text string) (Shard, error) {
	if text == "" {
		return Shard{}, nil
	}

	var s Shard
	if n, err := fmt.Sscanf(text, "%d/%d", &s.Index, &s.Count); err != nil || n != 2 || s.String() != text || s.Index < 0 || s.Index >= s.Count || s.Count > maxShards {
		return Shard{}, fmt.Errorf("%q is no shard: write INDEX/COUNT with an index from 0, such as 0/4 for the first of four (at most %d)", text, maxShards)
	}

	return s, nil
}

// maxShards bounds the work of finding a cluster's shard.
const maxShards = 1024

// String returns INDEX/COUNT.
func (s Shard) String() string { return strconv.Itoa(s.Index) + "/" + strconv.Itoa(s.Count) }

// Whole reports whether it is the whole fleet.
func (s Shard) Whole() bool { return s.Count <= 1 }

// Owns reports whether a target is in the shard: a cluster, or "" for fleet resources.
func (s Shard) Owns(target string) bool { return s.Whole() || s.of(target) == s.Index }

// otherShard names the shard of a target that this engine does not own.
func (e *Engine) otherShard(target string) string {
	return "shard " + Shard{e.Shard.of(target), e.Shard.Count}.String()
}

// of returns the shard of a target.
func (s Shard) of(target string) int {
	var (
		best   int
		weight uint64
	)

	for i := range s.Count {
		if w := xxhash.Sum64String(strconv.Itoa(i) + "/" + target); i == 0 || w > weight {
			best, weight = i, w
		}
	}

	return best
}
