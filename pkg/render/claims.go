package render

import "hash/maphash"

// claims counts how often each resource is described, so that a new revision costs what it changes: only if one may be
// described twice does somebody have to look which. Resources are told apart by a hash of their key; two of the same
// hash cost a look for nothing.
type claims struct {
	seed   maphash.Seed
	counts map[uint64]int32
	twice  int // hashes that are counted more than once
}

func newClaims() claims { return claims{seed: maphash.MakeSeed(), counts: map[uint64]int32{}} }

// replace counts the targets that are new and no longer those that are not among them. That both are sorted by name
// keeps it from counting those that stay.
func (c *claims) replace(previous, next []*Target) {
	for len(previous) > 0 || len(next) > 0 {
		switch {
		case len(previous) > 0 && len(next) > 0 && previous[0] == next[0]:
			previous, next = previous[1:], next[1:]
		case len(next) == 0 || len(previous) > 0 && previous[0].Name < next[0].Name:
			c.count(previous[0], -1)
			previous = previous[1:]
		case len(previous) == 0 || next[0].Name < previous[0].Name:
			c.count(next[0], +1)
			next = next[1:]
		default:
			c.count(previous[0], -1)
			c.count(next[0], +1)
			previous, next = previous[1:], next[1:]
		}
	}
}

func (c *claims) count(t *Target, by int32) {
	for _, r := range t.Resources {
		hash := maphash.Comparable(c.seed, keyOf(r.Metadata()))
		before := c.counts[hash]

		switch now := before + by; {
		case now == 0:
			delete(c.counts, hash)

			continue
		case before == 1 && now == 2:
			c.twice++
		case before == 2 && now == 1:
			c.twice--
		}

		c.counts[hash] = before + by
	}
}
