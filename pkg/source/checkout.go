package source

import (
	"fmt"
	"path/filepath"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing/format/gitignore"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// Checkout is the working tree of a repository that a directory lies in.
type Checkout struct {
	// Repository is the [Identity] of the remote that it was cloned from; "" without one.
	Repository string
	// Folder is the directory inside the working tree, with slashes; "" for its root.
	Folder string

	root string
}

// CheckoutOf finds the working tree around a directory. ok is false if there is none. It reads the configuration of the
// repository, runs no git and changes nothing.
func CheckoutOf(dir string) (c Checkout, ok bool) {
	root, folder, err := workingTree(dir)
	if err != nil {
		return Checkout{}, false
	}

	if c = (Checkout{Folder: folder, root: root}); folder == "." {
		c.Folder = ""
	}

	objects, err := openLocal(root)
	if err != nil {
		return c, true
	}

	cfg, err := objects.Config()
	if err != nil {
		return c, true
	}

	remote := cfg.Remotes[git.DefaultRemoteName]
	for _, only := range cfg.Remotes {
		if remote == nil && len(cfg.Remotes) == 1 {
			remote = only
		}
	}

	if remote != nil && len(remote.URLs) > 0 {
		c.Repository = Identity(remote.URLs[0])
	}

	return c, true
}

// Head returns the commit that is checked out.
func (c Checkout) Head() (string, error) {
	_, head, err := c.open()
	if err != nil {
		return "", err
	}

	return head.Hash.String(), nil
}

// Dirty says what makes the directory differ from the commit that is checked out; "" if nothing does. Ignored files do not
// count.
func (c Checkout) Dirty() (string, error) {
	repository, _, err := c.open()
	if err != nil {
		return "", err
	}

	tree, err := repository.Worktree()
	if err != nil {
		return "", fmt.Errorf("the working tree at %s: %w", c.root, err)
	}

	// What git ignores for everybody on this machine is ignored here, too.
	for _, load := range []func() ([]gitignore.Pattern, error){
		func() ([]gitignore.Pattern, error) { return gitignore.LoadSystemPatterns(tree.Filesystem) },
		func() ([]gitignore.Pattern, error) { return gitignore.LoadGlobalPatterns(tree.Filesystem) },
	} {
		if patterns, err := load(); err == nil {
			tree.Excludes = append(tree.Excludes, patterns...)
		}
	}

	status, err := tree.Status()
	if err != nil {
		return "", fmt.Errorf("the working tree at %s: %w", c.root, err)
	}

	for file, state := range status {
		inside, err := filepath.Rel(filepath.FromSlash(c.Folder), filepath.FromSlash(file))
		if state.Worktree == git.Unmodified && state.Staging == git.Unmodified || c.Folder != "" && (err != nil || !filepath.IsLocal(inside)) {
			continue
		}

		return file, nil
	}

	return "", nil
}

func (c Checkout) open() (*git.Repository, *object.Commit, error) {
	repository, err := git.PlainOpenWithOptions(c.root, &git.PlainOpenOptions{EnableDotGitCommonDir: true})
	if err != nil {
		return nil, nil, fmt.Errorf("the repository at %s: %w", c.root, err)
	}

	head, err := commitAt(repository, "HEAD")

	return repository, head, err
}

// checkoutObjects opens the objects of the repository that a directory is checked out from.
func checkoutObjects(dir string) (objectReader, error) {
	root, _, err := workingTree(dir)
	if err != nil {
		return nil, err
	}

	return localRemote{root}.objects()
}
