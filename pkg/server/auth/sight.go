package auth

import (
	"context"
	"errors"
	"slices"
)

// Sight is what a caller has a role for, taken once for many clusters.
type Sight struct {
	all    bool
	grants []Grant
	one    string // a cluster that was asked for by name
}

// Sight returns what the caller has a role for. The error is one of [Caller.May]: who has it for
// nothing at all is denied. So is who has it by a Kubernetes API server for single clusters
// only, because it would have to be asked for each: those are asked for by name, see [Caller.SightOf].
func (c *Caller) Sight(ctx context.Context, role Role) (Sight, error) {
	err := c.MayAll(ctx, role)
	if err == nil {
		return Sight{all: true}, nil
	}

	if denied := new(DeniedError); !errors.As(err, &denied) || c == nil || c.held == nil {
		return Sight{}, err
	}

	held, heldErr := c.held()
	if heldErr != nil {
		return Sight{}, heldErr
	}

	s := Sight{grants: slices.DeleteFunc(slices.Clone(held), func(g Grant) bool { return !g.gives(role) })}
	if len(s.grants) == 0 {
		return Sight{}, err
	}

	return s, nil
}

// SightOf is as [Caller.Sight] for a request that is about one cluster: who has the role for
// that is not denied, and sees at least that.
func (c *Caller) SightOf(ctx context.Context, role Role, cluster string) (Sight, error) {
	s, err := c.Sight(ctx, role)
	if denied := new(DeniedError); cluster == "" || !errors.As(err, &denied) {
		return s, err
	}

	if err := c.May(ctx, role, cluster); err != nil {
		return Sight{}, err
	}

	return Sight{one: cluster}, nil
}

// All tells whether it is everything: all clusters, fleet resources and sources.
func (s Sight) All() bool { return s.all }

// Of tells whether a cluster is in it; "" is for fleet resources.
func (s Sight) Of(cluster string) bool {
	return s.all || cluster != "" && cluster == s.one || slices.ContainsFunc(s.grants, func(g Grant) bool { return g.matches(cluster) })
}

// Equal tells whether two are of the same grants.
func (s Sight) Equal(other Sight) bool {
	return s.all == other.all && s.one == other.one && slices.EqualFunc(s.grants, other.grants, func(a, b Grant) bool {
		return a.Role == b.Role && (a.Clusters == nil) == (b.Clusters == nil) && slices.Equal(a.Clusters, b.Clusters)
	})
}
