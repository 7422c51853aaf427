package source

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// newGitTree serves the tree of a commit straight from the store.
func newGitTree(st *store, root plumbing.Hash, modified time.Time) *tree {
	return &tree{
		root:    &node{name: ".", mode: fs.ModeDir | 0o555, hash: root},
		content: gitContent{st},
		time:    modified,
	}
}

// gitContent reads nodes from an object store. Objects are complete when a revision
// is handed out, so an object that cannot be read means that the store is damaged; the
// next Fetch makes it anew. One that makes no sense was made so: fetching it again
// would not help.
type gitContent struct{ store *store }

func (g gitContent) list(dir *node) ([]*node, error) {
	obj, err := g.store.get(dir.hash)
	if err != nil {
		return nil, g.damage("folder", dir.hash, err)
	}

	entries, err := decodeTree(obj)
	if err != nil {
		return nil, err
	}

	nodes, all := make([]*node, len(entries)), make([]node, len(entries))

	for i, e := range entries {
		if err := checkName(e.Name); err != nil {
			return nil, err
		}

		n := &all[i]
		n.name, n.hash, n.mode = e.Name, e.Hash, modeOf(e.Mode)
		nodes[i] = n

		switch {
		case e.Mode == filemode.Submodule:
			n.problem = errors.New("this is a Git submodule, which is not supported: " +
				"copy the files into the repository, or exclude the folder")
		case strings.ContainsFunc(e.Name, unicode.IsControl):
			n.problem = errors.New("the name holds control characters: rename it")
		}
	}

	return nodes, nil
}

func (g gitContent) read(file *node) ([]byte, error) {
	obj, err := g.store.get(file.hash)
	if err != nil {
		return nil, g.damage("object", file.hash, err)
	}

	if obj.Type() != plumbing.BlobObject {
		return nil, fmt.Errorf("object %s is a %s, not a file", file.hash, obj.Type())
	}

	r, err := obj.Reader()
	if err != nil {
		return nil, g.damage("object", file.hash, err)
	}

	data, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, g.damage("object", file.hash, err)
	}

	return data, nil
}

func (g gitContent) size(file *node) (int64, error) {
	size, err := g.store.size(file.hash)
	if err != nil {
		return 0, g.damage("object", file.hash, err)
	}

	return size, nil
}

// damage hides what kind of error it was: a store whose files are gone must not be
// taken for a file that is not in the revision.
func (g gitContent) damage(what string, id plumbing.Hash, err error) error {
	g.store.damaged.Store(true)

	return fmt.Errorf("read %s %s: %v", what, id, err)
}

// digest is the object's hash, which Git made of the content. The mode tells folders,
// files and submodules apart. What cannot be opened is not what can be, though it has the same
// bytes under another name.
func (g gitContent) digest(n *node) string {
	text := append(make([]byte, 0, 32), "git"...)
	text = binary.BigEndian.AppendUint32(text, uint32(n.mode))
	text = append(text, n.hash[:]...)

	if n.problem != nil {
		text = append(text, n.problem.Error()...)
	}

	return string(text)
}

// readTree reads the entries of one folder.
func readTree(from objectReader, id plumbing.Hash) ([]object.TreeEntry, error) {
	obj, err := from.get(id)
	if err != nil {
		return nil, fmt.Errorf("read folder %s: %w", id, err)
	}

	return decodeTree(obj)
}

// decodeTree bounds a folder as files are bounded: it takes ten times as much memory
// when it is decoded.
func decodeTree(obj plumbing.EncodedObject) ([]object.TreeEntry, error) {
	if obj.Size() > MaxFileSize {
		return nil, fmt.Errorf("the folder is listed in %s, more than the limit of %s: refused, move its files to several folders",
			mebibytes(obj.Size()), mebibytes(MaxFileSize))
	}

	var tree object.Tree
	if err := tree.Decode(obj); err != nil {
		return nil, fmt.Errorf("folder %s makes no sense: %w", obj.Hash(), err)
	}

	return tree.Entries, nil
}

// checkName refuses names that have a meaning in paths, which git never makes but an
// attacker can, and names that an fs.FS cannot have. Leaving such an entry out would
// look as if the file had been deleted. A backslash is a character like any other: no
// name ever reaches a file system for which it is more.
func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == ".." || strings.EqualFold(name, ".git") || strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("the folder holds an entry with the forbidden name %q: refused", name)
	case !utf8.ValidString(name):
		return fmt.Errorf("the folder holds the name %q, which is not valid UTF-8: rename it", name)
	default:
		return nil
	}
}

// modeOf shows a submodule as a folder, so that a walk meets it and its error.
func modeOf(m filemode.FileMode) fs.FileMode {
	switch m {
	case filemode.Dir, filemode.Submodule:
		return fs.ModeDir | 0o555
	case filemode.Symlink:
		return fs.ModeSymlink | 0o777
	case filemode.Executable:
		return 0o555
	default:
		return 0o444
	}
}
