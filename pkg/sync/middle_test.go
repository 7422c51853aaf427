package sync_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/cosi-project/runtime/pkg/resource"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// G8: a cluster that is locked while a phase is written gets no more of it. Omni itself lets
// the patches of a locked cluster pass.
func TestG8_LockInTheMiddleOfAPhase(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, func(c *sync.Config, _ *omni.SnapshotConfig) { c.Writes = 1 })
	applied(t, d, d.Feed(fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1))}))
	hit, release := hold(t, o, embedded.Match{Verb: embedded.VerbCreate, Type: omnires.ConfigPatchType})
	d.Feed(fstest.MapFS{"a.yaml": patched("a", machine(1), [2]string{"400-x", "1"}, [2]string{"401-x", "1"}, [2]string{"402-x", "1"})})
	await(t, "first write", hit)
	seen := make(chan struct{}, 100)
	defer d.Snapshot.Subscribe(func(c omni.Change) {
		if c.Type == omnires.ClusterType {
			seen <- struct{}{}
		}
	})()
	edit(t, o, omnires.NewCluster("a").Metadata(), func(r resource.Resource) { r.Metadata().Annotations().Set(omnires.ClusterLocked, "") })
	<-seen
	before := o.Calls()
	release()
	within(t, d, "settled", func(s sync.Status) bool { return s.Settled() })
	if n := o.Calls().Since(before)[embedded.VerbCreate]; n > 0 {
		t.Errorf("%d writes to a locked cluster", n)
	}
}

// What Omni refused was once sent again at every sign of life of a machine that is in no
// cluster.
func TestG6_RefusalsBackOff(t *testing.T) {
	var tries atomic.Int32
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true, OnWrite: func(w embedded.Write) {
		if w.ID == "400-x" && w.Code != 0 {
			tries.Add(1)
		}
	}})
	d := daemon.Start(t, o, nil)
	applied(t, d, d.Feed(fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1))}))
	o.Faults().Add(embedded.Fault{Match: embedded.Match{Verb: embedded.VerbCreate, ID: "400-x"}, Times: 100000, Code: codes.InvalidArgument})
	d.Feed(fstest.MapFS{"a.yaml": patched("a", machine(1), [2]string{"400-x", "1"})})
	within(t, d, "stalled", func(s sync.Status) bool { return s.Settled() && target(s, "a").Operation == sync.Failed })
	n := tries.Load()

	seen := make(chan struct{}, 1000)
	defer d.Snapshot.Subscribe(func(c omni.Change) {
		if c.Type == omnires.MachineStatusType {
			seen <- struct{}{}
		}
	})()
	ms := omnires.NewMachineStatus("spare")
	if err := o.State().Create(t.Context(), ms); err != nil {
		t.Fatal(err)
	}
	<-seen
	for i := range 50 {
		edit(t, o, ms.Metadata(), func(r resource.Resource) {
			r.(*omnires.MachineStatus).TypedSpec().Value.TalosVersion = string(rune('a' + i%2))
		})
		<-seen
	}

	if got := tries.Load() - n; got > 8 {
		t.Errorf("sent %d times for 50 changes", got)
	}
}

// byHand is a source that tells what it is told to: source.Revision or error.
type byHand chan any

// Watch implements sync.Source.
func (b byHand) Watch(ctx context.Context, fn func(source.Revision, error)) error {
	for {
		select {
		case x := <-b:
			switch x := x.(type) {
			case source.Revision:
				fn(x, nil)
			case error:
				fn(source.Revision{}, x)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// A look at Git that fails once and works again with the same revision was once taken for
// news, and a request was forgotten.
func TestReconcile_OutlivesAHiccup(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	src := make(byHand)
	d := daemon.Start(t, o, func(c *sync.Config, _ *omni.SnapshotConfig) {
		c.Sources[0].Source = src
	})
	rev := source.Revision{ID: "main@1", FS: fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1))}}
	src <- rev
	within(t, d, "first", func(s sync.Status) bool { return s.Settled() && s.Synced() && len(s.Targets) == 1 })

	edit(t, o, omnires.NewCluster("a").Metadata(), func(r resource.Resource) { r.Metadata().Annotations().Set(omnires.ClusterLocked, "") })
	manual := d.Sources[0]
	manual.Policy.Manual = true
	d.Reconfigure([]sync.SourceConfig{manual})
	rev2 := source.Revision{ID: "main@2", FS: fstest.MapFS{"a.yaml": cluster("a", "1.35.0", machine(1))}}
	src <- rev2
	within(t, d, "locked", func(s sync.Status) bool {
		return s.Settled() && s.Sources[0].Revision == "main@2" && target(s, "a").Message != ""
	})
	if err := d.Reconcile(sync.Key{Source: daemon.Source, Target: "a"}); err != nil {
		t.Fatal(err)
	}
	src <- errors.New("connection reset")
	src <- rev2
	within(t, d, "again", func(s sync.Status) bool {
		return s.Settled() && slices.ContainsFunc(s.Sources, func(x sync.SourceStatus) bool { return x.Error == "" })
	})
	edit(t, o, omnires.NewCluster("a").Metadata(), func(r resource.Resource) { r.Metadata().Annotations().Delete(omnires.ClusterLocked) })
	within(t, d, "end", func(s sync.Status) bool {
		return s.Settled() && (s.Synced() || len(target(s, "a").Message) > 0 && target(s, "a").Message[:20] != "the cluster is locked"[:20])
	})
	expect(t, "version", "1.35.0", kubernetes(t, o, "a"))
}
