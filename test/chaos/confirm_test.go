package chaos

import (
	"context"
	"errors"
	"os/exec"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// allow confirms, at a quiet point, that what left Git and is kept goes: too much left at once,
// the source read from elsewhere for a while, or a forced push took away its last commit while the
// daemon could not stamp another. It returns what it found. Anything else that is kept is wrong, and
// stays.
func (w *world) allow(ctx context.Context, r resource.Resource) string {
	mark := diff.DepartureOf(r)

	switch {
	case r.Metadata().Phase() != resource.PhaseRunning:
		return "torn down"
	case mark.State != diff.Kept || mark.Confirmed:
		return string(mark.State)
	case mark.Cause != keptBudget && mark.Cause != "place" && !(mark.Cause == "past" && w.rewritten(ctx, r)):
		return "kept: " + mark.Reason
	}

	w.tally("confirmed", mark.Cause)
	w.confirm(ctx, r)

	return "confirmed"
}

// rewritten reports whether the commit that is stamped on a resource is not in the history of the branch, as
// Git itself says. A daemon that was dead while the branch moved twice cannot know the line between.
func (w *world) rewritten(ctx context.Context, r resource.Resource) bool {
	origin, ok := diff.OriginOf(r)
	if !ok || origin.Commit == "" {
		return false
	}

	_, err := w.repo.git(ctx, "merge-base", "--is-ancestor", origin.Commit, w.repo.hash)

	var exit *exec.ExitError

	return errors.As(err, &exit) && exit.ExitCode() == 1
}

// confirm confirms a deletion, as one of the two ways to do so.
func (w *world) confirm(ctx context.Context, r resource.Resource) {
	if w.rng.IntN(2) == 0 && w.confirmByCommand(ctx, r) {
		return
	}

	w.edit(ctx, r, func(r resource.Resource) {
		if mark := diff.DepartureOf(r); mark.ID != "" {
			r.Metadata().Annotations().Set(diff.MarkConfirmed, mark.ID)
		}
	})
	w.tally("confirmed", "by an annotation")
}

// confirmByCommand asks the daemon, which may not be there.
func (w *world) confirmByCommand(ctx context.Context, r resource.Resource) bool {
	name := diff.Kind(r.Metadata().Type()) + "/" + r.Metadata().ID()
	if r.Metadata().Type() == omni.ClusterType {
		name = r.Metadata().ID()
	}

	cmd := exec.CommandContext(ctx, binary, "confirm", "--source", sourceName, "--socket", w.settings.socket(), name)

	out, err := cmd.CombinedOutput()
	if err != nil {
		w.note("confirm %s: %v: %s", name, err, strings.TrimSpace(string(out)))

		return false
	}

	w.tally("confirmed", "by the command")

	return true
}

// uiConfirm confirms what left Git, if anything did.
func uiConfirm(ctx context.Context, w *world, s step) string {
	r := w.departed(ctx, s.a)
	if r == nil {
		return "nothing left Git"
	}

	w.edit(ctx, r, func(r resource.Resource) {
		if mark := diff.DepartureOf(r); mark.ID != "" {
			r.Metadata().Annotations().Set(diff.MarkConfirmed, mark.ID)
		}
	})
	w.tally("confirmed", "in passing")

	return refOf(r).String()
}

// uiFalseConfirm confirms another departure than the one that waits.
func uiFalseConfirm(ctx context.Context, w *world, s step) string {
	r := w.departed(ctx, s.a)
	if r == nil {
		return "nothing left Git"
	}

	w.edit(ctx, r, func(r resource.Resource) { r.Metadata().Annotations().Set(diff.MarkConfirmed, "0123456789abcdef") })

	return refOf(r).String()
}

// departed returns a cluster or fleet resource of ours that is marked as leaving or kept.
func (w *world) departed(ctx context.Context, n uint64) resource.Resource {
	gone := func(r resource.Resource) bool {
		state := diff.DepartureOf(r).State

		return state == diff.Leaving || state == diff.Kept
	}

	if r := w.pick(ctx, omni.ClusterType, n, gone); r != nil {
		return r
	}

	return w.pick(ctx, omni.MachineClassType, n, gone)
}
