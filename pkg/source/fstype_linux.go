package source

import (
	"io/fs"
	"syscall"
)

// networked are the filesystems on which other machines can change files, by the
// magic numbers that statfs tells. The system notifies of local changes only. FUSE is
// among them because it is what most storage of clouds is mounted with.
var networked = map[uint32]string{
	0x00006969: "NFS",
	0x0000517b: "SMB",
	0xff534d42: "CIFS",
	0xfe534d42: "SMB2",
	0x65735546: "FUSE",
	0x01021997: "9P",
	0x00c36400: "Ceph",
	0x5346414f: "AFS",
	0x6b414653: "kAFS",
	0x73757245: "Coda",
	0x01161970: "GFS2",
	0x7461636f: "OCFS2",
	0x0bd00bd0: "Lustre",
	0x47504653: "GPFS",
	0x19830326: "BeeGFS",
	0x786f4256: "VirtualBox",
	0xbacbacbc: "VMware HGFS",
}

// network returns the name of the network filesystem that a folder is on, or "".
func network(folder string) string {
	var st syscall.Statfs_t
	if err := syscall.Statfs(folder, &st); err != nil {
		return "" // it is gone, and the next look says so
	}

	return networked[uint32(st.Type)] //nolint:gosec // signed on some machines
}

// stamp tells apart what has the same size and modification time: the inode, and when
// it was last changed in any way, which no program can set.
func stamp(info fs.FileInfo) (inode uint64, changed int64, device uint64) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, 0
	}

	return st.Ino, st.Ctim.Nano(), uint64(st.Dev) //nolint:unconvert // 32 bits on some machines
}
