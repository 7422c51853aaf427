package sync_test

import (
	"slices"
	"strings"
	gosync "sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// A broken template of a cluster that never existed leaves no trace once it is gone.
func TestStatus_BrokenTemplateLeaves(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)

	files := fleet("1.34.3", "a")
	files["b.yaml"] = cluster("b", "latest", machine('b'))
	d.Apply(t, files)

	status := applied(t, d, d.Feed(fleet("1.34.3", "a")))
	expect(t, "targets", synced("a"), syncs(status))
}

// Why Omni refused a change stays readable whatever happens in the cluster.
func TestStatus_RefusalKeepsItsReason(t *testing.T) {
	logger, logs := observe()
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, func(cfg *sync.Config, _ *omni.SnapshotConfig) { cfg.Logger = logger })
	d.Apply(t, fleet("1.34.3", "a"))

	before := message(d.Apply(t, fleet("9.9.9", "a")), "a")

	for _, id := range []string{"500-1", "500-2", "500-3"} {
		foreign := omnires.NewConfigPatch(id)
		foreign.Metadata().Labels().Set(omnires.LabelCluster, "a")

		if err := o.State().Create(t.Context(), foreign); err != nil {
			t.Fatal(err)
		}

		status := within(t, d, "the patch", func(s sync.Status) bool {
			plan := target(s, "a").Plan

			return s.Settled() && plan != nil && slices.ContainsFunc(plan.Foreign, func(r resource.Resource) bool { return r.Metadata().ID() == id })
		})
		expect(t, "message", before, message(status, "a"))
	}

	if n := logs.FilterMessageSnippet("stalled").Len(); n != 1 {
		t.Errorf("the same refusal was logged %d times", n)
	}
}

func observe() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zap.InfoLevel)

	return zap.New(core), logs
}

// Nothing runs while a lock holds a plan back, and it is told once.
func TestStatus_Locked(t *testing.T) {
	logger, logs := observe()
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, func(cfg *sync.Config, _ *omni.SnapshotConfig) { cfg.Logger = logger })
	d.Apply(t, fleet("1.34.3", "a"))
	lock(t, o, "a")
	watched(t, o, d)

	before := o.Calls()
	status := d.Apply(t, fleet("1.35.0", "a"))

	if got := target(status, "a").Operation; got == sync.Running {
		t.Error("the operation of a locked cluster is Running, and nothing runs")
	}

	for _, id := range []string{"500-1", "500-2", "500-3"} {
		foreign := omnires.NewConfigPatch(id)
		foreign.Metadata().Labels().Set(omnires.LabelCluster, "a")

		if err := o.State().Create(t.Context(), foreign); err != nil {
			t.Fatal(err)
		}

		within(t, d, "the patch", func(s sync.Status) bool {
			plan := target(s, "a").Plan

			return s.Settled() && plan != nil && slices.ContainsFunc(plan.Foreign, func(r resource.Resource) bool { return r.Metadata().ID() == id })
		})
	}

	expect(t, "calls", embedded.Calls{}, o.Calls().Since(before))

	if n := logs.FilterMessageSnippet("waiting").Len(); n != 1 {
		t.Errorf("the same wait was logged %d times", n)
	}
}

// A cluster that lost our marks and stays in Omni was logged as deleted.
func TestStatus_LetGo(t *testing.T) {
	logger, logs := observe()
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, func(cfg *sync.Config, _ *omni.SnapshotConfig) { cfg.Logger = logger })

	d.Apply(t, fstest.MapFS{"a.yaml": annotated("a", "1.34.3", "omni-syncd/deletion: orphan"), "b.yaml": fleet("1.34.3", "b")["b.yaml"]})
	d.Feed(fleet("1.34.3", "b"))
	within(t, d, "the release", func(s sync.Status) bool { return s.Settled() && target(s, "a").Target == "" })

	if logs.FilterMessageSnippet("deleted").Len() != 0 || logs.FilterMessageSnippet("let go: it stays in Omni").Len() == 0 {
		t.Errorf("logged: %v", logs.All())
	}
}

// While Omni cannot be read nobody knows whether a cluster is in sync.
func TestStatus_StaleIsUnknown(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, func(_ *sync.Config, s *omni.SnapshotConfig) { s.StaleAfter = 20 * time.Millisecond })
	d.Apply(t, fleet("1.34.3", "a"))

	back := o.Faults().Add(unavailable(embedded.VerbWatch, ""))
	o.Faults().DropWatches(embedded.Match{})

	status := within(t, d, "going stale", func(s sync.Status) bool {
		return !s.Ready && strings.HasPrefix(message(s, "a"), "waiting for ")
	})
	if got := target(status, "a").Sync; got == sync.OutOfSync {
		t.Errorf("an Omni that cannot be read makes a cluster %s", got)
	}

	if status.Settled() {
		t.Error("a stale view counts as settled")
	}

	before := o.Calls()

	back()
	within(t, d, "coming back", func(s sync.Status) bool { return s.Settled() && s.Synced() })
	expect(t, "writes", 0, o.Calls().Since(before).Writes())
}

// gate is a logger that holds up whoever begins a line about a cluster.
type gate struct {
	zapcore.Core

	mu      gosync.Mutex
	cluster string
	hit     chan struct{}
	until   chan struct{}
}

func newGate() *gate { return &gate{Core: zapcore.NewNopCore()} }

// close holds up the next one; the caller must call open.
func (g *gate) close(cluster string) (hit <-chan struct{}, open func()) {
	g.mu.Lock()
	defer g.mu.Unlock()

	g.cluster, g.hit, g.until = cluster, make(chan struct{}), make(chan struct{})

	return g.hit, gosync.OnceFunc(func() { close(g.until) })
}

// With implements zapcore.Core.
func (g *gate) With(fields []zapcore.Field) zapcore.Core {
	g.mu.Lock()

	var until chan struct{}

	for _, f := range fields {
		if f.Key == "cluster" && f.String == g.cluster && g.hit != nil {
			until = g.until
			close(g.hit)
			g.hit = nil
		}
	}
	g.mu.Unlock()

	if until != nil {
		<-until
	}

	return g
}

// A pass over an older revision that ends late does not make the newer one settled.
func TestStatus_LatePassSettlesNothing(t *testing.T) {

	g := newGate()
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, func(cfg *sync.Config, _ *omni.SnapshotConfig) { cfg.Logger = zap.New(g) })
	applied(t, d, d.Feed(fleet("1.34.3", "a")))

	// A pass without a difference, held up before it reports.
	hit, open := g.close("a")
	defer open()

	foreign := omnires.NewConfigPatch("500-ui")
	foreign.Metadata().Labels().Set(omnires.LabelCluster, "a")

	if err := o.State().Create(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}

	await(t, "the pass", hit)

	write, release := hold(t, o, embedded.Match{Verb: embedded.VerbUpdate, ID: "a"})
	last := d.Feed(fleet("1.35.0", "a"))
	within(t, d, "the revision", func(s sync.Status) bool { return s.Sources[0].Revision == last && !s.Settled() })

	early := make(chan bool, 1)

	go func() {
		settled := false
		_ = d.WaitStatus(t.Context(), func(s sync.Status) bool {
			settled = s.Settled() && s.Sources[0].Revision == last

			return settled || target(s, "a").Operation == sync.Running
		})
		early <- settled
	}()

	open()
	await(t, "the write", write)

	settled := <-early

	release()
	applied(t, d, last)

	if settled {
		t.Error("the revision counted as settled before it was applied")
	}
}

// Why something is written: a new revision, or drift; also after a restart of the daemon's
// view, a revision that changed nothing, and a refusal.
func TestStatus_ReasonOfAWrite(t *testing.T) {
	logger, logs := observe()
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, func(cfg *sync.Config, _ *omni.SnapshotConfig) { cfg.Logger = logger })

	reasons := func() []string {
		var got []string

		for _, entry := range logs.FilterMessage("applied").All() {
			reason := entry.ContextMap()["reason"].(string)
			if !slices.Contains(got, reason) {
				got = append(got, reason)
			}
		}

		logs.TakeAll()

		return got
	}

	d.Apply(t, fleet("1.34.3", "a", "b"))
	expect(t, "first", []string{"new revision"}, reasons())

	d.Apply(t, fleet("1.34.3", "a", "b"))
	relabel(t, o, "a", "x", "1")
	watchFor(t, o, omnires.NewCluster("a").Metadata(), "drift", func(r resource.Resource) bool {
		_, ok := r.Metadata().Labels().Get("x")

		return !ok
	})
	d.Until(t, func(s sync.Status) bool { return s.Settled() && s.Synced() })
	expect(t, "drift", []string{"drift in Omni"}, reasons())

	files := fleet("1.34.3", "a", "b")
	files["b.yaml"] = cluster("b", "1.35.0", machine('b'))
	d.Apply(t, files)
	expect(t, "second", []string{"new revision"}, reasons())

	d.Apply(t, fleet("1.34.3", "a"))
	expect(t, "removal", []string{"new revision"}, reasons())
}

// A locked cluster that gets its change after the lock is gone gets it from Git.
func TestStatus_ReasonAfterLock(t *testing.T) {
	logger, logs := observe()
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, func(cfg *sync.Config, _ *omni.SnapshotConfig) { cfg.Logger = logger })
	d.Apply(t, fleet("1.34.3", "a"))
	lock(t, o, "a")
	watched(t, o, d)
	d.Apply(t, fleet("1.35.0", "a"))
	logs.TakeAll()

	// A revision that does not touch it comes in between.
	files := fleet("1.35.0", "a", "b")
	d.Apply(t, files)
	unlock(t, o, "a")
	d.Until(t, func(s sync.Status) bool { return s.Settled() && s.Synced() })

	for _, entry := range logs.FilterMessage("applied").FilterField(zap.String("cluster", "a")).All() {
		expect(t, "reason", "new revision", entry.ContextMap()["reason"].(string))
	}
}

// A source without templates becomes one with templates, and the other way round.
func TestStatus_EmptySource(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)

	status := d.Apply(t, fstest.MapFS{})
	expect(t, "nothing", synced(), syncs(status))
	expect(t, "all", synced("a", "b"), syncs(applied(t, d, d.Feed(fleet("1.34.3", "a", "b")))))

	before := o.Calls()
	d.Apply(t, fstest.MapFS{})
	d.Apply(t, fleet("1.34.3", "a", "b"))
	expect(t, "calls", embedded.Calls{}, o.Calls().Since(before))
}

// A one-shot sync ends when a status is settled: a machine that moves must have arrived.
func TestStatus_SettledAfterMove(t *testing.T) {

	o := daemon.StartOmni(t, embedded.Config{Step: time.Millisecond})
	d := daemon.Start(t, o, noRelist)

	for i := range 30 {
		one, two := machine(1+i%2), machine(2-i%2)

		status := d.Apply(t, fstest.MapFS{"a.yaml": cluster("a", "1.34.3", one, machine(3)), "b.yaml": cluster("b", "1.34.3", two, machine(4))})
		if !status.Synced() {
			t.Fatalf("revision %d settled too early:\n%s", i, daemon.Describe(status))
		}
	}
}
