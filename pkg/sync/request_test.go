package sync_test

import (
	"errors"
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

// G11: a confirmation is for one thing that waits for it, and for nothing else.
func TestG11_ConfirmByRequest(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)
	files := fleet("1.34.3", "a", "b", "c", "d")
	files["classes.yaml"] = class("x", "1")
	d.Apply(t, files)
	d.Apply(t, fleet("1.34.3", "c", "d"))

	for _, name := range []string{"nobody", "c", "MachineClass/nobody", "", "/", "Cluster/a"} {
		if _, err := d.Confirm(t.Context(), "", name, "tester"); !errors.Is(err, sync.ErrNothingToConfirm) {
			t.Errorf("%q: %v", name, err)
		}
	}

	if _, err := d.Confirm(t.Context(), "nobody", "a", "tester"); err == nil {
		t.Error("there is no such source, and nobody is told")
	}

	confirm(t, d, "b")
	within(t, d, "the deletion", func(s sync.Status) bool { return s.Settled() && len(s.Targets) == 3 })
	expect(t, "clusters", []string{"a", "c", "d"}, live(t, o, omnires.ClusterType))
}
