package sync_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
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
		{"a cluster less, no prune", false, fleet("1.34.3", "a", "b"), map[string]string{"c": "1 left Git and kept"}},
		{"another file", true, fstest.MapFS{"z.yaml": base["a.yaml"], "b.yaml": base["b.yaml"], "c.yaml": base["c.yaml"]}, map[string]string{}},
		{"a broken file deletes nothing", true, fstest.MapFS{"a.yaml": base["a.yaml"], "b.yaml": base["b.yaml"], "c.yaml": {Data: []byte("kind: Cluster\nname: [\n")}}, map[string]string{"c": "1 left Git and kept"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			src.Prune = test.prune
			review, err := sync.Between(t.Context(), []sync.Step{{Source: src, Base: base, Head: test.head}})
			if err != nil {
				t.Fatal(err)
			}

			expect(t, "plans", test.want, summaries(review.Status))
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

	review, err := sync.Between(t.Context(), []sync.Step{{Source: sync.SourceConfig{Name: daemon.Source, Prune: true, MaxDelete: 1}, Base: base, Head: head}})
	if err != nil {
		t.Fatal(err)
	}

	expect(t, "plans", want, summaries(review.Status))

	if len(want) != 4 {
		t.Errorf("the daemon plans %v, want 4", want)
	}
}

// Without an engine a plan between revisions once announced deletions that no daemon does.
func TestBetween_Guards(t *testing.T) {
	protected := annotated("a", "1.34.3", "omni-syncd/deletion: protected")
	all := fleet("1.34.3", "b", "c", "d")

	for _, test := range []struct {
		name       string
		base, head fstest.MapFS
		want       map[string]string
	}{
		{"protected", fstest.MapFS{"a.yaml": protected, "b.yaml": all["b.yaml"]}, fstest.MapFS{"b.yaml": all["b.yaml"]}, map[string]string{"a": "it is protected"}},
		{"more than maxDelete", all, fstest.MapFS{"b.yaml": all["b.yaml"]}, map[string]string{"c": "2 clusters left Git", "d": "2 clusters left Git"}},
		{"emptied", all, fstest.MapFS{"b.yaml": all["b.yaml"], "c.yaml": all["c.yaml"], "d.yaml": {Data: []byte("# nothing\n")}}, map[string]string{"d": "d.yaml is still there"}},
		{"nothing left", all, fstest.MapFS{"README.md": {Data: []byte("x")}}, map[string]string{"b": "no templates at all", "c": "no templates at all", "d": "no templates at all"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			review, err := sync.Between(t.Context(), []sync.Step{{Source: sync.SourceConfig{Name: daemon.Source, Prune: true, MaxDelete: 1}, Base: test.base, Head: test.head}})
			if err != nil {
				t.Fatal(err)
			}

			for i := range review.Status.Targets {
				got := &review.Status.Targets[i]
				if got.Plan.Count(diff.Destroy) > 0 {
					t.Errorf("%s would be destroyed", got.Target)
				}

				if want, ok := test.want[got.Target]; ok && (len(got.Plan.Left) != 1 || !strings.Contains(got.Plan.Left[0].Reason, want)) {
					t.Errorf("%s: %+v, want … %s …", got.Target, got.Plan.Left, want)
				}
			}
		})
	}
}

// A source of the command line knows its history, and what the bases render to carries no commit: every deletion was
// shown as kept, since nobody could tell whether "an unknown commit" was in that history.
func TestBetween_History(t *testing.T) {
	src := sync.SourceConfig{Name: daemon.Source, Prune: true, MaxDelete: 1, Follows: func(string, string) (yes, known bool) { return false, false }}

	review, err := sync.Between(t.Context(), []sync.Step{{Source: src, Base: fleet("1.34.3", "a", "b"), Head: fleet("1.34.3", "a")}})
	if err != nil {
		t.Fatal(err)
	}

	expect(t, "plans", map[string]string{"b": "1 to destroy"}, summaries(review.Status))
}

// A cluster whose template moves from one source to another is no deletion and no creation.
func TestBetween_MovedBetweenSources(t *testing.T) {
	a := fleet("1.34.3", "a")

	review, err := sync.Between(t.Context(), []sync.Step{
		{Source: sync.SourceConfig{Name: "one", Prune: true, MaxDelete: 1}, Base: a, Head: fleet("1.34.3", "b")},
		{Source: sync.SourceConfig{Name: "two", Prune: true, MaxDelete: 1}, Base: fleet("1.34.3", "c"), Head: fstest.MapFS{"a.yaml": a["a.yaml"], "c.yaml": fleet("1.34.3", "c")["c.yaml"]}},
	})
	if err != nil {
		t.Fatal(err)
	}

	for i := range review.Status.Targets {
		if got := &review.Status.Targets[i]; got.Target == "a" && got.Plan.Count(diff.Destroy, diff.Create) > 0 {
			t.Errorf("%s in %s: %s", got.Target, got.Source, got.Plan.Summary())
		}
	}
}

// What was broken before cannot be compared, and is not new.
func TestBetween_BrokenBase(t *testing.T) {
	base := fleet("1.34.3", "a", "b")
	base["a.yaml"] = &fstest.MapFile{Data: append([]byte("nonsense: true\n"), base["a.yaml"].Data...)}

	review, err := sync.Between(t.Context(), []sync.Step{{Source: sync.SourceConfig{Name: daemon.Source}, Base: base, Head: fleet("1.34.3", "a", "b")}})
	if err != nil {
		t.Fatal(err)
	}

	if len(review.Base[daemon.Source]) != 1 {
		t.Errorf("problems of the base: %v", review.Base)
	}

	if got := target(review.Status, "a"); got.Plan != nil || !strings.Contains(got.Message, "was broken before") {
		t.Errorf("a: %+v", got)
	}
}
