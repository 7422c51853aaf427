package access

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// OpenDirectory takes a directory, which is made if need be (0700). Who is done with it
// closes it; the files stay.
//
// One that is neither ours nor root's, or that others can write, is an error: who can write
// a folder puts what they like in the place of a config, also in a sticky one.
func OpenDirectory(path string) (*Directory, error) {
	if err := os.MkdirAll(path, newFolder); err != nil {
		return nil, fmt.Errorf("make the folder for the configs of clusters: %w", err)
	}

	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open the folder for the configs of clusters: %w", err)
	}

	lock, err := secure(root, path)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}

	return &Directory{path: path, root: root, lock: lock}, nil
}

// secure makes sure that a folder, and the one of the notes in it, are ours alone.
func secure(root *os.Root, path string) (lock *os.File, err error) {
	info, err := root.Stat(".")
	if err == nil {
		err = onlyOurs(path, info)
	}

	if err != nil {
		return nil, err
	}

	// From here on nobody else changes what is in it.
	notes := filepath.Join(path, notesFolder)

	if err := root.Mkdir(notesFolder, newFolder); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the folder %s: %w", notes, err)
	}

	info, err = root.Lstat(notesFolder)

	switch {
	case err != nil:
		return nil, err
	case !info.IsDir():
		return nil, fmt.Errorf("%s is no folder but %s: move it away, and omni-syncd makes a folder there for its notes", notes, kindOfFile(info))
	}

	if err := onlyOurs(notes, info); err != nil {
		return nil, err
	}

	if lock, err = lockDirectory(root, filepath.Join(notesFolder, "lock")); err != nil {
		return nil, fmt.Errorf("the folder %s: %w", path, err)
	}

	return lock, nil
}

func kindOfFile(info fs.FileInfo) string {
	if info.Mode().Type() == fs.ModeSymlink {
		return "a symbolic link"
	}

	return "something else"
}

// Close lets another process use the directory.
func (d *Directory) Close() error { return errors.Join(d.lock.Close(), d.root.Close()) }
