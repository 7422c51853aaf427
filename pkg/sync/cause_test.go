package sync_test

import (
	"fmt"
	gosync "sync"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// becauseOf waits until a target has that cause.
func becauseOf(t *testing.T, d *daemon.Daemon, name string, cause sync.Cause) {
	t.Helper()
	within(t, d, fmt.Sprintf("%s is %q", name, cause), func(s sync.Status) bool {
		found := target(s, name)

		return found.Cause == cause && found.Target == name && (cause != "" || found.Sync == sync.Synced)
	})
}

// Whatever keeps a cluster from being Synced has its word, and loses it when that ends.
func TestCause(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, func(c *sync.Config, s *omni.SnapshotConfig) {
		noRelist(c, s)
		c.KeepSuspended = func([]sync.Suspension) error { return nil }
	})
	d.Apply(t, fleet("1.34.3", "a", "b", "c", "d", "e", "f", "z"))
	becauseOf(t, d, "a", "")

	lock(t, o, "a")

	files := fleet("1.35.0", "a", "b", "c", "e", "f", "z")
	files["b.yaml"] = annotated("b", "1.35.0", `omni-syncd/suspend: "true"`)
	files["c.yaml"] = annotated("c", "1.35.0", "omni-syncd/sync: manual")
	files["e.yaml"] = cluster("e", "9.9.9", machine('e'))
	files["f.yaml"] = cluster("f", "latest", machine('f'))
	d.Feed(files)

	becauseOf(t, d, "a", sync.CauseLocked)
	becauseOf(t, d, "b", sync.CauseSuspended)
	becauseOf(t, d, "c", sync.CauseManual)
	becauseOf(t, d, "d", sync.CauseKept) // a file beside it is broken
	becauseOf(t, d, "e", sync.CauseStalled)
	becauseOf(t, d, "f", sync.CauseInvalid)
	becauseOf(t, d, "z", "")

	unlock(t, o, "a")
	becauseOf(t, d, "a", "")
	d.Feed(fleet("1.35.0", "a", "e", "f", "z")) // b, c and d left at once

	for name, cause := range map[string]sync.Cause{"b": sync.CauseConfirmation, "c": sync.CauseConfirmation, "d": sync.CauseConfirmation, "e": "", "f": ""} {
		becauseOf(t, d, name, cause)
	}

	if err := d.Suspend(sync.Suspension{Source: daemon.Source, Target: new("a"), By: "jane"}); err != nil {
		t.Fatal(err)
	}

	relabel(t, o, "a", "x", "1")
	becauseOf(t, d, "a", sync.CauseSuspended)
}

// What is being destroyed and held has its word until it is gone.
func TestCauseTeardown(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, noRelist)
	d.Apply(t, fleet("1.34.3", "a", "b"))

	md := omnires.NewCluster("b").Metadata()
	if err := o.State().AddFinalizer(t.Context(), md, "held"); err != nil {
		t.Fatal(err)
	}

	d.Feed(fleet("1.34.3", "a"))
	becauseOf(t, d, "b", sync.CauseTeardown)

	if err := o.State().RemoveFinalizer(t.Context(), md, "held"); err != nil {
		t.Fatal(err)
	}

	within(t, d, "b is gone", func(s sync.Status) bool { return len(s.Targets) == 1 })
}

// What time heals has its word, too.
func TestCauseRetry(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, noRelist)
	fault := unavailable(embedded.VerbCreate, omnires.ClusterType)
	remove := o.Faults().Add(fault)
	d.Feed(fleet("1.34.3", "a"))
	becauseOf(t, d, "a", sync.CauseRetry)
	remove()
	becauseOf(t, d, "a", "")
}

// drifts counts the writes that put right what somebody else changed.
type drifts struct {
	mu  gosync.Mutex
	all []bool
}

func (*drifts) Reconciled(sync.Key, sync.Result, time.Duration) {}

func (d *drifts) Wrote(_ sync.Key, _ diff.Action, _ sync.Result, drift bool) {
	d.mu.Lock()
	defer d.mu.Unlock()

	d.all = append(d.all, drift)
}

func (d *drifts) count() (drift, all int) {
	d.mu.Lock()
	defer d.mu.Unlock()

	for _, is := range d.all {
		if is {
			drift++
		}
	}

	return drift, len(d.all)
}

// A change by somebody else is told from a new revision, and somebody who never stops is told
// to people.
func TestCauseUndone(t *testing.T) {
	o, meter := daemon.StartOmni(t, embedded.Config{NoControllers: true}), &drifts{}
	d := daemon.Start(t, o, func(c *sync.Config, s *omni.SnapshotConfig) {
		noRelist(c, s)
		c.Meter, c.RetryMin = meter, time.Hour
		c.RetryMax = time.Hour
	})
	d.Apply(t, fleet("1.34.3", "a"))
	d.Apply(t, fleet("1.35.0", "a"))

	if drift, all := meter.count(); drift != 0 || all == 0 {
		t.Fatalf("%d of %d writes of new revisions are drift", drift, all)
	}

	relabel(t, o, "a", "x", "1")
	watchFor(t, o, omnires.NewCluster("a").Metadata(), "the first label is removed", func(r resource.Resource) bool {
		_, there := r.Metadata().Labels().Get("x")

		return !there
	})
	becauseOf(t, d, "a", "")

	if drift, _ := meter.count(); drift != 1 {
		t.Fatalf("%d writes are drift", drift)
	}

	relabel(t, o, "a", "x", "1")
	becauseOf(t, d, "a", sync.CauseUndone)
}
