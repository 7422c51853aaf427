package source

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/index"
)

// A checkout does not have to hold what its commit does: a submodule is not checked out, a sparse checkout leaves files
// out, and Git calls both clean. To take such a directory for complete would delete clusters (G2). So what the index lists
// and Git left out on purpose is put into the tree, as something that cannot be read. A file that somebody removed is
// a change of the directory.

const (
	// maxAbsent is how many files that are left out are shown one by one. Beyond that their folder stands for them.
	maxAbsent = 10_000
	// maxNested bounds the repositories inside of a directory.
	maxNested = 1000
)

var (
	errSubmodule = errors.New("this is a Git submodule that is not checked out: run `git submodule update --init --recursive`, or exclude the folder")
	errSparse    = errors.New("Git leaves it out of this sparse checkout: run `git sparse-checkout disable`, or exclude it")
	errSkipped   = errors.New("Git leaves it out of this checkout (skip-worktree): run `git sparse-checkout disable` or " +
		"`git update-index --no-skip-worktree`, then `git restore` it, or exclude it")
	errInside = errors.New("the directory lies in a folder that Git leaves out of this checkout: check it out")
)

// uncertain is the error of listing a folder of which nobody can tell whether it is complete. Its entries are listed.
type uncertain struct{ text string }

func (u *uncertain) Error() string { return u.text }

// Uncertain makes the reason known to pkg/template, which tells it once and not for every folder.
func (u *uncertain) Uncertain() string { return u.text }

// statIndexes looks at the index of the working tree around the directory and of those inside of it. They count as a part
// of the directory: Git removes the files first and says in its index afterwards that they are left out.
func (s *scan) statIndexes(dir string) {
	slices.Sort(s.checkouts)

	if root, folder, err := workingTree(dir); err == nil {
		s.addIndex(root, ".", strings.TrimPrefix(folder+"/", "./"))
	}

	for i, at := range s.checkouts {
		if at != "." && i <= maxNested {
			s.addIndex(filepath.Join(dir, at), at, "")
		}
	}
}

func (s *scan) addIndex(root, at, prefix string) {
	x, info := statIndex(root, at, prefix)
	if s.indexes = append(s.indexes, x); info != nil {
		s.touch(info)
	}
}

// absent adds to a tree what Git left out.
type absent struct {
	top     *node
	nodes   map[string]*node // by path; made when it is first needed
	nested  map[string]*gitIndex
	added   int
	bounded int
}

// addAbsent puts what Git left out into a tree, and says where nobody can tell.
func (s *scan) addAbsent(top *node) {
	a := &absent{top: top, nested: map[string]*gitIndex{}, bounded: MaxDirFiles - len(s.found)}

	for i := range s.indexes {
		if x := &s.indexes[i]; x.at != "." {
			a.nested[x.at] = x
		}
	}

	for i := range s.indexes { // the outer ones first
		x := &s.indexes[i]
		if x.file == "" && x.problem == "" {
			continue // no repository; unless the one around it says that it is
		}

		entries, err := x.entries()
		if err != nil {
			a.doubt(x.at, "the Git index of %s cannot be read, so files may be missing: %v", x.root, err)

			continue
		}

		for _, e := range entries {
			a.entry(x, e)
		}
	}

	if len(s.checkouts) > maxNested {
		a.doubt(".", "more than %d Git repositories lie in the directory, so nobody can tell whether all of them are complete: name a smaller one", maxNested)
	}
}

func (a *absent) entry(x *gitIndex, e *index.Entry) {
	if e.Mode != filemode.Submodule && e.Mode != filemode.Dir && !e.SkipWorktree {
		return
	}

	name, holds, ok := x.inside(e.Name)

	switch {
	case holds && e.Mode != filemode.Regular:
		a.doubt(x.at, "%v", errInside)

		return
	case !ok || strings.HasPrefix(name, "..") || strings.Contains(name, "/.."): // never a part of the tree
		return
	}

	name = path.Join(x.at, name)

	switch {
	case e.Mode == filemode.Submodule:
		a.submodule(name)
	case e.Mode == filemode.Dir:
		a.put(name, fs.ModeDir|0o555, errSparse)
	case a.find(name) != nil:
	case e.Mode == filemode.Symlink: // it may have led to a folder
		a.put(name, fs.ModeSymlink|0o777, errSkipped)
	default:
		a.put(name, 0o444, errSkipped)
	}
}

// submodule adds a submodule, unless it is checked out. What stands in its place was put there.
func (a *absent) submodule(name string) {
	inner, checkedOut := a.nested[name]

	switch n := a.find(name); {
	case n != nil && !n.mode.IsDir():
	case !checkedOut:
		a.put(name, fs.ModeDir|0o555, errSubmodule)
	case inner.file == "" && inner.problem == "":
		a.doubt(name, "the .git of the submodule %s leads to no repository, so files may be missing: run `git submodule update --init`", name)
	}
}

// find returns what is in the tree; nil if there is nothing.
func (a *absent) find(name string) *node {
	if a.nodes == nil {
		a.nodes = map[string]*node{}
		a.learn(".", a.top)
	}

	return a.nodes[name]
}

func (a *absent) learn(name string, n *node) {
	a.nodes[name] = n

	for _, child := range n.nodes {
		a.learn(path.Join(name, child.name), child)
	}
}

// put adds something that cannot be read, with the folders above it. What is there already cannot be read, either.
func (a *absent) put(name string, mode fs.FileMode, why error) {
	parent := a.find(name)
	if parent != nil {
		parent.fail(why)

		return
	}

	for i, r := range name + "/" {
		if r != '/' {
			continue
		}

		above, each := path.Dir(name[:i]), name[:i]
		parent = a.find(above)

		switch {
		case parent.problem != nil:
			return
		case !parent.mode.IsDir():
			parent.fail(why) // it stands in place of the folder

			return
		case a.find(each) != nil:
			continue
		}

		if a.added++; a.added > a.bounded {
			a.doubt(".", "Git leaves more than %d files out of this checkout, so nobody can tell what is missing: name a smaller directory", a.added-1)

			return
		}

		n := &node{name: path.Base(each), mode: fs.ModeDir | 0o555, loaded: true}
		if each == name {
			n.mode, n.loaded = mode, mode.IsDir()
		}

		if each == name || a.added > maxAbsent {
			n.fail(why)
		}

		a.nodes[each], parent.nodes = n, append(parent.nodes, n)
	}
}

func (n *node) fail(why error) {
	if n.problem == nil {
		n.problem = why
	}
}

// doubt notes that nobody can tell whether all there is in a folder is there.
func (a *absent) doubt(name, format string, args ...any) {
	if n := a.find(name); n != nil {
		n.mistrust(&uncertain{fmt.Sprintf(format, args...)})
	}
}

// mistrust counts for all folders below, too: a source may read any of them only.
func (n *node) mistrust(why *uncertain) {
	if n.mode.IsDir() && n.doubt == nil {
		n.doubt = why
	}

	for _, child := range n.nodes {
		child.mistrust(why)
	}
}

// isCheckedOut reports whether a folder is the root of a working tree.
func isCheckedOut(folder string) bool {
	_, err := os.Lstat(filepath.Join(folder, ".git"))

	return err == nil
}
