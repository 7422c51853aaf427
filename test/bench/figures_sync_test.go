package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"golang.org/x/sync/errgroup"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	live "github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	enginesync "github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
	"github.com/omni-syncd/omni-syncd/test/fleet"
)

// rtts are how far away Omni is: on this machine, and in another country.
var rtts = []time.Duration{0, 20 * time.Millisecond}

// seed puts what targets render to into an Omni, as if it had been applied.
func seed(tb testing.TB, o *daemon.Omni, targets []*render.Target) (resources int) {
	tb.Helper()

	for _, t := range targets {
		plan := diff.Compute(diff.Input{Source: daemon.Source, Target: t.Name, Desired: t.Resources, Place: daemon.Place, File: func(md *resource.Metadata) string { return t.Position(md).File }})
		for i := range plan.Changes {
			check(tb, o.State().Create(tb.Context(), plan.Changes[i].New.DeepCopy()))
		}

		resources += len(plan.Changes)
	}

	return resources
}

// synced waits until a daemon has a revision in force and every one of its clusters is Synced.
func synced(tb testing.TB, d *daemon.Daemon, id string) {
	tb.Helper()

	if status := d.Until(tb, func(s enginesync.Status) bool { return s.Settled() && s.Sources[0].Revision == id }); !status.Synced() {
		tb.Fatal(daemon.Describe(status))
	}
}

// readFigures is what reading a large fleet takes.
func readFigures(tb testing.TB, r *report) {
	f := fleet.New(fleet.Config{Clusters: *large, Machines: largeMachines})
	repository := newRepository(tb, f.Files)
	revision := repository.fetch(tb)
	targets := rendered(tb, revision)

	for _, rtt := range rtts {
		o := startFar(tb, rtt, embedded.Config{})
		seed(tb, o.Omni, targets)

		bare := least(3, func() (m measure) { return o.taken(func() { watchAndForget(tb, o) }) })
		ours := least(3, func() (m measure) { return o.taken(func() { bootstrap(tb, o) }) })

		r.add(tb, figure{
			Name: "start to ready", Fleet: size(*large, largeMachines), RTT: rtt.String(), Ours: ours, Upstream: &bare, Against: "a Watch that forgets",
			Goal: "within 2 × of the bare Watch", Met: ours.Wall <= 2*bare.Wall,
		})

		cold := least(2, func() measure {
			var (
				git = source.NewGit(source.GitConfig{URL: repository.dir, StateDir: tb.TempDir(), Ref: source.Ref{Branch: "main"}})
				d   *daemon.Daemon
			)

			m := o.taken(func() {
				d = daemon.Start(tb, o.Omni, nil)

				revision, err := git.Fetch(tb.Context())
				check(tb, err)
				synced(tb, d, d.Feed(revision.FS))
			})

			d.Stop(tb)
			check(tb, git.Close())

			return m
		})
		r.add(tb, figure{Name: "cold start to first complete plan", Fleet: size(*large, largeMachines), RTT: rtt.String(), Ours: cold})
		o.Stop(tb)
	}
}

// taken measures fn and what it spends.
func (f *far) taken(fn func()) (m measure) {
	s := f.spend(func() { m = taken(fn) })
	m.spent = s

	return m
}

// bootstrap reads all of Omni into a Snapshot.
func bootstrap(tb testing.TB, o *far) {
	tb.Helper()

	ctx, cancel := context.WithCancel(tb.Context())
	snapshot := live.NewSnapshot(enginesync.SnapshotConfig(o.Conn.State()))
	done := make(chan error, 1)

	go func() { done <- snapshot.Run(ctx) }()

	check(tb, snapshot.WaitReady(ctx))
	cancel()
	check(tb, <-done)
}

// watchAndForget reads the same and keeps nothing: what cannot be saved.
func watchAndForget(tb testing.TB, o *far) {
	tb.Helper()

	ctx, cancel := context.WithCancel(tb.Context())
	defer cancel()

	group, ctx := errgroup.WithContext(ctx)

	for _, kind := range enginesync.Kinds() {
		group.Go(func() error {
			events := make(chan []state.Event)
			if err := o.Conn.State().WatchKindAggregated(ctx, resource.NewMetadata(kind.Namespace, kind.Type, "", resource.VersionUndefined), events, state.WithBootstrapContents(true)); err != nil {
				return err
			}

			for batch := range events {
				for _, event := range batch {
					switch event.Type {
					case state.Bootstrapped:
						return nil
					case state.Errored:
						return event.Error
					}
				}
			}

			return nil
		})
	}

	check(tb, group.Wait())
}

// passes counts the passes of an engine over its targets.
type passes struct{ done atomic.Int64 }

func (p *passes) Reconciled(enginesync.Key, enginesync.Result, time.Duration) { p.done.Add(1) }
func (p *passes) Wrote(enginesync.Key, diff.Action, enginesync.Result, bool)  {}

// changeFigures is what a daemon that holds a large fleet takes for a change.
func changeFigures(tb testing.TB, r *report) {
	var (
		f          = fleet.New(fleet.Config{Clusters: *large, Machines: largeMachines})
		repository = newRepository(tb, f.Files)
		first      = repository.fetch(tb)
		targets    = rendered(tb, first)
	)

	for _, rtt := range rtts {
		var (
			writes = newWrites()
			o      = startFar(tb, rtt, embedded.Config{OnWrite: writes.note})
			meter  passes
		)

		// Relists are there for what the watch misses; in the middle of a figure they would be it.
		seed(tb, o.Omni, targets)
		d := daemon.Start(tb, o.Omni, func(c *enginesync.Config, s *live.SnapshotConfig) { c.Meter, s.Relist = &meter, time.Hour })
		synced(tb, d, d.Feed(first.FS))

		line := func(name string, m measure, goal string, met bool) {
			r.add(tb, figure{Name: name, Fleet: size(*large, largeMachines), RTT: rtt.String(), Ours: m, Goal: goal, Met: met})
		}

		// What the daemon does every time it looks and finds the same commit.
		look := least(5, func() measure { return o.taken(func() { repository.fetch(tb) }) })
		line("no-op pass, nothing new in Git", look, "0 RPCs, under 1 ms of CPU", look.RPCs == 0 && look.CPU < time.Millisecond)

		next := repository.next(tb, f.Files)
		idle := least(5, func() measure { return o.taken(func() { synced(tb, d, d.Feed(next.FS)) }) })
		line("no-op pass, a commit elsewhere in the repository", idle, "", false)

		full := least(3, func() measure { return o.taken(func() { compareAll(tb, d, &meter, len(targets)) }) })
		line("forced comparison of everything", full, "under 300 ms", full.Wall < 300*time.Millisecond)

		held := &inForce{far: o, daemon: d, writes: writes, repository: repository, fleet: f}
		one := least(5, func() measure { return held.oneTemplate(tb) })
		line("one template: fetched to first write", one, "under 50 ms", one.Wall < 50*time.Millisecond+rtt/2)

		drift := least(5, func() measure {
			md := omnires.NewConfigPatch(firstPatch(targets[1])).Metadata()
			written := writes.next()
			m := o.taken(func() { check(tb, o.State().Destroy(tb.Context(), md)); <-written })
			d.Until(tb, func(s enginesync.Status) bool { return s.Settled() && s.Synced() })

			return m
		})
		line("drift: event to repaired", drift, "under 100 ms", drift.Wall < 100*time.Millisecond)

		next = repository.next(tb, f.WithSharedPatch(1).Files)
		shared := o.taken(func() { synced(tb, d, d.Feed(next.FS)) })
		line("a patch that all templates share, to all Synced", shared, "", false)

		d.Stop(tb)
		o.Stop(tb)
	}
}

// inForce is a fleet that is in Git and in Omni, and the daemon that keeps it so.
type inForce struct {
	*far

	daemon     *daemon.Daemon
	writes     *writes
	repository *repository
	fleet      *fleet.Fleet
}

// oneTemplate is what follows a commit that changes one template, once it is fetched, until the first write arrives.
func (f *inForce) oneTemplate(tb testing.TB) measure {
	tb.Helper()

	next := f.repository.next(tb, f.fleet.With(0, f.repository.commits).Files)
	written := f.writes.next()

	m := f.taken(func() { f.daemon.Feed(next.FS); <-written })
	synced(tb, f.daemon, f.daemon.Feed(next.FS))

	return m
}

// stop ends the daemon and its Omni.
func (f *inForce) stop(tb testing.TB) {
	tb.Helper()
	f.daemon.Stop(tb)
	f.far.Stop(tb)
}

func firstPatch(t *render.Target) string {
	for _, r := range t.Resources {
		if r.Metadata().Type() == omnires.ConfigPatchType {
			return r.Metadata().ID()
		}
	}

	return ""
}

// compareAll has a daemon compare everything with Omni.
func compareAll(tb testing.TB, d *daemon.Daemon, meter *passes, targets int) {
	tb.Helper()

	before := meter.done.Load()

	for c := range targets {
		check(tb, d.Reconcile(enginesync.Key{Source: daemon.Source, Target: fleet.Name(c)}))
	}

	for meter.done.Load()-before < int64(targets) {
		time.Sleep(time.Millisecond)
	}
}

// writes tells of writes as they arrive at Omni.
type writes struct {
	mu      sync.Mutex
	waiting chan struct{}
}

func newWrites() *writes { return &writes{} }

// next returns a channel that is closed with the next write.
func (w *writes) next() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.waiting = make(chan struct{})

	return w.waiting
}

func (w *writes) note(embedded.Write) {
	w.mu.Lock()
	defer w.mu.Unlock()

	if w.waiting != nil {
		close(w.waiting)
		w.waiting = nil
	}
}

// syncFigures is a first apply and a sync of what is synced, by both sides, as far as upstream's
// takes minutes and not hours.
func syncFigures(tb testing.TB, r *report) {
	f := fleet.New(fleet.Config{Clusters: smallClusters, Machines: smallMachines})
	small := size(smallClusters, smallMachines)

	for _, rtt := range rtts {
		o := startFar(tb, rtt, embedded.Config{})

		var d *daemon.Daemon

		ours := o.taken(func() {
			d = daemon.Start(tb, o.Omni, nil)
			synced(tb, d, d.Feed(f.Files))
		})
		noop := least(3, func() measure { return o.taken(func() { synced(tb, d, d.Feed(f.Files)) }) })
		d.Stop(tb)
		o.Stop(tb)

		o = startFar(tb, rtt, embedded.Config{})
		theirs := o.taken(func() { upstreamSync(tb, o, f, smallClusters) })
		theirNoop := o.taken(func() { upstreamSync(tb, o, f, smallClusters) })
		o.Stop(tb)

		goal, met := "", false
		if rtt > 0 {
			goal, met = "at least 15 × faster", theirs.Wall >= 15*ours.Wall
		}

		r.add(tb, figure{Name: "first apply", Fleet: small, RTT: rtt.String(), Ours: ours, Upstream: &theirs, Goal: goal, Met: met})
		r.add(tb, figure{Name: "no-op sync", Fleet: small, RTT: rtt.String(), Ours: noop, Upstream: &theirNoop})
	}
}
