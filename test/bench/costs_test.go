package bench

import (
	"runtime/debug"
	"slices"
	"testing"
	"time"

	live "github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/render"
	enginesync "github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
	"github.com/omni-syncd/omni-syncd/test/fleet"
)

// costs is what is stable from machine to machine: requests, and memory that was asked for.
type costs struct {
	clusters  int
	resources int
	first     measure // apply to an empty Omni
	elsewhere measure // a commit that touches no template
	one       measure // a commit that changes one template
	full      measure // comparing everything
	render    measure // of everything, from nothing
	again     measure // of a commit that changes one template
}

func costsOf(t *testing.T, clusters int) (c costs) {
	t.Helper()

	c.clusters = clusters

	var (
		f          = fleet.New(fleet.Config{Clusters: clusters, Machines: smallMachines})
		repository = newRepository(t, f.Files)
		revision   = repository.fetch(t)
		o          = startFar(t, 0, embedded.Config{})
		meter      passes
	)

	c.render = leastAlloc(func() measure { return taken(func() { rendered(t, revision) }) })

	edit, renderer := 0, render.New()
	set, targets := renderedNext(t, renderer, nil, revision)
	c.again = leastAlloc(func() measure {
		edit++
		next := repository.next(t, f.With(0, edit).Files)

		return taken(func() { set, _ = renderedNext(t, renderer, set, next) })
	})

	for _, target := range targets {
		c.resources += len(target.Resources)
	}

	d := daemon.Start(t, o.Omni, func(e *enginesync.Config, s *live.SnapshotConfig) { e.Meter, s.Relist = &meter, time.Hour })
	c.first = o.taken(func() { synced(t, d, d.Feed(revision.FS)) })

	next := repository.next(t, f.Files)
	c.elsewhere = leastAlloc(func() measure { return o.taken(func() { synced(t, d, d.Feed(next.FS)) }) })

	c.one = leastAlloc(func() measure {
		edit++
		next := repository.next(t, f.With(0, edit).Files)

		return o.taken(func() { synced(t, d, d.Feed(next.FS)) })
	})
	c.full = leastAlloc(func() measure { return o.taken(func() { compareAll(t, d, &meter, clusters) }) })
	d.Stop(t)
	o.Stop(t)

	return c
}

// leastAlloc is the best of five times: what goes on beside it asks for memory, too.
func leastAlloc(once func() measure) measure {
	best := once()

	for range 4 {
		if m := once(); m.Alloc < best.Alloc {
			best = m
		}
	}

	return best
}

// What a fleet costs grows with the fleet, and what a change costs does not: as requests to Omni
// and as memory that is asked for, which are the same on every machine. Wall time is in the
// report only. The bounds are a quarter above what was measured when they were set.
func TestCosts(t *testing.T) {
	const fewClusters, manyClusters = 10, 80

	if raced() {
		t.Skip("the race detector asks for memory of its own: make test-costs")
	}

	few, many := costsOf(t, fewClusters), costsOf(t, manyClusters)
	t.Logf("%+v\n%+v", few, many)

	for _, c := range []costs{few, many} {
		// Within a second it is not asked again whether a cluster was locked meanwhile: a fast machine has no looks.
		looks := c.clusters * int(c.first.Wall/live.Fresh)

		atMost(t, "RPCs of a first apply: a watch for each kind, a write for each resource, a look at each cluster a second",
			c.first.RPCs, len(enginesync.Kinds())+c.resources+looks)
		atMost(t, "RPCs of a commit elsewhere", c.elsewhere.RPCs, 0)
		atMost(t, "RPCs of one template, whose write to the Cluster carries the version it was planned from", c.one.RPCs, 1)
		atMost(t, "RPCs of a full comparison", c.full.RPCs, 0)
		atMost(t, "bytes of memory of a full comparison, for a resource", int(c.full.Alloc)/c.resources, 1200)
		atMost(t, "bytes of memory of rendering, for a resource", int(c.render.Alloc)/c.resources, 90_000)
	}

	// Some more than to render one cluster, and little for each of the others.
	atMost(t, "bytes of memory of one template", int(few.again.Alloc), 3_400_000)
	atMost(t, "bytes of memory of one template, for each other cluster",
		(int(many.again.Alloc)-int(few.again.Alloc))/(manyClusters-fewClusters), 1_250)
	atMost(t, "bytes of memory of a commit elsewhere, for each cluster",
		(int(many.elsewhere.Alloc)-int(few.elsewhere.Alloc))/(manyClusters-fewClusters), 2_500)

	if ratio := float64(many.render.Alloc) / float64(few.render.Alloc); ratio < 7.2 || ratio > 8.8 {
		t.Errorf("eight times the fleet takes %.2f times the memory to render", ratio)
	}
}

func atMost(t *testing.T, what string, got, limit int) {
	t.Helper()

	if got > limit {
		t.Errorf("%s: %d, at most %d", what, got, limit)
	}
}

// raced reports whether the race detector is on.
func raced() bool {
	info, _ := debug.ReadBuildInfo()

	return slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "-race" && s.Value == "true" })
}
