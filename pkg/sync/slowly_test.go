package sync_test

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// slowly returns a daemon that takes two machines at once out of a cluster, and more than that not within the test.
func slowly(t *testing.T, o *daemon.Omni) *daemon.Daemon {
	t.Helper()

	return daemon.Start(t, o, func(c *sync.Config, _ *omni.SnapshotConfig) {
		c.Sources[0].MaxDeleteMachines, c.Sources[0].DeleteAfter = 2, time.Hour
	})
}

// leavingDigest applies a template whose machines may not all go, and returns what a confirmation would be bound to.
func leavingDigest(t *testing.T, o *daemon.Omni, d *daemon.Daemon, files fstest.MapFS) string {
	t.Helper()

	last := d.Feed(files)
	within(t, d, "machines that leave", func(s sync.Status) bool {
		return s.Sources[0].Revision == last && target(s, "a").Revision == last && target(s, "a").Cause == sync.CauseLeaving
	})
	confirm(t, d, "a")

	r, err := o.State().Get(t.Context(), omnires.NewCluster("a").Metadata())
	if err != nil {
		t.Fatal(err)
	}

	digest, _ := r.Metadata().Annotations().Get(diff.MarkConfirmed)

	return digest
}

// G11: the guard counted the machines and did not name them: three others that left in their place went with the time, and
// with the confirmation, of the first ones.
func TestG11_OtherMachinesAreAnotherDeparture(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, func(c *sync.Config, _ *omni.SnapshotConfig) {
		c.Sources[0].MaxDeleteMachines, c.Sources[0].DeleteAfter, c.Sources[0].DeletionsPaused = 2, time.Hour, true
	})
	d.Apply(t, withWorkers(nil, 2, 3, 4, 5, 6, 7))

	last := d.Feed(withWorkers(nil, 5, 6, 7))
	within(t, d, "machines that stay", func(s sync.Status) bool {
		return target(s, "a").Revision == last && target(s, "a").Cause == sync.CauseKept
	})
	confirm(t, d, "a")

	last = d.Feed(withWorkers(nil, 2, 3, 4))
	within(t, d, "others", func(s sync.Status) bool { return target(s, "a").Revision == last && s.Settled() })

	d.Stop(t)

	d = slowly(t, o)
	last = d.Feed(withWorkers(nil, 2, 3, 4))
	status := within(t, d, "others that wait", func(s sync.Status) bool {
		return target(s, "a") != nil && target(s, "a").Revision == last && s.Settled()
	})

	if n := len(live(t, o, omnires.MachineSetNodeType)); n != 7 {
		t.Errorf("%d of 7 machines are left: %s", n, target(status, "a").Message)
	}

	if one, other := leavingDigest(t, o, d, withWorkers(nil, 2, 3, 4)), ""; one == other {
		t.Error("a confirmation is bound to nothing")
	}
}

// G11: nine machines left in three commits of three, with maxDeleteMachines at three.
func TestG11_MachinesAtAPace(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := slowly(t, o)
	d.Apply(t, withWorkers(nil, 2, 3, 4, 5, 6))
	d.Apply(t, withWorkers(nil, 4, 5, 6))

	last := d.Feed(withWorkers(nil, 5, 6))
	status := within(t, d, "one more", func(s sync.Status) bool { return target(s, "a").Revision == last && s.Settled() })

	if got := target(status, "a").Message; !strings.Contains(got, "1 machines (2 left within 1h, maxDeleteMachines allows 2)") {
		t.Errorf("it says %q", got)
	}

	if nodes := live(t, o, omnires.MachineSetNodeType); !slices.Contains(nodes, machine(4)) {
		t.Errorf("machines left at a pace: %v", nodes)
	}
}

// G11: what leaves a cluster was found gone, came back in a template that was refused, left again, and went in the same
// second: its time went on meanwhile.
func TestG11_GuardBeginsAgainAfterARefusal(t *testing.T) {
	const after = 1500 * time.Millisecond

	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, func(c *sync.Config, _ *omni.SnapshotConfig) {
		c.Sources[0].MaxDeleteMachines, c.Sources[0].DeleteAfter = 2, after
	})
	d.Apply(t, withWorkers(nil, 2, 3, 4, 5))

	last := d.Feed(withWorkers(nil, 5))
	within(t, d, "machines that leave", func(s sync.Status) bool {
		return target(s, "a").Revision == last && target(s, "a").Cause == sync.CauseLeaving
	})

	refused := withWorkers(nil, 2, 3, 4, 5)
	refused["a.yaml"] = text("%s", strings.Replace(string(refused["a.yaml"].Data), "name: a\n", "name: a\nannotations: {omni-syncd/suspend: perhaps}\n", 1))

	back := time.Now()
	last = d.Feed(refused)
	within(t, d, "a refusal", func(s sync.Status) bool {
		return target(s, "a").Revision == last && target(s, "a").Cause != sync.CauseLeaving
	})

	last = d.Feed(withWorkers(nil, 5))
	again := within(t, d, "machines that leave again", func(s sync.Status) bool {
		return target(s, "a").Revision == last && target(s, "a").Cause == sync.CauseLeaving
	})

	if at := target(again, "a").Leaving.At; at.Before(back.Add(after)) {
		t.Errorf("they go at %s, and were back at %s: the time went on", at, back)
	}
}
