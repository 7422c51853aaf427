package sync

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/cosi-project/runtime/pkg/resource"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/render"
	sourcerev "github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// G2: a template that cannot be used is still in Git.
func TestG2_BrokenIsNotRemoved(t *testing.T) {
	e := idleEngine()

	for _, name := range []string{"broken", "there", "gone", "other"} {
		cluster := omnires.NewCluster(name)
		if name != "other" {
			cluster.Metadata().Annotations().Set(diff.MarkSource, "s")
		}

		put(e, cluster)
	}

	removed := e.removedClusters(e.sources.get("s"), &desired{
		broken: map[string]error{"broken": errors.New("a typo")}, targets: targets{{Name: "there"}},
	})

	if len(removed) != 1 || removed[0].Metadata().ID() != "gone" {
		t.Errorf("removed: %v", removed)
	}
}

// Clusters are held back while the fleet resources of a revision, or of one before it, were
// not tried yet.
func TestG7_FleetBeforeClusters(t *testing.T) {
	for name, test := range map[string]struct {
		before, after map[string]string
		pending, want bool
	}{
		"the first": {nil, map[string]string{"": "1", "a": "1"}, false, true},
		"none":      {nil, map[string]string{"a": "1"}, false, false},
		"new":       {map[string]string{"a": "1"}, map[string]string{"": "1", "a": "1"}, false, true},
		"changed":   {map[string]string{"": "1"}, map[string]string{"": "2"}, false, true},
		"gone":      {map[string]string{"": "1", "a": "1"}, map[string]string{"a": "1"}, false, true},
		"unchanged": {map[string]string{"": "1"}, map[string]string{"": "1", "a": "1"}, false, false},
		"not yet":   {map[string]string{"": "1"}, map[string]string{"": "1", "a": "1"}, true, true},
	} {
		e := idleEngine()

		if test.before != nil {
			revision(e, "s", "1", test.before).fleetPending.Store(test.pending)
		}

		if got := revision(e, "s", "2", test.after).fleetPending.Load(); got != test.want {
			t.Errorf("%s: pending %v", name, got)
		}
	}
}

// G3: a revision brings work for what it changes, what left and what was not done yet; and
// for nothing else.
func TestG3_WhatARevisionTouches(t *testing.T) {
	e := idleEngine()
	passed := func(name string) {
		seen := &target{Key: Key{"s", name}, from: e.sources.get("s").desired.Load()}
		e.board.planned(seen, &diff.Plan{})
		e.board.succeeded(seen)
	}

	revision(e, "s", "1", map[string]string{"same": "1", "new": "1", "left": "1", "open": "1", "skipped": "1"})

	for _, name := range []string{"same", "new", "left", "skipped"} {
		passed(name)
	}

	revision(e, "s", "2", map[string]string{"same": "1", "new": "1", "left": "1", "open": "1", "skipped": "2"})
	revision(e, "s", "3", map[string]string{"same": "1", "new": "2", "open": "1", "skipped": "2"})

	for name, settled := range map[string]bool{"same": true, "new": false, "left": false, "open": false, "skipped": false} {
		r := e.board.get(Key{"s", name})
		if r.Settled != settled || settled != (r.awaited == "") || settled != (r.Revision == "3") {
			t.Errorf("%s: settled %v, awaits %q, compared with %q", name, r.Settled, r.awaited, r.Revision)
		}
	}
}

// G7: fleet resources are tried with a revision that came while they were tried with the one before, so that clusters do
// not wait for what is done.
func TestG7_FleetOfTheRevisionBefore(t *testing.T) {
	e := idleEngine()
	revision(e, "s", "1", map[string]string{"": "1", "a": "1"})

	seen := e.lookup(Key{"s", ""})
	e.board.planned(seen, &diff.Plan{})
	e.board.succeeded(seen)
	drain(e)

	// The pass has yet to say so to the revision that it began with.
	if !revision(e, "s", "2", map[string]string{"": "1", "a": "2"}).fleetPending.Load() {
		t.Fatal("the fleet resources are done")
	}

	for e.queue.Len() > 0 {
		key, _ := e.queue.Get()
		e.process(t.Context(), key, func(seen *target) error {
			e.board.planned(seen, &diff.Plan{})

			return nil
		})
		e.queue.Done(key)
	}

	if r := e.board.get(Key{"s", "a"}); r.Sync != Synced {
		t.Errorf("the cluster: %+v", r.TargetStatus)
	}
}

// G1, G13: a cluster changes hands only with the consent of the side that gives.
func TestG1_Consents(t *testing.T) {
	for name, test := range map[string]struct {
		change func(e *Engine, taker *target)
		goes   bool
	}{
		"gone there, and allowed": {func(*Engine, *target) {}, true},
		"not allowed":             {func(_ *Engine, taker *target) { taker.src.Allow.TakeFrom = nil }, false},
		"from others only":        {func(_ *Engine, taker *target) { taker.src.Allow.TakeFrom = []string{"third"} }, false},
		"still described there":   {func(e *Engine, _ *target) { revision(e, "s", "2", map[string]string{"a": "1", "b": "1"}) }, false},
		"broken there":            {func(e *Engine, _ *target) { broken(e, "s", "a") }, false},
		"not whole there":         {func(e *Engine, _ *target) { e.sources.get("s").desired.Load().whole = false }, false},
		"not read there":          {func(e *Engine, _ *target) { e.sources.get("s").desired.Store(nil) }, false},
		"failing there":           {func(e *Engine, _ *target) { e.failed(e.sources.get("s"), errors.New("no")) }, false},
		"its template there says so": {func(e *Engine, taker *target) {
			revision(e, "s", "2", map[string]string{"a": "1"})
			r := heldCluster(e).DeepCopy()
			r.Metadata().Annotations().Set(diff.AnnotationHandover, "taker")
			put(e, r)
		}, true},
		"its template there says so, and the operator does not": {func(e *Engine, taker *target) {
			taker.src.Allow.TakeFrom = nil
			r := heldCluster(e).DeepCopy()
			r.Metadata().Annotations().Set(diff.AnnotationHandover, "taker")
			put(e, r)
		}, false},
		"its template there names another": {func(e *Engine, taker *target) {
			taker.src.Allow.TakeFrom = nil
			r := heldCluster(e).DeepCopy()
			r.Metadata().Annotations().Set(diff.AnnotationHandover, "third")
			put(e, r)
		}, false},
		"of another daemon, described there for all that is known": {func(e *Engine, taker *target) {
			e.Reconfigure([]SourceConfig{taker.src.SourceConfig})
		}, false},
		"of another daemon, which found it gone": {func(e *Engine, taker *target) {
			e.Reconfigure([]SourceConfig{taker.src.SourceConfig})
			put(e, diff.Departing(heldCluster(e), diff.Departure{State: diff.Leaving, ID: "1"}))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			e := idleEngine()
			e.Reconfigure([]SourceConfig{{Name: "s", Source: other{}}, {Name: "taker", Source: idle{}, Allow: Allow{TakeFrom: []string{"s"}}}})
			revision(e, "s", "1", map[string]string{"b": "1"})
			put(e, marked("a", resource.PhaseRunning))

			taker := &target{Key: Key{"taker", "a"}, src: e.sources.get("taker"), from: &desired{whole: true}, desired: &render.Target{}}
			part := member("m", resource.PhaseRunning, false)
			part.Metadata().Annotations().Set(diff.MarkSource, "s")
			elsewhere := member("m", resource.PhaseRunning, false)
			elsewhere.Metadata().Annotations().Set(diff.MarkSource, "s")
			elsewhere.Metadata().Labels().Set(omnires.LabelCluster, "b")
			test.change(e, taker)

			if got := e.mayTake(taker, heldCluster(e)); got != test.goes {
				t.Errorf("takes the cluster: %v", got)
			}

			if got := e.mayTake(taker, part); got != test.goes {
				t.Errorf("takes what is part of it: %v", got)
			}

			if e.mayTake(taker, elsewhere) {
				t.Error("takes what is part of another cluster")
			}
		})
	}
}

// G11: what one source lost is looked at again when another one was read: it may have it, or
// no longer hold it back.
func TestG11_QueueMoved(t *testing.T) {
	lost, there := Key{"s", "lost"}, Key{"s", "there"}

	for name, test := range map[string]struct {
		before, after map[string]string
		comes         bool
	}{
		"the first revision": {nil, map[string]string{"x": "1"}, true},
		"it is there":        {map[string]string{"x": "1"}, map[string]string{"x": "1", "lost": "1", "there": "1"}, true},
		"it was there":       {map[string]string{"lost": "1", "there": "1"}, map[string]string{"lost": "1", "there": "1"}, true},
		"it may hold back":   {map[string]string{"x": "1"}, map[string]string{"x": "2"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			e := idleEngine()
			defer e.queue.ShutDown()

			e.Reconfigure([]SourceConfig{{Name: "s", Source: idle{}}, {Name: "other", Source: idle{}}})
			revision(e, "s", "1", map[string]string{"there": "1", "lost": "1"})
			revision(e, "s", "2", map[string]string{"there": "1"})

			if test.before != nil {
				revision(e, "other", "1", test.before)
			}

			drain(e)

			for _, key := range []Key{lost, there} {
				e.board.waiting(e.lookup(key), "kept", true)
			}

			revision(e, "other", "2", test.after)

			queued := map[Key]bool{}

			for e.queue.Len() > 0 {
				key, _ := e.queue.Get()
				queued[key] = true
				e.queue.Done(key)
			}

			if queued[lost] != test.comes || queued[there] || e.board.get(lost).Settled == test.comes {
				t.Errorf("queued %v, settled %v", queued, e.board.get(lost).Settled)
			}
		})
	}
}

// G2: what comes late from a source that was taken out, or that has its name from another one
// now, is not listened to.
func TestG2_LateWordOfAnOldSource(t *testing.T) {
	type another struct{ idle }

	for name, configs := range map[string][]SourceConfig{
		"taken out": nil, "another under its name": {{Name: "s", Source: another{}}}, "another folder": {{Name: "s", Source: idle{}, Scope: template.Scope{Root: "x"}}},
	} {
		t.Run(name, func(t *testing.T) {
			e := idleEngine()
			old := e.sources.get("s")
			e.Reconfigure(configs)
			drain(e)

			e.accept(old, sourcerev.Revision{ID: "late"}, &reading{set: &template.Set{}, targets: []*render.Target{{Name: "a", Digest: "1"}}})
			e.failed(old, errors.New("late"))

			status, _ := e.Status()
			for _, s := range status.Sources {
				if s.Fetched || s.Error != "" {
					t.Errorf("%+v", s)
				}
			}

			if len(status.Sources) != len(configs) || len(status.Targets) != 0 || e.queue.Len() != 0 {
				t.Errorf("%d sources, %d targets, queued: %d", len(status.Sources), len(status.Targets), e.queue.Len())
			}
		})
	}
}

// A target of a source that was taken out is not made again by a pass that was under way.
func TestG2_LatePassOfAnOldSource(t *testing.T) {
	e := idleEngine()
	revision(e, "s", "1", map[string]string{"a": "1"})

	key := drain(e)
	e.process(t.Context(), key, func(*target) error { e.Reconfigure(nil); return &StalledError{errors.New("no")} })

	if status, _ := e.Status(); len(status.Targets) != 0 {
		t.Errorf("%+v", status.Targets)
	}
}

// A configuration that is read again brings work for the sources that it changes, and for no
// other.
func TestG3_ReconfigureTouchesWhatChanged(t *testing.T) {
	for prune, want := range map[bool]int{false: 0, true: 1} {
		e := idleEngine()
		revision(e, "s", "1", map[string]string{"a": "1"})

		key := drain(e)
		e.board.succeeded(e.lookup(key))
		e.Reconfigure([]SourceConfig{{Name: "s", Source: idle{}, Prune: prune}})

		if n := e.queue.Len(); n != want || e.board.get(key).Settled == prune {
			t.Errorf("prune %v: queued %d, settled %v", prune, n, e.board.get(key).Settled)
		}
	}
}

// G6: a template without a name says nothing about the fleet resources.
func TestG6_NamelessTemplate(t *testing.T) {
	set := &template.Set{Templates: []*template.Template{{Path: "nameless.yaml"}, {Name: "a", Path: "a.yaml"}, {Name: "b", Path: "b.yaml"}}}
	got := brokenTargets(set, targets{{Name: "b"}}, template.Problems{{Message: "a typo"}})

	if len(got) != 1 || got["a"] == nil {
		t.Errorf("broken: %v", got)
	}
}

// G2: of a template that cannot be used nothing is planned, and nothing is said of its cluster
// but that.
func TestG2_BrokenIsNotReconciled(t *testing.T) {
	e := idleEngine()
	revision(e, "s", "1", map[string]string{"a": "1"})

	key := drain(e)
	e.sources.get("s").desired.Store(&desired{revision: "1", broken: map[string]error{"a": errors.New("a typo")}})
	e.process(t.Context(), key, func(*target) error { t.Error("it is reconciled"); return nil })

	if r := e.board.get(key); r.Sync != Unknown || r.Message != "a typo" || !r.Settled || r.Operation != Failed {
		t.Errorf("%+v", r.TargetStatus)
	}
}

// A source is watched once at a time: its next watch begins when the last one has ended.
func TestG2_OneWatchAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type another struct{ idle }

		e := idleEngine()
		defer e.queue.ShutDown()

		ctx, cancel := context.WithCancel(t.Context())
		ended, began, slow := make(chan error, 1), 0, make(chan struct{})

		go func() {
			ended <- e.followSources(ctx, func(ctx context.Context, _ *sourceState) error {
				began++
				<-ctx.Done()
				<-slow

				return errors.New("it ends badly")
			})
		}()

		synctest.Wait()
		e.Reconfigure([]SourceConfig{{Name: "s", Source: idle{}, Prune: true}})
		synctest.Wait()

		if began != 1 {
			t.Errorf("%d watches after another policy, want 1", began)
		}

		e.Reconfigure([]SourceConfig{{Name: "s", Source: another{}}})
		synctest.Wait()

		if began != 1 {
			t.Errorf("%d watches at once", began)
		}

		close(slow)
		synctest.Wait()

		if began != 2 {
			t.Errorf("%d watches in the end, want 2", began)
		}

		cancel()

		if err := <-ended; err != nil {
			t.Errorf("the end of a source ended the daemon: %v", err)
		}

		if status, _ := e.Status(); status.Sources[0].Error != "it ends badly" {
			t.Errorf("nobody is told: %+v", status.Sources)
		}
	})
}
