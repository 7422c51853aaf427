package server

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// maxSocketPath is the size of sockaddr_un's path, without the zero at its end.
const maxSocketPath = 107

// peerOf asks the kernel who connected.
func peerOf(conn *net.UnixConn) (Peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("ask who connected: %w", err)
	}

	var (
		cred   *unix.Ucred
		optErr error
	)

	err = raw.Control(func(fd uintptr) {
		cred, optErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, optErr); err != nil {
		return Peer{}, fmt.Errorf("ask who connected: %w", err)
	}

	return Peer{UID: cred.Uid, PID: cred.Pid}, nil
}
