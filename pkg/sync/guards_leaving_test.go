package sync

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/render"
	sourcerev "github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// What follows was found by TestG11_RandomScenarios.

// Somebody took our marks off a cluster. When its template left Git, its machine sets, which still carried them, were
// destroyed at once.
func TestG1_PartsOfAClusterThatIsNotOurs(t *testing.T) {
	e := idleEngine()
	seen := leavingTarget(e)

	set := omnires.NewMachineSet("a-workers")
	set.Metadata().Labels().Set(omnires.LabelCluster, "a")
	set.Metadata().Annotations().Set(diff.MarkSource, "s")

	if fate := e.fate(seen, set); fate.Step != diff.StepDestroy {
		t.Fatalf("of a cluster that is gone: %+v", fate)
	}

	put(e, omnires.NewCluster("a"))

	seen.fates = nil
	if fate := e.fate(seen, set); fate.Step != diff.StepKeep {
		t.Errorf("%+v", fate)
	}
}

// What was left of the last cluster of a source stayed for ever, and said that somebody should confirm it, which was refused.
func TestG10_PartsOfTheLastCluster(t *testing.T) {
	e := idleEngine()
	seen := leavingTarget(e)
	seen.from.targets = nil

	set := omnires.NewMachineSet("a-workers")
	set.Metadata().Annotations().Set(diff.MarkSource, "s")

	if fate := e.fate(seen, set); fate.Step != diff.StepDestroy {
		t.Errorf("%+v", fate)
	}
}

// Two daemons have a source of the same name, of two repositories: what somebody confirmed at the one was confirmed at the
// other, too, which did not know what speaks against it.
func TestG1_ConfirmedAtAnother(t *testing.T) {
	e := idleEngine()
	seen := leavingTarget(e)
	mark := diff.Departure{State: diff.Kept, ID: "1", Repository: "github.com/acme/old", Confirmed: true}

	put(e, diff.Departing(fromOrigin("a", diff.Origin{Place: diff.Place{Repository: "github.com/acme/old"}}), mark))

	if fate := e.fate(seen, heldCluster(e)); fate.Step != diff.StepKeep {
		t.Errorf("%+v", fate)
	}

	mark.Repository, mark.By = place.Repository, place.String()
	put(e, diff.Departing(heldCluster(e), mark))

	seen.fates = nil
	if fate := e.fate(seen, heldCluster(e)); fate.Step != diff.StepMark || fate.Mark.State != diff.Destroying {
		t.Errorf("%+v", fate)
	}
}

// A source that does not prune took the marks off an orphan of its namesake in another repository.
func TestG1_OrphanOfAnother(t *testing.T) {
	e := idleEngine()
	seen := leavingTarget(e)
	seen.src.Prune = false

	orphan := fromOrigin("a", diff.Origin{Place: diff.Place{Repository: "github.com/acme/old"}})
	orphan.Metadata().Annotations().Set(AnnotationDeletion, "orphan")
	put(e, orphan)

	if fate := e.fate(seen, heldCluster(e)); fate.Step != diff.StepKeep {
		t.Errorf("%+v", fate)
	}
}

// A source that cannot be read any more may have a newer revision in which the template is back.
func TestG2_ItsOwnSourceFails(t *testing.T) {
	e := idleEngine()
	seen := leavingTarget(e)
	put(e, marked("a", resource.PhaseRunning))
	e.failed(seen.src, errors.New("no route to host"))

	if fate := e.fate(seen, heldCluster(e)); fate.Step != diff.StepKeep {
		t.Errorf("%+v", fate)
	}
}

// A template moved to another source, in a file that could not be read there: its cluster was destroyed.
func TestG2_MovedIntoABrokenFile(t *testing.T) {
	e := idleEngine()
	seen := leavingTarget(e)
	put(e, marked("a", resource.PhaseRunning))
	e.Reconfigure([]SourceConfig{seen.src.SourceConfig, {Name: "z", Source: other{}}})
	e.sources.get("z").desired.Store(&desired{})

	if fate := e.fate(seen, heldCluster(e)); fate.Step != diff.StepKeep {
		t.Errorf("%+v", fate)
	}
}

// One commit took a file out of a repository that two sources read. The one that had yet to see it took the cluster over from
// the one that had, and destroyed it by its own terms.
func TestG13_TakerIsBehind(t *testing.T) {
	e := idleEngine()
	seen := leavingTarget(e)
	e.Reconfigure([]SourceConfig{seen.src.SourceConfig, {Name: "z", Source: idle{}, Allow: Allow{TakeFrom: []string{"s"}}}})
	e.sources.get("s").desired.Store(&desired{whole: true, revision: "2"})

	taker := e.sources.get("z")
	taker.desired.Store(&desired{whole: true, revision: "1", targets: targets{{Name: "a"}}})
	put(e, marked("a", resource.PhaseRunning))

	behind := &target{Key: Key{"z", "a"}, src: taker, from: taker.desired.Load()}
	if e.mayTake(behind, heldCluster(e)) {
		t.Error("it is taken by a source that may have lost it, too")
	}

	behind.from.revision = "2"
	if !e.mayTake(behind, heldCluster(e)) {
		t.Error("it is not taken")
	}
}

// A template that was back for a moment, or in a state that is refused, was no return: the time ran on, and an old
// confirmation held.
func TestG11_BackForAMoment(t *testing.T) {
	e := idleEngine()
	seen := leavingTarget(e)
	put(e, diff.Departing(marked("a", resource.PhaseRunning), diff.Departure{State: diff.Kept, ID: "1", Confirmed: true}))

	e.accept(seen.src, sourcerev.Revision{ID: "2"}, &reading{set: &template.Set{}, targets: []*render.Target{{Name: "a"}}})

	if fate := e.fate(seen, heldCluster(e)); fate.Step == diff.StepMark && fate.Mark.State == diff.Destroying {
		t.Errorf("%+v", fate)
	}
}

// What was begun and could not be torn down went, without a wait, as soon as a lock in between was taken away.
func TestG8_LockedAfterItsDeletionBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := idleEngine()
		defer e.queue.ShutDown()

		seen := leavingTarget(e)
		seen.src.DeleteAfter = 0
		put(e, diff.Departing(marked("a", resource.PhaseRunning), diff.Departure{State: diff.Leaving, ID: "1"}))

		look := func() diff.Fate {
			time.Sleep(time.Second)

			seen.fates = nil

			return e.fate(seen, heldCluster(e))
		}

		begun := look()
		put(e, diff.Departing(heldCluster(e), begun.Mark))

		if fate := look(); fate.Step != diff.StepDestroy {
			t.Fatalf("%+v", fate)
		}

		locked := heldCluster(e).DeepCopy()
		locked.Metadata().Annotations().Set(omnires.ClusterLocked, "")
		put(e, locked)
		look()

		unlocked := locked.DeepCopy()
		unlocked.Metadata().Annotations().Delete(omnires.ClusterLocked)
		put(e, unlocked)

		if fate := look(); fate.Step != diff.StepMark || fate.Mark.State != diff.Leaving {
			t.Errorf("%+v", fate)
		}
	})
}

// A wall clock that jumps changes no time: what is measured carries the reading of the monotonic clock.
func TestG11_ClockJumps(t *testing.T) {
	e := idleEngine()
	r := marked("a", resource.PhaseRunning)
	e.absences.lasts(refOf(r), "1", e.disturbances())
	e.absences.note(begunKey{"s", refOf(r)}, "1")

	for _, at := range []time.Time{e.absences.gone[refOf(r)].since, e.absences.begun[begunKey{"s", refOf(r)}].at} {
		if at == at.Round(0) { // which takes it off
			t.Errorf("%v has no reading of the monotonic clock", at)
		}
	}
}
