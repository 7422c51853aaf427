//go:build unix && !solaris && !aix

package access

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lockDirectory makes sure that nobody else uses a directory until the file is closed. The
// lock goes with the process, however that ends.
func lockDirectory(root *os.Root, name string) (*os.File, error) {
	file, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE, newFile)
	if err != nil {
		return nil, err
	}

	if err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
		return file, nil
	}

	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errors.New("another omni-syncd keeps it filled: stop that one, or give this one its own")
	} else {
		err = fmt.Errorf("lock it: %w", err)
	}

	return nil, errors.Join(err, file.Close())
}
