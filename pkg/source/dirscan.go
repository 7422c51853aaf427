package source

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// found is one thing in a directory, as a scan saw it. Two scans that find the same
// saw the same files.
type found struct {
	path    string
	mode    fs.FileMode // type, and whether it is executable
	size    int64       // of a file
	changed int64       // modification time in nanoseconds; of what a link to a file points to
	inode   uint64      // likewise; see stamp
	status  int64       // likewise; see stamp
	target  string      // of a link that is kept as one
	problem string      // why it cannot be read
}

// scan is what a directory holds, without the content of the files.
type scan struct {
	found   []found                // sorted by path
	folders map[string]fs.FileInfo // absolute paths, to be watched
	newest  time.Time              // the last change of anything
	size    int64                  // of all files that will be read
	counts  map[string]int         // of things below each of the root's entries, for messages

	checkouts []string   // folders with a .git
	indexes   []gitIndex // of the working tree around the directory, and of those in it
}

func (s *scan) same(other *scan) bool {
	return other != nil && slices.Equal(s.found, other.found) && slices.Equal(s.indexes, other.indexes)
}

// scanDir walks a directory. Left out are .git (Git's own), whatever starts with ".."
// (the folders that Kubernetes swaps behind the links it shows). A device, pipe or socket
// is listed, because it may stand where a file was, and cannot be opened. All access goes
// through os.Root: a link cannot lead out of the directory, also not when it is swapped
// while we look.
func scanDir(root *os.Root) (*scan, error) {
	s := &scan{folders: map[string]fs.FileInfo{}, counts: map[string]int{}}

	if err := s.walk(root, ".", 0); err != nil {
		return nil, err
	}

	slices.SortFunc(s.found, func(a, b found) int { return cmp.Compare(a.path, b.path) })
	s.statIndexes(root.Name())

	return s, nil
}

func (s *scan) walk(root *os.Root, dir string, depth int) error {
	if depth > MaxDepth {
		return fmt.Errorf("%s: nested deeper than %d folders: refused", dir, MaxDepth)
	}

	folder, err := open(root, dir)
	if err != nil {
		return s.refuse(dir, err)
	}
	defer folder.Close()

	info, err := folder.Stat()
	if err != nil {
		return err
	}

	s.folders[filepath.Join(root.Name(), dir)] = info
	s.touch(info)

	for {
		entries, err := folder.ReadDir(1000)

		for _, e := range entries {
			if e.Name() == ".git" {
				s.checkouts = append(s.checkouts, dir)
			}

			if e.Name() == ".git" || strings.HasPrefix(e.Name(), "..") {
				continue
			}

			if err := s.entry(root, path.Join(dir, e.Name()), e, depth); err != nil {
				return err
			}
		}

		if errors.Is(err, io.EOF) {
			return nil
		}

		if err != nil {
			return s.refuse(dir, err)
		}
	}
}

// entry adds one entry of a folder, and what is below it.
func (s *scan) entry(root *os.Root, name string, e fs.DirEntry, depth int) error {
	if err := s.count(name); err != nil {
		return err
	}

	f := found{path: name}

	switch e.Type() {
	case fs.ModeDir:
		f.mode = fs.ModeDir
		s.found = append(s.found, f)

		return s.walk(root, name, depth+1)
	case 0:
	case fs.ModeSymlink:
		target, err := root.Readlink(name)
		if err != nil {
			return err // it was there a moment ago
		}

		info, err := root.Stat(name)

		switch {
		case err == nil && info.IsDir() && hidden(target):
			f.mode = fs.ModeDir
			s.found = append(s.found, f)

			return s.walk(root, name, depth+1)
		case err != nil || !info.Mode().IsRegular():
			f.mode, f.target = fs.ModeSymlink, filepath.ToSlash(target)
			s.found = append(s.found, f)

			return nil
		}
	default:
		f.mode, f.problem = e.Type(), "this is not a file"
		s.found = append(s.found, f)

		return nil
	}

	info, err := root.Stat(name)

	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errChanging // it was a moment ago
	}

	s.touch(info)
	f.mode, f.size, f.changed = info.Mode()&0o111, info.Size(), info.ModTime().UnixNano()
	f.inode, f.status, _ = stamp(info)

	if f.size <= MaxFileSize {
		s.size += f.size
	}

	if s.size > MaxDirSize {
		return fmt.Errorf("the files have more than %s together (the last one seen is %s): refused, point the source at a smaller folder", mebibytes(MaxDirSize), name)
	}

	s.found = append(s.found, f)

	return nil
}

// hidden reports whether a link leads to what is left out, as Kubernetes' links to
// ..data do. Such a folder is shown in place of its link: there is no other way to it.
func hidden(target string) bool {
	first, _, _ := strings.Cut(filepath.ToSlash(target), "/")

	return len(first) > 2 && strings.HasPrefix(first, "..")
}

// refuse lists a folder that may not be read, so that opening it says so. Any other
// failure ends the scan.
func (s *scan) refuse(dir string, err error) error {
	if dir == "." || !errors.Is(err, fs.ErrPermission) {
		return err
	}

	i := slices.IndexFunc(s.found, func(f found) bool { return f.path == dir })
	s.found[i].problem = "permission denied"

	return nil
}

// touch notes when something was last changed. What tar, rsync and cp -p write has the
// modification time of its original: only the status tells that it is new here.
func (s *scan) touch(info fs.FileInfo) {
	changed := info.ModTime()

	if _, status, _ := stamp(info); status > changed.UnixNano() {
		changed = time.Unix(0, status)
	}

	if changed.After(s.newest) {
		s.newest = changed
	}
}

func (s *scan) count(name string) error {
	top, _, _ := strings.Cut(name, "/")
	s.counts[top]++

	if len(s.found) < MaxDirFiles {
		return nil
	}

	most := top
	for name, n := range s.counts {
		if n > s.counts[most] {
			most = name
		}
	}

	return fmt.Errorf("it holds more than %d files and folders (%d of them in %s): refused, point the source at a smaller folder",
		MaxDirFiles, s.counts[most], most)
}

// load reads the files that a scan found into memory. The digest of the whole is that
// of the root.
func (s *scan) load(root *os.Root) (*tree, error) {
	var (
		top     = &node{name: ".", mode: fs.ModeDir | 0o555, loaded: true}
		folders = map[string]*node{".": top}
	)

	for _, f := range s.found { // a folder comes before what is in it
		n := &node{name: path.Base(f.path), mode: f.mode | 0o444, size: f.size}

		switch {
		case f.problem != "":
			n.problem = errors.New(f.problem)
		case f.mode.IsDir():
		case f.mode == fs.ModeSymlink:
			n.data, n.size = []byte(f.target), int64(len(f.target))
		case f.size <= MaxFileSize:
			data, err := readFile(root, f.path)

			switch {
			case errors.Is(err, fs.ErrPermission):
				n.problem = errors.New("permission denied")
			case err != nil:
				return nil, err
			default:
				n.data, n.size = data, int64(len(data))
			}
		}

		if n.mode.IsDir() {
			n.mode, n.loaded = fs.ModeDir|0o555, true
			folders[f.path] = n
		}

		parent := folders[path.Dir(f.path)]
		parent.nodes = append(parent.nodes, n)
	}

	s.addAbsent(top)
	top.seal()

	return &tree{root: top, content: memory{}}, nil
}

// seal sorts what is in a folder and makes the digests, from the leaves up. Every part
// has its length before it, so that no two trees write the same. A file that is too
// large to be read counts by its size.
func (n *node) seal() {
	slices.SortFunc(n.nodes, func(a, b *node) int { return cmp.Compare(a.name, b.name) })

	problem := ""
	if n.problem != nil {
		problem = n.problem.Error()
	}

	if n.doubt != nil {
		problem += "\x00" + n.doubt.text
	}

	parts := []string{n.mode.String(), problem, string(n.data)}

	for _, child := range n.nodes {
		child.seal()
		parts = append(parts, child.name, child.sum)
	}

	digest := sha256.New()

	for _, part := range parts {
		digest.Write(binary.AppendUvarint(nil, uint64(len(part)))) //nolint:errcheck // a hash does not fail
		io.WriteString(digest, part)                               //nolint:errcheck // a hash does not fail
	}

	digest.Write(binary.AppendUvarint(nil, uint64(n.size))) //nolint:errcheck,gosec // a hash does not fail

	n.sum = hex.EncodeToString(digest.Sum(nil))
}

func readFile(root *os.Root, name string) ([]byte, error) {
	file, err := open(root, name)
	if err != nil {
		return nil, err
	}
	defer file.Close()

	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, cmp.Or(err, errChanging)
	}

	return io.ReadAll(io.LimitReader(file, MaxFileSize))
}

// openRoot opens a directory, and looks first: opening a pipe would wait for a writer.
func openRoot(path string) (*os.Root, error) {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR}
	}

	if err != nil {
		return nil, err
	}

	return os.OpenRoot(path)
}

// open opens a file or folder. It does not wait for a writer if a pipe has taken its place
// since it was listed.
func open(root *os.Root, name string) (*os.File, error) {
	return root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// memory serves nodes that hold their own content.
type memory struct{}

func (memory) list(dir *node) ([]*node, error) { return dir.nodes, nil }
func (memory) read(file *node) ([]byte, error) { return file.data, nil }
func (memory) size(file *node) (int64, error)  { return file.size, nil }
func (memory) digest(n *node) string           { return "dir:" + n.sum }
