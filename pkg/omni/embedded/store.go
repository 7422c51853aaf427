package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"
)

// History of each resource type, in events: what a watch may lag behind before it gets an Errored event.
// The initial size is small because there are some 130 types and most hold nothing.
const (
	historyInitial = 128
	historyMax     = 1 << 18
	historyGap     = 64
)

// kind is a collection of resources: watch positions are counted per kind.
type kind struct {
	namespace resource.Namespace
	typ       resource.Type
}

func (k kind) metadata() resource.Metadata {
	return resource.NewMetadata(k.namespace, k.typ, "", resource.VersionUndefined)
}

// store is the database: an in-memory COSI state that can be replaced by an older copy of itself.
// It validates nothing and authorizes nobody: the controllers and Server.State use it directly.
type store struct {
	current atomic.Pointer[database]
	// A write holds it shared, Backup exclusively: a backup is one instant of all kinds. Writes are in-memory and short.
	mu sync.RWMutex
}

// database is one life of the store, between two restores.
type database struct {
	core  state.CoreState
	kinds sync.Map // kind → struct{}: every kind that was ever written
	from  *Backup  // what it was restored from; its positions go on from there
}

func newStore() *store {
	s := &store{}
	s.current.Store(newDatabase(&Backup{}))

	return s
}

func newDatabase(from *Backup) *database {
	db := &database{from: from}

	db.core = namespaced.NewState(func(namespace resource.Namespace) state.CoreState {
		return inmem.NewStateWithOptions(
			inmem.WithHistoryInitialCapacity(historyInitial),
			inmem.WithHistoryMaxCapacity(historyMax),
			inmem.WithHistoryGap(historyGap),
			inmem.WithBackingStore(from.loader(namespace)),
		)(namespace)
	})

	for k := range from.kinds {
		db.kinds.Store(k, struct{}{})
	}

	return db
}

// Get implements state.CoreState.
func (s *store) Get(ctx context.Context, ptr resource.Pointer, opts ...state.GetOption) (resource.Resource, error) {
	return s.current.Load().core.Get(ctx, ptr, opts...)
}

// List implements state.CoreState.
func (s *store) List(ctx context.Context, kind resource.Kind, opts ...state.ListOption) (resource.List, error) {
	return s.current.Load().core.List(ctx, kind, opts...)
}

// Create implements state.CoreState.
func (s *store) Create(ctx context.Context, res resource.Resource, opts ...state.CreateOption) error {
	s.mu.RLock()
	defer s.mu.RUnlock()

	db := s.current.Load()
	db.kinds.LoadOrStore(kind{res.Metadata().Namespace(), res.Metadata().Type()}, struct{}{})

	return db.core.Create(ctx, res, opts...)
}

// Update implements state.CoreState.
func (s *store) Update(ctx context.Context, res resource.Resource, opts ...state.UpdateOption) error {
	s.mu.RLock()
	defer s.mu.RUnlock()

	return s.current.Load().core.Update(ctx, res, opts...)
}

// Destroy implements state.CoreState.
func (s *store) Destroy(ctx context.Context, ptr resource.Pointer, opts ...state.DestroyOption) error {
	s.mu.RLock()
	defer s.mu.RUnlock()

	return s.current.Load().core.Destroy(ctx, ptr, opts...)
}

// Watch implements state.CoreState. A restore silences it: the watch stays with the database it was opened on.
func (s *store) Watch(ctx context.Context, ptr resource.Pointer, events chan<- state.Event, opts ...state.WatchOption) error {
	return s.current.Load().core.Watch(ctx, ptr, events, opts...)
}

// WatchKind implements state.CoreState. See Watch about restores.
func (s *store) WatchKind(ctx context.Context, kind resource.Kind, events chan<- state.Event, opts ...state.WatchKindOption) error {
	return s.current.Load().core.WatchKind(ctx, kind, events, opts...)
}

// WatchKindAggregated implements state.CoreState. See Watch about restores.
func (s *store) WatchKindAggregated(ctx context.Context, kind resource.Kind, events chan<- []state.Event, opts ...state.WatchKindOption) error {
	return s.current.Load().core.WatchKindAggregated(ctx, kind, events, opts...)
}

// Backup is a copy of the whole database at one instant: resources with their versions, and how far each watch had come.
// It stays valid for any number of restores.
type Backup struct {
	kinds map[kind]backupKind
}

type backupKind struct {
	position  int64 // of the last event, counted as Position in a bookmark
	resources []resource.Resource
}

func (s *store) backup(ctx context.Context) (*Backup, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	db := s.current.Load()
	backup := &Backup{kinds: map[kind]backupKind{}}

	var err error

	db.kinds.Range(func(key, _ any) bool {
		k := key.(kind) //nolint:forcetypeassert // only kinds are stored

		backup.kinds[k], err = db.snapshot(ctx, k)

		return err == nil
	})

	return backup, err
}

func (s *store) restore(backup *Backup) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.current.Store(newDatabase(backup))
}

// snapshot reads one kind and its position in one step.
func (db *database) snapshot(ctx context.Context, k kind) (backupKind, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	events := make(chan []state.Event)

	if err := db.core.WatchKindAggregated(ctx, k.metadata(), events, state.WithBootstrapContents(true)); err != nil {
		return backupKind{}, fmt.Errorf("read %s: %w", k.typ, err)
	}

	select {
	case batch := <-events:
		var result backupKind

		for _, event := range batch {
			if event.Type == state.Created {
				result.resources = append(result.resources, event.Resource)
			}
		}

		inner, err := innerPosition(batch[len(batch)-1].Bookmark)
		result.position = db.outer(k, inner)

		return result, err
	case <-ctx.Done():
		return backupKind{}, ctx.Err()
	}
}

// position of the newest event of a kind.
func (db *database) position(ctx context.Context, k kind) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	events := make(chan state.Event)

	if err := db.core.WatchKind(ctx, k.metadata(), events, state.WithBootstrapBookmark(true)); err != nil {
		return 0, fmt.Errorf("watch position of %s: %w", k.typ, err)
	}

	select {
	case event := <-events:
		inner, err := innerPosition(event.Bookmark)

		return db.outer(k, inner), err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// offset turns the in-memory state's position, which is -1 before the first event, into ours, which is 0 then. A restored kind
// has one event per loaded resource, and the last of them is where the backup stood.
func (db *database) offset(k kind) int64 {
	restored, ok := db.from.kinds[k]
	if !ok {
		return 1
	}

	return restored.position - int64(len(restored.resources)) + 1
}

func (db *database) outer(k kind, inner int64) int64 { return inner + db.offset(k) }

func (db *database) inner(k kind, outer int64) int64 { return outer - db.offset(k) }

// The in-memory state's bookmarks are a cookie of the process and a position, 8 bytes each.
const (
	innerCookieSize   = 8
	innerBookmarkSize = 16
)

func innerPosition(bookmark state.Bookmark) (int64, error) {
	if len(bookmark) != innerBookmarkSize {
		return 0, errors.New("the in-memory state changed its bookmarks: this version of cosi-project/runtime is not supported")
	}

	return int64(binary.BigEndian.Uint64(bookmark[innerCookieSize:])), nil //nolint:gosec // -1 is written as its complement
}

// processCookie is the first half of every bookmark that the in-memory state makes in this process.
var processCookie = sync.OnceValues(func() ([]byte, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	events := make(chan state.Event, 1)

	err := inmem.NewState("").WatchKind(ctx, resource.NewMetadata("", "", "", resource.VersionUndefined), events, state.WithBootstrapBookmark(true))
	if err != nil {
		return nil, fmt.Errorf("learn the bookmark cookie: %w", err)
	}

	bookmark := (<-events).Bookmark
	if _, err = innerPosition(bookmark); err != nil {
		return nil, err
	}

	return bookmark[:innerCookieSize], nil
})

// loader hands a namespace of the backup to a new in-memory state. Resources keep their versions.
func (b *Backup) loader(namespace resource.Namespace) inmem.BackingStore {
	return backupLoader{backup: b, namespace: namespace}
}

type backupLoader struct {
	backup    *Backup
	namespace resource.Namespace
}

// Load implements inmem.BackingStore. The in-memory state never changes a resource it holds, so the backup may share them.
func (l backupLoader) Load(_ context.Context, handler inmem.LoadHandler) error {
	for k, content := range l.backup.kinds {
		if k.namespace != l.namespace {
			continue
		}

		for _, res := range content.resources {
			if err := handler(k.typ, res); err != nil {
				return err
			}
		}
	}

	return nil
}

// Put implements inmem.BackingStore: nothing is kept beyond the process.
func (backupLoader) Put(context.Context, resource.Type, resource.Resource) error { return nil }

// Destroy implements inmem.BackingStore.
func (backupLoader) Destroy(context.Context, resource.Type, resource.Pointer) error { return nil }
