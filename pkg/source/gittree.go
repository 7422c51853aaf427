package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
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
// is handed out, so whatever cannot be read means that the store is damaged; the next
// Fetch makes it anew.
type gitContent struct{ store *store }

func (g gitContent) list(dir *node) ([]*node, error) {
	entries, err := readTree(g.store, dir.hash)
	if err != nil {
		g.store.damaged.Store(true)

		return nil, err
	}

	nodes := make([]*node, len(entries))
	names := make(map[string]bool, len(entries))

	for i, e := range entries {
		if err := checkName(e.Name); err != nil {
			return nil, err
		}

		if names[e.Name] {
			return nil, fmt.Errorf("the folder holds %q twice: refused", e.Name)
		}

		names[e.Name] = true
		nodes[i] = &node{name: e.Name, hash: e.Hash, mode: modeOf(e.Mode)}

		if e.Mode == filemode.Submodule {
			nodes[i].problem = errors.New("this is a Git submodule, which is not supported: " +
				"copy the files into the repository, or exclude the folder")
		}
	}

	return nodes, nil
}

func (g gitContent) read(file *node) ([]byte, error) {
	data, err := readObject(g.store, file.hash, plumbing.BlobObject)
	if err != nil {
		g.store.damaged.Store(true)
	}

	return data, err
}

func (g gitContent) size(file *node) (int64, error) {
	size, err := g.store.size(file.hash)
	if err != nil {
		g.store.damaged.Store(true)

		return 0, fmt.Errorf("read object %s: %w", file.hash, err)
	}

	return size, nil
}

// readTree reads the entries of one folder.
func readTree(from objectReader, id plumbing.Hash) ([]object.TreeEntry, error) {
	obj, err := from.get(id)
	if err != nil {
		return nil, fmt.Errorf("read folder %s: %w", id, err)
	}

	var tree object.Tree
	if err = tree.Decode(obj); err != nil {
		return nil, fmt.Errorf("read folder %s: %w", id, err)
	}

	return tree.Entries, nil
}

func readObject(from objectReader, id plumbing.Hash, typ plumbing.ObjectType) ([]byte, error) {
	obj, err := from.get(id)
	if err != nil {
		return nil, fmt.Errorf("read object %s: %w", id, err)
	}

	if obj.Type() != typ {
		return nil, fmt.Errorf("object %s is a %s, not a %s", id, obj.Type(), typ)
	}

	r, err := obj.Reader()
	if err != nil {
		return nil, fmt.Errorf("read object %s: %w", id, err)
	}

	data, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("read object %s: %w", id, err)
	}

	return data, nil
}

// checkName refuses names that have a meaning in paths, which git never makes but an
// attacker can, and names that an fs.FS cannot have. Leaving such an entry out would
// look as if the file had been deleted.
func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
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
