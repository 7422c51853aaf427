package template

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Set is what was found in a revision. It is immutable, and shares with the sets before and after it what is the same in
// both: a template that nothing happened to is the same pointer, unless another file claims what it does.
type Set struct {
	Templates []*Template // sorted by path
	Manifests []*Manifest // sorted by path, then by place in the file
	// Opaque are the files that nobody can read, sorted by path: any of them may be what became of a file that is not there
	// any more.
	Opaque []string

	seen *seen // what it was made from, for SameIn
	kept kept  // for Next
}

// Find reads everything in the scope. It never fails as a whole: what could be read is in the Set (never nil), what
// is wrong is in the Problems, sorted. A template or manifest with problems of its own is in the Set and carries
// them.
//
// Reading stays inside fsys. Symbolic links are followed by the rules of fsys, so a file system that must not be left
// has to see to that itself (os.Root does, os.DirFS does not).
func Find(fsys fs.FS, scope Scope) (*Set, Problems) { return (*Set)(nil).Next(fsys, scope) }

// Next is Find in another revision of the source that s was found in; s may be nil. It finds the same, but neither
// lists nor reads again what is the same in both, by the digests of the file system ([Digester]). Folders with a symbolic
// link below them, or reached through one, are listed each time; and after something that could not be read, everything is
// read anew. A limit of the file system itself on what is listed may be met by Find and not by Next, which lists less.
func (s *Set) Next(fsys fs.FS, scope Scope) (*Set, Problems) {
	f := finder{fsys: fsys, scope: scope, root: path.Clean(cmp.Or(scope.Root, ".")), seen: newSeen(fsys, scope), before: s.reusable(scope)}
	f.set.seen, f.references, f.folders = f.seen, map[string]*keptReference{}, folders{f.seen.fsys, map[string]string{}}

	if f.seen.moving {
		f.problem("", "the directory was still changing when it was read, so files may be missing: wait until nothing writes to it")
	}

	f.walkRoot()
	f.collect()
	f.seen.told, f.seen.fsys = f.seen.fsys != nil, nil // the Set must not hold on to the revision

	set := f.set // nor to all that was kept of the one before

	return &set, f.problems.Sorted()
}

// collect makes the Set of what came of the root.
func (f *finder) collect() {
	all := f.set.kept.root
	if all == nil {
		return
	}

	f.set.Templates, f.set.Manifests = slices.Clone(all.templates), slices.Clone(all.manifests)
	slices.SortFunc(f.set.Templates, func(a, b *Template) int { return cmp.Compare(a.Path, b.Path) })
	slices.SortStableFunc(f.set.Manifests, func(a, b *Manifest) int { return cmp.Compare(a.Path, b.Path) })
	f.problems = append(f.problems, f.set.crossCheck(f.stillApart())...)

	if all.odd {
		f.collectOdd(all)
		slices.Sort(f.set.Opaque)
	}
}

// collectOdd adds the problems of files.
func (f *finder) collectOdd(all *part) {
	referred := map[string]bool{}

	all.files(func(*part) bool { return true }, func(file *part) {
		for _, ref := range file.references {
			referred[ref.name] = true
		}
	})

	all.files(func(p *part) bool { return p.odd }, func(file *part) {
		for _, t := range file.templates {
			f.problems = append(f.problems, t.Problems...)
		}

		for _, m := range file.manifests {
			f.problems = append(f.problems, m.Problems...)
		}

		// A file that a template refers to holds whatever the cluster needs. That it looks like a broken template means
		// nothing.
		if file.opaque != "" && !referred[file.opaque] {
			f.set.Opaque = append(f.set.Opaque, file.opaque)
		}

		for _, suspect := range file.suspects {
			if !referred[suspect.File] {
				f.problems = append(f.problems, suspect)
			}
		}
	})
}

// finder holds the state of one call of Find.
type finder struct {
	fsys  fs.FS
	scope Scope
	root  string

	set      Set
	problems Problems
	entries  int // files and folders seen so far
	links    int // symbolic links on the way to the folder that is being read
	seen     *seen
	doubts   []string // why nobody can tell whether everything is there

	before     kept                      // what another revision held
	fresh      []change                  // files that were read, and what came of them before
	references map[string]*keptReference // files that templates refer to, read once, by clean path
	folders    folders

	file   *part                     // the one that is being read
	was    map[string]*keptReference // what its template referred to before
	refers map[string]bool           // and refers to now
}

func (f *finder) problem(file, format string, args ...any) {
	f.problems = append(f.problems, Problemf(Position{File: file}, format, args...).Of(RuleSource))
}

// unreadable notes something in the scope that cannot be read, and what to do about it, unless the reason says that
// already, as those of pkg/source do.
func (f *finder) unreadable(name, format string, args ...any) {
	why := fmt.Sprintf(format, args...)

	switch {
	case strings.Contains(why, "exclude"), strings.Contains(why, "rename it"):
	case name == f.root:
		why += "; correct that"
	default:
		why += fmt.Sprintf("; correct that, or leave it out with exclude %q", Literal(f.inScope(name)))
	}

	f.problem(name, "%s", why)
}

// unlisted notes a folder that cannot be listed, or of which nobody can tell whether it is complete. The latter is said
// once: it is mostly about a whole tree of folders.
func (f *finder) unlisted(dir string, err error) {
	if uncertain := (interface{ Uncertain() string })(nil); errors.As(err, &uncertain) {
		if why := uncertain.Uncertain(); !slices.Contains(f.doubts, why) {
			f.doubts = append(f.doubts, why)
			f.problem("", "%s", why)
		}

		return
	}

	f.unreadable(dir, "cannot read this folder: %s", reason(err))
}

func (f *finder) walkRoot() {
	for _, glob := range slices.Concat(f.scope.Include, f.scope.Exclude) {
		if !doublestar.ValidatePattern(glob) {
			f.problem("", "include or exclude: %q is not a valid glob; close every [ and { in it", glob)

			return
		}
	}

	if !fs.ValidPath(f.root) {
		f.problem("", "path %q leaves the source: use a path relative to its root, without ..", f.scope.Root)

		return
	}

	f.seen.name(f.root)

	info, err := fs.Stat(f.fsys, f.root)
	f.seen.failed(err)

	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.problem("", "path %q does not exist in the source: create it or correct the path", f.scope.Root)
	case err != nil:
		f.problem("", "path %q cannot be read: %v", f.scope.Root, reason(err))
	case !info.IsDir():
		f.problem("", "path %q is a file: name the folder it is in, and the file with include", f.scope.Root)
	default:
		f.set.kept.root = f.walk(f.root, []fs.FileInfo{info}, f.before.root)
	}
}

// walk reads a folder, with what came of it before, and returns what comes of it now. The parents, itself last, are there
// to notice a symbolic link that leads back up.
func (f *finder) walk(dir string, parents []fs.FileInfo, before *part) *part {
	entries, err := fs.ReadDir(f.fsys, dir) // sorted by name
	if err != nil {
		f.seen.failed(err)
		f.unlisted(dir, err)
	}

	var (
		all                 = &part{alone: true}
		old                 = before.below()
		problems, entriesOf = len(f.problems), f.entries
	)

	for _, entry := range entries {
		f.entries++
		if f.entries > MaxFiles {
			if f.entries == MaxFiles+1 {
				f.problem("", "more than %d files and folders: narrow the source down with path or exclude", MaxFiles)
			}

			all.alone = false

			break
		}

		name := entry.Name()
		if dir != "." {
			name = dir + "/" + name
		}

		if isLink(entry) {
			all.alone = false
		}

		if strings.HasPrefix(entry.Name(), "..") || f.excluded(name) {
			continue // names that begin with ".." are Kubernetes' own, in a mounted ConfigMap
		}

		if !entry.IsDir() && f.seen.link(name, entry) {
			all.alone = false
		}

		for len(old) > 0 && old[0].name < entry.Name() {
			old = old[1:]
		}

		var was *part
		if len(old) > 0 && old[0].name == entry.Name() {
			was = old[0]
		}

		if p := f.visit(name, entry, parents, was); p != nil {
			all.take(p)
		}
	}

	all.entries = f.entries - entriesOf
	all.alone = all.alone && len(f.problems) == problems // those are told each time

	return all
}

// visit returns what comes of a file or folder; nil for one that is nothing to us.
func (f *finder) visit(name string, entry fs.DirEntry, parents []fs.FileInfo, before *part) *part {
	file, folder := f.mayBeFile(name), f.mayBeFolder(name)

	switch mode := entry.Type(); {
	case !file && !folder:
		return nil
	case mode.IsRegular():
		if file {
			return f.readFile(name, entry, before)
		}

		return nil
	case !mode.IsDir() && mode&fs.ModeSymlink == 0:
		f.unreadable(name, "this is %s, not a file", kindOf(mode))

		return nil
	}

	info, err := fs.Stat(f.fsys, name)
	f.seen.failed(err)

	switch {
	case errors.Is(err, fs.ErrNotExist) && !entry.IsDir():
		// It may have led to a folder, whatever it is called: what was in there must not look deleted.
		f.unreadable(name, "this link%s leads nowhere", f.target(name))
	case err != nil:
		f.unreadable(name, "cannot be read: %s", reason(err))
	case info.Mode().IsRegular():
		if file {
			return f.readFile(name, entry, before)
		}
	case !info.IsDir():
		f.unreadable(name, "this link leads to %s, not to a file", kindOf(info.Mode()))
	case !folder:
	case slices.ContainsFunc(parents, func(parent fs.FileInfo) bool { return sameFolder(parent, info) }):
		// A link to a folder above: everything in it has been seen.
	case len(parents) > MaxFolderDepth:
		f.problem(name, "more than %d folders inside each other: narrow the source down with path or exclude", MaxFolderDepth)
	default:
		return f.readFolder(name, entry, append(parents[:len(parents):len(parents)], info), before)
	}

	return nil
}

// target returns what a symbolic link says, for messages.
func (f *finder) target(name string) string {
	target, err := fs.ReadLink(f.fsys, name)
	if err != nil {
		return ""
	}

	return fmt.Sprintf(" to %.200q", target)
}

// kindOf names what is neither a file, nor a folder, nor a link.
func kindOf(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	default:
		return "a device"
	}
}

// sameFolder is os.SameFile for any file system: one that knows its folders apart has a
// Same in their descriptions.
func sameFolder(a, b fs.FileInfo) bool {
	if own, ok := a.(interface{ Same(other fs.FileInfo) bool }); ok {
		return own.Same(b)
	}

	return os.SameFile(a, b)
}

// errTooLarge is returned by readBounded for a file over the limit, together with the part within it.
var errTooLarge = errors.New("file too large")

// readBounded reads a file of at most limit bytes.
func readBounded(fsys fs.FS, name string, limit int) ([]byte, error) {
	file, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close() // only read from

	data, err := io.ReadAll(io.LimitReader(file, int64(limit)+1))
	if err != nil {
		return nil, err
	}

	if len(data) > limit {
		return data[:limit], errTooLarge
	}

	return data, nil
}

// reason strips the operation and the path from an error of the file system: the problem names the file itself, and
// the path may be one of this machine.
func reason(err error) error {
	if pathErr := new(fs.PathError); errors.As(err, &pathErr) {
		return pathErr.Err
	}

	return err
}
