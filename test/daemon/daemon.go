// Package daemon runs the stages of omni-syncd against an embedded Omni for tests and
// benchmarks: everything is real and on loopback, only the source is fed by hand.
package daemon

import (
	"context"
	"fmt"
	"io/fs"
	gosync "sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/secrets"
)

// Timeout bounds every wait.
const Timeout = 2 * time.Minute

// Omni is an embedded Omni that serves, and a connection to it as an Operator.
type Omni struct {
	*embedded.Server

	Conn *omni.Conn

	cancel context.CancelFunc
	done   chan error
}

// StartOmni starts an embedded Omni; it ends with the test, or earlier with Stop.
func StartOmni(tb testing.TB, cfg embedded.Config) *Omni {
	tb.Helper()

	server, err := embedded.New(cfg)
	check(tb, err)

	ctx, cancel := context.WithCancel(context.Background())
	o := &Omni{Server: server, cancel: cancel, done: make(chan error, 1)}

	go func() { o.done <- server.Run(ctx) }()

	o.Conn, err = omni.Dial(omni.ConnConfig{Endpoint: server.Endpoint(), ServiceAccountKey: server.ServiceAccountKey(embedded.AccountOperator)})
	check(tb, err)
	check(tb, o.Conn.Check(ctx))
	tb.Cleanup(func() { o.Stop(tb) })

	return o
}

// Stop ends the Omni and the connection. A second call does nothing.
func (o *Omni) Stop(tb testing.TB) {
	tb.Helper()

	if o.cancel == nil {
		return
	}

	check(tb, o.Conn.Close())
	o.cancel()
	check(tb, <-o.done)
	o.cancel = nil
}

// Daemon is an engine with its snapshot and one source named Source.
type Daemon struct {
	*sync.Engine

	feed   *Feed
	cancel context.CancelFunc
	group  *errgroup.Group
}

// Source is the name of the source of every Daemon.
const Source = "test"

// Place is where every Feed seems to be read from.
var Place = diff.Place{Repository: "git.example.com/fleet", Ref: "main"}

// Start starts a daemon against an Omni. change, if not nil, edits its configuration
// first. The daemon ends with the test, or earlier with Stop.
func Start(tb testing.TB, o *Omni, change func(*sync.Config, *omni.SnapshotConfig)) *Daemon {
	tb.Helper()

	ctx, cancel := context.WithCancel(context.Background())
	group, ctx := errgroup.WithContext(ctx)
	d := &Daemon{feed: NewFeed(), cancel: cancel, group: group}

	live := sync.SnapshotConfig(o.Conn.State())
	cfg := sync.Config{
		State: o.Conn.State(), RetryMin: 10 * time.Millisecond, Grace: 10 * time.Millisecond, HealthSettle: 10 * time.Millisecond,
		Sources: []sync.SourceConfig{{Name: Source, Source: d.feed, Prune: true, MaxDelete: 1, MaxDeleteResources: 100, MaxDeleteMachines: 100}},
		Logger:  secrets.Logger(tb),
	}

	if change != nil {
		change(&cfg, &live)
	}

	cfg.Snapshot = omni.NewSnapshot(live)
	d.Engine = sync.New(cfg)

	group.Go(func() error { return cfg.Snapshot.Run(ctx) })
	group.Go(func() error { return d.Run(ctx) })
	tb.Cleanup(func() { d.Stop(tb) })

	return d
}

// Stop ends the daemon in order, as a signal does. A second call does nothing.
func (d *Daemon) Stop(tb testing.TB) {
	tb.Helper()

	if d.cancel != nil {
		d.cancel()
		check(tb, d.group.Wait())
		d.cancel = nil
	}
}

// Feed hands the daemon a revision and returns its ID.
func (d *Daemon) Feed(files fs.FS) string {
	return d.feed.Add(files)
}

// Again hands the daemon a revision that it knows once more, with other files: they could not be read before.
func (d *Daemon) Again(id string, files fs.FS) {
	d.feed.add(fed{revision: source.Revision{ID: id, FS: files}})
}

// Fail makes the source fail once.
func (d *Daemon) Fail(err error) { d.feed.add(fed{err: err}) }

// Apply hands the daemon a revision and returns the status once that has come to rest.
func (d *Daemon) Apply(tb testing.TB, files fs.FS) sync.Status {
	tb.Helper()

	id := d.Feed(files)

	return d.Until(tb, func(s sync.Status) bool { return s.Settled() && s.Sources[0].Revision == id })
}

// Until waits for a status.
func (d *Daemon) Until(tb testing.TB, condition func(sync.Status) bool) sync.Status {
	tb.Helper()

	ctx, cancel := context.WithTimeout(tb.Context(), Timeout)
	defer cancel()

	var last sync.Status

	err := d.WaitStatus(ctx, func(s sync.Status) bool {
		last = s

		return condition(s)
	})
	if err != nil {
		tb.Fatalf("%v; the last status was:\n%s", err, Describe(last))
	}

	return last
}

// Describe writes a status for the message of a failed test.
func Describe(s sync.Status) string {
	text := fmt.Sprintf("ready: %v\n", s.Ready)

	for i := range s.Sources {
		src := &s.Sources[i]
		text += fmt.Sprintf("source %s: %s %s %v\n", src.Name, src.Revision, src.Error, src.Problems)
	}

	for i := range s.Targets {
		t := &s.Targets[i]
		text += fmt.Sprintf("target %q: %s %s (%s) %s, settled %v, at rest %v: %s\n", t.Target, t.Sync, t.Health, t.HealthReason, t.Operation, t.Settled, t.AtRest, t.Message)
	}

	return text
}

// Feed is a source that is fed by hand. Like a real one it begins each watch with the
// newest revision.
type Feed struct {
	mu    gosync.Mutex
	fed   []fed
	newer chan struct{}
}

type fed struct {
	revision source.Revision
	err      error
}

// NewFeed returns a feed that holds nothing yet.
func NewFeed() *Feed { return &Feed{newer: make(chan struct{})} }

// Add hands the watchers a revision and returns its ID.
func (f *Feed) Add(files fs.FS) string { return f.add(fed{revision: source.Revision{FS: files}}) }

// add hands the watchers a revision, which gets its ID here if it has none, or an error, and returns the ID.
func (f *Feed) add(next fed) string {
	f.mu.Lock()
	defer f.mu.Unlock()

	if next.err == nil && next.revision.ID == "" {
		next.revision.ID = fmt.Sprintf("test@%d", len(f.fed)+1)
	}

	if next.revision.Repository == "" {
		next.revision.Repository, next.revision.Ref = Place.Repository, "refs/heads/"+Place.Ref
	}

	f.fed = append(f.fed, next)
	close(f.newer)
	f.newer = make(chan struct{})

	return next.revision.ID
}

// from returns what was fed from the n-th on, and a channel that is closed when there is more.
func (f *Feed) from(n int) ([]fed, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()

	return f.fed[n:], f.newer
}

// Watch implements sync.Source.
func (f *Feed) Watch(ctx context.Context, fn func(source.Revision, error)) error {
	all, _ := f.from(0)

	for next := max(len(all)-1, 0); ; {
		events, newer := f.from(next)
		for _, event := range events {
			fn(event.revision, event.err)
		}

		next += len(events)

		select {
		case <-newer:
		case <-ctx.Done():
			return nil
		}
	}
}

func check(tb testing.TB, err error) {
	tb.Helper()

	if err != nil {
		tb.Fatal(err)
	}
}
