package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// dialTimeout is how long a socket that is there already is tried.
const dialTimeout = time.Second

// Peer is the process at the other end of a unix socket, as the kernel names it. It was
// checked when it connected.
type Peer struct {
	UID uint32
	// PID is 0 where the kernel does not tell.
	PID int32
}

type peerKey struct{}

// PeerOf returns the peer of a request that came over a unix socket.
func PeerOf(ctx context.Context) (Peer, bool) {
	peer, ok := ctx.Value(peerKey{}).(Peer)

	return peer, ok
}

// withPeer gives the requests of a connection their peer; see [http.Server.ConnContext].
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	if conn, ok := conn.(*socketConn); ok {
		return context.WithValue(ctx, peerKey{}, conn.peer)
	}

	return ctx
}

// listenSocket listens at a unix socket as [Listen] says.
func listenSocket(path string, log *zap.Logger) (net.Listener, error) {
	// An absolute path also keeps a name with "@" from becoming one of Linux' abstract
	// sockets, which have no mode.
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("listen at the socket %s: %w", path, err)
	}

	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("listen at the socket %s: the path has %d bytes, the system takes at most %d; choose a shorter one", path, len(path), maxSocketPath)
	}

	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the socket: %w", err)
	}

	if err := removeStale(path); err != nil {
		return nil, err
	}

	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen at the socket %s: %w", path, errors.Unwrap(err))
	}

	// Whoever connects before this is looked at all the same.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("close the socket to others: %w", err), listener.Close())
	}

	return &socketListener{UnixListener: listener, log: log, slots: make(chan struct{}, maxSocketConns)}, nil
}

// removeStale removes a socket that nobody listens at any more. It removes nothing else.
func removeStale(path string) error {
	info, err := os.Lstat(path)

	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look for the socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("listen at the socket %s: something else is there, and it is left alone; remove it or choose another path", path)
	}

	conn, err := net.DialTimeout("unix", path, dialTimeout)

	switch {
	case err == nil:
		_ = conn.Close()

		return fmt.Errorf("listen at the socket %s: somebody listens there, perhaps another omni-syncd; stop it or choose another path", path)
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("whether somebody listens at the socket %s cannot be told: %w", path, errors.Unwrap(err))
	}

	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the socket that an earlier run left behind: %w", err)
	}

	return nil
}

// socketListener accepts who may connect.
type socketListener struct {
	*net.UnixListener

	log   *zap.Logger
	slots chan struct{}
}

// Accept implements net.Listener. It closes the connections of those who may not, and what
// is too many.
func (l *socketListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}

		peer, err := l.check(conn)
		if err != nil {
			l.log.Warn("a connection to the socket was refused", zap.String("socket", l.Addr().String()), zap.Uint32("uid", peer.UID), zap.Int32("pid", peer.PID), zap.Error(err))
			_ = conn.Close()

			continue
		}

		return &socketConn{Conn: conn, peer: peer, release: sync.OnceFunc(func() { <-l.slots })}, nil
	}
}

// check takes a slot for a connection that is welcome.
func (l *socketListener) check(conn *net.UnixConn) (Peer, error) {
	peer, err := peerOf(conn)

	switch {
	case err != nil:
		return peer, err
	case peer.UID != 0 && int(peer.UID) != os.Geteuid():
		return peer, fmt.Errorf("permission denied: the user %d is neither the daemon's (%d) nor root", peer.UID, os.Geteuid())
	}

	select {
	case l.slots <- struct{}{}:
		return peer, nil
	default:
		return peer, fmt.Errorf("there are %d connections already", maxSocketConns)
	}
}

// socketConn is a connection whose peer is known.
type socketConn struct {
	net.Conn

	peer    Peer
	release func()
}

// Close implements net.Conn.
func (c *socketConn) Close() error {
	defer c.release()

	return c.Conn.Close()
}
