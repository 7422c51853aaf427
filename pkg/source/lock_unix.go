//go:build unix && !solaris && !aix

package source

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// LockState makes sure that nobody else uses a state directory until the file is closed.
// The lock goes with the process, however that ends.
func LockState(dir string) (*os.File, error) {
	name := filepath.Join(dir, "lock")

	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the state directory: %w", err)
	}

	if err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		owner, _ := readLine(name) //nolint:errcheck // only for the message

		file.Close()

		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("the state directory %s is in use by another omni-syncd (process %s): stop that one, or set another state directory", dir, clean(owner))
		}

		return nil, fmt.Errorf("lock the state directory %s: %w: does its file system have locks?", dir, err)
	}

	if err = file.Truncate(0); err == nil {
		_, err = file.WriteString(strconv.Itoa(os.Getpid()) + "\n")
	}

	if err != nil {
		file.Close()

		return nil, fmt.Errorf("lock the state directory: %w", err)
	}

	return file, nil
}
