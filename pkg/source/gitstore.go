package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"go.uber.org/zap"
)

// open makes sure that there is a store, and that it is whole.
func (g *Git) open() error {
	if g.store != nil && !g.store.damaged.Load() {
		return nil
	}

	if g.store != nil {
		g.cfg.Logger.Warn("an object cannot be read: fetching everything anew", zap.String("store", g.store.dir))

		next, err := g.store.anew()
		if err != nil {
			return err
		}

		g.replace(next)

		return nil
	}

	dir, err := g.stateDir()
	if err != nil {
		return err
	}

	st, broken, err := openState(dir)
	if err != nil {
		return err
	}

	if broken != nil {
		g.cfg.Logger.Warn("the object store was damaged and is removed: fetching everything anew", zap.Error(broken))
	}

	g.store = st

	if g.cfg.StateDir != "" && g.history.open == nil {
		g.history.load(g.cfg.StateDir)
	}

	return nil
}

// stateDir makes the folder for objects and locks it.
func (g *Git) stateDir() (string, error) {
	if g.cfg.StateDir == "" {
		if g.temp != "" {
			return g.temp, nil
		}

		temp, err := os.MkdirTemp("", "omni-syncd-git-")
		if err != nil {
			return "", fmt.Errorf("make a temporary folder for objects: %w", err)
		}

		g.temp = temp

		return temp, nil
	}

	if err := os.MkdirAll(g.cfg.StateDir, 0o700); err != nil {
		return "", fmt.Errorf("make the state directory: %w", err)
	}

	if g.lock == nil {
		lock, err := LockState(g.cfg.StateDir)
		if err != nil {
			return "", err
		}

		g.lock = lock
	}

	return g.cfg.StateDir, nil
}

func (g *Git) replace(next *store) {
	old := g.store
	g.store = next
	old.retire()
}

// download brings what is missing of an object to the store.
func (g *Git) download(ctx context.Context, view *view, found picked, pinned bool) error {
	if g.store.has(found.object) {
		return nil
	}

	if err := g.makeRoom(ctx); err != nil {
		return err
	}

	return g.observed(RequestFetch, func() error {
		if pinned {
			return g.downloadCommit(ctx, view, found.object)
		}

		return g.downloadObject(ctx, view, found.object)
	})
}

func (g *Git) downloadObject(ctx context.Context, view *view, object plumbing.Hash) error {
	pack, err := view.pack(ctx, object, g.store)
	if err != nil {
		return err
	}

	err = g.store.add(ctx, pack, limits{size: g.cfg.MaxSize, progress: g.cfg.Progress})

	return errors.Join(err, pack.Close())
}

// downloadCommit fetches a commit that is known by its ID alone: by a ref that is at it,
// else by its ID if the server allows that, else as a part of the history of branches and
// tags, as far back as is sensible.
func (g *Git) downloadCommit(ctx context.Context, view *view, commit plumbing.Hash) error {
	for name, id := range view.refs {
		if id == commit || view.peeled[name] == commit {
			return g.downloadObject(ctx, view, id)
		}
	}

	if len(view.refs) == 0 {
		return errEmpty
	}

	if view.byID {
		if err := g.downloadObject(ctx, view, commit); err != nil {
			return fmt.Errorf("commit %s cannot be fetched: check that it was pushed and is on a branch or tag: %w", commit, err)
		}

		return nil
	}

	const most = 100 // branches and tags

	tips := view.tips(most)

	for _, depth := range []int{100, far} {
		pack, err := view.deep(ctx, tips, depth)
		if err != nil {
			return err
		}

		err = g.store.add(ctx, pack, limits{size: g.cfg.MaxSize, progress: g.cfg.Progress})
		if err = errors.Join(err, pack.Close()); err != nil {
			return fmt.Errorf("commit %s is looked for in %d commits of history, because the server fetches no commit by its ID "+
				"(uploadpack.allowReachableSHA1InWant is not set): name a tag or a branch that is at it: %w", commit, depth, err)
		}

		if g.store.has(commit) {
			return nil
		}
	}

	return fmt.Errorf("commit %s is not among the last %d of any of %d branches and tags, and the server fetches no commit by its ID: "+
		"check the ID, set uploadpack.allowReachableSHA1InWant on the server, or name a tag or a branch", commit, far, len(tips))
}

// tips returns what branches and tags are at, the default branch first and the others by
// name, branches before tags.
func (v *view) tips(most int) []plumbing.Hash {
	var names []plumbing.ReferenceName

	for name := range v.refs {
		if name.IsBranch() || name.IsTag() {
			names = append(names, name)
		}
	}

	slices.SortFunc(names, func(a, b plumbing.ReferenceName) int {
		switch v.head {
		case a:
			return -1
		case b:
			return 1
		default:
			return strings.Compare(string(a), string(b))
		}
	})

	var tips []plumbing.Hash
	for _, name := range names[:min(most, len(names))] {
		if id := v.refs[name]; !slices.Contains(tips, id) {
			tips = append(tips, id)
		}
	}

	return tips
}

// makeRoom bounds the number of packs: of what is in the store only the last good commit
// is kept. It runs before something is fetched, so that revisions that are refused
// cannot fill the disk.
func (g *Git) makeRoom(ctx context.Context) error {
	packs, err := g.store.packs()
	if err != nil || len(packs) < maxPacks {
		return err
	}

	var next *store

	if tip, ok := g.store.tip(); ok {
		next, err = g.store.compact(ctx, tip)
	} else {
		next, err = g.store.anew()
	}

	if err != nil {
		g.cfg.Logger.Warn("the object store cannot be compacted: trying again with the next fetch", zap.Error(err))

		return nil // it works as it is
	}

	g.replace(next)

	return nil
}
