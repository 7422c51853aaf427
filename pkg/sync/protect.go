package sync

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// protect says why a plan must not be applied yet, for what it takes out of a cluster that stays; "" if it may. A loss of
// quorum waits for a confirmation. Machine sets, what others made, and many machines at once wait for DeleteAfter, or for
// a confirmation. Both confirmations are bound to exactly what goes.
func (e *Engine) protect(t *target, plan *diff.Plan) (reason string, cause Cause) {
	if plan.Removed || t.Target == "" {
		return "", "" // what goes as a whole is guarded as such
	}

	controlPlane := leavingMembers(plan, t.live)
	lost := controlPlane.planned > 0 && controlPlane.losesQuorum()
	going, machines := e.goingSlowly(t, plan)

	digest := ""

	switch {
	case lost:
		digest = digestOf("cluster "+t.Target, slices.Concat(controlPlane.names, going, machines))
	case len(going) > 0:
		digest = digestOf("cluster "+t.Target, slices.Concat(going, machines))
	}

	since := e.board.guards(t.Key, digest, e.disturbances())
	t.guarded = true
	confirmed := digest != "" && e.guardConfirmed(t, digest)

	switch left := t.src.DeleteAfter - time.Since(since); {
	case digest == "" || confirmed && !t.src.DeletionsPaused:
		return "", ""
	case lost:
		return fmt.Sprintf("%d of %d control plane machines would leave at once, and etcd would lose its quorum; `omni-syncd confirm %s` to do it all the same",
			controlPlane.leaving, controlPlane.members, t.Target), CauseConfirmation
	case len(going) > 0 && t.src.DeletionsPaused && takesAway(plan.Phases()[0]):
		return fmt.Sprintf("deletions are paused (`deletions: paused` in the configuration); %s would leave the cluster", listed(going)), CauseKept
	case left > 0 && !e.DryRun && !e.OneShot && takesAway(plan.Phases()[0]):
		e.queue.AddAfter(t.Key, left)

		t.countdown = Countdown{
			At:     time.Now().Add(left),
			before: "leaving the cluster: " + listed(going) + "; removed ",
			after:  fmt.Sprintf("; put back what left the template to keep it, or `omni-syncd confirm %s` to go now", t.Target),
		}

		return t.countdown.in(left), CauseLeaving
	default:
		return "", ""
	}
}

// goingSlowly names what a plan takes out of a cluster that is more than a change of every day, and, if there are that
// many, the machines: others in their place are something else.
func (e *Engine) goingSlowly(t *target, plan *diff.Plan) (going, machines []string) {

	for i := range plan.Changes {
		change := &plan.Changes[i]
		if change.Action != diff.Destroy || change.Old.Metadata().Phase() != resource.PhaseRunning {
			continue
		}

		if change.Metadata().Type() == omni.MachineSetType || diff.SourceOf(change.Old) == "" {
			going = append(going, diff.Name(change))
		}
	}

	// What left lately counts, or it would be taken away in small steps.
	n, machines := machinesLeaving(plan, t.live)
	lately := e.board.machinesTaken(t.Key, e.DeleteWindow)

	switch limit := t.src.MaxDeleteMachines; {
	case limit <= 0 || n == 0 || n+lately <= limit:
		return going, nil
	case lately > 0:
		return append(going, fmt.Sprintf("%d machines (%d left within %s, maxDeleteMachines allows %d)", n, lately, shortDuration(e.DeleteWindow), limit)), machines
	default:
		return append(going, fmt.Sprintf("%d machines (maxDeleteMachines allows %d at once)", n, limit)), machines
	}
}

// takes returns how many machines a change that was written takes out of a cluster that stays.
func takes(change *diff.Change) int {
	switch {
	case change.Action == diff.Destroy && change.Metadata().Type() == omni.MachineSetNodeType && change.Old.Metadata().Phase() == resource.PhaseRunning:
		return 1
	case change.Action == diff.Update && change.Metadata().Type() == omni.MachineSetType:
		before, after := classSize(change.Old), classSize(change.New)
		if before > 0 && after >= 0 {
			return max(before-after, 0)
		}
	}

	return 0
}

// classSize returns how many machines of a class a machine set has by what it says; -1 if it says no number.
func classSize(r resource.Resource) int {
	set, ok := r.(*omni.MachineSet)
	if !ok || !limited(allocation(set)) {
		return -1
	}

	return int(allocation(set).GetMachineCount())
}

// took notes that so many machines leave a cluster from now on.
func (b *board) took(key Key, machines int) {
	if machines > 0 {
		b.update(key, func(r *record) {
			r.taken = append(r.taken, slices.Repeat([]time.Time{time.Now()}, machines)...)
		})
	}
}

// machinesTaken counts the machines that left a cluster lately.
func (b *board) machinesTaken(key Key, window time.Duration) (n int) {
	b.update(key, func(r *record) {
		r.taken = slices.DeleteFunc(r.taken, func(at time.Time) bool { return time.Since(at) >= window })
		n = len(r.taken)
	})

	return n
}

// takesAway reports whether changes may take machines out of a cluster. What comes before such a phase is not held up.
func takesAway(phase []diff.Change) bool {
	return slices.ContainsFunc(phase, func(c diff.Change) bool {
		return c.Action == diff.Destroy || c.Action == diff.Update && c.Metadata().Type() == omni.MachineSetType
	})
}

// guardConfirmed reports whether somebody confirmed what a guard stopped, by its digest.
func (e *Engine) guardConfirmed(t *target, digest string) bool {
	cluster, ok := e.Snapshot.Get(omni.ClusterType, t.Target)
	if !ok {
		return false
	}

	confirmed, _ := cluster.Metadata().Annotations().Get(diff.MarkConfirmed)

	return confirmed == digest
}

// guards notes what a guard stops, and returns since when it has stopped just that, without a disturbance.
func (b *board) guards(key Key, digest string, now disturbances) (since time.Time) {
	b.update(key, func(r *record) {
		if r.guard != digest || r.guardedAt != now || r.guarded.IsZero() {
			r.guard, r.guardedAt, r.guarded = digest, now, time.Now()
		}

		since = r.guarded
	})

	return since
}

// listed names a few of a list.
func listed(names []string) string {
	const shown = 3

	text := strings.Join(names[:min(len(names), shown)], ", ")
	if more := len(names) - shown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}

	return text
}
