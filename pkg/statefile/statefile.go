// Package statefile replaces files of the state directory as a whole and puts damaged ones
// aside. It is the one place that says how: a crash or a full disk at any moment leaves the
// old file or the new one, and never a part of either.
package statefile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// maxAside is how many damaged files are kept of each file (G12).
const maxAside = 3

// ErrNotRegular is the error of a path at which a directory, a device or a FIFO is.
var ErrNotRegular = errors.New("it is not a regular file")

// Open opens a file for reading, or for writing as well. Anything but a regular file is
// refused: opening a FIFO would wait for ever.
func Open(path string, flag int) (*os.File, error) {
	info, err := os.Stat(path)

	// A link to what is not there is no file that was never written.
	if _, there := os.Lstat(path); errors.Is(err, fs.ErrNotExist) && there == nil {
		return nil, fmt.Errorf("%s: a link that leads nowhere: %w", path, ErrNotRegular)
	}

	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: %w", path, ErrNotRegular)
	}

	return os.OpenFile(path, flag, 0)
}

// Replace replaces a file by what write writes. When it returns nil, the file is on the
// disk under its name. Only one process may replace a file at a time.
func Replace(path string, write func(io.Writer) error) error {
	// The name is always the same, so that what a crash leaves behind does not add up.
	name := path + ".new"
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}

	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}

	buffered := bufio.NewWriter(file)
	if err = write(buffered); err == nil {
		err = buffered.Flush()
	}

	if err == nil {
		err = file.Sync()
	}

	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(name, path)
	}

	if err != nil {
		return errors.Join(err, os.Remove(name))
	}

	return syncFolder(filepath.Dir(path))
}

// syncFolder waits until the names in a folder are on the disk.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil // it has no such thing
	}

	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	defer folder.Close() //nolint:errcheck // only synced

	return folder.Sync()
}

// PutAside renames whatever is at a path and returns its new name. The oldest of the files
// put aside earlier makes room if there are too many.
func PutAside(path string) (string, error) {
	name, err := asideName(path)
	if err != nil {
		return "", err
	}

	return name, os.Rename(path, name)
}

// CopyAside is PutAside for a file that has to stay at its path until it is replaced.
func CopyAside(path string, data []byte) (string, error) {
	name, err := asideName(path)
	if err != nil {
		return "", err
	}

	return name, Replace(name, func(w io.Writer) error {
		_, err := w.Write(data)

		return err
	})
}

// asideName returns a name that is free. Only files make room: a directory is somebody
// else's.
func asideName(path string) (string, error) {
	var (
		oldest string
		when   time.Time
	)

	for n := range maxAside {
		name := path + ".damaged"
		if n > 0 {
			name = fmt.Sprintf("%s-%d", name, n+1)
		}

		info, err := os.Lstat(name)

		switch {
		case errors.Is(err, fs.ErrNotExist):
			return name, nil
		case err != nil:
			return "", err
		case info.Mode().IsRegular() && (oldest == "" || info.ModTime().Before(when)):
			oldest, when = name, info.ModTime()
		}
	}

	if oldest == "" {
		return "", fmt.Errorf("there are %d directories %s.damaged… already: remove them", maxAside, path)
	}

	return oldest, os.Remove(oldest)
}
