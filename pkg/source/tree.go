package source

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// node is a file, folder or link of a tree. It is immutable, but for the children of
// a folder, which are loaded when they are first asked for.
type node struct {
	name    string
	mode    fs.FileMode
	hash    plumbing.Hash // of a Git object
	data    []byte        // of a file in memory, or the target of a link in memory
	size    int64         // of a file in memory
	sum     string        // stands for all there is in memory, here and below
	problem error         // why this cannot be opened, although it is listed
	doubt   *uncertain    // why nobody can tell whether this folder is complete; nil if it is

	mu     sync.Mutex
	loaded bool
	nodes  []*node // sorted by name
}

// content is where a tree's bytes come from: an object store, or memory.
type content interface {
	list(dir *node) ([]*node, error) // any order
	read(file *node) ([]byte, error) // a file's bytes or a link's target; the caller must not change them
	size(file *node) (int64, error)
	// digest stands for the content of a file, or of everything below a folder with the
	// links as they are written. It reads nothing.
	digest(n *node) string
}

// tree serves nodes as an fs.FS. It implements fs.ReadDirFS, fs.StatFS,
// fs.ReadFileFS and fs.ReadLinkFS, and Digest and Moving.
type tree struct {
	root    *node
	content content
	time    time.Time    // the modification time of everything in it
	entries atomic.Int64 // seen so far
	links   atomic.Int64 // among them
	moving  bool         // it was read before it came to rest
}

// Moving reports whether the files were read while they were still being written, though
// not in that moment: what is missing may be on its way.
func (t *tree) Moving() bool { return t.moving }

func (t *tree) Open(name string) (fs.File, error) {
	n, err := t.find("open", name)
	if err != nil {
		return nil, err
	}

	if n.mode.IsDir() {
		entries, err := t.entriesOf(n, name)
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}

		return &openDir{info: t.info(path.Base(name), n, 0), entries: entries}, nil
	}

	data, err := t.bytes(n)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}

	return &openFile{info: t.info(path.Base(name), n, int64(len(data))), Reader: bytes.NewReader(data)}, nil
}

func (t *tree) ReadFile(name string) ([]byte, error) {
	n, err := t.find("read", name)
	if err != nil {
		return nil, err
	}

	data, err := t.bytes(n)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}

	return bytes.Clone(data), nil
}

func (t *tree) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := t.find("readdir", name)
	if err != nil {
		return nil, err
	}

	entries, err := t.entriesOf(n, name)
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}

	if n.doubt != nil {
		return entries, &fs.PathError{Op: "readdir", Path: name, Err: n.doubt}
	}

	return entries, nil
}

func (t *tree) Stat(name string) (fs.FileInfo, error) {
	n, err := t.find("stat", name)
	if err != nil {
		return nil, err
	}

	info, err := t.stat(path.Base(name), n)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}

	return info, nil
}

// Lstat describes a link itself, unless it is listed as the file it points to.
func (t *tree) Lstat(name string) (fs.FileInfo, error) {
	child, err := t.entry("lstat", name)
	if err != nil {
		return nil, err
	}

	info, err := t.stat(path.Base(name), t.listed(path.Dir(name), child))
	if err != nil {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: err}
	}

	return info, nil
}

func (t *tree) ReadLink(name string) (string, error) {
	child, err := t.entry("readlink", name)
	if err != nil {
		return "", err
	}

	if child.mode.Type() != fs.ModeSymlink {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}

	target, err := t.bytes(child)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}

	return string(target), nil
}

// entry finds what is in the folder under a name, without following it.
func (t *tree) entry(op, name string) (*node, error) {
	dir, err := t.find(op, path.Dir(name))
	if err != nil || name == "." {
		return dir, err
	}

	child, err := t.child(dir, path.Base(name))
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}

	return child, nil
}

// listed is the node that stands in a listing of dir for one of its nodes.
func (t *tree) listed(dir string, n *node) *node {
	if n.mode.Type() == fs.ModeSymlink {
		if to, err := t.resolve(path.Join(dir, n.name)); err == nil && to.mode.IsRegular() {
			return to
		}
	}

	return n
}

// find resolves a name, links included, to a file or folder.
func (t *tree) find(op, name string) (*node, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}

	n, err := t.resolve(name)
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}

	return n, nil
}

func (t *tree) child(dir *node, name string) (*node, error) {
	if !dir.mode.IsDir() {
		return nil, fs.ErrNotExist
	}

	nodes, err := t.children(dir)
	if err != nil {
		return nil, err
	}

	i, ok := slices.BinarySearchFunc(nodes, name, func(n *node, name string) int { return strings.Compare(n.name, name) })
	if !ok {
		return nil, fs.ErrNotExist
	}

	return nodes[i], nil
}

// children loads a folder once. A failure is not remembered: it may have been the
// disk.
func (t *tree) children(dir *node) ([]*node, error) {
	if dir.problem != nil {
		return nil, dir.problem
	}

	dir.mu.Lock()
	defer dir.mu.Unlock()

	if dir.loaded {
		return dir.nodes, nil
	}

	nodes, err := t.content.list(dir)
	if err != nil {
		return nil, err
	}

	slices.SortFunc(nodes, func(a, b *node) int { return strings.Compare(a.name, b.name) })

	for i := range nodes[min(1, len(nodes)):] {
		if nodes[i].name == nodes[i+1].name {
			return nil, fmt.Errorf("the folder holds %q twice: refused", nodes[i].name)
		}
	}

	// Counted by path, not by object: a tree that holds the same folder ten times on
	// each of ten levels is small in Git and endless to walk.
	if t.entries.Add(int64(len(nodes))) > MaxEntries {
		return nil, fmt.Errorf("the revision holds more than %d files and folders: refused, point the source at a smaller folder", MaxEntries)
	}

	links := 0

	for _, n := range nodes {
		if n.mode.Type() == fs.ModeSymlink {
			links++
		}
	}

	if t.links.Add(int64(links)) > MaxLinks {
		return nil, fmt.Errorf("the revision holds more than %d symbolic links: refused, point the source at a smaller folder", MaxLinks)
	}

	dir.nodes, dir.loaded = nodes, true

	return nodes, nil
}

// entriesOf lists the folder n, which was asked for as name.
func (t *tree) entriesOf(n *node, name string) ([]fs.DirEntry, error) {
	if !n.mode.IsDir() {
		return nil, errors.New("not a directory")
	}

	nodes, err := t.children(n)
	if err != nil {
		return nil, err
	}

	entries, all := make([]fs.DirEntry, len(nodes)), make([]dirEntry, len(nodes))
	for i, child := range nodes {
		all[i] = dirEntry{tree: t, name: child.name, node: t.listed(name, child), linked: child.mode.Type() == fs.ModeSymlink}
		entries[i] = &all[i]
	}

	return entries, nil
}

// bytes returns the content of a file or the target of a link.
func (t *tree) bytes(n *node) ([]byte, error) {
	switch {
	case n.problem != nil:
		return nil, n.problem
	case n.mode.IsDir():
		return nil, errors.New("is a directory")
	}

	size, err := t.content.size(n)
	if err != nil {
		return nil, err
	}

	if n.mode.Type() == fs.ModeSymlink && size > maxTarget {
		return nil, errors.New("the symbolic link has no valid target")
	}

	if size > MaxFileSize {
		return nil, fmt.Errorf("the file has %s, more than the limit of %s", mebibytes(size), mebibytes(MaxFileSize))
	}

	data, err := t.content.read(n)
	if err == nil && n.mode.IsRegular() && isPointer(data) {
		return nil, errPointer
	}

	return data, err
}

func (t *tree) stat(name string, n *node) (fileInfo, error) {
	if n.mode.IsDir() {
		return t.info(name, n, 0), nil
	}

	size, err := t.content.size(n)
	if err != nil {
		return fileInfo{}, err
	}

	return t.info(name, n, size), nil
}

func (t *tree) info(name string, n *node, size int64) fileInfo {
	return fileInfo{name: name, size: size, mode: n.mode, time: t.time, node: n}
}
