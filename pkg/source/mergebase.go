package source

import (
	"container/heap"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// Fork is where a working tree left another line of history.
type Fork struct {
	// Repository is the folder of the working tree, and Folder is the directory that was
	// asked about, inside it: "." for all of it.
	Repository, Folder string
	// Base is the ID of the commit that both have in common: what a review compares with,
	// as `git diff REF...HEAD` does.
	Base string
}

// ForkOf finds where the checked-out commit of the working tree around dir left ref: a
// branch, a tag, a commit, or what else Git can name, such as origin/main. It runs no git
// and changes nothing. A shallow clone will do as long as the common commit is in it.
func ForkOf(dir, ref string) (Fork, error) {
	var (
		f   Fork
		err error
	)

	if f.Repository, f.Folder, err = workingTree(dir); err != nil {
		return Fork{}, err
	}

	objects, err := openLocal(f.Repository)
	if err != nil {
		return Fork{}, fmt.Errorf("the repository at %s: %w", f.Repository, err)
	}

	repository, err := git.Open(withoutExtensions{objects}, nil)
	if err != nil {
		return Fork{}, fmt.Errorf("the repository at %s: %w", f.Repository, err)
	}

	head, err := commitAt(repository, "HEAD")
	if err != nil {
		return Fork{}, err
	}

	other, err := commitAt(repository, ref)
	if err != nil {
		return Fork{}, err
	}

	base, shallow, err := mergeBase(objects, head, other)

	switch {
	case err != nil:
		return Fork{}, fmt.Errorf("looking for where HEAD left %s: %w", ref, err)
	case base == nil && shallow:
		return Fork{}, fmt.Errorf("the clone is too shallow to find where it left %s: fetch more of the history (actions/checkout: fetch-depth: 0, GitLab: GIT_DEPTH: 0)", ref)
	case base == nil:
		return Fork{}, fmt.Errorf("HEAD and %s have no commit in common", ref)
	}

	f.Base = base.Hash.String()

	return f, nil
}

// withoutExtensions is a repository whose format go-git does not judge: openLocal did, and
// extensions about the working tree (a sparse checkout) do not matter here.
type withoutExtensions struct{ *filesystem.Storage }

// Config implements config.ConfigStorer.
func (s withoutExtensions) Config() (*config.Config, error) {
	cfg, err := s.Storage.Config()
	if err == nil {
		cfg.Raw.RemoveSection("extensions")
	}

	return cfg, err
}

func commitAt(repository *git.Repository, ref string) (*object.Commit, error) {
	id, err := repository.ResolveRevision(plumbing.Revision(ref))

	switch {
	case errors.Is(err, plumbing.ErrReferenceNotFound), errors.Is(err, plumbing.ErrObjectNotFound):
		return nil, fmt.Errorf("there is no %q in this clone: fetch it, or name it as `git branch -a` lists it, like origin/main", ref)
	case err != nil:
		return nil, fmt.Errorf("%q names no commit: %w", ref, err)
	}

	commit, err := repository.CommitObject(*id)
	if err != nil {
		return nil, fmt.Errorf("read the commit %s of %q: %w", id, ref, err)
	}

	return commit, nil
}

// mergeBase returns the newest commit that is in the history of both; nil if none is in
// this clone. Histories end where the clone is shallow.
func mergeBase(objects *filesystem.Storage, one, other *object.Commit) (base *object.Commit, shallow bool, err error) {
	cut, err := objects.Shallow()
	if err != nil {
		return nil, false, err
	}

	ends := make(map[plumbing.Hash]bool, len(cut))
	for _, id := range cut {
		ends[id] = true
	}

	ours := map[plumbing.Hash]bool{}

	err = newestFirst(objects, ends, one, func(c *object.Commit) bool {
		ours[c.Hash] = true

		return true
	})
	if err != nil {
		return nil, false, err
	}

	err = newestFirst(objects, ends, other, func(c *object.Commit) bool {
		if ours[c.Hash] {
			base = c
		}

		return base == nil
	})

	return base, len(cut) > 0, err
}

// newestFirst calls fn for a commit and those before it, the newest first, until it returns
// false.
func newestFirst(objects *filesystem.Storage, ends map[plumbing.Hash]bool, from *object.Commit, fn func(*object.Commit) bool) error {
	waiting, seen := &commits{from}, map[plumbing.Hash]bool{from.Hash: true}

	for waiting.Len() > 0 {
		commit := heap.Pop(waiting).(*object.Commit)
		if !fn(commit) {
			return nil
		}

		if ends[commit.Hash] {
			continue
		}

		for _, id := range commit.ParentHashes {
			if seen[id] {
				continue
			}

			seen[id] = true

			parent, err := object.GetCommit(objects, id)
			if err != nil {
				return fmt.Errorf("read the commit %s: %w", id, err)
			}

			heap.Push(waiting, parent)
		}
	}

	return nil
}

// commits is a heap with the newest on top.
type commits []*object.Commit

func (c commits) Len() int           { return len(c) }
func (c commits) Less(i, j int) bool { return c[i].Committer.When.After(c[j].Committer.When) }
func (c commits) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }
func (c *commits) Push(commit any)   { *c = append(*c, commit.(*object.Commit)) }

func (c *commits) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]

	return last
}

// workingTree returns the root of the working tree that dir is in, and dir relative to it,
// with slashes.
func workingTree(dir string) (root, folder string, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return "", "", err
	}

	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", "", err
	}

	for root = dir; ; root = filepath.Dir(root) {
		if _, err := os.Lstat(filepath.Join(root, ".git")); err == nil { // a file in a linked working tree
			break
		} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return "", "", err
		}

		if root == filepath.Dir(root) {
			return "", "", fmt.Errorf("%s is in no Git working tree: check the repository out, or leave the comparison with another revision out", dir)
		}
	}

	folder, err = filepath.Rel(root, dir)

	return root, filepath.ToSlash(folder), err
}
