package sync

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	omnistate "github.com/omni-syncd/omni-syncd/pkg/omni"
)

// ErrNothingToConfirm is what [Engine.Confirm] ends with if nothing waits for it.
var ErrNothingToConfirm = errors.New("nothing waits for a confirmation")

// maxConfirmTries is how often a confirmation is written again after somebody else changed the resource meanwhile.
const maxConfirmTries = 5

// Confirm allows a deletion that waits for it: of a cluster by its name, of a fleet resource as Kind/ID, and what a guard
// stopped in a cluster that stays. source "" is whichever has it. It is written in Omni, beside the mark that it is
// bound to: it covers that departure and no later one, and is durable on return. It skips the wait and the budget, and no
// protection, suspension or lock. Only the replica that leads can do this: [ErrStandby].
func (e *Engine) Confirm(ctx context.Context, source, name, by string) (Key, error) {
	if err := e.mustLead(); err != nil {
		return Key{}, err
	}

	for range maxConfirmTries {
		t, live, err := e.confirmable(source, name)
		if err != nil {
			return Key{}, err
		}

		next, err := e.confirmation(t, live)
		if err != nil {
			return Key{}, err
		}

		writing, cancel := context.WithDeadline(ctx, e.writeBy())
		err = e.State.Update(writing, next)

		cancel()

		switch {
		case err == nil:
			e.Snapshot.Put(next)
			e.logFor(t).Info("confirmed", zap.String("resource", diff.Name(live)), zap.String("by", by))
			e.board.reopen(t.Key)
			e.queue.Forget(t.Key)
			e.queue.Add(t.Key)

			return t.Key, nil
		case !omnistate.Conflict(err):
			return Key{}, classified(err, "confirm", diff.Name(live))
		}

		fresh, err := e.State.Get(ctx, live.Metadata())
		if err != nil {
			return Key{}, classified(err, "confirm", diff.Name(live))
		}

		e.Snapshot.Put(fresh)
	}

	return Key{}, &RetryError{Err: fmt.Errorf("confirm %s: it changes all the time; try again", name)}
}

// confirmable finds what a name means.
func (e *Engine) confirmable(source, name string) (*target, resource.Resource, error) {
	var found []*target

	kind, id, isFleet := strings.Cut(name, "/")

	for src := range e.sources.all() {
		key := Key{src, name}
		if isFleet {
			key.Target = ""
		}

		if (source == "" || source == src) && e.board.has(key) {
			found = append(found, e.lookup(key))
		}
	}

	for _, t := range found {
		if t == nil {
			continue
		}

		if !isFleet {
			if r, ok := e.Snapshot.Get(omni.ClusterType, name); ok && diff.SourceOf(r) == t.Source {
				return t, r, nil
			}

			continue
		}

		for _, r := range e.Snapshot.Tagged(fleetOf(t.Source)) {
			if strings.EqualFold(diff.Kind(r.Metadata().Type()), kind) && r.Metadata().ID() == id {
				return t, r, nil
			}
		}
	}

	return nil, nil, fmt.Errorf("%q: %w; name a cluster, or a fleet resource like MachineClass/worker", name, ErrNothingToConfirm)
}

// confirmation returns a live resource with the confirmation of what waits for one.
func (e *Engine) confirmation(t *target, live resource.Resource) (resource.Resource, error) {
	// It would be there still when that ends, whatever happened to the template meanwhile.
	if err := e.mayConfirm(t); err != nil {
		return nil, err
	}

	if live.Metadata().Phase() != resource.PhaseRunning {
		return nil, fmt.Errorf("%s is being destroyed: %w", diff.Name(live), ErrNothingToConfirm)
	}

	if t.from.has(live) {
		digest := e.board.get(t.Key).guard
		if digest == "" || t.Target == "" {
			return nil, fmt.Errorf("%s is in Git: %w", diff.Name(live), ErrNothingToConfirm)
		}

		next := live.DeepCopy()
		next.Metadata().Annotations().Set(diff.MarkConfirmed, digest)

		return next, nil
	}

	// What nobody can tell to have left is not there to be confirmed: the word would be for a later removal.
	if why := e.uncertain(t, live, true); why != "" {
		return nil, fmt.Errorf("%s: %w: %s", diff.Name(live), ErrNothingToConfirm, why)
	}

	cause, _ := e.keeps(t, live)
	elsewhere := cause == keptPlace

	mark := e.markOf(t, live)
	if mark.ID == "" || elsewhere && mark.By != t.from.place.String() || mark.State == diff.Destroying {
		mark = e.departure(t, diff.Kept)
		mark.Reason = "it waited for a confirmation"
	}

	if elsewhere {
		mark.By = t.from.place.String()
	}

	mark.Confirmed = true

	return diff.Departing(live, mark), nil
}

// mayConfirm says why nothing of a target can be confirmed now.
func (e *Engine) mayConfirm(t *target) error {
	var err error
	if t.policy, err = e.policy(t); err != nil {
		return err
	}

	if reason, cause := e.barrier(t, e.isLocked(t.Target)); cause == CauseLocked || cause == CauseSuspended || cause == CauseUntested {
		return fmt.Errorf("%w while %s: end that first", ErrNothingToConfirm, reason)
	}

	return nil
}

// digestOf names what a guard stopped, so that a confirmation covers that and nothing that is added later.
func digestOf(kind string, names []string) string {
	names = slices.Sorted(slices.Values(names))
	sum := sha256.Sum256([]byte(kind + "\x00" + strings.Join(names, "\x00")))

	return hex.EncodeToString(sum[:6])
}
