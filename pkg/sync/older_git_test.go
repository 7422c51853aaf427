package sync_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// follow starts a daemon that reads from a repository, until stop.
func follow(t *testing.T, o *daemon.Omni, from interface {
	sync.Source
	Follows(head, commit string) (yes, known bool)
},
) *daemon.Daemon {
	t.Helper()

	return daemon.Start(t, o, func(c *sync.Config, _ *omni.SnapshotConfig) {
		c.Sources = []sync.SourceConfig{{Name: daemon.Source, Source: from, Follows: from.Follows, Prune: true, MaxDelete: 3}}
	})
}

// at waits until a daemon is done with a commit, and returns whether b was kept, with the reason, or is gone.
func at(t *testing.T, o *daemon.Omni, d *daemon.Daemon, commit string) string {
	t.Helper()

	s := within(t, d, "commit "+commit, func(s sync.Status) bool {
		return s.Settled() && len(s.Sources) == 1 && strings.HasSuffix(s.Sources[0].Revision, commit) && len(s.Sources[0].Problems) == 0
	})

	i := slices.IndexFunc(s.Targets, func(x sync.TargetStatus) bool { return x.Target == "b" })

	switch {
	case !inOmni(t, o, "b"):
		return "gone"
	case i < 0 || s.Targets[i].Plan == nil || len(s.Targets[i].Plan.Left) == 0:
		return "described"
	default:
		return s.Targets[i].Plan.Left[0].Reason
	}
}

// inOmni reports whether Omni holds a cluster.
func inOmni(t *testing.T, o *daemon.Omni, name string) bool {
	t.Helper()

	_, err := o.State().Get(t.Context(), omnires.NewCluster(name).Metadata())
	if err != nil && !state.IsNotFoundError(err) {
		t.Fatal(err)
	}

	return err == nil
}

// A daemon deleted from an OLDER revision what the applied one describes: it asked the history only about the revision
// before, in this process and under the same ref. A tag before the applied one, a highest tag that was taken away, a branch
// that was forced back while the daemon was down, or that was forced back broken and then mended: each destroyed b.
func TestG11_OlderRevisionOfARepository(t *testing.T) {
	const older = "is not in the history of what is read"

	main := source.Ref{Branch: "main"}

	for name, test := range map[string]struct {
		before, after source.Ref
		up            bool // it happens while the daemon runs
		do            func(*gitRepo)
		want          string
	}{
		"tag before":             {source.Ref{Tag: "v1.1.0"}, source.Ref{Tag: "v1.0.0"}, false, func(*gitRepo) {}, older},
		"highest tag gone, down": {source.Ref{SemVer: ">=1"}, source.Ref{SemVer: ">=1"}, false, func(r *gitRepo) { r.git("tag", "-d", "v1.1.0") }, older},
		"highest tag gone":       {source.Ref{SemVer: ">=1"}, source.Ref{SemVer: ">=1"}, true, func(r *gitRepo) { r.git("tag", "-d", "v1.1.0") }, "forced push"},
		"forced, down":           {main, main, false, func(r *gitRepo) { r.git("reset", "-q", "--hard", "v1.0.0") }, older},
		"forced":                 {main, main, true, func(r *gitRepo) { r.git("reset", "-q", "--hard", "v1.0.0") }, "forced push"},
		"forced and collected":   {main, main, false, forcedAndCollected, older},
		"another branch": {main, main, false, func(r *gitRepo) {
			r.git("checkout", "-q", "--orphan", "x")
			r.git("rm", "-q", "-f", "b.yaml")
			r.commit("x")
			r.git("branch", "-M", "main")
		}, older},
		"removed":                   {main, main, true, func(r *gitRepo) { r.git("rm", "-q", "b.yaml"); r.commit("rm b") }, "gone"},
		"removed, down":             {main, main, false, func(r *gitRepo) { r.git("rm", "-q", "b.yaml"); r.commit("rm b") }, "gone"},
		"removed by many commits":   {main, main, true, func(r *gitRepo) { r.git("rm", "-q", "b.yaml"); r.commit("rm b"); r.commit("2"); r.commit("3") }, "gone"},
		"removed by a merge":        {main, main, true, func(r *gitRepo) { branchWithout(r); r.git("merge", "-q", "--no-ff", "-m", "merge", "x") }, "gone"},
		"removed by a fast-forward": {main, main, true, func(r *gitRepo) { branchWithout(r); r.git("merge", "-q", "--ff-only", "x") }, "gone"},
		"removed by a squash":       {main, main, true, func(r *gitRepo) { branchWithout(r); r.git("merge", "-q", "--squash", "x"); r.commit("squash") }, "gone"},
		"removed by a newer tag":    {source.Ref{SemVer: ">=1"}, source.Ref{SemVer: ">=1"}, true, func(r *gitRepo) { r.git("rm", "-q", "b.yaml"); r.commit("rm b"); r.git("tag", "v1.2.0") }, "gone"},
		"reverted":                  {main, main, true, func(r *gitRepo) { r.git("revert", "--no-edit", "v1.1.0") }, "gone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			r := newGitRepo(t)
			r.put("a.yaml", cluster("a", "1.34.3", machine(1)).Data)
			r.commit("1")
			r.git("tag", "v1.0.0")
			r.put("b.yaml", cluster("b", "1.34.3", machine(2)).Data)
			r.commit("2")
			r.git("tag", "v1.1.0")

			open := func(ref source.Ref) *source.Git {
				g := source.NewGit(source.GitConfig{URL: r.dir, Ref: ref, Interval: 20 * time.Millisecond})
				g.KeepHistory()
				t.Cleanup(func() { g.Close() }) //nolint:errcheck // temporary files

				return g
			}

			o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
			d := follow(t, o, open(test.before))
			expect(t, "at first", "described", at(t, o, d, r.git("rev-parse", "v1.1.0")))

			if !test.up {
				d.Stop(t)
			}

			test.do(r)

			head := r.git("rev-parse", "HEAD")

			if !test.up {
				d = follow(t, o, open(test.after))
			}

			if test.after.Tag != "" {
				head = r.git("rev-parse", test.after.Tag)
			} else if test.after.SemVer != "" {
				head = r.git("rev-parse", strings.Fields(r.git("tag", "--sort=-v:refname"))[0])
			}

			if got := at(t, o, d, head); !strings.Contains(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// branchWithout makes a branch without b.
func branchWithout(r *gitRepo) {
	r.git("checkout", "-q", "-b", "x")
	r.git("rm", "-q", "b.yaml")
	r.commit("rm b")
	r.commit("more")
	r.git("checkout", "-q", "main")
}

// forcedAndCollected leaves nothing of the commit that was applied.
func forcedAndCollected(r *gitRepo) {
	r.git("reset", "-q", "--hard", "v1.0.0")
	r.git("tag", "-d", "v1.1.0")
	r.git("reflog", "expire", "--expire=now", "--all")
	r.git("gc", "-q", "--prune=now")
}

// A branch that was forced back with a broken file, and then mended by an ordinary commit, destroyed what only the commit
// before had: that it was forced was known of the broken revision alone, from which nothing leaves.
func TestG11_ForcedBrokenThenMended(t *testing.T) {
	r := newGitRepo(t)
	r.put("a.yaml", cluster("a", "1.34.3", machine(1)).Data)
	r.commit("1")
	r.put("b.yaml", cluster("b", "1.34.3", machine(2)).Data)
	r.commit("2")

	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	g := source.NewGit(source.GitConfig{URL: r.dir, Interval: 20 * time.Millisecond})
	t.Cleanup(func() { g.Close() }) //nolint:errcheck // temporary files
	d := follow(t, o, g)
	expect(t, "at first", "described", at(t, o, d, r.git("rev-parse", "HEAD")))

	r.put("broken.yaml", []byte("kind: Cluster\n"))
	r.git("add", "-A")
	r.git("rm", "-q", "-f", "b.yaml")
	tree := r.git("write-tree")
	r.git("reset", "-q", "--hard", r.git("commit-tree", tree, "-p", "HEAD~1", "-m", "forced and broken"))

	broken := r.git("rev-parse", "HEAD")
	within(t, d, "the broken revision", func(s sync.Status) bool {
		return s.Settled() && strings.HasSuffix(s.Sources[0].Revision, broken) && len(s.Sources[0].Problems) > 0
	})

	r.git("rm", "-q", "broken.yaml")
	r.commit("fix")

	if got := at(t, o, d, r.git("rev-parse", "HEAD")); !strings.Contains(got, "is not in the history of what is read") {
		t.Errorf("got %q", got)
	}
}

// A checkout that went back while the daemon was down destroyed what came since; and a merge that brings everything
// together lets what it lacks go.
func TestG11_OlderCheckout(t *testing.T) {
	r := newGitRepo(t)
	r.git("remote", "add", "origin", "https://git.example.com/acme/fleet.git")
	r.put("a.yaml", cluster("a", "1.34.3", machine(1)).Data)
	r.commit("1")
	r.put("b.yaml", cluster("b", "1.34.3", machine(2)).Data)
	r.commit("2")

	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	look := func() string {
		dir := source.NewDir(source.DirConfig{Path: r.dir, Settle: time.Millisecond})
		d := follow(t, o, dir)

		defer d.Stop(t)

		rev, err := dir.Fetch(context.Background())
		if err != nil {
			t.Fatal(err)
		}

		return at(t, o, d, rev.ID)
	}

	expect(t, "at first", "described", look())
	r.git("checkout", "-q", "HEAD~1")

	if got := look(); !strings.Contains(got, "is not in the history of what is read") {
		t.Errorf("got %q", got)
	}

	r.git("checkout", "-q", "main")
	expect(t, "back", "described", look())
	r.git("rm", "-q", "b.yaml")
	r.commit("rm b")
	expect(t, "removed", "gone", look())
}

// After the history was rewritten nothing could be deleted any more: every resource carried a commit of the old line. What
// the new line describes is stamped anew, and leaves it as any other.
func TestG11_RewrittenHistory(t *testing.T) {
	r := newGitRepo(t)
	r.put("a.yaml", cluster("a", "1.34.3", machine(1)).Data)
	r.put("b.yaml", cluster("b", "1.34.3", machine(2)).Data)
	r.commit("1")

	start := func(o *daemon.Omni) *daemon.Daemon {
		g := source.NewGit(source.GitConfig{URL: r.dir, Ref: source.Ref{Branch: "main"}, Interval: 20 * time.Millisecond})
		g.KeepHistory()
		t.Cleanup(func() { g.Close() }) //nolint:errcheck // temporary files

		return follow(t, o, g)
	}

	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := start(o)
	expect(t, "at first", "described", at(t, o, d, r.git("rev-parse", "HEAD")))

	// A second daemon writes nothing, so no event from Omni makes it plan the unchanged targets again.
	d.Stop(t)

	d = start(o)
	expect(t, "started again", "described", at(t, o, d, r.git("rev-parse", "HEAD")))

	r.git("commit", "-q", "--amend", "-m", "1, again")

	rewritten := r.git("rev-parse", "HEAD")
	expect(t, "rewritten", "described", at(t, o, d, rewritten))

	watchFor(t, o, omnires.NewCluster("b").Metadata(), "its new commit", func(live resource.Resource) bool {
		origin, _ := diff.OriginOf(live)

		return origin.Commit == rewritten
	})

	r.git("rm", "-q", "b.yaml")
	r.commit("rm b")
	expect(t, "removed", "gone", at(t, o, d, r.git("rev-parse", "HEAD")))
}
