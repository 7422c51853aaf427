package source

import (
	"bytes"
	"cmp"
	"crypto/sha1" //nolint:gosec // Git's own
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/go-git/go-git/v5/plumbing/format/index"
)

// MaxIndexSize bounds the index of a checkout: about half a million files.
const MaxIndexSize = 64 << 20

// gitIndex is the index of a repository as a scan saw it. Two that are equal list the same.
type gitIndex struct {
	// root is the folder of the working tree, file its index ("" if .git leads to no repository), refs where the refs are.
	root, file, refs string
	// at is root inside the directory that is scanned, "." for the working tree that it lies in. prefix is that directory inside
	// the working tree, with a slash at its end; "" for its root.
	at, prefix string
	problem    string // why nobody can tell whether there is a repository
	there      bool
	size       int64
	changed    int64 // modification time in nanoseconds
	status     int64 // see stamp
	inode      uint64
}

// statIndex looks at the index of the working tree at root and does not read it. info is nil if there is none.
func statIndex(root, at, prefix string) (x gitIndex, info fs.FileInfo) {
	x = gitIndex{root: root, at: at, prefix: prefix}

	dir, common, err := gitDirs(root)
	if err != nil {
		// What may not be read is not the same as what is no repository.
		if own, err := ownDir(root); err == nil {
			_, err = os.Stat(filepath.Join(own, "HEAD"))
			if errors.Is(err, fs.ErrPermission) {
				x.problem = "permission denied"
			}
		}

		return x, nil
	}

	x.file, x.refs = filepath.Join(dir, "index"), cmp.Or(common, dir)

	switch info, err = os.Stat(x.file); {
	case errors.Is(err, fs.ErrNotExist):
		return x, nil
	case err != nil:
		x.problem = reasonOf(err).Error()

		return x, nil
	}

	x.there, x.size, x.changed = true, info.Size(), info.ModTime().UnixNano()
	x.inode, x.status, _ = stamp(info)

	return x, info
}

// entries reads the index. The error says why nobody can tell what Git tracks, and what to do.
func (x *gitIndex) entries() ([]*index.Entry, error) {
	switch {
	case x.problem != "":
		return nil, errors.New(x.problem)
	case !x.there:
		return nil, x.withoutIndex()
	}

	data, err := readIndex(x.file)
	if err != nil {
		return nil, err
	}

	return decodeIndex(data)
}

// withoutIndex says why a repository without an index is incomplete: a clone is under way, or was made without a
// checkout. One without a commit is not. It asks go-git for nothing, which would wait for a pipe.
func (x *gitIndex) withoutIndex() error {
	branches, err := os.ReadDir(filepath.Join(x.refs, "refs", "heads"))
	_, packed := os.Stat(filepath.Join(x.refs, "packed-refs"))
	head, headErr := readLine(filepath.Join(filepath.Dir(x.file), "HEAD"))

	if err == nil && len(branches) == 0 && errors.Is(packed, fs.ErrNotExist) && headErr == nil && strings.HasPrefix(head, "ref: ") {
		return nil
	}

	return errors.New("there is none, so nothing is checked out: run `git reset`, then `git restore .`")
}

func readIndex(name string) ([]byte, error) {
	// It does not wait for a writer if this is a pipe.
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, reasonOf(err)
	}
	defer file.Close()

	switch info, err := file.Stat(); {
	case err != nil:
		return nil, reasonOf(err)
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a file")
	case info.Size() > MaxIndexSize:
		return nil, fmt.Errorf("it has %s, more than the limit of %s: check out less, or read the repository with `git:`",
			mebibytes(info.Size()), mebibytes(MaxIndexSize))
	}

	data, err := io.ReadAll(io.LimitReader(file, MaxIndexSize))

	return data, err
}

// decodeIndex decodes an index. Its checksum is compared first, so that damage is not taken for entries.
func decodeIndex(data []byte) ([]*index.Entry, error) {
	if len(data) < sha1.Size {
		return nil, errDamagedIndex
	}

	body, sum := data[:len(data)-sha1.Size], data[len(data)-sha1.Size:]
	own := sha1.Sum(body) //nolint:gosec // Git's own

	switch {
	case bytes.Equal(sum, own[:]):
	case len(bytes.Trim(sum, "\x00")) == 0: // index.skipHash
		data = seal(body)
	case isSHA256(data):
		return nil, errors.New("the repository uses the object format sha256, which is not supported: use sha1")
	default:
		return nil, errDamagedIndex
	}

	var x index.Index

	err := index.NewDecoder(bytes.NewReader(data)).Decode(&x)
	if errors.Is(err, index.ErrUnknownExtension) {
		x = index.Index{}
		err = index.NewDecoder(bytes.NewReader(seal(withoutSparse(body)))).Decode(&x)
	}

	switch {
	case errors.Is(err, index.ErrUnknownExtension):
		return nil, errors.New("its format is not supported: run `git update-index --no-split-index`")
	case err != nil:
		return nil, fmt.Errorf("%w (%w)", errDamagedIndex, err)
	}

	return x.Entries, nil
}

var errDamagedIndex = errors.New("it is damaged: remove it and run `git reset`")

// withoutSparse leaves out the extension that says no more than that some entries are folders, which go-git does not
// know. Git writes it last, or before the one that says where the entries end.
func withoutSparse(body []byte) []byte {
	const (
		sparse = "sdir\x00\x00\x00\x00"
		end    = "EOIE\x00\x00\x00\x18"
	)

	at := len(body) - len(sparse)
	if tail := at - len(end) - 0x18; tail >= 0 && bytes.HasPrefix(body[tail+len(sparse):], []byte(end)) {
		at = tail
	}

	if at < 0 || !bytes.HasPrefix(body[at:], []byte(sparse)) {
		return body
	}

	return bytes.Join([][]byte{body[:at], body[at+len(sparse):]}, nil)
}

func seal(body []byte) []byte {
	sum := sha1.Sum(body) //nolint:gosec // Git's own

	return append(bytes.Clone(body), sum[:]...)
}

func isSHA256(data []byte) bool {
	if len(data) < sha256.Size {
		return false
	}

	sum := sha256.Sum256(data[:len(data)-sha256.Size])

	return bytes.HasSuffix(data, sum[:])
}

// inside returns the name of an entry relative to the directory; false if it is elsewhere. holds is true if the directory
// is the entry, or lies in it.
func (x *gitIndex) inside(entry string) (name string, holds, ok bool) {
	entry = strings.TrimSuffix(entry, "/") // a folder of a sparse index
	name, ok = strings.CutPrefix(entry, x.prefix)

	return name, strings.HasPrefix(x.prefix, entry+"/"), ok
}

// reasonOf strips the operation and the path from an error of the file system.
func reasonOf(err error) error {
	if pathErr := new(fs.PathError); errors.As(err, &pathErr) {
		return pathErr.Err
	}

	return err
}
