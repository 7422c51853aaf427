package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/go-git/go-billy/v5"
	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"github.com/go-git/go-git/v5/storage/filesystem/dotgit"
)

// localRemote is a repository on this machine: bare, with a working tree, or a linked
// worktree. Its objects are copied to our store rather than read in place, because
// its owner may rewrite branches and collect garbage at any time. No git binary is
// run, and nothing is ever written to it.
type localRemote struct{ path string }

func (r localRemote) look(context.Context) (*view, error) {
	objects, err := openLocal(r.path)
	if err != nil {
		return nil, err
	}

	v := &view{refs: map[plumbing.ReferenceName]plumbing.Hash{}, byID: true}

	iter, err := objects.IterReferences()
	if err != nil {
		return nil, fmt.Errorf("read the refs: %w", err)
	}

	err = iter.ForEach(func(ref *plumbing.Reference) error {
		if ref.Type() == plumbing.HashReference {
			v.refs[ref.Name()] = ref.Hash()
		}

		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the refs: %w", err)
	}

	if head, err := objects.Reference(plumbing.HEAD); err == nil && head.Type() == plumbing.SymbolicReference {
		v.head = head.Target()
	}

	v.pack = func(ctx context.Context, object plumbing.Hash, into *store) (io.ReadCloser, error) {
		from, err := openLocal(r.path) // anew: packs may have changed since the look
		if err != nil {
			return nil, err
		}

		return commitPack(ctx, localObjects{from}, object, into)
	}

	return v, nil
}

// objects opens what the history is read from.
func (r localRemote) objects() (objectReader, error) {
	objects, err := openLocal(r.path)
	if err != nil {
		return nil, err
	}

	return localObjects{objects}, nil
}

// localObjects reads the objects of another repository. One goroutine at a time.
type localObjects struct{ *filesystem.Storage }

func (l localObjects) get(id plumbing.Hash) (plumbing.EncodedObject, error) {
	return l.EncodedObject(plumbing.AnyObject, id)
}

// openLocal opens the objects and branches of the repository at path.
func openLocal(path string) (*filesystem.Storage, error) {
	dir, common, err := gitDirs(path)
	if err != nil {
		return nil, err
	}

	var files billy.Filesystem = osfs.New(dir)
	if common != "" {
		files = dotgit.NewRepositoryFilesystem(files, osfs.New(common))
	}

	objects := filesystem.NewStorageWithOptions(files, cache.NewObjectLRU(8*cache.MiByte), filesystem.Options{
		// A file that would be refused anyway is streamed, not loaded.
		LargeObjectThreshold: MaxFileSize,
		// Repositories made by "git clone --shared" name others by absolute path.
		AlternatesFS: osfs.New("/"),
	})

	config, err := objects.Config()
	if err != nil {
		return nil, fmt.Errorf("read the repository's configuration: %w", err)
	}

	extensions := config.Raw.Section("extensions")
	if format := extensions.Option("objectFormat"); format != "" && !strings.EqualFold(format, "sha1") {
		return nil, fmt.Errorf("the repository uses the object format %s, which is not supported: use sha1", format)
	}

	if storage := extensions.Option("refStorage"); storage != "" && !strings.EqualFold(storage, "files") {
		return nil, fmt.Errorf("the repository keeps its branches in the format %s, which is not supported: run \"git refs migrate --ref-format=files\"", storage)
	}

	return objects, nil
}

// isGitDir reports whether dir is a repository's own folder (a bare repository, or
// what .git is elsewhere), going by the three names that git looks for, too.
func isGitDir(dir string) bool {
	for _, name := range []string{"HEAD", "objects", "refs"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return false
		}
	}

	return true
}

// gitDirs finds the folder of a repository on this machine, and the one it shares
// with others if it is a linked worktree ("" otherwise).
func gitDirs(path string) (dir, common string, err error) {
	switch info, err := os.Stat(path); {
	case errors.Is(err, os.ErrNotExist):
		return "", "", errors.New("no such folder: check the path")
	case err != nil:
		return "", "", err
	case !info.IsDir():
		return "", "", errors.New("this is a file: give the folder of the repository")
	}

	if dir, err = ownDir(path); err != nil {
		return "", "", err
	}

	if target, err := readLine(filepath.Join(dir, "commondir")); err == nil {
		common = join(dir, target)
	}

	switch {
	case common != "" && !isGitDir(common):
		return "", "", fmt.Errorf("the repository %s, of which this is a worktree, is gone: check the path", common)
	case common == "" && !isGitDir(dir):
		return "", "", errors.New("this folder is no Git repository: check the path, or run \"git init\" in it and commit")
	}

	return dir, common, nil
}

// ownDir returns the folder that .git is or names; path itself if there is no .git. It need not be a repository.
func ownDir(path string) (string, error) {
	dir := filepath.Join(path, ".git")

	switch info, err := os.Lstat(dir); {
	case err == nil && info.Mode().IsRegular():
		line, err := readLine(dir)
		if err != nil {
			return "", err
		}

		target, ok := strings.CutPrefix(line, "gitdir: ")
		if !ok {
			return "", errors.New("the file .git does not name a repository")
		}

		return join(path, target), nil
	case err != nil:
		return path, nil
	}

	return dir, nil
}

// readLine reads the first line of a file. It does not wait for a writer if that is a pipe.
func readLine(name string) (string, error) {
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer file.Close()

	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", cmp.Or(err, error(&fs.PathError{Op: "read", Path: name, Err: fs.ErrInvalid}))
	}

	data, err := io.ReadAll(io.LimitReader(file, 4096))
	line, _, _ := strings.Cut(string(data), "\n")

	return strings.TrimSpace(line), err
}

func join(base, path string) string {
	if filepath.IsAbs(path) {
		return path
	}

	return filepath.Join(base, path)
}
