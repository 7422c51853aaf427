package sync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/cosi-project/runtime/pkg/resource"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
)

// writeAll writes the changes of one phase in parallel. All of them are tried: one
// that is refused does not hold back its neighbours.
func (e *Engine) writeAll(ctx context.Context, t *target, phase []diff.Change) error {
	var (
		group errgroup.Group
		mu    sync.Mutex
		errs  []error
	)

	group.SetLimit(e.Writes)

	for i := range phase {
		group.Go(func() error {
			if err := e.write(ctx, t, &phase[i]); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}

			return nil
		})
	}

	_ = group.Wait() // the errors are collected above

	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })

	return joined(errs)
}

// write does one write. Once started it is not cut off by the end of ctx, so that a
// stop leaves no write in doubt; Timeout bounds it, and the right to write does: another
// replica may write after that. On success the Snapshot holds the result, although its watch
// lags behind.
func (e *Engine) write(ctx context.Context, t *target, change *diff.Change) error {
	// Omni's Destroy takes an ID and nothing else. Whoever waits for the ID to be free must not
	// create between the last look at what is destroyed and its destruction.
	if change.Action == diff.Create || change.Action == diff.Destroy {
		id := diff.Name(change)

		e.naming.LockKey(id)
		defer e.naming.UnlockKey(id) //nolint:errcheck // it is nil
	}

	if err := ctx.Err(); err != nil {
		return &RetryError{Err: err}
	}

	defer e.flights.begin(t.Key)()

	// The end comes first: after the check a paused process may be in its next term.
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), e.writeBy())
	defer cancel()

	if err := e.look(ctx, t, change); err != nil {
		return err
	}

	if err := e.stillMay(t, change); err != nil {
		return err
	}

	acting := e.acting(t, change)

	err := e.send(ctx, change)
	if found := e.refused(ctx, t, change, err); found != nil {
		err = found
	}

	err = verdict(t, change, err)
	e.pulse.move()
	e.Meter.Wrote(t.Key, change.Action, resultOf(err), e.board.reason(t.Key) == reasonDrift)

	if err != nil {
		return err
	}

	if t.isCluster(change) && change.Action != diff.Destroy {
		e.looks.note(t.Key)
	}

	e.board.progress(t.Key)
	e.board.took(t.Key, takes(change))
	e.wasAllowed(t.Key)
	acting.done(e.board)

	if change.Action == diff.Mark {
		e.logFor(t).Debug("marked", zap.String("resource", diff.Name(change)), zap.String("change", describe(change)))

		return nil
	}

	reason := e.board.reason(t.Key)
	e.journal.wrote(t, change, reason)

	fields := []zap.Field{
		zap.String("op", string(change.Action)), zap.String("resource", diff.Name(change)), zap.String("reason", reason),
	}
	if len(change.Fields) > 0 {
		fields = append(fields, zap.String("change", describe(change)))
	}

	e.logFor(t).Info("applied", fields...)

	return nil
}

// verdict gives the error of a write the type that says what happens next.
func verdict(t *target, change *diff.Change, err error) error {
	var retry *RetryError

	switch {
	case err == nil:
		return nil
	case errors.As(err, &retry):
		return retry
	}

	name := diff.Name(change)
	if t.desired != nil && change.Action != diff.Destroy {
		name += " (" + t.desired.Position(change.Metadata()).String() + ")"
	}

	return classified(err, string(change.Action), name)
}

// stillMay asks once more, before each write of a phase, what may have come since the
// plan: Omni lets patches of a locked cluster pass (G8).
func (e *Engine) stillMay(t *target, change *diff.Change) error {
	if e.superseded(t) {
		return &RetryError{Err: errors.New("a newer revision came meanwhile"), Expected: true}
	}

	if why := e.standby(t.src); why != "" {
		return &RetryError{Err: errors.New(why), Expected: true}
	}

	if why := e.untested(); why != "" {
		return &RetryError{Err: errors.New(why), Expected: true}
	}

	if e.board.suspension(t.Key) != nil {
		return &RetryError{Err: errors.New("it was suspended meanwhile"), Expected: true}
	}

	if !e.Snapshot.Current() {
		return &RetryError{Err: errors.New(notCurrent), Expected: true}
	}

	if t.Target != "" {
		if e.isLocked(t.Target) {
			return &RetryError{Err: errors.New("the cluster was locked meanwhile"), Expected: true}
		}

		return nil
	}

	for _, r := range []resource.Resource{change.Old, change.New} {
		if r == nil {
			continue
		}

		if why, _ := e.holds(t, r); why != "" {
			return &RetryError{Err: errors.New(why), Expected: true}
		}
	}

	return nil
}

// send makes the RPC of a change. An update carries the version it was planned from,
// so Omni refuses it if somebody else was faster (G5).
func (e *Engine) send(ctx context.Context, change *diff.Change) error {
	switch change.Action {
	case diff.Create:
		created := change.New.DeepCopy()
		if err := e.State.Create(ctx, created); err != nil {
			return err
		}

		e.Snapshot.Put(created)
	case diff.Destroy:
		if err := e.stillThere(ctx, change.Old); err != nil {
			return err
		}

		if err := e.unlock(ctx, change.Old); err != nil {
			return err
		}

		return e.destroy(ctx, change.Old)
	default:
		updated := change.New.DeepCopy()
		if err := e.State.Update(ctx, updated); err != nil {
			return err
		}

		e.Snapshot.Put(updated)
	}

	return nil
}

// stillThere asks Omni whether a resource still is the one that its destruction or update was
// planned from. A teardown carries no version, and between the plan and now another
// source may have taken the resource over, or another target made it anew (G1, G5). A version
// proves nothing: after an older database was restored the same one can carry other marks.
func (e *Engine) stillThere(ctx context.Context, planned resource.Resource) error {
	now, err := e.State.Get(ctx, planned.Metadata())

	switch {
	case omni.NotFound(err):
		return nil // the write itself finds that out, too
	case err != nil:
		return err
	case diff.SourceOf(now) == diff.SourceOf(planned) && diff.IsFleet(now) == diff.IsFleet(planned) && diff.DepartureOf(now) == diff.DepartureOf(planned) &&
		sameLife(now.Metadata(), planned.Metadata()):
		return nil
	default:
		return &RetryError{Err: fmt.Errorf("%s changed hands meanwhile", diff.Name(planned)), Expected: true}
	}
}

// sameLife reports whether what Omni has now may be what was seen before, and not another one
// that was made under the same ID since: no teardown is ever taken back.
func sameLife(now, seen *resource.Metadata) bool {
	if seen.Phase() == resource.PhaseTearingDown && now.Phase() != seen.Phase() {
		return false
	}

	// What we made ourselves and the watch has not shown yet has no time.
	return seen.Created().IsZero() || seen.Created().Equal(now.Created())
}

// unlock takes the lock that came from Git off a machine that is about to leave.
func (e *Engine) unlock(ctx context.Context, planned resource.Resource) error {
	unlocked, ok := diff.Unlocked(planned)
	if !ok || planned.Metadata().Phase() == resource.PhaseTearingDown {
		return nil
	}

	switch err := e.State.Update(ctx, unlocked); {
	case omni.NotFound(err):
		return nil // destroy finds that out, too
	case err != nil:
		return err
	}

	e.Snapshot.Put(unlocked)

	return nil
}

// destroy takes the next step of a teardown and does not wait for it. Omni v1.9
// destroys what is torn down by itself; an older one leaves that to the client. Either
// way a resource that is gone is a success.
func (e *Engine) destroy(ctx context.Context, planned resource.Resource) error {
	var err error

	md := planned.Metadata()

	switch {
	case md.Phase() == resource.PhaseTearingDown:
		err = e.State.Destroy(ctx, md)
	case isRoot(planned):
		// Omni's Teardown carries no version, and an update to that phase does: it is refused if anything about the
		// resource changed since its deletion was decided on.
		doomed := planned.DeepCopy()
		doomed.Metadata().SetPhase(resource.PhaseTearingDown)
		err = e.State.Update(ctx, doomed)
	default:
		_, err = e.State.Teardown(ctx, md)
	}

	switch {
	case omni.NotFound(err):
		e.Snapshot.Removed(md)
	case err != nil && omni.Conflict(err):
		// A finalizer was set meanwhile. The watch brings it, so this is no news.
		return &RetryError{Err: fmt.Errorf("%s %s is being destroyed", diff.Kind(md.Type()), md.ID()), Expected: true}
	case err != nil:
		return err
	case md.Phase() == resource.PhaseTearingDown:
		e.Snapshot.Removed(md)
	default:
		e.Snapshot.TearingDown(md)
	}

	return nil
}
