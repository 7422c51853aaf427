package sync_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	gosync "sync"
	"testing"
	"time"

	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// lead is the right to write, given and taken by a test.
type lead struct {
	mu      gosync.Mutex
	until   time.Time
	now     sync.Leadership
	changed chan struct{}
}

func newLead() *lead {
	return &lead{now: sync.Leadership{Leader: "other"}, changed: make(chan struct{})}
}

func (l *lead) Until() (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.until, time.Now().Before(l.until)
}

func (l *lead) Leadership() (sync.Leadership, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.now, l.changed
}

func (l *lead) become(now sync.Leadership, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.now, l.until = now, until
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *lead) take(term uint64) {
	l.become(sync.Leadership{Term: term, Leader: "me"}, time.Now().Add(time.Hour))
}

func (l *lead) lose() { l.become(sync.Leadership{Leader: "other"}, time.Time{}) }

func (l *lead) use(cfg *sync.Config, _ *omni.SnapshotConfig) { cfg.Lead = l }

// Who stands by plans everything, says what is pending, and writes nothing; with the lead it
// writes at once.
func TestLead_StandsByAndTakesOver(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	l := newLead()
	d := daemon.Start(t, o, l.use)

	status := d.Apply(t, fleet("1.34.3", "one", "two"))
	expect(t, "sync", map[string]sync.SyncStatus{"one": sync.OutOfSync, "two": sync.OutOfSync}, syncs(status))

	if got := message(status, "one"); !strings.HasPrefix(got, "standing by: other leads; pending: ") {
		t.Errorf("message: %q", got)
	}

	if n := o.Calls().Writes(); n != 0 {
		t.Fatalf("%d writes without the lead", n)
	}

	one := "one"

	for what, err := range map[string]error{
		"suspend": d.Suspend(sync.Suspension{Source: daemon.Source, Target: &one}), "reconcile": d.Reconcile(sync.Key{Source: daemon.Source, Target: one}),
		"confirm": func() error { _, err := d.Confirm(t.Context(), "", one, "tester"); return err }(),
	} {
		if !errors.Is(err, sync.ErrStandby) && !errors.Is(err, sync.ErrNotKept) {
			t.Errorf("%s while another one leads: %v", what, err)
		}
	}

	l.take(1)
	d.Until(t, func(s sync.Status) bool { return s.Synced() && s.Settled() })

	l.lose()

	status = d.Apply(t, fleet("1.35.0", "one", "two"))
	if got := message(status, "one"); !strings.HasPrefix(got, "standing by: other leads; pending: ") {
		t.Errorf("message after the lead was lost: %q", got)
	}

	l.take(2)
	d.Until(t, func(s sync.Status) bool { return s.Synced() && s.Settled() })
}

// Who loses the lead while a suspension is kept cannot say that no write is begun any more.
func TestLead_LostWhileSuspending(t *testing.T) {
	l := newLead()
	l.take(1)

	d := daemon.Start(t, daemon.StartOmni(t, embedded.Config{NoControllers: true}), func(cfg *sync.Config, _ *omni.SnapshotConfig) {
		cfg.Lead = l
		cfg.KeepSuspended = func([]sync.Suspension) error {
			l.lose()

			return nil
		}
	})

	if err := d.Suspend(sync.Suspension{Source: daemon.Source}); !errors.Is(err, sync.ErrStandby) {
		t.Errorf("%v", err)
	}

	if len(d.Suspensions()) != 1 {
		t.Error("what is kept is not in force")
	}
}

// A lead that lapses in the middle of a phase stops what was not sent, and bounds what was.
func TestLead_LapsesInTheMiddle(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	l := newLead()

	remove := o.Faults().Add(embedded.Fault{Match: embedded.Match{Verb: embedded.VerbCreate, Type: omnires.MachineSetNodeType}, Until: make(chan struct{}), Code: codes.Unavailable})

	d := daemon.Start(t, o, func(cfg *sync.Config, _ *omni.SnapshotConfig) {
		cfg.Lead, cfg.Writes, cfg.Timeout = l, 1, time.Hour
	})

	// The right to write ends while a write hangs, which would else take an hour.
	l.become(sync.Leadership{Term: 1, Leader: "me"}, time.Now().Add(2*time.Second))
	d.Feed(fleet("1.34.3", "one"))
	d.Until(t, func(s sync.Status) bool { return strings.HasPrefix(message(s, "one"), "standing by: me leads") })
	remove()

	before := o.Calls().Writes()

	l.become(sync.Leadership{}, time.Time{})

	status := d.Apply(t, fleet("1.35.0", "one"))
	if got := message(status, "one"); !strings.HasPrefix(got, "standing by: no replica is known to lead") {
		t.Errorf("message: %q", got)
	}

	if n := o.Calls().Writes() - before; n != 0 {
		t.Errorf("%d writes after the lead lapsed", n)
	}
}

// polled is a source that is asked for news, and knows an older state of Git until then.
type polled struct {
	*daemon.Feed

	mu     gosync.Mutex
	looked time.Time
	newest string
	pokes  int
}

func (p *polled) Poke() {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.pokes++
}

func (p *polled) Looked() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()

	return p.looked
}

func (p *polled) Newest() string {
	p.mu.Lock()
	defer p.mu.Unlock()

	return p.newest
}

func (p *polled) look(newest string) {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.looked, p.newest = time.Now(), newest
}

// A new leader that is behind would take back what the last one applied, and delete the
// clusters that it has not heard of.
func TestG2_NewLeaderLooksFirst(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})

	first := daemon.Start(t, o, nil)
	first.Apply(t, fleet("1.35.0", "one", "two")) // "two" is new

	l, from := newLead(), &polled{Feed: daemon.NewFeed()}
	next := daemon.Start(t, o, func(cfg *sync.Config, _ *omni.SnapshotConfig) {
		cfg.Lead, cfg.Sources[0].Source = l, from
	})

	old := from.Add(fleet("1.34.3", "one"))
	from.look(old)
	next.Until(t, func(s sync.Status) bool { return s.Settled() && len(s.Targets) == 2 })
	first.Stop(t)

	before := o.Calls().Writes()

	l.take(1)

	status := next.Until(t, func(s sync.Status) bool {
		return strings.HasPrefix(message(s, "two"), "this replica took the lead, and has yet to look at the source test; pending: ")
	})
	expect(t, "sync", map[string]sync.SyncStatus{"one": sync.OutOfSync, "two": sync.OutOfSync}, syncs(status))

	// The look has begun, and what it led to was not taken in yet.
	from.look("newer")

	if err := next.Reconcile(sync.Key{Source: daemon.Source, Target: "one"}); err != nil {
		t.Fatal(err)
	}

	next.Until(t, func(s sync.Status) bool { return s.Settled() })

	if n := o.Calls().Writes() - before; n != 0 {
		t.Fatalf("%d writes from a revision that is known to be old", n)
	}

	from.look(from.Add(fleet("1.35.0", "one", "two")))
	next.Until(t, func(s sync.Status) bool { return s.Synced() && s.Settled() })

	if n := o.Calls().Writes() - before; n != 0 {
		t.Errorf("%d writes, and nothing had changed", n)
	}

	if from.pokes == 0 {
		t.Error("nobody had it look")
	}
}

// The parts of a fleet: every cluster is in one of them, about as many in each, and another
// number of parts moves few.
func TestShard(t *testing.T) {
	const count, clusters = 7, 7000

	sizes, moved := map[int]int{}, 0

	for i := range clusters {
		name := fmt.Sprintf("cluster-%d", i)

		var owners []int

		for shard := range count {
			if (sync.Shard{Index: shard, Count: count}).Owns(name) {
				owners = append(owners, shard)
			}
		}

		if len(owners) != 1 {
			t.Fatalf("%s is in the shards %v", name, owners)
		}

		sizes[owners[0]]++

		if !(sync.Shard{Index: owners[0], Count: count + 1}).Owns(name) {
			moved++
		}
	}

	least, most := slices.Min(slices.Collect(maps.Values(sizes))), slices.Max(slices.Collect(maps.Values(sizes)))
	if len(sizes) != count || least < 900 || most > 1100 {
		t.Errorf("sizes: %v", sizes)
	}

	if want := clusters / (count + 1); moved < want*9/10 || moved > want*11/10 {
		t.Errorf("%d clusters moved for one part more, not about %d", moved, want)
	}
}

func TestParseShard(t *testing.T) {
	for text, want := range map[string]sync.Shard{"": {}, "0/1": {Count: 1}, "3/4": {Index: 3, Count: 4}, "1023/1024": {Index: 1023, Count: 1024}} {
		if got, err := sync.ParseShard(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}

	for _, text := range []string{"4/4", "-1/4", "1", "a/b", "0/0", "1/4/2", " 1/4", "01/4", "1/1025", "1/4x", "/4", "99999999999999999999/4"} {
		if got, err := sync.ParseShard(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

// Two engines share a fleet: each writes its own clusters and no others, and what is counted
// to guard against accidents is counted over all of it (G11).
func TestShards(t *testing.T) {
	var (
		mu     gosync.Mutex
		writer = map[string]map[string]bool{}
	)

	o := daemon.StartOmni(t, embedded.Config{NoControllers: true, Accounts: []embedded.Account{{Name: "0", Role: embedded.RoleOperator}, {Name: "1", Role: embedded.RoleOperator}},
		OnWrite: func(w embedded.Write) {
			if w.Type == omnires.ClusterType && w.Identity != "" {
				mu.Lock()
				defer mu.Unlock()

				if writer[w.ID] == nil {
					writer[w.ID] = map[string]bool{}
				}

				writer[w.ID][w.Identity] = true
			}
		}})

	names := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	shards := make([]*daemon.Daemon, 2)

	for i := range shards {
		conn, err := omni.Dial(omni.ConnConfig{Endpoint: o.Endpoint(), ServiceAccountKey: o.ServiceAccountKey(fmt.Sprint(i))})
		if err != nil {
			t.Fatal(err)
		}

		t.Cleanup(func() { _ = conn.Close() })

		shards[i] = daemon.Start(t, o, func(cfg *sync.Config, _ *omni.SnapshotConfig) {
			cfg.State, cfg.Shard = conn.State(), sync.Shard{Index: i, Count: 2}
		})
	}

	apply := func(names ...string) {
		var ids []string
		for _, d := range shards {
			ids = append(ids, d.Feed(fleet("1.34.3", names...)))
		}

		for i, d := range shards {
			d.Until(t, func(s sync.Status) bool { return s.Settled() && s.Sources[0].Revision == ids[i] })
		}
	}

	apply(names...)

	for i, d := range shards {
		status, _ := d.Status()

		for name, state := range syncs(status) {
			if state != sync.Synced || !d.Shard.Owns(name) {
				t.Errorf("shard %d has %s, which is %s", i, name, state)
			}
		}
	}

	for _, name := range names {
		owner := fmt.Sprint(map[bool]int{true: 0, false: 1}[shards[0].Shard.Owns(name)])
		if got := slices.Collect(maps.Keys(writer[name])); len(got) != 1 || got[0] != owner {
			t.Errorf("%s is of shard %s and was written by %v", name, owner, got)
		}
	}

	// One of each shard leaves: for each of them that is one, and it is two.
	var leave []string
	for _, d := range shards {
		leave = append(leave, names[slices.IndexFunc(names, d.Shard.Owns)])
	}

	apply(slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(leave, n) })...)

	for i, d := range shards {
		status, _ := d.Status()
		if got := message(status, leave[i]); !strings.Contains(got, "2 clusters left Git within 1h, maxDelete allows 1") {
			t.Errorf("%s: %q", leave[i], got)
		}
	}

	expect(t, "clusters", names, live(t, o, omnires.ClusterType))

	// What another shard has is not unknown, so nobody may forget what is kept of it.
	var notYet *sync.NotYetError

	other := names[slices.IndexFunc(names, shards[1].Shard.Owns)]
	if _, err := shards[0].Managed("", other); !errors.As(err, &notYet) || !notYet.Unread {
		t.Errorf("a cluster of another shard: %v", err)
	}

	if err := shards[0].Reconcile(sync.Key{Source: daemon.Source, Target: other}); err == nil || !strings.Contains(err.Error(), "belongs to shard 1/2") {
		t.Errorf("reconcile a cluster of another shard: %v", err)
	}
}
