package sync_test

import (
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/pkg/template"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// stepsOfPlay is how many moves one world sees.
const stepsOfPlay = 250

// G1, G2, G8, G11, G13: nothing is destroyed outside of origin, budget and time, and nothing of somebody else is written,
// whatever happens in whatever order; and what may go goes in the end. MODEL_SEED and MODEL_STEPS choose others; the seed
// stays the same without, so that a change is judged by what it changes.
func TestG11_RandomScenarios(t *testing.T) {
	seed, steps := uint64(2), 10_000

	if value := os.Getenv("MODEL_SEED"); value != "" {
		seed, _ = strconv.ParseUint(value, 10, 64)
	}

	if value := os.Getenv("MODEL_STEPS"); value != "" {
		steps, _ = strconv.Atoi(value)
	} else if testing.Short() {
		steps /= 10
	}

	t.Logf("MODEL_SEED=%d MODEL_STEPS=%d", seed, steps)

	destroyed, confirmed, writes := 0, 0, 0

	for n := range uint64(max(steps/stepsOfPlay, 1)) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			p := newPlay(w, rand.New(rand.NewPCG(seed, n))) //nolint:gosec // a test
			defer w.stop()

			for step := 0; step < min(steps, stepsOfPlay) && !w.failed; step++ {
				p.move()
			}

			if !w.failed {
				destroyed, confirmed, writes = destroyed+w.destroyed, confirmed+w.confirmedDestroyed, writes+w.writes
				p.quiet()
			}

			if w.failed {
				t.Logf("world %d of MODEL_SEED=%d", n, seed)
			}
		})

		if t.Failed() {
			return
		}
	}

	t.Logf("%d destroyed, %d more after a confirmation, %d writes", destroyed, confirmed, writes)

	if steps >= 5_000 && (destroyed < steps/400 || confirmed < steps/1000) {
		t.Errorf("only %d were destroyed, and %d after a confirmation: that proves little", destroyed, confirmed)
	}
}

// isOfOther reports whether a fleet resource is part of another source's cluster.
func (p *play) isOfOther(r resource.Resource) bool {
	cluster := p.get(thing{omnires.ClusterType, clusterIn(r)})

	return cluster != nil && note(cluster, "omni-syncd/source") != note(r, "omni-syncd/source")
}

// conflicts reports whether a fleet resource waits for others of its source that are somebody else's: nothing is destroyed
// before all that Git describes is in force (G7).
func (p *play) conflicts(source string, what thing) bool {
	status, _ := p.main.engine.Status()

	return what.typ != omnires.ClusterType && slices.ContainsFunc(status.Targets, func(t sync.TargetStatus) bool {
		return t.Source == source && t.Target == "" && strings.Contains(t.Message, " is not ours: ")
	})
}

// quiet ends every disturbance, and sees that what may go goes.
func (p *play) quiet() {
	p.say("quiet")
	p.main.stop()
	p.mu.Lock()

	clear(p.refuses)

	for _, b := range p.branches {
		b.down, b.moving = false, false

		for file, i := range b.files {
			i.broken, i.empty, i.annotations = false, false, nil
			b.files[file] = i
		}
	}

	p.main.sources = slices.Clone(p.main.sources)

	for i, name := range []string{"one", "two", "three", "dir"} {
		if p.main.source(name) == nil {
			p.main.sources = append(p.main.sources, reading(name, p.branches[i], ""))
		}
	}

	for _, src := range p.main.sources {
		src.Scope = template.Scope{Root: src.Scope.Root}
		src.from.files[path.Join(src.Scope.Root, src.Name+".yaml")] = item{kind: "cluster", name: src.Name} // none is empty
		src.SourceConfig = sync.SourceConfig{
			Name: src.Name, Scope: src.Scope, Prune: true, DeleteAfter: 5 * time.Minute, MaxDelete: 1, MaxDeleteResources: 1, MaxDeleteMachines: 10,
			Allow: sync.Allow{TakeFrom: []string{"one", "two", "three", "dir"}},
		}
		if src.Name == "dir" {
			src.Origin = "github.com/acme/dir"
		}
	}

	// Nothing is described twice: it is a conflict, and nothing of that source goes on.
	for i, src := range p.main.sources {
		for file, item := range src.from.files {
			if src.covers(file) && slices.ContainsFunc(p.main.sources[:i], func(other *reads) bool {
				return slices.ContainsFunc(slices.Collect(maps.Keys(other.from.files)), func(twin string) bool {
					return other.covers(twin) && other.from.files[twin].thing() == item.thing()
				})
			}) {
				delete(src.from.files, file)
			}
		}
	}

	p.main.paused, p.main.kept = false, nil
	p.mu.Unlock()

	for _, b := range p.branches {
		b.push()
	}

	for _, what := range p.things() {
		p.edit(what, func(r resource.Resource) {
			for _, key := range []string{omnires.ClusterLocked, "omni-syncd/deletion", "omni-syncd/suspend", "omni-syncd/handover", "omni-syncd/origin"} {
				r.Metadata().Annotations().Delete(key)
			}

			// Without this mark it is nobody's, and a conflict for ever.
			if noted(r, "omni-syncd/source") && what.typ != omnires.ClusterType {
				r.Metadata().Annotations().Set("omni-syncd/fleet", "")
			}
		})
	}

	p.rival.stop()
	p.main.lead.set(true)
	p.main.start()
	p.pass(10 * time.Hour)

	// What is kept goes once somebody says so; what is described is there.
	for _, what := range p.things() {
		p.confirm(p.main, what)
		p.settle()
	}

	p.pass(time.Hour)

	for _, what := range p.things() {
		r := p.get(what)

		if src := p.main.source(note(r, "omni-syncd/source")); src != nil && isRootThing(r) && p.main.forbids(r, true) == "" && !p.isOfOther(r) && !p.conflicts(src.Name, what) {
			p.violated("%s of the source %s left Git, was confirmed and is still there: %v", what, src.Name, notes(r))
		}
	}

	for _, src := range p.main.sources {
		for file, i := range src.from.in {
			if r := p.get(i.thing()); src.covers(file) && r == nil && i.kind == "cluster" && p.get(thing{omnires.MachineSetType, i.name + "-control-planes"}) == nil {
				p.violated("%s is in Git, and not in Omni", i.thing())
			}
		}
	}

	if p.failed {
		status, _ := p.main.engine.Status()
		p.t.Log(daemon.Describe(status))
	}

	// What leaves now goes without anybody's word, and no earlier than it may.
	src := p.main.sources[0]
	folder := src.Scope.Root + "/"

	if src.Scope.Root == "" {
		folder = ""
	}

	p.mu.Lock()
	src.Scope.Include, src.Scope.Exclude = nil, nil
	src.from.files[folder+"new.yaml"] = item{kind: "cluster", name: "new"}
	src.from.files[folder+"stays.yaml"] = item{kind: "cluster", name: "stays"}
	p.mu.Unlock()
	p.main.reconfigure()
	src.from.push()
	p.pass(time.Hour)

	if p.get(thing{omnires.ClusterType, "new"}) == nil {
		p.violated("a new cluster is not made")
	}

	p.mu.Lock()
	delete(src.from.files, folder+"new.yaml")
	p.mu.Unlock()
	src.from.push()
	p.pass(5*time.Minute - time.Second)

	if r := p.get(thing{omnires.ClusterType, "new"}); r == nil || !noted(r, "omni-syncd/leaving") {
		p.violated("what left Git is not leaving: %v", r)
	}

	p.pass(time.Minute)

	if r := p.get(thing{omnires.ClusterType, "new"}); r != nil {
		p.violated("what left Git does not go: %v", notes(r))
	}
}
