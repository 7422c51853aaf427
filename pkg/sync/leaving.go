package sync

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// What left Git goes in steps, each of which is seen in Omni and can be taken back:
//
//	(described) ──▶ leaving ──▶ destroying ──▶ torn down
//	                   │            ▲
//	                   └──▶ kept ───┘ confirmed
//
// It is marked as leaving first. It is destroyed once this leader has found it gone, without interruption, for
// DeleteAfter, within the budget. What may not go by itself is kept until it comes back or somebody confirms.

// The causes of being kept, as the mark tells them.
const (
	keptPrune  = "prune"  // prune was off
	keptPlace  = "place"  // the source reads from another place
	keptOrigin = "origin" // nobody can tell where it came from
	keptBudget = "budget" // too much left at once
	keptPast   = "past"   // what is read is not known to be newer than it
)

// fate decides what happens to a resource that left Git, once for each pass.
func (e *Engine) fate(t *target, r resource.Resource) diff.Fate {
	key := refOf(r)
	if fate, ok := t.fates[key]; ok {
		return fate
	}

	fate := e.decide(t, r)
	if fate.Step == diff.StepKeep || fate.Mark.State == diff.Leaving || fate.Mark.State == diff.Kept {
		e.absences.interrupt(key)
	}

	if mark := diff.DepartureOf(r); fate.Step == diff.StepKeep && !mark.Confirmed {
		e.absences.end(mark.ID)
	}

	if t.fates == nil {
		t.fates = map[ref]diff.Fate{}
	}

	t.fates[key] = fate

	return fate
}

func (e *Engine) decide(t *target, r resource.Resource) diff.Fate {
	mark := e.markOf(t, r)

	cause, why := e.keeps(t, r)
	if cause == keptPlace && mark.By != t.from.place.String() {
		mark.Confirmed = false // somebody confirmed it to a source that reads another place
	}

	confirmed := mark.Confirmed && (mark.State != diff.Destroying || e.absences.decided(mark.ID))
	policy := livePolicy(t.src.Policy, r)

	if why := e.uncertain(t, r, confirmed); why != "" {
		if mark.State == diff.Destroying && isRoot(r) && !e.isStranger(t, r) {
			return diff.Fate{Step: diff.StepMark, Mark: e.departure(t, diff.Leaving), Reason: why} // or nobody could take it over, ever
		}

		return diff.Fate{Reason: why}
	}

	if !isRoot(r) { // what is left of a cluster that is gone
		return e.decidePart(t)
	}

	switch {
	case e.released(t, r, policy) && (why == "" || cause == keptPrune):
		return diff.Fate{Step: diff.StepRelease}
	case why != "" && !confirmed:
		return e.kept(t, r, mark, cause, why)
	case mark.State == diff.Kept && !confirmed:
		return diff.Fate{Reason: mark.Reason + "; " + toDelete(r), Asks: mark.Cause == keptBudget}
	case policy.Protected:
		return diff.Fate{Reason: "it is protected; say " + AnnotationDeletion + ": allowed in its template, and `deletion: allowed` of its source, before you remove that"}
	case t.src.DeletionsPaused:
		return diff.Fate{Reason: "deletions are paused (`deletions: paused` in the configuration)"}
	case e.DryRun && !confirmed && e.overBudget(t, r) != "":
		return diff.Fate{Reason: e.overBudget(t, r) + "; " + toDelete(r), Asks: true}
	case e.DryRun:
		return diff.Fate{Step: diff.StepDestroy, Reason: e.foretell(t, r)}
	case e.OneShot && !e.Approved[diff.Name(r)]:
		return diff.Fate{Reason: cmp.Or(e.Declined[diff.Name(r)], "nobody agreed to its deletion; `omni-syncd sync --prune` asks")}
	case mark.State == diff.Destroying && (confirmed || e.absences.began(mark.ID, e.disturbances())):
		if reason, _ := e.barrier(t, e.isLocked(t.Target)); reason != "" && !mark.Confirmed {
			e.absences.end(mark.ID) // it waits anew once that is over
		}

		return diff.Fate{Step: diff.StepDestroy}
	case confirmed || e.OneShot:
		return e.begin(t, r, mark, true)
	case e.absences.blind() > 0:
		return e.unknown(t, r)
	case e.overBudget(t, r) != "":
		return e.kept(t, r, mark, keptBudget, e.overBudget(t, r))
	case mark.State != diff.Leaving:
		mark = e.departure(t, diff.Leaving)

		return diff.Fate{Step: diff.StepMark, Mark: mark, Reason: e.countdown(t, r, mark, t.src.DeleteAfter)}
	default:
		return e.wait(t, r, mark)
	}
}

// markOf returns the mark of what left Git, unless it means nothing to this source: it is that of a source of the same
// name that reads another repository, or what it is on was back in Git since.
func (e *Engine) markOf(t *target, r resource.Resource) diff.Departure {
	mark := diff.DepartureOf(r)
	if mark.Repository != t.from.place.Repository && mark.Repository != "" || e.absences.isVoid(refOf(r), mark.ID) {
		return diff.Departure{}
	}

	return mark
}

// decidePart decides about what is left of a cluster that Omni does not hold any more.
func (e *Engine) decidePart(t *target) diff.Fate {
	if _, ok := e.Snapshot.Get(omni.ClusterType, t.Target); ok {
		return diff.Fate{Reason: "its cluster is in Omni and carries no mark of this source: somebody took that off"}
	}

	switch {
	case !t.src.Prune:
		return diff.Fate{Reason: "prune is off for this source"}
	case t.src.DeletionsPaused:
		return diff.Fate{Reason: "deletions are paused (`deletions: paused` in the configuration)"}
	default:
		return diff.Fate{Step: diff.StepDestroy}
	}
}

// wait counts down. It begins anew whenever something got in the way.
func (e *Engine) wait(t *target, r resource.Resource, mark diff.Departure) diff.Fate {
	if reason, _ := e.barrier(t, e.isLocked(t.Target)); reason != "" {
		e.absences.interrupt(refOf(r))

		return diff.Fate{Step: diff.StepWait, Reason: e.countdown(t, r, mark, t.src.DeleteAfter)}
	}

	gone := e.absences.lasts(refOf(r), mark.ID, e.disturbances())
	if left := t.src.DeleteAfter - gone; left > 0 {
		e.queue.AddAfter(t.Key, left)

		return diff.Fate{Step: diff.StepWait, Reason: e.countdown(t, r, mark, left)}
	}

	if why := e.lookAgain(t); why != "" {
		e.queue.AddAfter(t.Key, time.Second)

		return diff.Fate{Step: diff.StepWait, Reason: e.countdown(t, r, mark, 0) + "; " + why}
	}

	return e.begin(t, r, mark, false)
}

// unknown keeps what may not go while nobody knows what went before the start.
func (e *Engine) unknown(t *target, r resource.Resource) diff.Fate {
	left := e.absences.blind()
	e.queue.AddAfter(t.Key, left)

	return diff.Fate{Reason: fmt.Sprintf("what was deleted before the start could not be read, so nothing goes by itself for %s; %s", shortDuration(left), toDelete(r)), Asks: true}
}

// lookAgain has every source looked at before something is destroyed, and says for which one that is awaited; "" if what
// is known of all of them is as new as that. The template may be back, and nobody has asked since.
func (e *Engine) lookAgain(t *target) (why string) {
	since := time.Now().Add(-freshLook)

	for _, name := range slices.Sorted(maps.Keys(e.sources.all())) {
		src := e.sources.get(name)
		if src == nil {
			continue
		}

		if from, ok := src.Source.(looker); ok && (from.Looked().Before(since) || from.Newest() != e.board.source(name).Revision) {
			if e.absences.mayPoke(name) {
				from.Poke()
			}

			why = cmp.Or(why, "asking the source "+name+" once more")
		}
	}

	return why
}

// freshLook is how old the last look at a source may be when something that left it is destroyed.
const freshLook = 15 * time.Second

// begin is the step after which a teardown is permitted: an update with the version that the decision was made from.
// Unconfirmed it takes from the budget, here and nowhere else, so that no two workers take the same.
func (e *Engine) begin(t *target, r resource.Resource, mark diff.Departure, confirmed bool) diff.Fate {
	left, by := mark.ID, mark.By
	mark = e.departure(t, diff.Destroying) // an ID of its own: an old copy of the mark that it takes the place of permits nothing
	mark.Confirmed, mark.By = confirmed, by

	if !confirmed {
		allowed := func() bool { return e.overBudget(t, r) == "" }

		switch ok, err := e.absences.take(begunKey{t.Source, refOf(r)}, left, allowed, e.keepLedger); {
		case err != nil:
			e.queue.AddAfter(t.Key, e.RetryMax)

			return diff.Fate{Step: diff.StepWait, Reason: fmt.Sprintf("it is not destroyed, because that cannot be written down, and a restart would forget it: %v", err)}
		case !ok:
			return e.kept(t, r, diff.Departure{}, keptBudget, e.overBudget(t, r))
		}
	}

	e.absences.begin(mark.ID, e.disturbances())

	return diff.Fate{Step: diff.StepMark, Mark: mark, Reason: "its deletion begins"}
}

// kept keeps what may not go by itself, for good: only its return or a confirmation ends that. So it is written down in
// Omni, except by a one-shot, which does not look after anything, and on what belongs to another repository.
func (e *Engine) kept(t *target, r resource.Resource, mark diff.Departure, cause, why string) diff.Fate {
	reason := why + "; " + toDelete(r)

	if mark.State == diff.Kept || e.OneShot || e.DryRun || e.isStranger(t, r) {
		return diff.Fate{Reason: reason, Asks: cause == keptBudget}
	}

	next := e.departure(t, diff.Kept)
	next.Cause, next.Reason = cause, why

	if cause == keptPlace {
		next.By = t.from.place.String()
	}

	return diff.Fate{Step: diff.StepMark, Mark: next, Reason: reason, Asks: cause == keptBudget}
}

// isStranger reports whether a resource that carries the name of the source comes from another repository.
func (e *Engine) isStranger(t *target, r resource.Resource) bool {
	origin, known := diff.OriginOf(r)

	return known && origin.Known() && origin.Repository != t.from.place.Repository
}

// keeps says why what left Git must not go by itself, for good: in a word and in words; "" if it may. A source deletes
// only what carries exactly its present place.
func (e *Engine) keeps(t *target, r resource.Resource) (cause, why string) {
	origin, ok := diff.OriginOf(r)

	switch {
	case !ok:
		return keptOrigin, "nothing on it says where it came from: an earlier release of omni-syncd marked it"
	case !origin.Known():
		return keptOrigin, "it came from a folder that was no checkout of a known repository, so nobody can tell whether it left that"
	case !t.from.place.Known():
		return keptOrigin, "this source reads a folder that is no checkout of a known repository, so nobody can tell whether it left that; set `origin` of the source, or read a Git repository"
	case !origin.Place.Equal(t.from.place):
		return keptPlace, fmt.Sprintf("it came from %s, and this source now reads %s", origin.Place, t.from.place)
	case t.from.rewound:
		return keptPast, "it is not in a revision that does not have the one before in its history (was there a forced push?)"
	}

	if why := e.older(t, origin.Commit); why != "" {
		return keptPast, why
	}

	if !t.src.Prune { // last: what is another's is not ours to release either
		return keptPrune, "prune is off for this source"
	}

	return "", ""
}

// lost reports whether a commit is known not to be in the history of what is read. A one-shot may be an old pipeline that
// runs once more, and loses nothing.
func (e *Engine) lost(t *target, commit string) bool {
	if t.src.Follows == nil || t.from.commit == "" || e.OneShot {
		return false
	}

	yes, known := t.src.Follows(t.from.commit, commit)

	return known && !yes
}

// older says why what is read is older than a resource that it lacks, or another line of history, by the commit that is
// stamped on the resource; "" if it is newer, or if a daemon cannot know. It says the same after a restart.
func (e *Engine) older(t *target, commit string) string {
	var yes, known bool
	if t.src.Follows != nil {
		yes, known = t.src.Follows(t.from.commit, commit)
	}

	switch {
	case yes:
		return ""
	case known:
		return fmt.Sprintf("its last commit %s is not in the history of what is read: that is older, or another branch", short(commit))
	case t.from.astray:
		return fmt.Sprintf("nobody can tell whether its last commit %s is in the history of what is read, which was moved (was there a forced push?)", short(commit))
	case e.OneShot && t.src.Follows != nil:
		return fmt.Sprintf("nobody can tell whether its last commit %s is in the history of what is read (is the clone shallow?)", short(commit))
	default:
		return ""
	}
}

// uncertain says why nobody can tell whether a resource left Git, or why that may be an accident; "" if it left (G2).
// Nothing is written down of it.
func (e *Engine) uncertain(t *target, r resource.Resource, confirmed bool) string {
	switch {
	case !t.from.whole:
		return "the revision is not whole: some of its files have problems or could not be read"
	case len(t.from.targets) == 0 && !confirmed && isRoot(r):
		return "the revision holds no templates at all; " + toDelete(r)
	case e.board.source(t.Source).Error != "":
		return "the source cannot be read at the moment, and a newer revision may have it back"
	case e.unread(t) != "":
		return e.unread(t) + ", and what left this one may have moved there"
	}

	if taker := e.describedBy(t, r); taker != "" {
		return fmt.Sprintf("the source %s describes it, and may not take it over: name %s in `allow.takeFrom` of %s", taker, t.Source, taker)
	}

	if file := e.leftBehind(t, r); file != "" {
		return file + " is still there, but does not describe it any more; remove the file to delete it"
	}

	if became := e.mayHaveBecome(t, r); became != "" {
		return became
	}

	if became := e.folderBecame(t, r); became != "" {
		return became
	}

	switch kind := diff.Kind(r.Metadata().Type()); {
	case t.Target != "" && !t.src.Allow.Cluster(t.Target):
		return "the source may not have a cluster of this name (`allow.clusters`)"
	case t.Target == "" && !t.src.Allow.Kind(kind):
		return "the source may not write a " + kind + " (`allow.kinds`)"
	}

	return ""
}

// released reports whether what left Git loses our marks and stays in Omni.
func (e *Engine) released(t *target, r resource.Resource, policy Policy) bool {
	to, _ := r.Metadata().Annotations().Get(diff.AnnotationHandover)

	return !policy.Protected && (policy.Orphan || to != "" && to != t.Source && t.Target != "")
}

// departure returns a new mark.
func (e *Engine) departure(t *target, state diff.State) diff.Departure {
	var id [8]byte
	_, _ = rand.Read(id[:]) // it never fails

	return diff.Departure{State: state, ID: hex.EncodeToString(id[:]), Repository: t.from.place.Repository, Revision: t.from.revision, Author: t.from.author}
}

// isRoot reports whether a resource has a departure of its own: a cluster or fleet resource.
func isRoot(r resource.Resource) bool {
	return r.Metadata().Type() == omni.ClusterType || diff.IsFleet(r)
}
