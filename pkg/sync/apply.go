package sync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/preflight"
)

// apply takes the next step of a plan: it writes its first phase. The rest is planned
// again, since meanwhile a newer revision may have come, the cluster may have been locked
// or Omni may have gone out of sight. Nothing of a phase is written before the one in
// front of it is in Omni as a whole, so nothing is destroyed after a failed create or
// update (G7).
//
// It returns nil if the plan is empty, errAgain if it wrote the phase, and else an error
// whose type says what happens next.
func (e *Engine) apply(ctx context.Context, t *target, plan *diff.Plan) error {
	e.board.planned(t, plan)

	// Marks alone are no difference: they are written when that may be.
	if reason, _ := e.barrier(t, plan.Locked); reason != "" && plan.OnlyMarks() {
		e.takesLong(t, false)

		return nil
	}

	switch err := e.guard(t, plan); {
	case err != nil:
		return err
	case e.DryRun && plan.OnlyMarks():
		return nil
	case e.DryRun && !plan.Empty():
		return &WaitError{Reason: plan.Summary(), Blocked: true}
	case len(plan.Changes) == 0:
		return e.awaited(t, plan)
	case e.superseded(t):
		return errAgain
	}

	phase := plan.Phases()[0]
	step := signature(phase)

	if err := e.hold(t, plan, step); errors.Is(err, errMarksUndone) {
		return nil
	} else if err != nil {
		return err
	}

	e.board.started(t.Key, plan)

	if err := e.writeAll(ctx, t, phase); err != nil {
		var stalled *StalledError
		if errors.As(err, &stalled) {
			e.board.refuse(t.Key, step, err.Error())

			if plan.OnlyMarks() && t.desired != nil {
				e.logFor(t).Warn("Omni refuses the marks of omni-syncd; what Git describes is in force", zap.Error(err))

				return nil
			}

			if e.refusedMayChange(t, phase) {
				return &RetryError{Err: err}
			}
		}

		return err
	}

	e.board.wrote(t.Key, step, max(e.RetryMax, maxMarkRetry))

	return errAgain
}

// notCurrent is why nothing is written after a watch was lost (G2). The Snapshot tells when that is over.
const notCurrent = "reading Omni again after an interruption"

// guard keeps a plan that must not be applied from being applied.
func (e *Engine) guard(t *target, plan *diff.Plan) error {
	switch {
	case len(plan.Conflicts) > 0:
		conflict := plan.Conflicts[0]
		where := ""

		if t.desired != nil {
			where = t.desired.Position(conflict.Resource.Metadata()).String() + ": "
		}

		for _, c := range plan.Conflicts {
			if e.waitFor(t, c.Resource) { // its owner may let go of it
				return errAgain
			}
		}

		return &StalledError{fmt.Errorf("%s%s is not ours: %s%s", where, diff.Name(conflict.Resource), conflict.Reason, andMore(len(plan.Conflicts)))}
	case len(plan.Changes) == 0 && !leaves(plan):
		return nil
	}

	reason, cause := e.barrier(t, plan.Locked)
	if reason == "" {
		reason, cause = e.protect(t, plan)
	} else {
		e.board.guards(t.Key, "", disturbances{}) // its time begins again
	}

	if reason == "" && !e.Snapshot.Current() {
		return &WaitError{Reason: notCurrent + "; pending: " + plan.Summary()}
	}

	if reason == "" {
		return e.preflight(t, plan)
	}

	pending := "; pending: " + plan.Summary()

	if cause == CauseLeaving { // it counts down, too
		t.countdown.after += pending
		e.board.update(t.Key, func(r *record) { r.Leaving = t.countdown })
	}

	return &WaitError{Reason: reason + pending, Blocked: true, Cause: cause}
}

// leaves reports whether something of a plan goes by itself.
func leaves(plan *diff.Plan) bool { return len(plan.Left) > len(plan.Kept()) }

// barrier says why nothing may be written to a target at all; "" if it may.
func (e *Engine) barrier(t *target, locked bool) (reason string, cause Cause) {
	suspended, standby := e.board.suspension(t.Key), e.standby(t.src)

	switch {
	case standby != "":
		return standby, CauseStandby
	case e.untested() != "":
		return e.untested(), CauseUntested
	case locked:
		return "the cluster is locked in Omni", CauseLocked
	case suspended != nil:
		return suspended.String(), CauseSuspended
	case t.policy.Suspended:
		return "the cluster is suspended (" + AnnotationSuspend + " in its template, or `suspend` of its source)", CauseSuspended
	case t.policy.Manual && !e.Requested && !e.board.get(t.Key).requested:
		return "the cluster is synced on request only (" + AnnotationSync + ": manual, or `sync: manual` of its source)", CauseManual
	default:
		return "", ""
	}
}

// maxMarkRetry is how seldom marks are written that another tool takes off again and again. They are no difference, and no
// reason for a fight.
const maxMarkRetry = 6 * time.Hour

var errMarksUndone = errors.New("somebody takes the marks off again and again")

// preflight finds what Omni would refuse of a change before half of it is applied.
func (e *Engine) preflight(t *target, plan *diff.Plan) error {
	var errs []error
	for _, finding := range e.check(t, plan) {
		errs = append(errs, fmt.Errorf("%s: %s", t.where(&finding), finding.Message))
	}

	return joined(errs)
}

// check returns what Omni would refuse of a target. plan says which machines leave; nil if there is none yet.
func (e *Engine) check(t *target, plan *diff.Plan) []preflight.Finding {
	if t.desired == nil || t.Target == "" || e.NoPreflight {
		return nil
	}

	in := preflight.Input{Target: t.Target, Desired: t.desired.Resources, Live: t.live, Snapshot: e.Snapshot, Plan: plan, Server: t.server}

	// A dry run has not made the classes of the same revision; else they were tried first.
	if fleet := t.from.targets.get(""); fleet != nil && e.DryRun {
		in.Classes = fleet.Resources
	}

	return preflight.Check(in)
}

// hold keeps a step back that was refused, that somebody undoes again and again, or that
// Omni is about to take by itself.
func (e *Engine) hold(t *target, plan *diff.Plan, step string) error {
	known := e.board.get(t.Key)
	if plan.OnlyMarks() && known.refused == step {
		return errMarksUndone
	}

	if known.stalled && known.refused == step {
		return &StalledError{errors.New(known.refusal)}
	}

	limit := e.RetryMax
	if plan.Count(diff.Mark) == len(plan.Changes) { // also those of what left Git
		limit = maxMarkRetry
	}

	if left := known.backoff(step, e.RetryMin, limit); left > 0 {
		e.queue.AddAfter(t.Key, left)

		if plan.OnlyMarks() {
			return errMarksUndone
		}

		return &WaitError{Reason: "somebody undoes this in Omni again and again, next try soon: " + plan.Summary(), Cause: CauseUndone}
	}

	if left := e.board.grace(t.Key, finishing(plan), e.Grace); left > 0 {
		e.queue.AddAfter(t.Key, left)

		return &WaitError{Reason: "Omni is destroying " + diff.Name(&plan.Changes[0]), Cause: CauseTeardown}
	}

	return nil
}

// awaited returns why a target with nothing to write is not done yet; nil if it is.
func (e *Engine) awaited(t *target, plan *diff.Plan) error {
	switch {
	case len(plan.Waiting) > 0:
		// What another cluster has to let go of may stay there for ever.
		blocked := true

		for _, w := range plan.Waiting {
			if until := cmp.Or(w.For, w.Resource); e.waitFor(t, until) {
				return errAgain
			}

			blocked = blocked && w.Elsewhere
		}

		waiting, cause := plan.Waiting[0], CauseTeardown
		if waiting.Elsewhere {
			cause = CauseElsewhere
		}

		return &WaitError{Blocked: blocked, Cause: cause, Reason: fmt.Sprintf("%s: %s%s%s%s", diff.Name(waiting.Resource), waiting.Reason, andMore(len(plan.Waiting)), e.takesLong(t, !blocked), e.heldBy(waiting.Resource))}
	case len(plan.Left) > 0:
		e.takesLong(t, false)

		return e.left(plan)
	default:
		e.takesLong(t, false)

		return nil
	}
}

// left says what left Git and why it is still there. What goes by itself holds nobody up who waits for the target to
// settle, except the one who waits for it to go.
func (e *Engine) left(plan *diff.Plan) error {
	if plan.Target != "" && !plan.Removed {
		return &WaitError{Reason: fmt.Sprintf("%d resources left the template, kept: %s is disabled", len(plan.Left), AnnotationPrune), Blocked: true, Cause: CauseKept}
	}

	kept := plan.Kept()
	if len(kept) == 0 {
		left := plan.Left[0]

		return &WaitError{Reason: left.Reason + andMore(len(plan.Left)), Cause: CauseLeaving}
	}

	cause := CauseKept
	if kept[0].Asks {
		cause = CauseConfirmation
	}

	return &WaitError{Reason: subject(plan, kept[0]) + "not in Git any more, kept: " + kept[0].Reason + andMore(len(plan.Left)), Blocked: len(kept) == len(plan.Left), Cause: cause}
}

// subject names a resource that is not the target itself.
func subject(plan *diff.Plan, left diff.Left) string {
	if plan.Target != "" && left.Resource.Metadata().ID() == plan.Target {
		return ""
	}

	return diff.Name(left.Resource) + ": "
}

// takesLong says how long a teardown has been under way, and "" before TeardownWarnAfter.
// That is worth one warning and nothing else: no deadline ends a teardown.
func (e *Engine) takesLong(t *target, underWay bool) string {
	since, first := e.board.tearing(t.Key, underWay, e.TeardownWarnAfter)

	switch age := time.Since(since); {
	case !underWay:
		return ""
	case age < e.TeardownWarnAfter:
		e.queue.AddAfter(t.Key, e.TeardownWarnAfter-age)

		return ""
	case first:
		e.logFor(t).Warn("a teardown takes long; its finalizers say whom it waits for", zap.Duration("since", age.Round(time.Second)))
	}

	return fmt.Sprintf(", since %s", since.UTC().Format(time.RFC3339))
}

// refusedMayChange queues a target again as soon as a resource changes that Omni refused to
// change or destroy: somebody may have unlocked it. It reports whether one has already.
func (e *Engine) refusedMayChange(t *target, phase []diff.Change) (changed bool) {
	for i := range phase {
		if old := phase[i].Old; old != nil && e.waitFor(t, old) {
			changed = true
		}
	}

	return changed
}

// waitFor queues a target again as soon as a resource of its plan changes. It reports
// whether it has changed already, between the plan and now.
func (e *Engine) waitFor(t *target, r resource.Resource) (changed bool) {
	e.blocked.add(t.Key, r)

	return e.isOutdated(r)
}

// isOutdated reports whether the snapshot holds another version of a live resource by now. It
// never changes a resource in place.
func (e *Engine) isOutdated(r resource.Resource) bool {
	if r.Metadata().Version().Equal(resource.VersionUndefined) {
		return false // it is one that is to be made, and would be outdated for ever
	}

	now, ok := e.Snapshot.Get(r.Metadata().Type(), r.Metadata().ID())

	return !ok || now != r
}

func andMore(n int) string {
	if n < 2 {
		return ""
	}

	return fmt.Sprintf(" (and %d more)", n-1)
}

// describe says what a change changes, without any payload.
func describe(change *diff.Change) string {
	parts := make([]string, 0, len(change.Fields))
	for _, field := range change.Fields {
		parts = append(parts, field.String())
	}

	return strings.Join(parts, ", ")
}

// finishing identifies a plan that does nothing but push what is already torn down and
// held by nobody; "" for any other.
func finishing(plan *diff.Plan) string {
	for i := range plan.Changes {
		if change := &plan.Changes[i]; change.Action != diff.Destroy || change.Old.Metadata().Phase() != resource.PhaseTearingDown {
			return ""
		}
	}

	return signature(plan.Changes)
}

// signature identifies what some changes write, to notice those that come back.
func signature(changes []diff.Change) string {
	var s strings.Builder

	for i := range changes {
		change := &changes[i]
		what := describe(change)

		if change.Action == diff.Mark { // the mark of what left Git has another ID each time
			what = ""
			for _, field := range change.Fields {
				what += field.Path + " "
			}
		}

		fmt.Fprintf(&s, "%s %s %s %s\n", change.Action, diff.Name(change), change.Metadata().Phase(), what)
	}

	return s.String()
}
