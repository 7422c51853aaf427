package sync_test

import (
	"testing"
	"testing/fstest"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// summaries returns the plans that hold something, in one line each.
func summaries(s sync.Status) map[string]string {
	got := map[string]string{}

	for i := range s.Targets {
		if t := &s.Targets[i]; t.Plan != nil && !t.Plan.Empty() {
			got[t.Target] = t.Plan.Summary()
		}
	}

	return got
}

func TestBetween(t *testing.T) {
	base := fleet("1.34.3", "a", "b", "c")
	src := sync.SourceConfig{Name: daemon.Source, Prune: true, MaxDelete: 1}

	for _, test := range []struct {
		name  string
		prune bool
		head  fstest.MapFS
		want  map[string]string
	}{
		{"the same", true, fleet("1.34.3", "a", "b", "c"), map[string]string{}},
		{"an upgrade", true, fstest.MapFS{"a.yaml": cluster("a", "1.35.0", machine('a')), "b.yaml": base["b.yaml"], "c.yaml": base["c.yaml"]}, map[string]string{"a": "1 to change"}},
		{"a new cluster", true, fleet("1.34.3", "a", "b", "c", "d"), map[string]string{"d": "3 to create"}},
		{"a cluster less", true, fleet("1.34.3", "a", "b"), map[string]string{"c": "1 to destroy"}},
		{"a cluster less, no prune", false, fleet("1.34.3", "a", "b"), map[string]string{"c": "3 left Git and kept"}},
		{"another file", true, fstest.MapFS{"z.yaml": base["a.yaml"], "b.yaml": base["b.yaml"], "c.yaml": base["c.yaml"]}, map[string]string{"a": "1 to adopt"}},
		{"a broken file hides what left", true, fstest.MapFS{"a.yaml": base["a.yaml"], "b.yaml": base["b.yaml"], "c.yaml": {Data: []byte("kind: Cluster\nname: [\n")}}, map[string]string{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			src.Prune = test.prune
			status, _ := sync.Between(t.Context(), src, base, test.head)
			expect(t, "plans", test.want, summaries(status))
		})
	}
}

// A plan between two revisions is the plan that a daemon makes that has applied the first.
func TestBetween_LikeTheDaemon(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)
	base := fleet("1.34.3", "a", "b", "c")

	d.Apply(t, base)
	d.Stop(t)

	head := fstest.MapFS{
		"a.yaml": patched("a", machine('a'), [2]string{"400-x", "1"}),
		"b.yaml": cluster("b", "1.35.0", machine('b'), machine('d')),
		"e.yaml": cluster("e", "1.34.3", machine('e')),
	}

	dry := daemon.Start(t, o, func(cfg *sync.Config, _ *omni.SnapshotConfig) { cfg.DryRun = true })
	want := summaries(dry.Apply(t, head))

	status, _ := sync.Between(t.Context(), sync.SourceConfig{Name: daemon.Source, Prune: true, MaxDelete: 1}, base, head)
	expect(t, "plans", want, summaries(status))

	if len(want) != 4 {
		t.Errorf("the daemon plans %v, want 4", want)
	}
}
