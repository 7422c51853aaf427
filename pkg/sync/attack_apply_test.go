package sync_test

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// G11: a revision that arrives while an older one is being applied wins: what only the
// older one wanted destroyed is not destroyed any more.
func TestG11_NewerRevisionStopsDestroy(t *testing.T) {
	var writes writeLog

	o := daemon.StartOmni(t, embedded.Config{NoControllers: true, OnWrite: writes.add})
	d := daemon.Start(t, o, nil)
	d.Apply(t, fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1), machine(2))})

	hit, release := hold(t, o, embedded.Match{Verb: embedded.VerbCreate, ID: machine(3)})

	d.Feed(fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1), machine(3))})
	await(t, "the first step", hit)

	last := d.Feed(fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1), machine(2), machine(3))})
	within(t, d, "the new revision", func(s sync.Status) bool { return s.Sources[0].Revision == last })
	release()
	applied(t, d, last)

	if slices.Contains(writes.all(), "Teardown "+machine(2)) {
		t.Errorf("a machine that Git wants was taken out of its cluster: %v", writes.last(5))
	}
}

// G2: a snapshot that goes stale in the middle of an apply stops it, and it goes on later.
func TestG2_StaleStopsApply(t *testing.T) {
	var writes writeLog

	o := daemon.StartOmni(t, embedded.Config{NoControllers: true, OnWrite: writes.add})
	d := daemon.Start(t, o, func(_ *sync.Config, s *omni.SnapshotConfig) { s.StaleAfter = 20 * time.Millisecond })
	d.Apply(t, fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1), machine(2))})

	hit, release := hold(t, o, embedded.Match{Verb: embedded.VerbCreate, ID: machine(3)})

	last := d.Feed(fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1), machine(3))})
	await(t, "the first step", hit)

	back := o.Faults().Add(unavailable(embedded.VerbWatch, ""))
	o.Faults().DropWatches(embedded.Match{})
	within(t, d, "going stale", func(s sync.Status) bool { return !s.Ready })
	release()

	within(t, d, "the end of the pass", func(s sync.Status) bool {
		return !s.Ready && strings.HasPrefix(target(s, "a").Message, "waiting for ")
	})

	if n := count(writes.all(), "Teardown"); n != 0 {
		t.Errorf("%d resources were destroyed from a stale view", n)
	}

	back()
	applied(t, d, last)
}

// G8: a lock that is set in the middle of an apply stops it, also what Omni would let pass.
func TestG8_LockStopsApply(t *testing.T) {
	var writes writeLog

	o := daemon.StartOmni(t, embedded.Config{NoControllers: true, OnWrite: writes.add})
	d := daemon.Start(t, o, nil)
	d.Apply(t, fstest.MapFS{"a.yaml": patched("a", machine(1), [2]string{"400-x", "1"}, [2]string{"400-y", "1"})})

	hit, release := hold(t, o, embedded.Match{Verb: embedded.VerbUpdate, ID: "400-x"})

	last := d.Feed(fstest.MapFS{"a.yaml": patched("a", machine(1), [2]string{"400-x", "2"})})
	await(t, "the first step", hit)
	lock(t, o, "a")
	// The lock is known before the held write comes back: a foreign patch behind it is seen.
	watched(t, o, d)
	release()

	within(t, d, "waiting for the lock", func(s sync.Status) bool { return s.Settled() && s.Sources[0].Revision == last })

	if n := count(writes.all(), "Teardown"); n != 0 {
		t.Errorf("%d resources of a locked cluster were destroyed", n)
	}

	unlock(t, o, "a")
	applied(t, d, last)
	expect(t, "patches", []string{"400-x"}, live(t, o, omnires.ConfigPatchType))
}

// watched returns when the daemon's snapshot holds what Omni holds of its clusters.
func watched(t *testing.T, o *daemon.Omni, d *daemon.Daemon) {
	t.Helper()

	list, err := o.State().List(t.Context(), resource.NewMetadata("default", omnires.ClusterType, "", resource.VersionUndefined))
	if err != nil {
		t.Fatal(err)
	}

	for _, r := range list.Items {
		seen := make(chan struct{}, 1)
		cancel := d.Snapshot.Subscribe(func(omni.Change) {
			select {
			case seen <- struct{}{}:
			default:
			}
		})

		for {
			held, ok := d.Snapshot.Get(omnires.ClusterType, r.Metadata().ID())
			if ok && held.Metadata().Version().Value() >= r.Metadata().Version().Value() {
				break
			}

			await(t, "the watch", seen)
		}

		cancel()
	}
}
