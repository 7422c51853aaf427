//go:build !linux

package source

import "io/fs"

// network is not known here. DirConfig.Interval is what finds changes that the system
// does not tell of.
func network(string) string { return "" }

// stamp is not known here: size and modification time have to do.
func stamp(fs.FileInfo) (inode uint64, changed int64, device uint64) { return 0, 0, 0 }
