package source

import (
	"fmt"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"
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

// storage is that of a repository, as far as a checkout is read.
type storage struct{ *filesystem.Storage }

// Config leaves out what go-git refuses to open a repository for, as extensions.worktreeConfig, which every sparse checkout
// has: what would change how objects are read, openLocal refuses. It leaves out submodules, too: go-git makes a repository
// of one that is not there yet.
func (s storage) Config() (*config.Config, error) {
	cfg, err := s.Storage.Config()
	if err != nil {
		return nil, err
	}

	cfg.Raw.RemoveSection("extensions")

	cfg.Submodules = map[string]*config.Submodule{}

	return cfg, nil
}

func (c Checkout) open() (*git.Repository, *object.Commit, error) {
	objects, err := openLocal(c.root)
	if err != nil {
		return nil, nil, fmt.Errorf("the repository at %s: %w", c.root, err)
	}

	repository, err := git.Open(storage{objects}, osfs.New(c.root))
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
