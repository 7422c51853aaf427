package sync_test

import (
	"context"
	"runtime"
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

// G10: a fleet manifest leaves and comes back.
func TestG10_FleetComesBack(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{Step: time.Millisecond})
	d := daemon.Start(t, o, noRelist)

	for range 3 {
		applied(t, d, d.Feed(fstest.MapFS{"x.yaml": class("x", "1"), "a.yaml": cluster("a", "1.34.3", machine(1))}))
		expect(t, "classes", []string{"x"}, live(t, o, omnires.MachineClassType))
		applied(t, d, d.Feed(fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1))}))
		expect(t, "classes", []string(nil), live(t, o, omnires.MachineClassType))
	}
}

// G10: the template of a cluster comes back while Omni still takes the cluster down.
func TestG10_TemplateComesBackDuringTeardown(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{HealthyMachines: true, Step: time.Millisecond})
	d := daemon.Start(t, o, noRelist)
	d.Apply(t, fleet("1.34.3", "a", "b"))
	d.Until(t, func(s sync.Status) bool { return healthOf(s, "b") == sync.Healthy })

	for range 3 {
		if err := o.SetMachinePower(t.Context(), machine('b'), false); err != nil {
			t.Fatal(err)
		}

		d.Feed(fleet("1.34.3", "a"))
		within(t, d, "the teardown", func(s sync.Status) bool { return strings.Contains(message(s, "b"), "held by") })

		last := d.Feed(fleet("1.35.0", "a", "b"))
		within(t, d, "waiting", func(s sync.Status) bool {
			return s.Sources[0].Revision == last && strings.Contains(message(s, "b"), "held by") && target(s, "b").Path == "b.yaml"
		})

		if err := o.SetMachinePower(t.Context(), machine('b'), true); err != nil {
			t.Fatal(err)
		}

		applied(t, d, last)
		d.Until(t, func(s sync.Status) bool { return healthOf(s, "b") == sync.Healthy })
	}
}

// G10: what a person deletes in Omni comes back; and two who delete the same cluster get
// along.
func TestG10_DeletedByPerson(t *testing.T) {

	o := daemon.StartOmni(t, embedded.Config{Step: time.Millisecond})
	d := daemon.Start(t, o, noRelist)
	applied(t, d, d.Feed(fleet("1.34.3", "a", "b")))

	for range 3 {
		before, err := o.State().Get(t.Context(), omnires.NewCluster("a").Metadata())
		if err != nil {
			t.Fatal(err)
		}

		if err := teardown(t.Context(), o.State(), before.Metadata()); err != nil {
			t.Fatal(err)
		}

		watchFor(t, o, before.Metadata(), "coming back", func(r resource.Resource) bool {
			return r.Metadata().Created().After(before.Metadata().Created()) && r.Metadata().Phase() == resource.PhaseRunning
		})
		within(t, d, "all to be back", func(s sync.Status) bool { return s.Settled() && s.Synced() })
		expect(t, "machines", []string{machine('a'), machine('b')}, running(t, o))
	}

	hit, release := hold(t, o, embedded.Match{Verb: embedded.VerbTeardown, ID: "b"})
	last := d.Feed(fleet("1.34.3", "a"))
	await(t, "the deletion", hit)

	if err := teardown(t.Context(), o.State(), omnires.NewCluster("b").Metadata()); err != nil {
		t.Fatal(err)
	}

	release()
	expect(t, "targets", synced("a"), syncs(applied(t, d, last)))
}

// G10: an older database brings back a marked cluster that left Git since: it goes again.
func TestG10_RestoreOfMarked(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{Step: time.Millisecond})
	d := daemon.Start(t, o, func(_ *sync.Config, s *omni.SnapshotConfig) { s.Relist = time.Second })
	applied(t, d, d.Feed(fleet("1.34.3", "a", "b")))

	backup, err := o.Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	applied(t, d, d.Feed(fleet("1.34.3", "a")))

	if err := o.Restore(t.Context(), backup); err != nil {
		t.Fatal(err)
	}

	gone, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()

	if _, err := o.State().WatchFor(gone, omnires.NewCluster("b").Metadata(), destroyed); err != nil {
		t.Errorf("the cluster that came back stayed: %v", err)
	}
}

// A stop in the middle of an apply: what is under way is finished, nothing else starts, and
// the next daemon goes on.
func TestG10_StopInMidApply(t *testing.T) {
	var writes writeLog

	o := daemon.StartOmni(t, embedded.Config{NoControllers: true, OnWrite: writes.add})
	d := daemon.Start(t, o, func(cfg *sync.Config, _ *omni.SnapshotConfig) { cfg.Writes = 2 })
	d.Apply(t, fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1))})

	until, hits := make(chan struct{}), make(chan struct{}, 10)
	o.Faults().Add(embedded.Fault{
		Match: embedded.Match{Verb: embedded.VerbCreate, Type: omnires.MachineSetNodeType}, Until: until,
		Hit: func() { hits <- struct{}{} },
	})

	before := o.Calls()

	d.Feed(fstest.MapFS{"a.yaml": cluster("a", "1.35.0", machine(2), machine(3), machine(4), machine(5))})
	<-hits
	<-hits

	stopped := make(chan struct{})

	go func() { defer close(stopped); d.Stop(t) }()

	// Stop waits for the two; it has begun when the watches end.
	for o.Faults().Watches(embedded.Match{}) > 0 {
		runtime.Gosched()
	}

	close(until)
	await(t, "the stop", stopped)
	expect(t, "writes", embedded.Calls{embedded.VerbCreate: 2}, o.Calls().Since(before))

	if left := leaked(); left != "" {
		t.Errorf("goroutines are left:\n%s", left)
	}

	o.Faults().Clear()

	next := daemon.Start(t, o, nil)
	applied(t, next, next.Feed(fstest.MapFS{"a.yaml": cluster("a", "1.35.0", machine(2), machine(3), machine(4), machine(5))}))
	expect(t, "machines", []string{machine(2), machine(3), machine(4), machine(5)}, live(t, o, omnires.MachineSetNodeType))
}

// leaked returns a goroutine that runs code of the engine or its queue, "" if there is none.
func leaked() string {
	stacks := make([]byte, 1<<22)
	stacks = stacks[:runtime.Stack(stacks, true)]

	for _, stack := range strings.Split(string(stacks), "\n\n") {
		if strings.Contains(stack, "omni-syncd/pkg/sync.") {
			return stack
		}
	}

	return ""
}
