package source

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// objectReader reads objects of a repository, ours or another one on this machine.
type objectReader interface {
	get(id plumbing.Hash) (plumbing.EncodedObject, error)
}

// nothing has no objects.
type nothing struct{}

func (nothing) get(plumbing.Hash) (plumbing.EncodedObject, error) {
	return nil, plumbing.ErrObjectNotFound
}

// commitPack returns, as a pack, the commit and those objects of its tree that the
// store "into" lacks. This is a fetch of depth 1 from a repository on this machine. In
// place of a commit it takes an annotated tag, which is then in the pack, too. The reader
// must be closed.
func commitPack(ctx context.Context, from objectReader, object plumbing.Hash, into *store) (io.ReadCloser, error) {
	ids, err := reachable(ctx, from, object, into.has)
	if err != nil {
		return nil, err
	}

	r, w := io.Pipe()
	go func() { w.CloseWithError(writePack(w, ids, from.get)) }()

	return r, nil
}

// errNoCommit is a ref that is on something else.
var errNoCommit = errors.New("choose another one")

const (
	// maxTags bounds how many tags point at each other before there is a commit.
	maxTags = 5
	// maxMessage bounds a commit or a tag itself: names, message and signature.
	maxMessage = 1 << 20
)

// peel follows annotated tags. It returns those that it met and the commit.
func peel(from objectReader, root plumbing.Hash) (tags []plumbing.EncodedObject, commit plumbing.EncodedObject, err error) {
	for id := root; ; {
		obj, err := from.get(id)
		if err != nil {
			return nil, nil, fmt.Errorf("read commit %s: %w", id, err)
		}

		switch {
		case obj.Size() > maxMessage && (obj.Type() == plumbing.CommitObject || obj.Type() == plumbing.TagObject):
			return nil, nil, fmt.Errorf("the %s %s has %s, the limit is %s: %w", obj.Type(), id, mebibytes(obj.Size()), mebibytes(maxMessage), errNoCommit)
		case obj.Type() == plumbing.CommitObject:
			return tags, obj, nil
		case obj.Type() != plumbing.TagObject && len(tags) > 0:
			return nil, nil, fmt.Errorf("the tag %s is on a %s, not on a commit: %w", root, obj.Type(), errNoCommit)
		case obj.Type() != plumbing.TagObject:
			return nil, nil, fmt.Errorf("%s is a %s, not a commit: %w", root, obj.Type(), errNoCommit)
		case len(tags) == maxTags:
			return nil, nil, fmt.Errorf("the tag %s is on a tag on a tag, and so on, more than %d times: %w", root, maxTags, errNoCommit)
		}

		var tag object.Tag
		if err = tag.Decode(obj); err != nil {
			return nil, nil, fmt.Errorf("read tag %s: %w", id, err)
		}

		tags = append(tags, obj)
		id = tag.Target
	}
}

// reachable lists a commit and its tree's folders and files, each once. Nothing below
// an object that skip accepts is looked at. If it is given a tag, that is listed, too.
func reachable(ctx context.Context, from objectReader, root plumbing.Hash, skip func(plumbing.Hash) bool) ([]plumbing.Hash, error) {
	tags, obj, err := peel(from, root)
	if err != nil {
		return nil, err
	}

	commit := obj.Hash()

	var head object.Commit
	if err = head.Decode(obj); err != nil {
		return nil, fmt.Errorf("read commit %s: %w", commit, err)
	}

	var ids []plumbing.Hash
	for _, tag := range tags {
		ids = append(ids, tag.Hash())
	}

	ids = append(ids, commit)
	seen := map[plumbing.Hash]bool{commit: true}
	take := func(id plumbing.Hash) bool {
		if seen[id] || skip(id) {
			return false
		}

		seen[id] = true
		ids = append(ids, id)

		return true
	}

	var folders []plumbing.Hash
	if take(head.TreeHash) {
		folders = append(folders, head.TreeHash)
	}

	for len(folders) > 0 {
		id := folders[len(folders)-1]
		folders = folders[:len(folders)-1]

		entries, err := readTree(from, id)
		if err != nil {
			return nil, err
		}

		for _, e := range entries {
			if e.Mode != filemode.Submodule && take(e.Hash) && e.Mode == filemode.Dir {
				folders = append(folders, e.Hash)
			}
		}

		if len(ids) > maxObjects {
			return nil, fmt.Errorf("the commit has more than %d files and folders: use a smaller repository", maxObjects)
		}

		if err = ctx.Err(); err != nil {
			return nil, err
		}
	}

	return ids, nil
}
