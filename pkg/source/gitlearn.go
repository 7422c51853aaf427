package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"go.uber.org/zap"
)

const (
	// far is how many commits back a server is asked for, and near if it did not answer that.
	far, near = 10_000, 1_000
	// maxLessons bounds how often it is asked about one commit.
	maxLessons = 3
	// maxCommits bounds the bytes of an answer.
	maxCommits = 16 << 20
)

// lessons is what a server was asked about the history of one commit.
type lessons struct {
	head  plumbing.Hash
	asked int
	// all says that it told everything that leads to head from the commit before.
	all bool
}

// KeepHistory has later fetches learn the history of what they find, without the files, so that Follows can tell. It costs
// a request for the first revision, and one for each that builds on what is not known.
func (g *Git) KeepHistory() { g.curious.Store(true) }

// Follows reports whether one commit, mostly that of a revision, has another in its history. known is false if nobody can
// tell. It asks no server. A repository on this machine is read; of others is known what was learned, see KeepHistory.
func (g *Git) Follows(head, commit string) (yes, known bool) {
	return g.history.followsText(head, commit)
}

// learn notes the parents of a commit that was fetched, and asks for its history if that builds on what is not known.
func (g *Git) learn(ctx context.Context, view *view, head plumbing.Hash, parents []plumbing.Hash) {
	if g.history.open != nil {
		return // it is at hand
	}

	if g.lessons.head != head {
		g.lessons = lessons{head: head}
	}

	learned := !g.history.knows(head)
	g.history.learn(map[plumbing.Hash][]plumbing.Hash{head: parents})

	if g.wantsHistory(view, parents) {
		commits, err := g.askHistory(ctx, view, head)
		if g.lessons.asked++; err != nil {
			g.cfg.Logger.Debug("the history cannot be read", zap.Error(err))
		}

		g.lessons.all, learned = err == nil, learned || err == nil
		g.history.learn(commits)
	}

	if learned && g.cfg.StateDir != "" {
		if err := g.history.save(g.cfg.StateDir); err != nil {
			g.cfg.Logger.Warn("a restart will not know what was applied before", zap.Error(err))
		}
	}
}

func (g *Git) wantsHistory(view *view, parents []plumbing.Hash) bool {
	return view != nil && view.history != nil && !g.lessons.all && g.lessons.asked < maxLessons &&
		(g.curious.Load() || !g.commit.IsZero()) && !g.history.knows(parents...)
}

// askHistory asks for what leads to a commit: from the one before, if it is known what that builds on.
func (g *Git) askHistory(ctx context.Context, view *view, head plumbing.Hash) (commits map[plumbing.Hash][]plumbing.Hash, err error) {
	have := g.commit
	if of := g.history.parentsKnown(have); have == head || g.curious.Load() && !g.history.knows(slices.Concat(of, []plumbing.Hash{have})...) {
		have = plumbing.ZeroHash
	}

	depth := far
	if g.lessons.asked > 0 {
		depth = near
	}

	err = g.observed(RequestFetch, func() error {
		commits, err = view.history(ctx, head, have, depth)

		return err
	})

	return commits, err
}

// parentsKnown returns the parents of a commit as far as they are known.
func (h *history) parentsKnown(id plumbing.Hash) []plumbing.Hash {
	h.mu.Lock()
	defer h.mu.Unlock()

	return h.parents[id]
}

// commitsOf asks for the commits, and nothing else, that lead to one, and returns their parents. What have builds on is
// left out. Servers that cannot leave the files out of an answer are not asked.
func commitsOf(ctx context.Context, ask asker, advert *packp.AdvRefs, head, have plumbing.Hash, depth int) (map[plumbing.Hash][]plumbing.Hash, error) {
	req := packRequest(advert, depth, head)
	req.Filter = packp.FilterTreeDepth(0)
	req.Capabilities.Set(capability.Filter) //nolint:errcheck // takes no argument

	if !have.IsZero() {
		req.Haves = []plumbing.Hash{have}
	}

	pack, err := upload(ctx, ask, req)
	if err != nil {
		return nil, err
	}
	defer pack.Close()

	file, index, _, err := spoolPack(ctx, "", pack, nothing{}, limits{size: maxCommits})
	if err != nil {
		return nil, err
	}

	defer os.Remove(file.Name())

	if err = file.Close(); err != nil {
		return nil, err
	}

	if n, err := index.Count(); err != nil || n > maxHistory/2 {
		return nil, errors.Join(err, fmt.Errorf("the history has %d commits", n))
	}

	opened, err := osfs.New(filepath.Dir(file.Name())).Open(filepath.Base(file.Name()))
	if err != nil {
		return nil, err
	}

	objects := packfile.NewPackfile(index, nil, opened, maxMessage)
	defer objects.Close()

	iter, err := objects.GetByType(plumbing.CommitObject)
	if err != nil {
		return nil, err
	}
	defer iter.Close()

	parents := map[plumbing.Hash][]plumbing.Hash{}

	return parents, iter.ForEach(func(obj plumbing.EncodedObject) error {
		commit := &object.Commit{}
		if err := commit.Decode(obj); err != nil || obj.Size() > maxMessage {
			return fmt.Errorf("read commit %s: %w", obj.Hash(), err)
		}

		parents[obj.Hash()] = commit.ParentHashes

		return ctx.Err()
	})
}
