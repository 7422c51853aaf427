package sync_test

import (
	"strings"
	"testing"
	"testing/fstest"

	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// A manual cluster is written to when somebody asks, until it is Synced; the next
// revision waits for the next request.
func TestReconcile_Manual(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)
	key := sync.Key{Source: daemon.Source, Target: "a"}

	if err := d.Reconcile(key); err == nil {
		t.Error("there is no such target, and nobody is told")
	}

	manual := func(version string) fstest.MapFS {
		return fstest.MapFS{"a.yaml": annotated("a", version, "omni-syncd/sync: manual")}
	}

	expect(t, "at first", sync.OutOfSync, target(d.Apply(t, manual("1.34.3")), "a").Sync)

	if err := d.Reconcile(key); err != nil {
		t.Fatal(err)
	}

	within(t, d, "the request", func(s sync.Status) bool { return s.Settled() && s.Synced() })
	expect(t, "the next revision", sync.OutOfSync, target(d.Apply(t, manual("1.35.0")), "a").Sync)
	expect(t, "version", "1.34.3", kubernetes(t, o, "a"))
}

// G11: a deletion that a guard stopped is allowed by its digest, and nothing else is.
func TestG11_ConfirmByRequest(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)
	d.Apply(t, fleet("1.34.3", "a", "b", "c", "d"))

	_, digest, _ := strings.Cut(message(d.Apply(t, fleet("1.34.3", "c", "d")), "a"), "confirm: ")

	if err := d.Confirm("nobody", digest); err == nil {
		t.Error("there is no such source, and nobody is told")
	}

	if err := d.Confirm(daemon.Source, "0123456789ab"); err != nil {
		t.Fatal(err)
	}

	// The confirmation of two deletions does not cover a third.
	third := message(d.Apply(t, fleet("1.34.3", "d")), "a")
	if !strings.Contains(third, "confirm: ") || strings.HasSuffix(third, digest) {
		t.Fatalf("message: %s", third)
	}

	if err := d.Confirm(daemon.Source, digest); err != nil {
		t.Fatal(err)
	}

	expect(t, "kept", []string{"a", "b", "c", "d"}, live(t, o, omnires.ClusterType))

	_, digest, _ = strings.Cut(third, "confirm: ")
	if err := d.Confirm(daemon.Source, digest); err != nil {
		t.Fatal(err)
	}

	within(t, d, "the deletion", func(s sync.Status) bool { return s.Settled() && len(s.Targets) == 1 })
	expect(t, "clusters", []string{"d"}, live(t, o, omnires.ClusterType))
}
