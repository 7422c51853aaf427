package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-git/go-billy/v5/osfs"
	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

const (
	// tipRef is the commit that was fetched last. Setting it is what makes a fetch
	// count: a store without it, or with one that is not complete, is thrown away.
	tipRef = plumbing.ReferenceName("refs/omni-syncd/tip")
	// maxPacks bounds the packs in a store. Every fetch adds one; over the limit the
	// objects in use are copied to a new store and the old one goes.
	maxPacks = 32
	// storePrefix starts the names of stores in the state directory; the highest
	// number is the one in use.
	storePrefix = "objects-"
)

// store is a bare repository that holds what was fetched. Objects are never removed
// from it. It is safe for concurrent use.
type store struct {
	dir    string
	number int
	// damaged is set when an object that must be there cannot be read.
	damaged atomic.Bool

	mu      sync.Mutex // go-git's storage is not safe for concurrent use
	objects *filesystem.Storage
	recent  cache.Object // what was read last; it is the same after a fetch, so that folders that stay are not read again
}

// openState opens the store in the state directory, or makes a new one. A store that
// is not whole (power failed, disk is bad) is removed; broken tells why, for the log.
func openState(dir string) (st *store, broken, err error) {
	if err = os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make the state directory: %w", err)
	}

	names, err := filepath.Glob(filepath.Join(dir, storePrefix+"*"))
	if err != nil {
		return nil, nil, fmt.Errorf("read the state directory: %w", err)
	}

	// Sorted by name. Older ones were left by a process that ended before they were
	// out of use; a newer one may be half made, which is why we go on to the next.
	for i := len(names) - 1; i >= 0; i-- {
		if st == nil {
			candidate := newStore(names[i])
			candidate.sweep()

			tip, ok := candidate.tip()
			if ok {
				if bad := candidate.verify(tip); bad == nil {
					st = candidate

					continue
				} else if broken == nil {
					broken = bad
				}
			}
		}

		if err = os.RemoveAll(names[i]); err != nil {
			return nil, nil, fmt.Errorf("remove an old object store: %w", err)
		}
	}

	if st == nil {
		st, err = createStore(dir, 1)
	}

	return st, broken, err
}

func createStore(dir string, number int) (*store, error) {
	st := newStore(filepath.Join(dir, fmt.Sprintf(storePrefix+"%06d", number)))

	if err := os.RemoveAll(st.dir); err != nil {
		return nil, fmt.Errorf("remove an old object store: %w", err)
	}

	if _, err := git.Init(st.objects, nil); err != nil {
		return nil, fmt.Errorf("make the object store: %w", err)
	}

	return st, nil
}

func newStore(dir string) *store {
	number, _ := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), storePrefix)) //nolint:errcheck // 0 is as good

	s := &store{dir: dir, number: number, recent: cache.NewObjectLRU(8 * cache.MiByte)}
	s.open()

	return s
}

// sweep removes what an interrupted fetch left behind.
func (s *store) sweep() {
	names, _ := filepath.Glob(filepath.Join(s.packDir(), incoming)) //nolint:errcheck // the pattern is valid
	for _, name := range names {
		os.Remove(name) //nolint:errcheck // only takes space
	}
}

// open sees all packs that are there. It keeps some of them open, which makes reading three
// times as fast. It does not ask for ExclusiveAccess: with it, go-git's HasEncodedObject finds
// no object that is in a pack.
func (s *store) open() {
	s.objects = filesystem.NewStorageWithOptions(osfs.New(s.dir), s.recent, filesystem.Options{MaxOpenDescriptors: 8})
}

// anew makes an empty store beside this one, to take its place.
func (s *store) anew() (*store, error) { return createStore(filepath.Dir(s.dir), s.number+1) }

// compact copies what a commit needs to a new store beside this one.
func (s *store) compact(ctx context.Context, commit plumbing.Hash) (*store, error) {
	next, err := s.anew()
	if err != nil {
		return nil, err
	}

	pack, err := commitPack(ctx, s, commit, next)
	if err != nil {
		return nil, err
	}
	defer pack.Close()

	if err = next.add(ctx, pack, limits{size: 1 << 62}); err != nil {
		return nil, err
	}

	return next, next.setTip(commit)
}

// retire removes the store's folder as soon as no revision reads from it any more.
func (s *store) retire() {
	runtime.AddCleanup(s, func(dir string) { os.RemoveAll(dir) }, s.dir) //nolint:errcheck // the next start tries again
}

func (s *store) tip() (plumbing.Hash, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()

	ref, err := s.objects.Reference(tipRef)
	if err != nil {
		return plumbing.ZeroHash, false
	}

	return ref.Hash(), true
}

// setTip records a commit whose objects are all in the store. It is marked shallow,
// so that git itself can be used to look into the store.
func (s *store) setTip(commit plumbing.Hash) error {
	s.mu.Lock()
	defer s.mu.Unlock()

	if err := s.objects.SetShallow([]plumbing.Hash{commit}); err != nil {
		return fmt.Errorf("record the fetched commit: %w", err)
	}

	if err := s.objects.SetReference(plumbing.NewHashReference(tipRef, commit)); err != nil {
		return fmt.Errorf("record the fetched commit: %w", err)
	}

	return nil
}

// add takes in a pack.
func (s *store) add(ctx context.Context, pack io.Reader, lim limits) error {
	if err := receivePack(ctx, s.packDir(), pack, s, lim); err != nil {
		return err
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	old := s.objects
	s.open()

	return old.Close()
}

func (s *store) packDir() string { return filepath.Join(s.dir, "objects", "pack") }

func (s *store) packs() ([]string, error) {
	return filepath.Glob(filepath.Join(s.packDir(), "pack-*.pack"))
}

func (s *store) has(id plumbing.Hash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.objects.HasEncodedObject(id) == nil
}

// get returns an object in memory. Do not change it.
func (s *store) get(id plumbing.Hash) (plumbing.EncodedObject, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	obj, err := s.objects.EncodedObject(plumbing.AnyObject, id)
	if err != nil {
		return nil, err
	}

	if _, ok := obj.(*plumbing.MemoryObject); ok {
		return obj, nil
	}

	// One of some size reads its pack only when it is asked to, which is not safe
	// beside other reads.
	r, err := obj.Reader()
	if err != nil {
		return nil, err
	}

	loaded := &plumbing.MemoryObject{}
	loaded.SetType(obj.Type())

	_, err = io.Copy(loaded, r)

	return loaded, errors.Join(err, r.Close())
}

func (s *store) size(id plumbing.Hash) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.objects.EncodedObjectSize(id)
}

// verify reads all packs and all folders of a commit and looks up every file, so that
// a store that was damaged while nothing ran is found before it is used.
func (s *store) verify(commit plumbing.Hash) error {
	packs, err := s.packs()
	if err != nil {
		return err
	}

	for _, name := range packs {
		if err = verifyPack(name); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(name), err)
		}
	}

	ids, err := reachable(context.Background(), s, commit, func(plumbing.Hash) bool { return false })
	if err != nil {
		return err
	}

	for _, id := range ids {
		if !s.has(id) {
			return fmt.Errorf("object %s is missing", id)
		}
	}

	return nil
}
