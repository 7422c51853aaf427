package source

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/gitignore"
	"github.com/go-git/go-git/v5/plumbing/format/index"
)

// Dirty says what makes the directory differ from the commit that is checked out; "" if nothing does. Ignored files do not
// count. A submodule counts if another commit of it is checked out, or if it is dirty itself. A file that Git leaves out of
// the checkout does not: it is a problem of the revision.
func (c Checkout) Dirty() (string, error) {
	repository, _, err := c.open()
	if err != nil {
		return "", err
	}

	tree, err := repository.Worktree()
	if err != nil {
		return "", fmt.Errorf("the working tree at %s: %w", c.root, err)
	}

	x, _ := statIndex(c.root, ".", "")

	entries, err := x.entries()
	if err != nil {
		return "", fmt.Errorf("the Git index of %s cannot be read: %w", c.root, err)
	}

	submodules := map[string]bool{}

	for _, e := range entries {
		if e.Mode == filemode.Submodule {
			submodules[e.Name] = true
		}

		if file, err := c.entryDirty(e); file != "" || err != nil {
			return file, err
		}
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

	switch {
	case errors.Is(err, index.ErrUnknownExtension):
		return "", fmt.Errorf("the index of %s is sparse: run `git sparse-checkout reapply --no-sparse-index`", c.root)
	case err != nil:
		return "", fmt.Errorf("the working tree at %s: %w", c.root, err)
	}

	for file, state := range status {
		if (state.Worktree != git.Unmodified || state.Staging != git.Unmodified) && c.holds(file) && !c.seen(file, state, submodules) {
			return file, nil
		}
	}

	return "", nil
}

// holds reports whether a file of the working tree is in the directory.
func (c Checkout) holds(file string) bool {
	return c.Folder == "" || strings.HasPrefix(file, c.Folder+"/")
}

// seen reports whether entryDirty has looked at a file. go-git takes the folder of a submodule for one that was added, if
// .gitmodules is not checked out.
func (c Checkout) seen(file string, state *git.FileStatus, submodules map[string]bool) bool {
	if submodules[file] {
		info, err := os.Lstat(filepath.Join(c.root, file))

		return state.Staging == git.Unmodified && (err != nil || info.IsDir())
	}

	for above := path.Dir(file); above != "."; above = path.Dir(above) {
		if submodules[above] {
			return true
		}
	}

	return false
}

// entryDirty says what differs where go-git does not look: in submodules, and where Git was told not to look
// (skip-worktree).
func (c Checkout) entryDirty(e *index.Entry) (string, error) {
	name := filepath.Join(c.root, e.Name)

	switch {
	case !c.holds(e.Name):
		return "", nil
	case e.Mode == filemode.Submodule:
		// A symbolic link on the way may lead back up.
		if real, err := filepath.EvalSymlinks(name); err != nil || real != name || !isCheckedOut(name) {
			return "", nil
		}

		inner := Checkout{root: name}

		_, head, err := inner.open()
		if err != nil {
			return "", err
		}

		if head.Hash != e.Hash {
			return e.Name, nil
		}

		file, err := inner.Dirty()
		if file != "" {
			file = path.Join(e.Name, file)
		}

		return file, err
	case !e.SkipWorktree:
		return "", nil
	}

	data, err := contentAt(name)

	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", nil
	case err != nil:
		return "", err
	case plumbing.ComputeHash(plumbing.BlobObject, data) != e.Hash:
		return e.Name, nil
	}

	return "", nil
}

// contentAt returns what Git stores of a file or link.
func contentAt(name string) ([]byte, error) {
	info, err := os.Lstat(name)

	switch {
	case err != nil:
		return nil, err
	case info.Mode()&os.ModeSymlink != 0:
		target, err := os.Readlink(name)

		return []byte(filepath.ToSlash(target)), err
	case !info.Mode().IsRegular() || info.Size() > MaxFileSize:
		return nil, nil // it cannot be read as a template, either
	}

	return os.ReadFile(name)
}
