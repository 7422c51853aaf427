//go:build unix

package access

import (
	"io/fs"
	"os"
	"syscall"
)

// keepOwner gives a file the owner of the one that it replaces (nil: none): root must not
// take away the config of the person that it works for.
func keepOwner(file *os.File, replaced fs.FileInfo) error {
	if replaced == nil {
		return nil
	}

	mine, err := file.Stat()
	if err != nil {
		return err
	}

	now, ok := mine.Sys().(*syscall.Stat_t)
	want, ok2 := replaced.Sys().(*syscall.Stat_t)

	if !ok || !ok2 || now.Uid == want.Uid && now.Gid == want.Gid {
		return nil
	}

	// A group that may not be given matters only where it may read.
	err = file.Chown(int(want.Uid), int(want.Gid))
	if now.Uid == want.Uid && replaced.Mode()&0o070 == 0 {
		return nil
	}

	return err
}
