//go:build unix

package access

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// forOthers are the permissions of those who are not the owner.
const forOthers fs.FileMode = 0o077

// onlyOurs returns an error for a folder that somebody else than us and root can write.
func onlyOurs(path string, info fs.FileInfo) error {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("the folder %s belongs to the user %d, who could put other configs into it: omni-syncd runs as the user %d; make it theirs (chown %[3]d %[1]s), or name a folder that is not there yet",
			path, stat.Uid, os.Geteuid())
	}

	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("the folder %s can be written by others (%v), who could put other configs into it: take that from them (chmod go-w %[1]s), or name a folder in it that is not there yet", path, info.Mode())
	}

	return nil
}

// keepOwner gives a file the owner of the one that it replaces (nil: none): root must not
// take away the config of the person that it works for. mode is what the file will have.
func keepOwner(file *os.File, replaced fs.FileInfo, mode fs.FileMode) error {
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
	if now.Uid == want.Uid && mode&0o070 == 0 {
		return nil
	}

	return err
}
