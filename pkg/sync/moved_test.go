package sync_test

import (
	"slices"
	"strings"
	"testing"

	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// G11: a template that moves from one source of a daemon to another takes its cluster
// along; it is not deleted and made again. Only where the old source was read alone, with
// the new one known to lack it, nothing tells a move from a deletion.
func TestG11_TemplateMovesBetweenSources(t *testing.T) {
	for _, c := range []struct {
		name                string
		restarted, newFirst bool
	}{
		{"new source first", false, true},
		{"after a restart, old source first", true, false},
		{"after a restart, new source first", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
			d, second := startTwo(t, o)

			second.Add(fleet("1.34.3", "z"))
			d.Feed(fleet("1.34.3", "a", "b"))
			within(t, d, "both", allSynced("test/a", "test/b", "second/z"))

			if c.restarted {
				d.Stop(t)
				d, second = startTwo(t, o)
			}

			before := o.Calls()

			if c.newFirst {
				second.Add(fleet("1.34.3", "a", "z"))
				within(t, d, "the new source", known("second", "a"))
				d.Feed(fleet("1.34.3", "b"))
			} else {
				d.Feed(fleet("1.34.3", "b"))
				within(t, d, "the old source", known("test", "b"))
				second.Add(fleet("1.34.3", "a", "z"))
			}

			within(t, d, "the move", allSynced("second/a", "test/b", "second/z"))
			expect(t, "teardowns", 0, o.Calls().Since(before)[embedded.VerbTeardown])
		})
	}
}

// A deletion that began before the new source was read is ended, and the cluster is made
// anew: the remains of a cluster that is gone cannot be handed over.
func TestG10_MoveDuringDeletion(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d, second := startTwo(t, o)

	second.Add(fleet("1.34.3", "z"))
	d.Feed(fleet("1.34.3", "a", "b"))
	within(t, d, "both", allSynced("test/a", "test/b", "second/z"))

	hit, release := hold(t, o, embedded.Match{Verb: embedded.VerbTeardown, Type: omnires.ClusterType})

	d.Feed(fleet("1.34.3", "b"))
	await(t, "the deletion", hit)
	second.Add(fleet("1.34.3", "a", "z"))
	within(t, d, "the new source", known("second", "a"))
	release()
	within(t, d, "the end", allSynced("second/a", "test/b", "second/z"))
}

// known waits for a target.
func known(source, name string) func(sync.Status) bool {
	return func(s sync.Status) bool {
		return slices.ContainsFunc(s.Targets, func(t sync.TargetStatus) bool { return t.Source == source && t.Target == name })
	}
}

// startTwo starts a daemon with a second source, which prunes as well.
func startTwo(t *testing.T, o *daemon.Omni) (*daemon.Daemon, *daemon.Feed) {
	t.Helper()

	d := daemon.Start(t, o, nil)
	second := daemon.NewFeed()
	d.Reconfigure(append(slices.Clone(d.Sources), sync.SourceConfig{
		Name: "second", Source: second, Origin: "git.example.com/second", Prune: true, MaxDelete: 1, MaxDeleteResources: 5, Allow: sync.Allow{TakeFrom: []string{daemon.Source}},
	}))

	return d, second
}

// G1, G13: without a word of the operator a template that moves to another source leaves its cluster where it is: nobody
// takes it, and nobody destroys it.
func TestG1_MovesWithoutConsent(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d, second := startTwo(t, o)
	sources := slices.Clone(d.Sources)
	sources = append(sources, sync.SourceConfig{Name: "second", Source: second, Origin: "git.example.com/second", Prune: true, MaxDelete: 1})
	d.Reconfigure(sources)

	second.Add(fleet("1.34.3", "z"))
	d.Feed(fleet("1.34.3", "a", "b"))
	within(t, d, "both", allSynced("test/a", "test/b", "second/z"))

	before := o.Calls()

	second.Add(fleet("1.34.3", "a", "z"))
	within(t, d, "the new source", known("second", "a"))
	d.Feed(fleet("1.34.3", "b"))
	within(t, d, "nobody to have it", func(s sync.Status) bool {
		said := map[string]string{}
		for i := range s.Targets {
			said[s.Targets[i].Source+"/"+s.Targets[i].Target] = s.Targets[i].Message
		}

		return s.Settled() && strings.Contains(said["test/a"], "name test in `allow.takeFrom` of second") && strings.Contains(said["second/a"], "it is managed by the source test")
	})
	expect(t, "calls", embedded.Calls{}, o.Calls().Since(before))

	// The operator says who gets it.
	sources[1].Allow.TakeFrom = []string{daemon.Source}
	d.Reconfigure(sources)
	within(t, d, "the move", allSynced("second/a", "test/b", "second/z"))
	expect(t, "teardowns", 0, o.Calls().Since(before)[embedded.VerbTeardown])
}

// allSynced waits for exactly these targets, as source/cluster.
func allSynced(names ...string) func(sync.Status) bool {
	slices.Sort(names)

	return func(s sync.Status) bool {
		var got []string

		for i := range s.Targets {
			if s.Targets[i].Sync == sync.Synced {
				got = append(got, s.Targets[i].Source+"/"+s.Targets[i].Target)
			}
		}

		slices.Sort(got)

		return s.Settled() && len(s.Targets) == len(names) && slices.Equal(got, names)
	}
}

// G2: a source that was never read may hold the template that another one lost.
func TestG2_NoDeletionBeforeEverySourceWasRead(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	first := daemon.Start(t, o, nil)
	first.Apply(t, fleet("1.34.3", "a", "b"))
	first.Stop(t)

	d, second := startTwo(t, o)
	d.Feed(fleet("1.34.3", "b"))
	within(t, d, "kept", func(s sync.Status) bool {
		return target(s, "a").Message == "not in Git any more, kept: the source second was not read yet, and what left this one may have moved there"
	})
	expect(t, "clusters", []string{"a", "b"}, live(t, o, omnires.ClusterType))

	second.Add(fleet("1.34.3", "z"))
	within(t, d, "the deletion", allSynced("test/b", "second/z"))
	expect(t, "clusters", []string{"b", "z"}, live(t, o, omnires.ClusterType))
}
