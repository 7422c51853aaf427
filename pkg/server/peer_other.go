//go:build !linux && !darwin

package server

import (
	"errors"
	"net"
)

const maxSocketPath = 103

// peerOf cannot tell who connected here, so nobody may.
func peerOf(*net.UnixConn) (Peer, error) {
	return Peer{}, errors.New("this system does not tell who connected to a socket: the API is for Linux and macOS")
}
