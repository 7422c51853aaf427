package sync_test

import (
	"errors"
	"strings"
	gosync "sync"
	"testing"
	"testing/fstest"
	"time"

	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/google/go-cmp/cmp"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// kept is a place for suspensions that outlives a daemon.
type kept struct {
	mu   gosync.Mutex
	all  []sync.Suspension
	fail error
}

func (k *kept) keep(all []sync.Suspension) error {
	k.mu.Lock()
	defer k.mu.Unlock()

	if k.fail != nil {
		return k.fail
	}

	k.all = all

	return nil
}

func (k *kept) use(cfg *sync.Config, _ *omni.SnapshotConfig) {
	k.mu.Lock()
	defer k.mu.Unlock()

	cfg.Suspended, cfg.KeepSuspended = k.all, k.keep
}

func (k *kept) scopes() []string {
	k.mu.Lock()
	defer k.mu.Unlock()

	var names []string

	for _, s := range k.all {
		name := s.Source + "/*"
		if s.Target != nil {
			name = s.Source + "/" + *s.Target
		}

		names = append(names, name)
	}

	return names
}

func by(target *string) sync.Suspension {
	return sync.Suspension{Source: daemon.Source, Target: target, By: "joe", Reason: "maintenance", Since: time.Unix(1700000000, 0)}
}

func TestSuspend(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	k := &kept{}
	d := daemon.Start(t, o, k.use)
	one, two := "one", "two"

	d.Apply(t, fleet("1.34.3", "one", "two"))

	if err := d.Suspend(by(&one)); err != nil {
		t.Fatal(err)
	}

	// What is synced stays so; a change of it is planned and not written.
	status := d.Apply(t, fleet("1.35.0", "one", "two"))
	if got := target(status, one); got.Sync != sync.OutOfSync || got.Suspension == nil ||
		!strings.Contains(got.Message, "suspended by joe since 2023-11-14T22:13:20Z: maintenance; pending: ") {
		t.Errorf("one: %+v", got)
	}

	if got := target(status, two); got.Sync != sync.Synced || got.Suspension != nil {
		t.Errorf("two: %+v", got)
	}

	// A request to reconcile is no reason to write.
	if err := d.Reconcile(sync.Key{Source: daemon.Source, Target: one}); err != nil {
		t.Fatal(err)
	}

	// It survives a restart.
	d.Stop(t)

	d = daemon.Start(t, o, k.use)

	status = d.Apply(t, fleet("1.35.0", "one", "two"))
	if got := target(status, one); got.Sync != sync.OutOfSync || got.Suspension == nil {
		t.Errorf("one after a restart: %+v", got)
	}

	if err := d.Resume(daemon.Source, &two); !errors.Is(err, sync.ErrNotSuspended) {
		t.Errorf("resume what is not suspended: %v", err)
	}

	if err := d.Resume(daemon.Source, nil); !errors.Is(err, sync.ErrNotSuspended) {
		t.Errorf("resume the source although only a cluster is suspended: %v", err)
	}

	if err := d.Resume(daemon.Source, &one); err != nil {
		t.Fatal(err)
	}

	d.Until(t, func(s sync.Status) bool { return s.Synced() && s.Settled() })

	if diff := cmp.Diff([]string(nil), k.scopes()); diff != "" {
		t.Error(diff)
	}
}

// A source that is suspended as a whole is so for clusters that come later and for its
// fleet resources; a deletion waits, too.
func TestSuspend_Source(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	k := &kept{}
	d := daemon.Start(t, o, k.use)

	d.Apply(t, fleet("1.34.3", "one", "two"))

	if err := d.Suspend(by(nil)); err != nil {
		t.Fatal(err)
	}

	status := d.Apply(t, fleet("1.34.3", "one", "four")) // two left Git
	if status.Sources[0].Suspension == nil {
		t.Error("the source does not say that it is suspended")
	}

	for _, name := range []string{"two", "four"} {
		if got := target(status, name); got.Sync != sync.OutOfSync || !strings.Contains(got.Message, "suspended by joe") {
			t.Errorf("%s: %+v", name, got)
		}
	}

	if err := d.Resume(daemon.Source, nil); err != nil {
		t.Fatal(err)
	}

	d.Until(t, func(s sync.Status) bool { return s.Synced() && s.Settled() && len(s.Targets) == 2 })
}

// What cannot be remembered is not suspended, and what cannot be forgotten is not resumed.
func TestSuspend_NotKept(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	one := "one"

	without := daemon.Start(t, o, nil)
	if err := without.Suspend(by(&one)); !errors.Is(err, sync.ErrNotKept) {
		t.Errorf("without a place: %v", err)
	}

	without.Stop(t)

	k := &kept{fail: errors.New("the disk is full")}
	d := daemon.Start(t, o, k.use)

	if err := d.Suspend(by(&one)); err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("suspended with a full disk: %v", err)
	}

	if got := target(d.Apply(t, fleet("1.34.3", "one")), one); got.Sync != sync.Synced || got.Suspension != nil {
		t.Errorf("what could not be remembered is in force: %+v", got)
	}

	k.fail = nil
	if err := d.Suspend(by(&one)); err != nil {
		t.Fatal(err)
	}

	k.fail = errors.New("the disk is full")
	if err := d.Resume(daemon.Source, &one); err == nil {
		t.Error("resumed with a full disk")
	}

	if got := target(d.Apply(t, fleet("1.35.0", "one")), one); got.Sync != sync.OutOfSync {
		t.Errorf("what could not be forgotten is not in force: %+v", got)
	}
}

// A cluster that is suspended while a phase is written gets no more of it, and whoever
// suspends it knows that nothing is under way any more.
func TestSuspend_InTheMiddleOfAPhase(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	k := &kept{}
	d := daemon.Start(t, o, func(c *sync.Config, s *omni.SnapshotConfig) {
		k.use(c, s)
		c.Writes = 1
	})
	name := "a"

	applied(t, d, d.Feed(fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1))}))
	hit, release := hold(t, o, embedded.Match{Verb: embedded.VerbCreate, Type: omnires.ConfigPatchType})
	d.Feed(fstest.MapFS{"a.yaml": patched("a", machine(1), [2]string{"400-x", "1"}, [2]string{"401-x", "1"}, [2]string{"402-x", "1"})})
	await(t, "first write", hit)

	before := o.Calls()
	done := make(chan error, 1)

	go func() { done <- d.Suspend(by(&name)) }()

	// It is in force, and it waits.
	within(t, d, "suspended", func(s sync.Status) bool { return target(s, name).Suspension != nil })

	select {
	case err := <-done:
		t.Errorf("it did not wait for the write under way: %v", err)
	default:
	}

	release()

	if err := <-done; err != nil {
		t.Fatal(err)
	}

	within(t, d, "settled", func(s sync.Status) bool { return s.Settled() })

	if n := o.Calls().Since(before)[embedded.VerbCreate]; n > 0 {
		t.Errorf("%d writes to a suspended cluster", n)
	}
}

// A suspension of a cluster under a suspended source once said that nothing was suspended.
func TestResume_SaysWhatIsSuspended(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	k := &kept{}
	d := daemon.Start(t, o, k.use)
	name := "one"

	d.Apply(t, fleet("1.34.3", "one"))

	if err := d.Suspend(by(nil)); err != nil {
		t.Fatal(err)
	}

	err := d.Resume(daemon.Source, &name)
	if !errors.Is(err, sync.ErrNotSuspended) || !strings.Contains(err.Error(), "its source test is suspended as a whole") {
		t.Errorf("%v", err)
	}
}
