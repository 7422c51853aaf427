package template

import (
	"errors"
	"io/fs"
	"slices"
)

// Digester is what the file system of a revision implements if it can tell, without reading files, what it has in
// common with another revision of the same source. Without it, every revision is read anew.
type Digester interface {
	fs.ReadLinkFS

	// Digest returns a text for what is under a name. Where two revisions return the same text, they hold the same:
	// the same bytes for a file; the same names, types and bytes below a folder, with symbolic links below it as they
	// are written; nothing for a name that does not exist. Links on the way to the name are followed, and where they
	// lead to is part of the text. It is false when that cannot be told.
	Digest(name string) (text string, ok bool)
}

// Entry is what the directory entries of a [Digester] may implement: it spares asking for each file by its name.
type Entry interface {
	fs.DirEntry

	// Digest returns a text for the content of what is listed. Where two revisions list a file or folder and return the
	// same text, it holds the same, as in Digester. It is not asked of a link to a folder, or to nowhere.
	Digest() string

	// Linked reports whether it is a symbolic link, also if it is listed as the file that this leads to.
	Linked() bool
}

// Mover is what the file system of a revision implements if it may have been read while it was still being written.
type Mover interface {
	fs.FS

	// Moving reports whether it was. Files that are missing may come yet, so the revision is not whole.
	Moving() bool
}

func isMoving(fsys fs.FS) bool {
	mover, ok := fsys.(Mover)

	return ok && mover.Moving()
}

// seen is what a call of Find depends on: the folder of the scope as a whole, and what is not below it or is reached
// through a symbolic link, by name. Find asks a file system for nothing else, so the same texts mean the same Set.
type seen struct {
	fsys    Digester          // nil: it cannot be told, or Find is over
	told    bool              // Find is over, and it can be told
	scope   Scope             // what Find was asked for
	moving  bool              // it was still being written
	digests map[string]string // by name; also of names that were looked for and are not there
	// references are the files outside of the root that templates refer to, with no symbolic link on the way.
	references []*keptReference
}

func newSeen(fsys fs.FS, scope Scope) *seen {
	digester, _ := fsys.(Digester)

	return &seen{fsys: digester, scope: scope, moving: isMoving(fsys), digests: map[string]string{}}
}

// failed notes that something could not be read. That may be different the next time, in the same revision or in
// another one. That something does not exist is no failure: it has a digest.
func (s *seen) failed(err error) {
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.fsys = nil
	}
}

// digest returns what the file system says of a name; false if it says nothing, or something could not be read.
func (s *seen) digest(name string) (string, bool) {
	if s.fsys == nil {
		return "", false
	}

	return s.fsys.Digest(name)
}

// entry returns what the file system says of a file or folder that it listed under a name; "" if it says nothing.
func (s *seen) entry(name string, listed fs.DirEntry) string {
	if s.fsys == nil {
		return ""
	}

	// A link to a folder is listed as a link: its digest is that of what it says.
	if entry, ok := listed.(Entry); ok && entry.Type()&fs.ModeSymlink == 0 {
		return entry.Digest()
	}

	digest, _ := s.digest(name)

	return digest
}

// name notes a name that Find looked at.
func (s *seen) name(name string) {
	if s.fsys == nil {
		return
	}

	if digest, ok := s.fsys.Digest(name); ok {
		s.digests[name] = digest
	} else {
		s.fsys = nil
	}
}

// link notes a name below the root if it is a symbolic link, and reports that.
func (s *seen) link(name string, listed fs.DirEntry) bool {
	if entry, ok := listed.(Entry); ok && !entry.Linked() || !s.isLink(name) {
		return false
	}

	s.name(name)

	return true
}

// isLink reports whether a symbolic link is listed, also if it is listed as the file that it leads to.
func isLink(listed fs.DirEntry) bool {
	entry, ok := listed.(Entry)

	return listed.Type()&fs.ModeSymlink != 0 || ok && entry.Linked()
}

// isLink reports whether a name is that of a symbolic link, or may be.
func (s *seen) isLink(name string) bool {
	if s.fsys == nil {
		return false
	}

	_, err := s.fsys.ReadLink(name)

	return !errors.Is(err, fs.ErrInvalid) && !errors.Is(err, fs.ErrNotExist)
}

// SameIn reports whether Find would find the same in another revision of the source: this Set, with the same Problems.
// It asks for digests only and reads no file. When it is not sure it is false. As with Next, limits of the file system itself
// may be met by what it does not ask for.
func (s *Set) SameIn(next fs.FS, scope Scope) bool {
	digester, ok := next.(Digester)
	if !ok || s.seen == nil || !s.seen.told {
		return false
	}

	if !scope.equal(s.seen.scope) || isMoving(next) != s.seen.moving {
		return false
	}

	for name, before := range s.seen.digests {
		if digest, ok := digester.Digest(name); !ok || digest != before {
			return false
		}
	}

	now := folders{digester, map[string]string{}}

	return !slices.ContainsFunc(s.seen.references, func(ref *keptReference) bool {
		if ref.sameWay(&now) {
			return false
		}

		digest, ok := digester.Digest(ref.name)

		return !ok || digest != ref.digest
	})
}
