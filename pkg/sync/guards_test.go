package sync_test

import (
	"context"
	"strings"
	"testing"
	"testing/fstest"

	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// A dry run plans everything, also what comes with the same revision, and writes nothing.
func TestDryRun_WritesNothing(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	first := daemon.Start(t, o, nil)
	applied(t, first, first.Feed(fleet("1.34.3", "a", "b")))
	first.Stop(t)

	d := daemon.Start(t, o, func(c *sync.Config, _ *omni.SnapshotConfig) { c.DryRun = true })
	before := o.Calls()
	status := d.Apply(t, fstest.MapFS{"a.yaml": cluster("a", "1.35.0", machine('a')), "c.yaml": ofClass("c", "x"), "x.yaml": class("x", "1")})

	for _, verb := range []string{embedded.VerbCreate, embedded.VerbUpdate, embedded.VerbTeardown, embedded.VerbDestroy} {
		if n := o.Calls().Since(before)[verb]; n != 0 {
			t.Errorf("%d × %s", n, verb)
		}
	}

	for name, writes := range map[string]int{"": 1, "a": 1, "b": 1, "c": 2} {
		if got := target(status, name); got.Plan == nil || len(got.Plan.Changes) != writes || strings.Contains(got.Message, "does not exist") {
			t.Errorf("%q: %s\n%s", name, got.Message, daemon.Describe(status))
		}
	}
}

// G7: a cluster is not begun with a class that Git describes and Omni refused.
func TestG7_ClassThatWasRefused(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)

	back := o.Faults().Add(embedded.Fault{Match: embedded.Match{Verb: embedded.VerbCreate, Type: omnires.MachineClassType}, Code: codes.InvalidArgument})
	files := fstest.MapFS{"c.yaml": ofClass("c", "x"), "x.yaml": class("x", "1")}
	d.Apply(t, files)
	expect(t, "clusters", 0, len(live(t, o, omnires.ClusterType)))

	back()
	files["x.yaml"] = class("x", "2")
	applied(t, d, d.Feed(files))
}

// G10: what left Git while the daemon was away is found, also if Omni was read long before
// the first revision came: clusters and fleet resources.
func TestG10_RevisionAfterReady(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	first := daemon.Start(t, o, nil)
	applied(t, first, first.Feed(fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1)), "b.yaml": cluster("b", "1.34.3", machine(2)), "x.yaml": class("x", "1")}))
	first.Stop(t)

	d := daemon.Start(t, o, noRelist)
	within(t, d, "Omni", func(s sync.Status) bool { return s.Ready })
	expect(t, "targets", synced("a"), syncs(applied(t, d, d.Feed(fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1))}))))
	expect(t, "clusters", []string{"a"}, live(t, o, omnires.ClusterType))
	expect(t, "classes", 0, len(live(t, o, omnires.MachineClassType)))
}

// An engine that starts with a snapshot that was read before hears of it all the same.
func TestReadyBeforeTheStart(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	snapshot := omni.NewSnapshot(sync.SnapshotConfig(o.Conn.State()))

	ctx, cancel := context.WithCancel(t.Context())
	group, ctx := errgroup.WithContext(ctx)

	ready := make(chan struct{}, 100)
	stop := snapshot.Subscribe(func(change omni.Change) {
		if change == (omni.Change{}) {
			ready <- struct{}{}
		}
	})

	group.Go(func() error { return snapshot.Run(ctx) })

	for snapshot.Err() != nil {
		await(t, "Omni", ready)
	}

	stop()

	feed := daemon.NewFeed()
	e := sync.New(sync.Config{State: o.Conn.State(), Snapshot: snapshot, Sources: []sync.SourceConfig{{Name: daemon.Source, Source: feed}}})
	feed.Add(fleet("1.34.3", "a"))
	group.Go(func() error { return e.Run(ctx) })
	within(t, &daemon.Daemon{Engine: e}, "the first revision", func(s sync.Status) bool { return s.Settled() && s.Synced() && len(s.Targets) == 1 })

	cancel()

	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}
