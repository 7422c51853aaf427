package sync_test

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// managed says in a word what [sync.Engine.Managed] answers: the source, or the error.
func managed(t *testing.T, d *daemon.Daemon, source, cluster string) string {
	t.Helper()

	key, err := d.Managed(source, cluster)

	var (
		unmanaged *sync.UnmanagedError
		notYet    *sync.NotYetError
		ambiguous *sync.AmbiguousError
	)

	switch {
	case err == nil && key.Target == cluster:
		return key.Source
	case errors.As(err, &unmanaged):
		return "unmanaged"
	case errors.As(err, &ambiguous):
		return "ambiguous: " + strings.Join(ambiguous.Sources, " ")
	case errors.As(err, &notYet) && notYet.Unread:
		return "unread: " + notYet.Reason
	case errors.As(err, &notYet):
		return "not yet: " + notYet.Reason
	default:
		t.Fatalf("%v, %v", key, err)

		return ""
	}
}

// becomes waits until the answer begins with some words; every change of the status is a
// new look.
func becomes(t *testing.T, d *daemon.Daemon, source, cluster, want string) {
	t.Helper()
	within(t, d, cluster+" becomes "+want, func(sync.Status) bool { return strings.HasPrefix(managed(t, d, source, cluster), want) })
}

func makeCluster(t *testing.T, o *daemon.Omni, name, mark string, finalizers ...string) {
	t.Helper()

	r := omnires.NewCluster(name)
	r.TypedSpec().Value.KubernetesVersion, r.TypedSpec().Value.TalosVersion = "1.34.3", "1.12.0"

	if mark != "" {
		r.Metadata().Annotations().Set(diff.MarkSource, mark)
	}

	if err := o.State().Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}

	for _, finalizer := range finalizers {
		if err := o.State().AddFinalizer(t.Context(), r.Metadata(), finalizer); err != nil {
			t.Fatal(err)
		}
	}
}

// Access is given to what a source made and to nothing else.
func TestManaged(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	makeCluster(t, o, "ui", "")
	makeCluster(t, o, "theirs", "somebody")
	makeCluster(t, o, "x-disputed", "somebody")
	makeCluster(t, o, "k-before", daemon.Source)

	d := daemon.Start(t, o, func(cfg *sync.Config, _ *omni.SnapshotConfig) { cfg.Sources[0].Prune = false })

	// Omni is read, the source is not: nothing is unknown for good, except what is somebody else's.
	within(t, d, "reading Omni", func(s sync.Status) bool { return s.Ready })
	expect(t, "a name", "unread: the source test was not read so far", managed(t, d, "", "a"))
	expect(t, "unmarked", "unread: the source test was not read so far", managed(t, d, "", "ui"))
	expect(t, "theirs", "unmanaged", managed(t, d, "", "theirs"))
	expect(t, "from before", "unread: the source test was not compared with it so far", managed(t, d, "", "k-before"))
	expect(t, "another source", "unmanaged", managed(t, d, "nobody", "a"))

	files := fleet("1.34.3", "a", "x-disputed")
	files["m.yaml"] = annotated("m-manual", "1.34.3", "omni-syncd/sync: manual")
	files["u.yaml"] = annotated("ui", "1.34.3", "omni-syncd/sync: manual")
	d.Feed(files)

	becomes(t, d, "", "a", daemon.Source)
	expect(t, "with the source", daemon.Source, managed(t, d, daemon.Source, "a"))
	expect(t, "with another", "unmanaged", managed(t, d, "somebody", "a"))
	expect(t, "fleet resources", "unmanaged", managed(t, d, daemon.Source, ""))
	expect(t, "no such cluster", "unmanaged", managed(t, d, "", "nothing"))
	becomes(t, d, "", "m-manual", "not yet: the cluster is synced on request only")
	becomes(t, d, "", "ui", "not yet: Omni has it, and it was not adopted: the cluster is synced on request only")
	expect(t, "theirs", "unmanaged", managed(t, d, "", "theirs"))
	expect(t, "a conflict", "unmanaged", managed(t, d, "", "x-disputed"))
	becomes(t, d, "", "k-before", daemon.Source) // left Git while the daemon was away, and is kept

	// What leaves Git and is kept is managed still.
	delete(files, "a.yaml")
	d.Apply(t, files)
	expect(t, "kept", daemon.Source, managed(t, d, "", "a"))

	// The mark goes, and with it the access.
	if _, err := o.State().UpdateWithConflicts(t.Context(), omnires.NewCluster("a").Metadata(), func(r resource.Resource) error {
		r.Metadata().Annotations().Set(diff.MarkSource, "somebody")

		return nil
	}); err != nil {
		t.Fatal(err)
	}

	becomes(t, d, "", "a", "unmanaged")

	// A source that leaves the configuration takes its clusters along.
	d.Reconfigure(nil)
	expect(t, "without sources", "unmanaged", managed(t, d, "", "k-before"))
}

// A cluster of the same name is another one, and a change makes none.
func TestMade(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)

	d.Apply(t, fleet("1.34.3", "a"))
	becomes(t, d, "", "a", daemon.Source)

	first := d.Made("a")
	d.Apply(t, fleet("1.35.0", "a"))

	if first.IsZero() || !d.Made("a").Equal(first) || !d.Made("b").IsZero() {
		t.Errorf("made %s, then %s; one that is not there %s", first, d.Made("a"), d.Made("b"))
	}

	if err := o.State().TeardownAndDestroy(t.Context(), omnires.NewCluster("a").Metadata()); err != nil {
		t.Fatal(err)
	}

	within(t, d, "making it again", func(sync.Status) bool { return d.Made("a").After(first) })
}

// What is being destroyed, and what nobody can see, is not unknown.
func TestManaged_NotYet(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	makeCluster(t, o, "dying", daemon.Source, "held")

	d := daemon.Start(t, o, func(_ *sync.Config, live *omni.SnapshotConfig) { live.StaleAfter = 50 * time.Millisecond })
	d.Feed(fleet("1.34.3", "a"))
	within(t, d, "dying to be kept", func(s sync.Status) bool {
		return s.Settled() && strings.Contains(message(s, "dying"), "omni-syncd confirm dying")
	})
	confirm(t, d, "dying")
	becomes(t, d, "", "dying", "not yet: it is being destroyed")

	if err := o.State().RemoveFinalizer(t.Context(), omnires.NewCluster("dying").Metadata(), "held"); err != nil {
		t.Fatal(err)
	}

	becomes(t, d, "", "dying", "unmanaged")
	becomes(t, d, "", "a", daemon.Source)

	o.Faults().Add(embedded.Fault{Match: embedded.Match{Verb: embedded.VerbWatch}, Code: codes.Unavailable})
	o.Faults().DropWatches(embedded.Match{})
	becomes(t, d, "", "a", "unread: Omni was not read completely: ")
	becomes(t, d, "", "nothing", "unread: Omni was not read completely: ")
	expect(t, "a source that is not there", "unmanaged", managed(t, d, "nobody", "a"))
}

// Two sources describe one cluster: the mark says whose it is.
func TestManaged_TwoSources(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	other := daemon.NewFeed()
	d := daemon.Start(t, o, func(cfg *sync.Config, _ *omni.SnapshotConfig) {
		cfg.Sources = append(cfg.Sources, sync.SourceConfig{Name: "other", Source: other})
	})

	manual := fstest.MapFS{"a.yaml": annotated("a", "1.34.3", "omni-syncd/sync: manual")}
	other.Add(manual)
	d.Feed(manual)
	becomes(t, d, "", "a", "ambiguous: other test")
	expect(t, "with a source", true, strings.HasPrefix(managed(t, d, "other", "a"), "not yet: "))

	d.Feed(fleet("1.34.3", "a"))
	becomes(t, d, "", "a", daemon.Source)
	expect(t, "the other source", "unmanaged", managed(t, d, "other", "a"))
}
