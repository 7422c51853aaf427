package sync

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/render"
)

// machineSet returns a machine set of the cluster a that carries our mark.
func machineSet(name string) resource.Resource {
	r := omnires.NewMachineSet(name)
	r.Metadata().Labels().Set(omnires.LabelCluster, "a")
	r.Metadata().Annotations().Set(diff.MarkSource, "s")

	return r
}

// G1, G11: a cluster whose mark somebody took off, to take it out of our hands, lost its machine sets at once: what the
// cluster is made of was taken for what is left of a cluster that is gone.
func TestG1_PartsOfAClusterWithoutAMarkStay(t *testing.T) {
	e, _ := inMemory(nil)
	gone := leavingTarget(e)
	gone.src.Policy.Protected, gone.src.MaxDelete = true, 0

	cluster := marked("a", resource.PhaseRunning)
	cluster.Metadata().Annotations().Delete(diff.MarkSource)
	put(e, cluster)
	put(e, machineSet("a-workers"))

	if plan := diff.Compute(e.input(gone, e.Snapshot.Cluster("a"))); plan.Count(diff.Destroy) > 0 {
		t.Errorf("the plan destroys what a live cluster is made of: %s", plan.Summary())
	}
}

// G11: while a cluster is locked, the time does not go on that what leaves it has to be gone.
func TestG11_ALockInterruptsWhatLeavesACluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, seen := inMemory(nil)
		defer e.queue.ShutDown()

		e.NoPreflight = true
		seen.src.DeleteAfter = 5 * time.Minute
		seen.Target = "a"
		plan := &diff.Plan{Source: "s", Target: "a", Changes: []diff.Change{{Action: diff.Destroy, Old: machineSet("a-workers")}}}

		e.board.planned(seen, plan)

		err := e.guard(seen, plan)
		if err == nil {
			t.Fatal("it does not wait")
		}

		// What people read counts down, and says what waits.
		e.board.blame(seen.Key, CauseLeaving)

		status := e.board.get(seen.Key).TargetStatus
		if message := status.MessageAt(time.Now().Add(time.Minute)); message != strings.Replace(err.Error(), "in 5m", "in 4m", 1) || !strings.Contains(message, "; pending: ") {
			t.Errorf("%q, and a minute ago %q", message, err)
		}

		plan.Locked = true

		for range 6 {
			time.Sleep(time.Minute)

			if err := e.guard(seen, plan); err == nil {
				t.Fatal("the lock is no barrier")
			}
		}

		plan.Locked = false

		if reason, _ := e.protect(seen, plan); reason == "" {
			t.Error("the machine set goes as soon as the lock is off")
		}
	})
}

// G1: what belongs to another repository is not ours to destroy, also if somebody confirmed its deletion there.
func TestG1_AConfirmationOfAnotherRepository(t *testing.T) {
	e, _ := inMemory(nil)
	gone := leavingTarget(e)

	elsewhere := place
	elsewhere.Repository = "github.com/acme/other"
	r := diff.Departing(fromOrigin("a", diff.Origin{Place: elsewhere}), diff.Departure{State: diff.Leaving, ID: "1", Confirmed: true})
	put(e, r)

	if fate := e.decide(gone, r); fate.Step == diff.StepMark && fate.Mark.State == diff.Destroying || fate.Step == diff.StepDestroy {
		t.Errorf("it is destroyed: %+v", fate)
	}
}

// G2: two sources may read one repository by two clones (another spelling of its URL, other credentials).
func TestG2_BehindOnTheSameRepository(t *testing.T) {
	e, _ := inMemory(nil)
	gone := leavingTarget(e)
	e.Reconfigure([]SourceConfig{gone.src.SourceConfig, {Name: "z", Source: other{}}})
	gone.src = e.sources.get("s")
	e.sources.get("z").desired.Store(&desired{whole: true, place: place, revision: "main@sha1:older"})

	if e.unread(gone) == "" {
		t.Error("a source that is behind on the same repository holds nothing back")
	}
}

// G8: Omni gives a machine every patch with its label, whatever other label that has.
func TestG8_APatchWithTwoLabels(t *testing.T) {
	e, seen := inMemory(nil)
	cluster := marked("a", resource.PhaseRunning)
	cluster.Metadata().Annotations().Set(omnires.ClusterLocked, "")
	put(e, cluster)
	put(e, member("m1", resource.PhaseRunning, false))

	patch := omnires.NewConfigPatch("evil")
	patch.Metadata().Labels().Set(omnires.LabelCluster, "nope")
	patch.Metadata().Labels().Set(omnires.LabelMachine, "m1")

	labels := omnires.NewMachineLabels("m1")
	power := omnires.NewInfraMachineConfig("m1")

	for _, r := range []resource.Resource{patch, labels, power} {
		if why, _ := e.holds(seen, r); why == "" {
			t.Errorf("%s reaches a machine of a locked cluster", diff.Name(r))
		}
	}
}

// A fleet resource for a suspended cluster that Omni does not hold waited for itself: it was planned anew without end, and
// kept a core busy.
func TestHold_OfWhatIsNotThereWaits(t *testing.T) {
	e, seen := inMemory(nil)
	defer e.queue.ShutDown()

	seen.Target, seen.src.Allow.Clusters = "", []string{"x*"}
	node := omnires.NewMachineSet("a-workers")
	node.Metadata().Labels().Set(omnires.LabelCluster, "a")
	put(e, node)

	patch := omnires.NewConfigPatch("p")
	patch.Metadata().Labels().Set(omnires.LabelMachineSet, "a-workers")
	seen.desired = &render.Target{Resources: []resource.Resource{patch}}

	plan := diff.Compute(e.input(seen, nil))
	if len(plan.Waiting) != 1 {
		t.Fatalf("%+v", plan)
	}

	if err := e.awaited(seen, plan); errors.Is(err, errAgain) || err == nil {
		t.Errorf("it does not wait: %v", err)
	}
}
