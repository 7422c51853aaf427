package sync_test

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// G7: nothing is destroyed after a create or update of the same target failed.
func TestG7_NoDestroyAfterFailure(t *testing.T) {
	var writes writeLog

	o := daemon.StartOmni(t, embedded.Config{NoControllers: true, OnWrite: writes.add})
	d := daemon.Start(t, o, nil)
	d.Apply(t, fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1), machine(2))})

	remove := o.Faults().Add(embedded.Fault{
		Match: embedded.Match{Verb: embedded.VerbCreate, Type: omnires.MachineSetNodeType},
		Code:  codes.InvalidArgument, Message: "no",
	})
	status := d.Apply(t, fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1), machine(3))})
	expect(t, "status", map[string]sync.SyncStatus{"a": sync.OutOfSync}, syncs(status))
	expect(t, "machines", []string{machine(1), machine(2)}, live(t, o, omnires.MachineSetNodeType))

	remove()
	d.Apply(t, fstest.MapFS{"a.yaml": cluster("a", "1.35.0", machine(1), machine(3))})
	d.Until(t, func(s sync.Status) bool { return s.Synced() })

	// Creates, then updates, then destroys. This Omni leaves the last step to the client.
	expect(t, "order", []string{"Create " + machine(3), "Update a", "Teardown " + machine(2), "Destroy " + machine(2)}, writes.last(4))
}

// G5: on a conflict the plan is made again from what is there, never written over it.
func TestG5_ConflictIsPlannedAgain(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)
	d.Apply(t, fleet("1.34.3", "a"))

	// Somebody sets a lock in the instant between the plan and its write.
	hit := make(chan struct{})
	release := make(chan struct{})
	o.Faults().Add(embedded.Fault{
		Match: embedded.Match{Verb: embedded.VerbUpdate, Type: omnires.ClusterType, ID: "a"}, Times: 1,
		Until: release, Hit: func() { close(hit) },
	})

	d.Feed(fleet("1.35.0", "a"))
	<-hit

	md := omnires.NewCluster("a").Metadata()
	if _, err := o.State().UpdateWithConflicts(t.Context(), md, func(r resource.Resource) error {
		r.Metadata().Annotations().Set(omnires.ClusterLocked, "")

		return nil
	}); err != nil {
		t.Fatal(err)
	}

	close(release)

	status := d.Until(t, func(s sync.Status) bool { return s.Settled() && s.Sources[0].Revision == "test@2" })
	if !strings.Contains(message(status, "a"), "locked") {
		t.Errorf("message: %s", message(status, "a"))
	}

	r, err := o.State().Get(t.Context(), md)
	if err != nil {
		t.Fatal(err)
	}

	if _, locked := r.Metadata().Annotations().Get(omnires.ClusterLocked); !locked || r.(*omnires.Cluster).TypedSpec().Value.KubernetesVersion != "1.34.3" {
		t.Error("the lock was lost, or the locked cluster changed")
	}
}

// Whatever goes wrong on the way to Omni, once it ends the state is what Git says.
func TestConvergesAfterFaults(t *testing.T) {
	for name, fault := range map[string]embedded.Fault{
		"unavailable":               {Code: codes.Unavailable},
		"applied, the answer lost":  {Code: codes.Unavailable, Applied: true},
		"deadline":                  {Code: codes.DeadlineExceeded},
		"out of resources":          {Code: codes.ResourceExhausted},
		"internal":                  {Code: codes.Internal},
		"conflict":                  {Code: codes.FailedPrecondition},
		"slow":                      {Delay: 30 * time.Millisecond},
		"aborted after it happened": {Code: codes.Aborted, Applied: true},
	} {
		for _, verb := range []string{embedded.VerbCreate, embedded.VerbUpdate, embedded.VerbTeardown} {
			t.Run(name+"/"+verb, func(t *testing.T) {
				t.Parallel()

				o := daemon.StartOmni(t, embedded.Config{Step: time.Millisecond})
				d := daemon.Start(t, o, nil)

				f := fault
				f.Verb, f.Times, f.Skip = verb, 4, 1
				o.Faults().Add(f)

				d.Feed(fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1), machine(2)), "b.yaml": cluster("b", "1.34.3", machine(5))})
				d.Until(t, func(s sync.Status) bool { return s.Settled() && s.Synced() && len(s.Targets) == 2 })

				d.Feed(fstest.MapFS{"a.yaml": cluster("a", "1.35.0", machine(1), machine(3))})
				d.Until(t, func(s sync.Status) bool { return s.Settled() && s.Synced() && len(s.Targets) == 1 })

				expect(t, "clusters", []string{"a"}, live(t, o, omnires.ClusterType))
				expect(t, "machines", []string{machine(1), machine(3)}, live(t, o, omnires.MachineSetNodeType))
			})
		}
	}
}

// Every way in which a watch can break: nothing is missed, and drift is still seen.
func TestConvergesAfterBrokenWatches(t *testing.T) {
	for name, hurt := range map[string]func(context.Context, *daemon.Omni) error{
		"dropped": func(_ context.Context, o *daemon.Omni) error { o.Faults().DropWatches(embedded.Match{}); return nil },
		"errored": func(_ context.Context, o *daemon.Omni) error {
			o.Faults().FailWatches(embedded.Match{}, "compacted")

			return nil
		},
		"silent":                  func(_ context.Context, o *daemon.Omni) error { o.Faults().SilenceWatches(embedded.Match{}); return nil },
		"restarted":               func(ctx context.Context, o *daemon.Omni) error { return o.Restart(ctx, embedded.RestartOptions{}) },
		"restored to an old copy": restore,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			o := daemon.StartOmni(t, embedded.Config{Step: time.Millisecond})
			d := daemon.Start(t, o, func(_ *sync.Config, s *omni.SnapshotConfig) { s.Relist = 2 * time.Second })
			d.Apply(t, fleet("1.34.3", "a"))

			if err := hurt(t.Context(), o); err != nil {
				t.Fatal(err)
			}

			// Drift while the watches are hurt, and a new revision after it.
			err := teardown(t.Context(), o.State(), omnires.NewMachineSetNode(machine('a'), omnires.NewMachineSet("a-control-planes")).Metadata())
			if err != nil && !state.IsNotFoundError(err) {
				t.Fatal(err)
			}

			d.Feed(fleet("1.35.0", "a", "b"))
			d.Until(t, func(s sync.Status) bool {
				return s.Settled() && s.Synced() && maps.Equal(syncs(s), synced("a", "b")) &&
					slices.Equal(running(t, o), []string{machine('a'), machine('b')})
			})
		})
	}
}

// G1: whatever happens, nothing without our mark is destroyed by us.
func TestG1_OnlyMarkedIsDestroyed(t *testing.T) {
	var writes writeLog

	o := daemon.StartOmni(t, embedded.Config{NoControllers: true, OnWrite: writes.add})
	d := daemon.Start(t, o, nil)
	d.Apply(t, fleet("1.34.3", "a"))

	foreign := omnires.NewConfigPatch("500-ui")
	foreign.Metadata().Labels().Set(omnires.LabelCluster, "a")

	other := omnires.NewConfigPatch("300-other")
	other.Metadata().Labels().Set(omnires.LabelCluster, "a")
	other.Metadata().Annotations().Set(diff.MarkSource, "other")

	unmarked := omnires.NewCluster("unmarked")

	for _, r := range []resource.Resource{foreign, other, unmarked} {
		if err := o.State().Create(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}

	d.Apply(t, fstest.MapFS{"a.yaml": cluster("a", "1.35.0", machine(7))})

	for _, w := range writes.all() {
		if strings.HasPrefix(w, "Teardown") && w != "Teardown "+machine('a') {
			t.Errorf("%s: that is not ours", w)
		}
	}

	expect(t, "patches", []string{"300-other", "500-ui"}, live(t, o, omnires.ConfigPatchType))
	expect(t, "clusters", []string{"a", "unmarked"}, live(t, o, omnires.ClusterType))
}

// A cluster of ours that comes back behind the daemon's back, from a restored database,
// is dealt with as one that left Git.
func TestG10_MarkedClusterAppears(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{})
	d := daemon.Start(t, o, nil)
	d.Apply(t, fleet("1.34.3", "a"))

	old := omnires.NewCluster("old")
	old.Metadata().Annotations().Set(diff.MarkSource, daemon.Source)

	class := omnires.NewMachineClass("old")
	class.TypedSpec().Value.MatchLabels = []string{"a = b"}
	class.Metadata().Annotations().Set(diff.MarkSource, daemon.Source)
	class.Metadata().Annotations().Set(diff.MarkFleet, "")

	for _, r := range []resource.Resource{old, class} {
		origin, _ := json.Marshal(diff.Origin{Place: daemon.Place})
		r.Metadata().Annotations().Set(diff.MarkOrigin, string(origin))

		if err := o.State().Create(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}

	for _, md := range []*resource.Metadata{old.Metadata(), class.Metadata()} {
		if _, err := o.State().WatchFor(t.Context(), md, state.WithEventTypes(state.Destroyed)); err != nil {
			t.Fatal(err)
		}
	}

	d.Until(t, func(s sync.Status) bool { return s.Settled() && maps.Equal(syncs(s), synced("a")) })
}
