package source

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
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
// and changes nothing.
func ForkOf(dir, ref string) (Fork, error) {
	repository, err := git.PlainOpenWithOptions(dir, &git.PlainOpenOptions{DetectDotGit: true, EnableDotGitCommonDir: true})
	if err != nil {
		return Fork{}, fmt.Errorf("%s is in no Git working tree: %w; check the repository out, or leave the comparison with %s out", dir, err, ref)
	}

	tree, err := repository.Worktree()
	if err != nil {
		return Fork{}, fmt.Errorf("the repository of %s has no working tree: %w", dir, err)
	}

	f := Fork{Repository: tree.Filesystem.Root()}
	if f.Folder, err = inside(f.Repository, dir); err != nil {
		return Fork{}, err
	}

	head, err := commitAt(repository, plumbing.Revision("HEAD"))
	if err != nil {
		return Fork{}, err
	}

	other, err := commitAt(repository, plumbing.Revision(ref))
	if err != nil {
		return Fork{}, err
	}

	bases, err := head.MergeBase(other)

	switch {
	case errors.Is(err, plumbing.ErrObjectNotFound), err == nil && len(bases) == 0 && shallow(repository):
		return Fork{}, fmt.Errorf("the clone is too shallow to find where it left %s: fetch more of the history (actions/checkout: fetch-depth: 0, GitLab: GIT_DEPTH: 0)", ref)
	case err != nil:
		return Fork{}, fmt.Errorf("looking for where HEAD left %s: %w", ref, err)
	case len(bases) == 0:
		return Fork{}, fmt.Errorf("HEAD and %s have no commit in common", ref)
	}

	f.Base = bases[0].Hash.String()

	return f, nil
}

func commitAt(repository *git.Repository, ref plumbing.Revision) (*object.Commit, error) {
	id, err := repository.ResolveRevision(ref)

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

// shallow reports whether a part of the history was left out of the clone.
func shallow(repository *git.Repository) bool {
	cut, err := repository.Storer.Shallow()

	return err == nil && len(cut) > 0
}

// inside returns dir relative to the root of its working tree, with slashes.
func inside(root, dir string) (string, error) {
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		return "", err
	}

	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}

	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", err
	}

	folder, err := filepath.Rel(root, dir)

	return filepath.ToSlash(folder), err
}
