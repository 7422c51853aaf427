package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/render"
)

// cleanupTime returns how much of what is left before a deadline of the tests is kept for cleaning up. A real Omni that
// is shared must not keep the clusters of a story that was too slow.
func cleanupTime(left time.Duration) time.Duration { return min(3*time.Minute, left/3) }

// cleanUp removes what the story left in Omni, when the story has ended in whatever way and its processes, too: a daemon
// would make again what is removed. That is why it is no deferred function of the script; those run before.
func (s *story) cleanUp(tb testing.TB, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()

	if err := s.removeAll(ctx); err != nil {
		tb.Errorf("removing what the story %s left in Omni: %v", s.prefix, err)
	}

	if err := s.strangers(ctx); err != nil {
		tb.Error(err)
	}
}

// owns reports whether the story made a resource: it carries the mark of one of the story's sources, or a command of the
// story made it. A name that looks like the story's is not enough.
func (s *story) owns(r resource.Resource) bool {
	if s.isSource(diff.SourceOf(r)) {
		return true
	}

	return slices.ContainsFunc(s.made, func(md resource.Metadata) bool {
		return md.Type() == r.Metadata().Type() && md.ID() == r.Metadata().ID()
	})
}

// isSource reports whether a source is the story's. The prefix is random, so that nobody else has one like it.
func (s *story) isSource(name string) bool {
	return name == s.prefix || strings.HasPrefix(name, s.prefix+"-")
}

// removeAll destroys everything that the story owns, until nothing of it is found: a write of a daemon that was killed
// may come in late. Clusters go first: Omni refuses to destroy what they use, and destroys what belongs to them. One that
// fails keeps no other from going.
func (s *story) removeAll(ctx context.Context) error {
	kinds := render.Kinds()
	slices.Reverse(kinds)
	slices.SortStableFunc(kinds, func(a, b render.Kind) int {
		return clusterFirst(a) - clusterFirst(b)
	})

	for {
		var (
			errs  []error
			found int
		)

		for _, kind := range kinds {
			n, err := s.remove(ctx, kind)
			found += n
			errs = append(errs, err)
		}

		if err := errors.Join(errs...); err != nil || found == 0 {
			return err
		}
	}
}

func clusterFirst(kind render.Kind) int {
	if kind.Type == omnires.ClusterType {
		return 0
	}

	return 1
}

// remove destroys what the story owns of one kind, and returns how many it found.
func (s *story) remove(ctx context.Context, kind render.Kind) (int, error) {
	list, err := s.conn.State().List(ctx, resource.NewMetadata(kind.Namespace, kind.Type, "", resource.VersionUndefined))
	if kind.Since != "" && livestate.Denied(err) { // this Omni does not have the kind
		return 0, nil
	}

	if err != nil {
		return 0, fmt.Errorf("list %s: %w", kind.Type, err)
	}

	doomed := slices.DeleteFunc(list.Items, func(r resource.Resource) bool {
		return !s.owns(r) || r.Metadata().Owner() != "" // what Omni owns goes with what it was made for
	})

	var errs []error

	for _, r := range doomed {
		if err := s.tearDown(ctx, r); err != nil && !state.IsNotFoundError(err) {
			errs = append(errs, fmt.Errorf("tear down %s: %w", r.Metadata(), err))
		}
	}

	for _, r := range doomed {
		if _, err := s.conn.State().WatchFor(ctx, r.Metadata(), state.WithEventTypes(state.Destroyed)); err != nil {
			errs = append(errs, fmt.Errorf("wait for %s to go: %w", r.Metadata(), err))
		}
	}

	return len(doomed), errors.Join(errs...)
}

// tearDown takes the locks off, because Omni refuses to tear down what is locked.
func (s *story) tearDown(ctx context.Context, r resource.Resource) error {
	for _, lock := range []string{omnires.ClusterLocked, omnires.MachineLocked} {
		if _, locked := r.Metadata().Annotations().Get(lock); !locked || r.Metadata().Phase() != resource.PhaseRunning {
			continue
		}

		if _, err := s.conn.State().UpdateWithConflicts(ctx, r.Metadata(), func(r resource.Resource) error {
			r.Metadata().Annotations().Delete(lock)

			return nil
		}); err != nil {
			return err
		}
	}

	_, err := s.conn.State().Teardown(ctx, r.Metadata())

	return err
}

// strangers tells of clusters that are named after the story and that it does not own: they came from a source that is
// not named after it. Stories that share the name of a source claim each other's clusters.
func (s *story) strangers(ctx context.Context) error {
	list, err := s.conn.State().List(ctx, omnires.NewCluster("").Metadata())
	if err != nil {
		return err
	}

	for _, r := range list.Items {
		if strings.HasPrefix(r.Metadata().ID(), s.prefix+"-") && !s.owns(r) {
			return fmt.Errorf("the cluster %s stays, because it is of the source %q: name the sources of a story $PREFIX or $PREFIX-…",
				r.Metadata().ID(), diff.SourceOf(r))
		}
	}

	return nil
}
