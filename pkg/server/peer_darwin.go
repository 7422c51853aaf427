package server

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// maxSocketPath is the size of sockaddr_un's path, without the zero at its end.
const maxSocketPath = 103

// peerOf asks the kernel who connected.
func peerOf(conn *net.UnixConn) (Peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("ask who connected: %w", err)
	}

	var (
		peer            Peer
		credErr, pidErr error
	)

	err = raw.Control(func(fd uintptr) {
		var cred *unix.Xucred
		if cred, credErr = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED); credErr == nil {
			peer.UID = cred.Uid
		}

		var pid int
		pid, pidErr = unix.GetsockoptInt(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERPID)
		peer.PID = int32(pid)
	})
	if err := errors.Join(err, credErr, pidErr); err != nil {
		return Peer{}, fmt.Errorf("ask who connected: %w", err)
	}

	return peer, nil
}
