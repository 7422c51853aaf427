package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/go-git/go-git/v5"
	gitconfig "github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/omni-syncd/omni-syncd/examples"
)

// makeRepository makes a Git repository with the example templates and one commit. Its
// configuration names an author, so that `git commit` works on a machine without one.
func makeRepository(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s exists already; remove it or choose another --dir", path)
	}

	templates, err := fs.Sub(examples.Templates, "templates")
	if err != nil {
		return err
	}

	if err := os.CopyFS(path, templates); err != nil {
		return fmt.Errorf("writing the example templates: %w", err)
	}

	repository, err := git.PlainInitWithOptions(path, &git.PlainInitOptions{
		InitOptions: git.InitOptions{DefaultBranch: plumbing.NewBranchReferenceName("main")},
	})
	if err != nil {
		return fmt.Errorf("making the repository %s: %w", path, err)
	}

	author := object.Signature{Name: "omni-syncd demo", Email: "demo@example.com", When: time.Now()}

	cfg, err := repository.ConfigScoped(gitconfig.LocalScope)
	if err != nil {
		return err
	}

	cfg.User.Name, cfg.User.Email = author.Name, author.Email
	if err := repository.SetConfig(cfg); err != nil {
		return err
	}

	worktree, err := repository.Worktree()
	if err != nil {
		return err
	}

	if err := worktree.AddGlob("."); err != nil {
		return err
	}

	if _, err := worktree.Commit("Add the example clusters", &git.CommitOptions{Author: &author}); err != nil {
		return fmt.Errorf("committing the example templates: %w", err)
	}

	return nil
}
