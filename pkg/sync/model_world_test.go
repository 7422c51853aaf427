package sync_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	gosync "sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"
	"golang.org/x/sync/errgroup"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// item is one file of a repository, and what it describes.
type item struct {
	kind, name  string // "cluster", "class" or "patch"
	version     int
	cluster     string // whose label a patch carries
	annotations map[string]string
	broken      bool // it cannot be read
	empty       bool // it describes nothing
}

func (i item) text() *fstest.MapFile {
	var notes strings.Builder
	for _, key := range slices.Sorted(maps.Keys(i.annotations)) {
		fmt.Fprintf(&notes, "%s: %q, ", key, i.annotations[key])
	}

	switch {
	case i.broken:
		return text("kind: Cluster\nname: [\n")
	case i.empty:
		return text("# nothing\n")
	case i.kind == "class":
		return text("metadata: {namespace: default, type: MachineClasses.omni.sidero.dev, id: %s, annotations: {%s}}\nspec:\n  matchlabels: [\"size = %d\"]\n", i.name, notes.String(), i.version)
	case i.kind == "patch":
		return text("metadata: {namespace: default, type: ConfigPatches.omni.sidero.dev, id: %s, labels: {omni.sidero.dev/cluster: %s}, annotations: {%s}}\nspec:\n  data: |\n    machine: {env: {X: \"%d\"}}\n", i.name, i.cluster, notes.String(), i.version)
	default:
		return text("kind: Cluster\nname: %s\nannotations: {%s}\nkubernetes: {version: v1.34.%d}\ntalos: {version: v1.12.0}\n---\nkind: ControlPlane\nmachineClass: {name: some, size: 1}\n", i.name, notes.String(), i.version)
	}
}

// branch is a Git branch, or a directory: what a source is read from.
type branch struct {
	repository, ref string // both "": a directory that is no checkout

	mu     gosync.Mutex
	commit int
	files  map[string]item // what is pushed
	in     map[string]item // what was handed out last
	down   bool            // it cannot be fetched
	moving bool            // the last one handed out had not come to rest
	events []func() (source.Revision, error)
	newer  chan struct{}
}

func newBranch(repository, ref string) *branch {
	b := &branch{repository: repository, ref: ref, files: map[string]item{}, newer: make(chan struct{})}
	b.push()

	return b
}

// push hands out what the branch holds, unless it is down.
func (b *branch) push() {
	b.mu.Lock()
	defer b.mu.Unlock()

	if b.down {
		b.say(func() (source.Revision, error) { return source.Revision{}, errors.New("no route to host") })

		return
	}

	b.commit++
	b.in = maps.Clone(b.files)
	files := fstest.MapFS{"p/README.md": {}, "q/README.md": {}}

	for name, i := range b.in {
		files[name] = i.text()
	}

	revision := source.Revision{ID: fmt.Sprintf("dir@%d", b.commit), FS: unsettled{files, b.moving}, Repository: b.repository}
	if b.ref != "" {
		revision.ID, revision.Ref = fmt.Sprintf("%s@sha1:%040d", b.ref, b.commit), "refs/heads/"+b.ref
		revision.Commit = fmt.Sprintf("%040d", b.commit)
	}

	b.say(func() (source.Revision, error) { return revision, nil })
}

func (b *branch) say(event func() (source.Revision, error)) {
	b.events = append(b.events, event)
	close(b.newer)
	b.newer = make(chan struct{})
}

// Watch implements sync.Source.
func (b *branch) Watch(ctx context.Context, fn func(source.Revision, error)) error {
	b.mu.Lock()
	next := len(b.events) - 1
	b.mu.Unlock()

	for {
		b.mu.Lock()
		events, newer := b.events[next:], b.newer
		b.mu.Unlock()

		for _, event := range events {
			fn(event())
		}

		next += len(events)

		select {
		case <-newer:
		case <-ctx.Done():
			return nil
		}
	}
}

type unsettled struct {
	fstest.MapFS

	moving bool
}

func (u unsettled) Moving() bool { return u.moving }

var _ fs.FS = unsettled{}

// terms is a Lead whose term is set by hand.
type terms struct {
	mu      gosync.Mutex
	term    uint64
	leads   bool
	changed chan struct{}
}

func (l *terms) Until() (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()

	return time.Now().Add(time.Minute), l.leads
}

func (l *terms) Leadership() (sync.Leadership, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if !l.leads {
		return sync.Leadership{Leader: "another"}, l.changed
	}

	return sync.Leadership{Term: l.term, Leader: "this"}, l.changed
}

func (l *terms) set(leads bool) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if l.leads = leads; leads {
		l.term++
	}

	close(l.changed)
	l.changed = make(chan struct{})
}

// reads is a source of a daemon, as its configuration has it.
type reads struct {
	sync.SourceConfig

	from *branch
}

func reading(name string, from *branch, root string) *reads {
	return &reads{from: from, SourceConfig: sync.SourceConfig{
		Name: name, Source: from, Scope: template.Scope{Root: root}, Prune: true, DeleteAfter: 5 * time.Minute, MaxDelete: 1, MaxDeleteResources: 5, MaxDeleteMachines: 10,
	}}
}

// covers reports whether a file is in the scope of a source.
func (s *reads) covers(file string) bool {
	in, ok := strings.CutPrefix(file, s.Scope.Root+"/")
	if s.Scope.Root == "" {
		in, ok = file, true
	}

	matches := func(glob string) bool { yes, _ := path.Match(glob, path.Base(in)); return yes } // all of them are **/GLOB

	return ok && (len(s.Scope.Include) == 0 || slices.ContainsFunc(s.Scope.Include, func(g string) bool { return matches(path.Base(g)) })) &&
		!slices.ContainsFunc(s.Scope.Exclude, func(g string) bool { return matches(path.Base(g)) })
}

// server is a daemon, one after the other under the same configuration.
type server struct {
	w       *world
	name    string
	sources []*reads
	paused  bool
	kept    []sync.Suspension
	ledger  *sync.LedgerFile
	lead    *terms
	engine  *sync.Engine
	stop    func()

	// What the model knows of it.
	ready      map[thing]time.Time // since when nothing forbids its deletion
	begun      map[thing]bool      // destroying marks that this process wrote
	spent      []deletion
	confirming bool
	confirmed  map[thing]bool // here, since it was described last
	ever       map[thing]bool // here, at any time
}

type deletion struct {
	thing  thing
	source string
	at     time.Time
}

// world is an Omni without controllers, and those who write to it.
type world struct {
	t     testing.TB
	state state.State // as seen by everybody but the daemons

	mu      gosync.Mutex
	servers []*server
	refuses map[string]bool // writes that fail, by verb
	failed  bool

	logging gosync.Mutex // of its own: a daemon writes while a move is noted
	log     []string

	destroyed, confirmedDestroyed, writes int
}

func newWorld(t testing.TB) *world {
	return &world{t: t, state: state.WrapCore(namespaced.NewState(inmem.Build)), refuses: map[string]bool{}}
}

// server returns a daemon that does not run yet.
func (w *world) server(name string, sources ...*reads) *server {
	s := &server{w: w, name: name, sources: sources, stop: func() {}, confirmed: map[thing]bool{}, ever: map[thing]bool{}, lead: &terms{term: 1, leads: true, changed: make(chan struct{})}}

	w.mu.Lock()
	defer w.mu.Unlock()

	w.servers = append(w.servers, s)

	return s
}

func (s *server) configs() []sync.SourceConfig {
	var configs []sync.SourceConfig
	for _, src := range s.sources {
		src.Source, src.DeletionsPaused = src.from, s.paused
		configs = append(configs, src.SourceConfig)
	}

	return configs
}

// start starts it, anew if it runs.
func (s *server) start() {
	s.stop()

	s.w.mu.Lock()
	s.ready, s.begun = map[thing]time.Time{}, map[thing]bool{} // what was spent outlives it
	s.w.mu.Unlock()

	st := judged{s.w.state, s}
	live := sync.SnapshotConfig(st)
	live.Relist = 6 * time.Hour
	snapshot := omni.NewSnapshot(live)
	s.engine = sync.New(sync.Config{
		Sources: s.configs(), State: st, Snapshot: snapshot, Lead: s.lead, Workers: 3, Writes: 2, NoPreflight: true,
		Suspended: s.kept, KeepSuspended: func(all []sync.Suspension) error { s.kept = slices.Clone(all); return nil },
		Ledger: s.written(), KeepLedger: s.ledger.Keep,
	})

	ctx, cancel := context.WithCancel(context.Background())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return snapshot.Run(ctx) })
	group.Go(func() error { return s.engine.Run(ctx) })

	s.stop = gosync.OnceFunc(func() {
		cancel()

		if err := group.Wait(); err != nil {
			s.w.t.Error(err)
		}
	})

	s.w.settle()
}

// written is what it wrote down about deletions.
func (s *server) written() sync.Ledger {
	if s.ledger == nil {
		s.ledger = &sync.LedgerFile{Path: filepath.Join(s.w.t.TempDir(), "deletions.json")}
	}

	kept, err := s.ledger.Load()
	if err != nil {
		s.w.t.Error(err)
	}

	return kept
}

// reconfigure puts its sources in force as they are now.
func (s *server) reconfigure() {
	s.engine.Reconfigure(s.configs())
	s.w.settle()
}

// settle lets everybody come to rest, and the model look.
func (w *world) settle() {
	synctest.Wait()
	w.observe()
}

// pass lets time pass, after everybody came to rest.
func (w *world) pass(d time.Duration) {
	w.settle()
	time.Sleep(d)
	w.settle()
}

func (w *world) stop() {
	for _, s := range w.servers {
		s.stop()
	}
}

// say notes what happens, for whoever reads of a failure.
func (w *world) say(format string, args ...any) {
	w.logging.Lock()
	defer w.logging.Unlock()

	w.log = append(w.log, time.Now().Format("15:04:05.0 ")+fmt.Sprintf(format, args...))
}

// logged is how many lines are shown of what led to a failure.
const logged = 80

// violated ends the test with what led to it.
func (w *world) violated(format string, args ...any) {
	w.failed = true
	w.say("VIOLATED: "+format, args...)

	w.logging.Lock()
	defer w.logging.Unlock()

	w.t.Errorf(format+"\n%s", append(args, strings.Join(w.log[max(0, len(w.log)-logged):], "\n"))...)
}

// edit changes a resource in Omni behind everybody's back, if it is there.
func (w *world) edit(what thing, change func(resource.Resource)) {
	_, err := w.state.UpdateWithConflicts(context.Background(), what.metadata(), func(r resource.Resource) error {
		change(r)

		return nil
	}, state.WithExpectedPhaseAny())
	if err != nil && !state.IsNotFoundError(err) {
		w.t.Error(err)
	}
}

// get returns a resource; nil if there is none.
func (w *world) get(what thing) resource.Resource {
	r, err := w.state.Get(context.Background(), what.metadata())
	if err != nil {
		return nil
	}

	return r
}
