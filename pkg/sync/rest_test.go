package sync

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/siderolabs/omni/client/api/omni/specs"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// looked takes one look at the health of the target a and checks what comes of it.
func looked(t *testing.T, b *board, c checkup, want Health, rests bool) time.Duration {
	t.Helper()

	key := Key{"s", "a"}
	left := b.observe(key, c, settle)

	if r := b.get(key); r.Health != want || r.AtRest != rests {
		t.Fatalf("after a look at %s: %s (%s), at rest %v; want %s, %v", c.health, r.Health, r.HealthReason, r.AtRest, want, rests)
	}

	return left
}

// Bad news was debounced like good news: for seconds into an upgrade, and for all of a quick
// teardown, a cluster was called Healthy.
func TestObserve_BadNewsCountsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestBoard("s")

		looked(t, b, working("made"), Progressing, false)

		for range 3 { // Omni's readiness flaps while a cluster comes up
			looked(t, b, healthy(), Progressing, false)
			time.Sleep(time.Second)
			looked(t, b, working("again"), Progressing, false)
			time.Sleep(time.Second)
		}

		if left := looked(t, b, healthy(), Progressing, false); left != settle {
			t.Fatalf("the next look is due in %s, want %s", left, settle)
		}

		time.Sleep(settle - time.Nanosecond)
		looked(t, b, healthy(), Progressing, false)
		time.Sleep(time.Nanosecond)
		looked(t, b, healthy(), Healthy, true)
		looked(t, b, working("an upgrade"), Progressing, false)
		looked(t, b, degraded("it failed"), Degraded, false)
		time.Sleep(settle)
		looked(t, b, degraded("it failed"), Degraded, true)
		looked(t, b, checkup{health: Missing, rest: Missing}, Missing, true) // there is nothing to flap
	})
}

// What Omni has said for long needs no second look: a daemon that starts says at once
// which clusters are healthy.
func TestObserve_StableBeforeTheStart(t *testing.T) {
	for name, test := range map[string]struct {
		updated time.Duration
		want    Health
	}{
		"for an hour":               {-time.Hour, Healthy},
		"for a second":              {-time.Second, Progressing},
		"Omni's clock is ahead":     {time.Hour, Progressing},
		"Omni gives no time at all": {0, Progressing},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := healthy()
				if test.updated != 0 {
					c.updated = time.Now().Add(test.updated)
				}

				looked(t, newTestBoard("s"), c, test.want, test.want == Healthy)
			})
		})
	}
}

// While its statuses move, Omni has not come to rest, although each of them is good. Once it
// has, what moves is nothing that was written.
func TestObserve_UntilNothingMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := newTestBoard("s"), healthy()

		for range 3 {
			c.trace++
			looked(t, b, c, Progressing, false)
			time.Sleep(settle - time.Second)
		}

		time.Sleep(time.Second)
		looked(t, b, c, Healthy, true)

		c.trace++
		looked(t, b, c, Healthy, true)
	})
}

// Right after a write all statuses are as good as before it. The health was read from them as
// they were, so a cluster was Healthy at a revision that Omni had not begun with.
func TestObserve_AfterAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := newTestBoard("s"), healthy()
		c.updated, c.config = time.Now().Add(-time.Hour), 1
		looked(t, b, c, Healthy, true)

		b.acts(Key{"s", "a"}, 0)

		if r := b.get(Key{"s", "a"}); r.Health != Progressing || r.AtRest {
			t.Errorf("after a write: %s, at rest %v", r.Health, r.AtRest)
		}

		looked(t, b, c, Progressing, false)
		time.Sleep(settle)
		looked(t, b, c, Healthy, true)

		// A configuration that was written has to show, however long that takes Omni ...
		b.acts(Key{"s", "a"}, c.config)
		time.Sleep(2 * settle)
		looked(t, b, c, Progressing, false)

		c.config, c.trace = 2, 2
		looked(t, b, c, Progressing, false)
		time.Sleep(settle)
		looked(t, b, c, Healthy, true)

		// ... or it changes nothing that machines have.
		b.acts(Key{"s", "a"}, c.config)
		time.Sleep(patience*settle - time.Second)
		looked(t, b, c, Progressing, false)
		time.Sleep(time.Second)
		looked(t, b, c, Healthy, true)
	})
}

// What nobody but people and omni-syncd reads moves nothing in Omni, and is not waited for.
func TestActs(t *testing.T) {
	field := func(path string) *diff.Change {
		return &diff.Change{Action: diff.Update, Old: omnires.NewCluster("a"), New: omnires.NewCluster("a"), Fields: []diff.Field{{Path: path}}}
	}

	for name, test := range map[string]struct {
		change *diff.Change
		want   bool
	}{
		"a new resource":       {&diff.Change{Action: diff.Create, New: omnires.NewCluster("a")}, true},
		"a deletion":           {&diff.Change{Action: diff.Destroy, Old: omnires.NewCluster("a")}, true},
		"the spec":             {field("spec.kubernetesversion"), true},
		"a label of one's own": {field("metadata.labels[team]"), false},
		"an annotation":        {field("metadata.annotations[omni-syncd/source]"), false},
		"Omni's label":         {field("metadata.labels[omni.sidero.dev/cluster-machine]"), true},
		"a mark":               {&diff.Change{Action: diff.Mark, New: omnires.NewCluster("a")}, false},
	} {
		if got := acts(test.change); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// The status of a target that nobody waits for any longer.
func TestOver(t *testing.T) {
	for name, test := range map[string]struct {
		status TargetStatus
		want   bool
	}{
		"at work":                {TargetStatus{Sync: OutOfSync}, false},
		"Omni is at work":        {TargetStatus{Sync: Synced, Settled: true}, false},
		"done":                   {TargetStatus{Sync: Synced, Settled: true, AtRest: true}, true},
		"it waits for a person":  {TargetStatus{Sync: OutOfSync, Settled: true}, true},
		"a new revision came in": {TargetStatus{Sync: Synced, AtRest: true}, false},
	} {
		if got := test.status.Over(); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A teardown that waits for machines that are off named Omni's controllers only.
func TestStillThere(t *testing.T) {
	m := func(id string, connected bool, stage specs.ClusterMachineStatusSpec_Stage) *omnires.ClusterMachineStatus {
		r := omnires.NewClusterMachineStatus(id)
		r.Metadata().Labels().Set(omnires.LabelCluster, "a")
		r.Metadata().Labels().Set(omnires.LabelMachineSet, "a-workers")
		r.TypedSpec().Value.Stage = stage

		if connected {
			r.Metadata().Labels().Set(omnires.MachineStatusLabelConnected, "")
		}

		return r
	}

	e := idleEngine()
	put(e, m("m1", true, specs.ClusterMachineStatusSpec_DESTROYING))
	put(e, m("m2", false, specs.ClusterMachineStatusSpec_POWERED_OFF))
	put(e, m("m3", false, specs.ClusterMachineStatusSpec_DESTROYING))

	torn := member("m3", 1, false)

	if got, want := e.heldBy(torn), "; machines still there: m3 (unreachable)"; got != want {
		t.Errorf("a machine: %q, want %q", got, want)
	}

	cluster := omnires.NewCluster("a")
	cluster.Metadata().SetPhase(torn.Metadata().Phase())

	if got, want := e.heldBy(cluster), "; machines still there: m2 (off), m3 (unreachable), m1"; got != want {
		t.Errorf("a cluster: %q, want %q", got, want)
	}

	if got := e.heldBy(omnires.NewCluster("a")); got != "" {
		t.Errorf("a cluster that stays: %q", got)
	}
}
