package sync_test

import (
	"errors"
	"fmt"
	"strings"
	gosync "sync"
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

// G4: a machine class that leaves Git in the revision that moves its cluster to another
// class goes once nobody uses it.
func TestG4_ClassReplacedInOneRevision(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)
	applied(t, d, d.Feed(fstest.MapFS{"x.yaml": class("x", "1"), "a.yaml": ofClass("a", "x")}))
	applied(t, d, d.Feed(fstest.MapFS{"y.yaml": class("y", "1"), "a.yaml": ofClass("a", "y")}))
	expect(t, "classes", []string{"y"}, live(t, o, omnires.MachineClassType))
}

// G4: what a target lacks may arrive between Omni's refusal and its answer.
func TestG4_RefusalRacesWithItsCure(t *testing.T) {
	var (
		o    *daemon.Omni
		d    *daemon.Daemon
		once gosync.Once
	)

	cured := make(chan error, 1)

	o = daemon.StartOmni(t, embedded.Config{NoControllers: true, OnWrite: func(w embedded.Write) {
		if w.Type != omnires.ConfigPatchType || w.Code == 0 {
			return
		}

		once.Do(func() {
			seen := make(chan struct{})
			cancel := d.Snapshot.Subscribe(func(c omni.Change) {
				if c.Type == omnires.MachineClassType {
					close(seen)
				}
			})
			defer cancel()

			c := omnires.NewMachineClass("x")
			c.TypedSpec().Value.MatchLabels = []string{"size = 1"}

			err := o.State().Create(t.Context(), c)
			if err == nil {
				select {
				case <-seen:
				case <-time.After(patience):
					err = errors.New("the snapshot did not see the class")
				}
			}

			cured <- err
		})
	}})
	d = daemon.Start(t, o, noRelist)
	applied(t, d, d.Feed(fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1))}))

	// Refused once, for whatever reason; while it is refused, something changes in Omni.
	o.Faults().Add(embedded.Fault{Match: embedded.Match{Verb: embedded.VerbCreate, ID: "400-x"}, Times: 1, Code: codes.InvalidArgument})

	last := d.Feed(fstest.MapFS{"a.yaml": patched("a", machine(1), [2]string{"400-x", "1"})})

	if err := <-cured; err != nil {
		t.Fatal(err)
	}

	applied(t, d, last)
}

// G4: clusters that were held back for the fleet resources of one revision are not
// forgotten when the next one comes first.
func TestG4_HeldBackAcrossRevisions(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)
	applied(t, d, d.Feed(fleet("1.34.3", "a", "b", "c")))

	hit, release := hold(t, o, embedded.Match{Verb: embedded.VerbCreate, Type: omnires.MachineClassType})

	files := fleet("1.35.0", "a", "b", "c")
	files["x.yaml"] = class("x", "1")

	d.Feed(files)
	await(t, "the fleet pass", hit)

	// The same again, with a file that means nothing.
	files["README.md"] = text("hello")
	last := d.Feed(files)
	within(t, d, "the revision", func(s sync.Status) bool { return s.Sources[0].Revision == last })
	release()

	applied(t, d, last)

	for _, name := range []string{"a", "b", "c"} {
		if got := kubernetes(t, o, name); got != "1.35.0" {
			t.Errorf("%s is Synced and has Kubernetes %s", name, got)
		}
	}
}

func kubernetes(t *testing.T, o *daemon.Omni, name string) string {
	t.Helper()

	r, err := o.State().Get(t.Context(), omnires.NewCluster(name).Metadata())
	if err != nil {
		t.Fatal(err)
	}

	return r.(*omnires.Cluster).TypedSpec().Value.KubernetesVersion
}

// G8: what Omni refused because of a lock is tried again without it.
func TestG8_UnlockAfterRefusal(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)
	d.Apply(t, fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1), machine(2))})

	// The lock is set between the plan and its write.
	hit, release := hold(t, o, embedded.Match{Verb: embedded.VerbTeardown, ID: machine(2)})
	last := d.Feed(fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1))})
	await(t, "the teardown", hit)
	lock(t, o, "a")
	release()
	within(t, d, "the lock", func(s sync.Status) bool { return s.Settled() && strings.Contains(message(s, "a"), "locked in Omni") })

	unlock(t, o, "a")
	applied(t, d, last)
}

// G4: a plan that failed for a passing reason and then met a conflict is sent again once
// the conflict is over.
func TestG4_ConflictAfterFailure(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)
	d.Apply(t, fstest.MapFS{"a.yaml": patched("a", machine(1))})

	// The first attempt fails, and somebody else takes the ID meanwhile.
	other := omnires.NewConfigPatch("400-x")
	other.Metadata().Labels().Set(omnires.LabelCluster, "a")
	other.Metadata().Annotations().Set(diff.MarkSource, "other")

	o.Faults().Add(embedded.Fault{
		Match: embedded.Match{Verb: embedded.VerbCreate, ID: "400-x"}, Times: 1, Code: codes.Unavailable,
		Hit: func() {
			if err := o.State().Create(t.Context(), other); err != nil {
				t.Error(err)
			}
		},
	})

	last := d.Feed(fstest.MapFS{"a.yaml": patched("a", machine(1), [2]string{"400-x", "1"})})
	within(t, d, "the conflict", func(s sync.Status) bool { return s.Settled() && strings.Contains(message(s, "a"), "source other") })

	if err := o.State().Destroy(t.Context(), other.Metadata()); err != nil {
		t.Fatal(err)
	}

	applied(t, d, last)
}

// G4: a machine moves from one source's cluster to another's in two revisions that come
// in the wrong order.
func TestG4_MachineMovesBetweenSources(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	one := daemon.Start(t, o, nil)
	two := daemon.Start(t, o, func(cfg *sync.Config, _ *omni.SnapshotConfig) { cfg.Sources[0].Name = "two" })
	one.Apply(t, fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1), machine(2))})
	two.Apply(t, fstest.MapFS{"b.yaml": cluster("b", "1.34.3", machine(3))})
	sees(t, two, omnires.MachineSetNodeType, machine(2))

	// The new owner comes first: it must wait, not fight.
	before := o.Calls()
	last := two.Feed(fstest.MapFS{"b.yaml": cluster("b", "1.34.3", machine(3), machine(2))})
	within(t, two, "the conflict", func(s sync.Status) bool { return s.Settled() && strings.Contains(message(s, "b"), "not ours") })
	expect(t, "calls of a conflict", embedded.Calls{}, o.Calls().Since(before))

	applied(t, one, one.Feed(fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1))}))
	applied(t, two, last)
}

// G3: somebody who undoes every change at once is not fought at full speed.
func TestG3_FightIsSlow(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)
	d.Apply(t, fleet("1.34.3", "a"))

	events := make(chan state.Event)
	if err := o.State().Watch(t.Context(), omnires.NewCluster("a").Metadata(), events); err != nil {
		t.Fatal(err)
	}

	// An admission rule, or another GitOps tool.
	undone, over := 0, time.After(2*time.Second)

	relabel(t, o, "a", "x", "0")

	for undone < 100 {
		select {
		case event := <-events:
			if _, ok := event.Resource.Metadata().Labels().Get("x"); !ok && event.Type == state.Updated {
				undone++

				relabel(t, o, "a", "x", "1")
			}

			continue
		case <-over:
		}

		break
	}

	if undone > 20 {
		t.Errorf("the same change was written %d times in 2 s, with a backoff that begins with 10 ms", undone)
	}
}

// G6: however many clusters hang, another one is worked on.
func TestG6_ManyHang(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)
	d.Apply(t, fleet("1.34.3", "z"))

	until := make(chan struct{})
	defer close(until)

	files := fleet("1.34.3", "z")

	for i := range 40 {
		name := fmt.Sprintf("hang%d", i)
		files[name+".yaml"] = cluster(name, "1.34.3", machine(1000+i))
		o.Faults().Add(embedded.Fault{Match: embedded.Match{Verb: embedded.VerbCreate, ID: name}, Until: until})
	}

	before := o.Calls()
	d.Feed(files)

	ctx := t.Context()
	if err := o.WaitCalls(ctx, func(c embedded.Calls) bool { return c.Since(before)[embedded.VerbCreate] >= 8 }); err != nil {
		t.Fatal(err)
	}

	relabel(t, o, "z", "x", "1")
	watchFor(t, o, omnires.NewCluster("z").Metadata(), "drift of a healthy cluster", func(r resource.Resource) bool {
		_, ok := r.Metadata().Labels().Get("x")

		return !ok
	})
}

// G4: machines change places between two clusters in one revision, again and again.
func TestG4_MachinesSwap(t *testing.T) {

	o := daemon.StartOmni(t, embedded.Config{Step: time.Millisecond})
	d := daemon.Start(t, o, noRelist)

	for i := range 20 {
		one, two := machine(1+i%2), machine(2-i%2)
		applied(t, d, d.Feed(fstest.MapFS{"a.yaml": cluster("a", "1.34.3", one, machine(3)), "b.yaml": cluster("b", "1.34.3", two, machine(4))}))
	}
}

// G4: a set of workers is renamed, and a machine moves to the control plane.
func TestG4_MachineMovesInsideCluster(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{Step: time.Millisecond})
	d := daemon.Start(t, o, nil)
	applied(t, d, d.Feed(fstest.MapFS{"a.yaml": workers(cluster("a", "1.34.3", machine(1)), "x", machine(2))}))
	applied(t, d, d.Feed(fstest.MapFS{"a.yaml": workers(cluster("a", "1.34.3", machine(1)), "y", machine(2))}))
	applied(t, d, d.Feed(fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1), machine(2))}))
	expect(t, "machine sets", []string{"a-control-planes"}, live(t, o, omnires.MachineSetType))
}

// G4: a cluster is renamed: its machines go over to the new one.
func TestG4_ClusterRenamed(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{Step: time.Millisecond})
	d := daemon.Start(t, o, nil)
	applied(t, d, d.Feed(fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1))}))
	applied(t, d, d.Feed(fstest.MapFS{"a.yaml": cluster("b", "1.34.3", machine(1))}))
	expect(t, "clusters", []string{"b"}, live(t, o, omnires.ClusterType))
	expect(t, "machines", []string{machine(1)}, live(t, o, omnires.MachineSetNodeType))
}

// G11: a cluster is renamed while nothing may be pruned: the new one waits for machines
// that will never come, and a one-shot sync must end and say so.
func TestG11_ClusterRenamedWithoutPrune(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{Step: time.Millisecond})
	d := daemon.Start(t, o, func(cfg *sync.Config, _ *omni.SnapshotConfig) { cfg.Sources[0].Prune = false })
	applied(t, d, d.Feed(fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1))}))

	last := d.Feed(fstest.MapFS{"a.yaml": cluster("b", "1.34.3", machine(1))})
	status := within(t, d, "the end", func(s sync.Status) bool { return s.Settled() && s.Sources[0].Revision == last })
	expect(t, "status", map[string]sync.SyncStatus{"a": sync.OutOfSync, "b": sync.OutOfSync}, syncs(status))
}
