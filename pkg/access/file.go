package access

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	// MaxFile is how large a file may be that something is merged into, in bytes.
	MaxFile = 16 << 20
	// lockWait is how long somebody else may hold a file. kubectl holds it for some
	// milliseconds.
	lockWait = 10 * time.Second
	lockPoll = 20 * time.Millisecond
	// newFile and newFolder are the modes of what is made. What is there keeps its own, but
	// for a file that a secret is put into.
	newFile   fs.FileMode = 0o600
	newFolder fs.FileMode = 0o700
)

// WriteFile writes a config to a file that only its owner may read, as a whole or not at
// all. A file that is there is replaced only with force; a symbolic link is followed.
func WriteFile(path string, data []byte, force bool) error {
	at, err := locate(path)

	switch {
	case err != nil:
		return err
	case at.exists && !force:
		return fmt.Errorf("%s is there already: --force replaces it", path)
	}

	at.mode = newFile

	return at.replace(data)
}

// place is where a file really is, behind symbolic links. Those stay: the files of many
// people stand in a repository that their home only links to.
type place struct {
	path   string
	exists bool
	mode   fs.FileMode
	info   fs.FileInfo
}

// locate finds the place of a file, which need not exist.
func locate(path string) (place, error) {
	// A link to a file that is not there yet is followed by hand.
	for range 40 {
		info, err := os.Lstat(path)

		switch {
		case errors.Is(err, fs.ErrNotExist):
			return place{path: path, mode: newFile}, nil
		case err != nil:
			return place{}, err
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return place{}, err
			}

			if !filepath.IsAbs(target) {
				// Not cleaned: what .. means is for the file system to say.
				target = filepath.Dir(path) + string(filepath.Separator) + target
			}

			path = target
		case !info.Mode().IsRegular():
			return place{}, fmt.Errorf("%s is not a regular file", path)
		default:
			return place{path: path, exists: true, mode: info.Mode().Perm(), info: info}, nil
		}
	}

	return place{}, fmt.Errorf("%s: too many symbolic links", path)
}

// read returns what is in the file; nothing if there is none.
func (p place) read() ([]byte, error) {
	if !p.exists {
		return nil, nil
	}

	file, err := os.Open(p.path)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only read from

	data, err := io.ReadAll(io.LimitReader(file, MaxFile+1))

	switch {
	case err != nil:
		return nil, err
	case len(data) > MaxFile:
		return nil, fmt.Errorf("%s has more than %d bytes: that is no config", p.path, MaxFile)
	default:
		return data, nil
	}
}

// put replaces a file, unless data is nil, which is what is there. One with a secret is for
// its owner only afterwards; shut reports that others could use it before.
func (p place) put(data []byte, secret bool) (changed, shut bool, err error) {
	if secret && p.exists && p.mode&forOthers != 0 {
		p.mode, shut = newFile, true
	}

	switch {
	case data != nil:
		err = p.replace(data)
	case shut:
		err = os.Chmod(p.path, p.mode)
	}

	return data != nil, shut, err
}

// replace puts data in the place of the file, whatever happens meanwhile: readers see the
// old or the new file as a whole, and so does whoever starts after a power failure.
func (p place) replace(data []byte) (err error) {
	dir := filepath.Dir(p.path)
	if err := os.MkdirAll(dir, newFolder); err != nil {
		return err
	}

	file, err := os.CreateTemp(dir, "."+filepath.Base(p.path)+".omni-syncd-*") // 0600 until it is whole
	if err != nil {
		return err
	}

	defer func() {
		if err != nil {
			err = errors.Join(err, ignoring(fs.ErrClosed, file.Close()), os.Remove(file.Name()))
		}
	}()

	if err := keepOwner(file, p.info, p.mode); err != nil {
		return fmt.Errorf("%s belongs to another user: %w", p.path, err)
	}

	if _, err := file.Write(data); err != nil {
		return err
	}

	if err := errors.Join(file.Chmod(p.mode), file.Sync(), file.Close()); err != nil {
		return err
	}

	if err := os.Rename(file.Name(), p.path); err != nil {
		return err
	}

	syncFolder(dir)

	return nil
}

// syncFolder makes a rename durable, where the system has that.
func syncFolder(dir string) {
	if folder, err := os.Open(dir); err == nil {
		_ = folder.Sync()
		_ = folder.Close()
	}
}

func ignoring(expected, err error) error {
	if errors.Is(err, expected) {
		return nil
	}

	return err
}

// lock keeps kubectl, and others of us, from the files until unlock is called. It is the
// lock that kubectl takes: a file beside the file.
func lock(ctx context.Context, paths []string) (unlock func() error, err error) {
	var names []string

	for _, path := range paths {
		names = append(names, path+".lock")

		// kubectl locks the link, and another one of us may come another way.
		if at, err := locate(path); err == nil && at.path != path {
			names = append(names, at.path+".lock")
		}
	}

	slices.Sort(names) // everybody in the same order

	var held []string

	unlock = func() error {
		var errs []error
		for _, name := range held {
			errs = append(errs, os.Remove(name))
		}

		return errors.Join(errs...)
	}

	for _, name := range slices.Compact(names) {
		if err := lockOne(ctx, name); err != nil {
			return nil, errors.Join(err, unlock())
		}

		held = append(held, name)
	}

	return unlock, nil
}

func lockOne(ctx context.Context, name string) error {
	if err := os.MkdirAll(filepath.Dir(name), newFolder); err != nil {
		return err
	}

	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()

	tick := time.NewTicker(lockPoll)
	defer tick.Stop()

	for {
		file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL, 0)

		switch {
		case err == nil:
			return file.Close()
		case !errors.Is(err, fs.ErrExist):
			return fmt.Errorf("lock the file: %w", err)
		}

		select {
		case <-tick.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("%s has been there for %s: if neither kubectl nor omni-syncd is writing, remove it", name, lockWait)
			}

			return ctx.Err()
		}
	}
}
