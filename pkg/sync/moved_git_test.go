package sync_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/pkg/template"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// One commit moves a template between two sources that share a clone. The old one took it
// first and deleted the cluster, since it still saw the last revision of the other.
func TestG11_MoveInOneCommitOfASharedClone(t *testing.T) {
	r := newGitRepo(t)
	r.put("one/a.yaml", cluster("a", "1.34.3", machine(1)).Data)
	r.put("one/b.yaml", cluster("b", "1.34.3", machine(2)).Data)
	for i := range 30 {
		r.put(fmt.Sprintf("two/z%d.yaml", i), cluster(fmt.Sprintf("z%d", i), "1.34.3", machine(100+i)).Data)
	}
	r.commit("1")

	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	g := source.NewGit(source.GitConfig{URL: r.dir})
	defer g.Close() //nolint:errcheck // temporary files
	d := daemon.Start(t, o, func(c *sync.Config, _ *omni.SnapshotConfig) {
		c.Sources = []sync.SourceConfig{
			{Name: "one", Source: g, Scope: template.Scope{Root: "one"}, Prune: true, MaxDelete: 1},
			{Name: "two", Source: g, Scope: template.Scope{Root: "two"}, Prune: true, MaxDelete: 1, Allow: sync.Allow{TakeFrom: []string{"one"}}},
		}
	})
	within(t, d, "both", func(s sync.Status) bool { return s.Settled() && s.Synced() && len(s.Targets) == 32 })
	before := o.Calls()
	r.git("mv", "one/a.yaml", "two/a.yaml")
	r.commit("move")
	g.Poke()
	within(t, d, "moved", func(s sync.Status) bool {
		return s.Settled() && s.Synced() && slices.ContainsFunc(s.Targets, func(x sync.TargetStatus) bool { return x.Source == "two" && x.Target == "a" })
	})
	expect(t, "teardowns", 0, o.Calls().Since(before)[embedded.VerbTeardown])
}

// The template moves to a source whose newest commit cannot be read, or is refused: what is
// known of that source is old, so nothing is deleted for it.
func TestG11_MoveToASourceThatFails(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d, second := startTwo(t, o)
	second.Add(fleet("1.34.3", "a", "z"))
	d.Feed(fleet("1.34.3", "b"))
	within(t, d, "both", allSynced("second/a", "test/b", "second/z"))
	before := o.Calls()
	d.Fail(errors.New("revision is refused: not signed")) // its newest commit, which is refused, holds a
	within(t, d, "failure", func(s sync.Status) bool {
		return slices.ContainsFunc(s.Sources, func(x sync.SourceStatus) bool { return x.Name == "test" && x.Error != "" })
	})
	second.Add(fleet("1.34.3", "z"))
	within(t, d, "settled", func(s sync.Status) bool {
		return s.Settled() && !slices.ContainsFunc(s.Targets, func(x sync.TargetStatus) bool { return x.Target == "a" && x.Sync == sync.Synced })
	})
	expect(t, "teardowns", 0, o.Calls().Since(before)[embedded.VerbTeardown])
}

// A fleet resource that moves between two sources is released, not made again.
func TestG11_FleetResourceMoves(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d, second := startTwo(t, o)
	second.Add(fstest.MapFS{"z.yaml": cluster("z", "1.34.3", machine(9))})
	d.Feed(fstest.MapFS{"b.yaml": cluster("b", "1.34.3", machine(2)), "x.yaml": class("x", "1")})
	within(t, d, "both", func(s sync.Status) bool { return s.Settled() && s.Synced() && len(s.Targets) == 3 })
	before := o.Calls()
	second.Add(fstest.MapFS{"z.yaml": cluster("z", "1.34.3", machine(9)), "x.yaml": class("x", "1")})
	within(t, d, "the new source", known("second", ""))
	d.Feed(fstest.MapFS{"b.yaml": cluster("b", "1.34.3", machine(2))})
	within(t, d, "moved", func(s sync.Status) bool {
		return s.Settled() && s.Synced() && !slices.ContainsFunc(s.Targets, func(x sync.TargetStatus) bool { return x.Source == "test" && x.Target == "" })
	})
	expect(t, "teardowns", 0, o.Calls().Since(before)[embedded.VerbTeardown])
}
