package omni

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"go.uber.org/zap"
)

// Kind is a kind of resource to hold.
type Kind struct {
	Namespace resource.Namespace
	Type      resource.Type

	// Since is the first release of Omni that has the kind, like "1.11"; "" if all have it. It is not asked for where it is
	// not known to exist, which takes [ServerKind] among the kinds.
	Since string
}

// SnapshotConfig says what to hold and how.
type SnapshotConfig struct {
	// State is watched. Its watches must not resume by themselves ([Conn.State]'s do not).
	State state.State

	// Kinds is what to hold, each type once.
	Kinds []Kind

	// Tag names a set that a resource belongs to, for [Snapshot.Tagged]; "" is none. It must always say the same of the
	// same resource, from its metadata alone, and must neither block nor call the Snapshot. Optional.
	Tag func(resource.Resource) string

	// Relist is how often each kind is read anew as a safety net, give or take a quarter. 0 means 10 minutes.
	Relist time.Duration

	// StaleAfter is how long a watch may be down before the snapshot is no longer ready. 0 means 1 minute.
	StaleAfter time.Duration

	// Logger hears of watches that are lost and found. Optional.
	Logger *zap.Logger
}

// Snapshot is the live state of some kinds of resources, held by watching them. All its methods are safe for concurrent
// use, also from a subscriber's callback, and none but Run and WaitReady blocks. The resources it returns are shared:
// never change one, DeepCopy it first.
type Snapshot struct {
	cfg      SnapshotConfig
	watchers map[resource.Type]*watcher // never changes after NewSnapshot

	// mu guards all below and what the watchers share. It is never held during a call to Omni or to a subscriber.
	mu          sync.RWMutex
	index       *index
	seq         uint64 // orders our own writes and the starts of bootstraps
	running     bool
	ready       bool
	waiting     chan struct{} // closed and replaced when WaitReady should look again
	back        chan struct{} // closed and replaced when a watch that was lost is followed again
	server      Server
	upgraded    chan struct{} // closed and replaced when server changes
	away        Away
	heldBack    bool // Current returned false: subscribers are told when it is true again
	subscribers map[int]func(Change)
	subscribed  int
}

// NewSnapshot returns an empty snapshot; [Snapshot.Run] fills it.
func NewSnapshot(cfg SnapshotConfig) *Snapshot {
	if cfg.Relist == 0 {
		cfg.Relist = 10 * time.Minute
	}

	if cfg.StaleAfter == 0 {
		cfg.StaleAfter = time.Minute
	}

	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}

	s := &Snapshot{
		cfg:         cfg,
		watchers:    map[resource.Type]*watcher{},
		index:       newIndex(cfg.Tag),
		waiting:     make(chan struct{}),
		back:        make(chan struct{}),
		upgraded:    make(chan struct{}),
		subscribers: map[int]func(Change){},
	}

	for _, kind := range cfg.Kinds {
		s.watchers[kind.Type] = newWatcher(s, kind)
	}

	return s
}

// Run holds the snapshot until ctx ends, and then returns nil: every failure on the way is retried, and [Snapshot.Err]
// describes it. An error means that the configuration is wrong. It can run once; after it the snapshot is not ready.
func (s *Snapshot) Run(ctx context.Context) error {
	if len(s.cfg.Kinds) == 0 || len(s.watchers) != len(s.cfg.Kinds) {
		return errors.New("omni snapshot: the kinds must be given, each type once")
	}

	s.mu.Lock()
	started := s.running
	s.running = true
	s.mu.Unlock()

	if started {
		return errors.New("omni snapshot: it can run only once")
	}

	var watchers sync.WaitGroup

	for _, w := range s.watchers {
		watchers.Go(func() { w.run(ctx) })
	}

	watchers.Wait()

	return nil
}

// Get returns the resource of this type and ID.
func (s *Snapshot) Get(typ resource.Type, id resource.ID) (resource.Resource, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()

	return s.index.get(typ, id)
}

// List returns the resources of a type, sorted by ID.
func (s *Snapshot) List(typ resource.Type) []resource.Resource {
	s.mu.RLock()
	defer s.mu.RUnlock()

	return s.index.list(typ)
}

// Tagged returns the resources that [SnapshotConfig].Tag gave a name, sorted by type and ID. It costs what these cost,
// however many others there are. The list is shared, as that of [Snapshot.Cluster]. It panics without a Tag: whoever
// decides by what is tagged must not take that for nothing.
func (s *Snapshot) Tagged(tag string) []resource.Resource {
	if s.cfg.Tag == nil {
		panic("omni snapshot: Tagged without SnapshotConfig.Tag")
	}

	s.mu.RLock()
	defer s.mu.RUnlock()

	return s.index.tags.list(tag)
}

// Cluster returns the Cluster of this name and everything that carries its label, sorted by type and ID. It costs what
// that cluster costs, however many others there are. The list is shared: append to it, and change nothing in it.
// What is of a machine (KernelArgs) carries no cluster label: ask [Snapshot.Get] for it.
func (s *Snapshot) Cluster(name string) []resource.Resource {
	s.mu.RLock()
	defer s.mu.RUnlock()

	return s.index.clusters.list(name)
}

// Put takes a resource that our own Create or Update just returned, with the version it got, so that the next look sees
// it although the watch lags. It is ignored if what is held is as new. The snapshot keeps a copy.
func (s *Snapshot) Put(r resource.Resource) {
	r = r.DeepCopy()

	s.ownWrite(r.Metadata().Type(), func(v *view, seq uint64) []Change { return v.put(r, seq) })
}

// TearingDown takes the metadata of a resource that our own Teardown was just accepted for.
func (s *Snapshot) TearingDown(md *resource.Metadata) {
	s.ownWrite(md.Type(), func(v *view, seq uint64) []Change { return v.tearingDown(md, seq) })
}

// Removed takes the metadata of a resource that our own Destroy just succeeded for.
func (s *Snapshot) Removed(md *resource.Metadata) {
	s.ownWrite(md.Type(), func(v *view, seq uint64) []Change { return v.removed(md, seq) })
}

func (s *Snapshot) ownWrite(typ resource.Type, do func(*view, uint64) []Change) {
	w := s.watchers[typ]
	if w == nil {
		return
	}

	s.mu.Lock()
	s.seq++
	changes := do(&w.view, s.seq)
	s.mu.Unlock()

	w.wake() // it watches for the write to come back
	s.notify(changes)
}

// Read takes what Omni just answered when it was asked for one resource: now, or nil if it is not there. before is what
// was held when it was asked, or nil. The answer is ignored if something else is held by now: then the watch or an own
// write was faster. If it is news, the watch has to show the same within seconds, or the kind is read anew.
func (s *Snapshot) Read(before, now resource.Resource) {
	either := now
	if either == nil {
		either = before
	}

	if either == nil {
		return
	}

	s.ownWrite(either.Metadata().Type(), func(v *view, seq uint64) []Change { return v.read(before, now, seq) })
}

// Subscribe calls fn for every real change, after it can be read here, and with the zero Change whenever readiness
// changed or a snapshot that was not [Snapshot.Current] when asked is so again. Versions, timestamps and finalizers alone are no change, except finalizers in a deletion, which are what it
// waits for. What the first bootstrap of a kind brings is not told one by one: look at everything when the snapshot
// becomes ready. Our own writes are told like any others.
//
// fn is called from several goroutines and must not block; it may call the snapshot. It may still be running when cancel
// returns.
func (s *Snapshot) Subscribe(fn func(Change)) (cancel func()) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.subscribed++
	id := s.subscribed
	s.subscribers[id] = fn

	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()

		delete(s.subscribers, id)
	}
}

func (s *Snapshot) notify(changes []Change) {
	if len(changes) == 0 {
		return
	}

	s.mu.RLock()
	subscribers := make([]func(Change), 0, len(s.subscribers))

	for _, fn := range s.subscribers {
		subscribers = append(subscribers, fn)
	}
	s.mu.RUnlock()

	for _, change := range changes {
		for _, fn := range subscribers {
			fn(change)
		}
	}
}

// Progress says how many of the kinds have been read completely for the first time.
func (s *Snapshot) Progress() (done, total int) {
	s.mu.RLock()
	defer s.mu.RUnlock()

	for _, w := range s.watchers {
		if !w.exists() {
			continue
		}

		total++

		if w.bootstrapped {
			done++
		}
	}

	return done, total
}

// Age is how long the watch that has been down the longest is down: what is held may be that old. It is 0 when all
// watches are up, apart from their lag.
func (s *Snapshot) Age() time.Duration {
	s.mu.RLock()
	defer s.mu.RUnlock()

	var age time.Duration

	for _, w := range s.watchers {
		age = max(age, w.downFor(time.Now()))
	}

	return age
}

// KindStats is what metrics show of one kind.
type KindStats struct {
	Kind       Kind
	Resources  int       // held now
	LastEvent  time.Time // of the last message of its watch; zero before the first
	DownSince  time.Time // zero while its watch is up
	Bootstraps uint64    // times it was read completely
	Resumes    uint64    // times its watch went on from a bookmark
	Failures   uint64    // attempts that failed and watches that broke
}

// Stats returns one entry per kind, in the order of the configuration.
func (s *Snapshot) Stats() []KindStats {
	s.mu.RLock()
	defer s.mu.RUnlock()

	stats := make([]KindStats, 0, len(s.cfg.Kinds))

	for _, kind := range s.cfg.Kinds {
		w := s.watchers[kind.Type]
		stat := w.stats
		stat.Kind, stat.Resources, stat.DownSince = kind, len(s.index.types[kind.Type]), w.downSince
		stats = append(stats, stat)
	}

	return stats
}
