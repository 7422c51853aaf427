package server

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Bounds of a TCP listener (G12).
const (
	// maxConns is how many connections a listener holds at the same time.
	maxConns = 1024
	// maxHostConns is how many of them one remote address holds: an IPv4 address, or a /64 of
	// IPv6, because that is what one host is given. A proxy in front is one address, too; with
	// HTTP/2 each of its connections carries maxStreams requests.
	maxHostConns = 128
	// refusedEvery is how often a line tells of refused connections, at most.
	refusedEvery = 10 * time.Second
)

// limitListener bounds the connections of a TCP listener, so that one host with idle ones
// keeps nobody else out. What is over a bound is closed at once: in a queue it would wait
// for as long as the others like.
type limitListener struct {
	net.Listener

	log *zap.Logger

	mu      sync.Mutex
	total   int
	hosts   map[netip.Addr]int
	refused int // since the last line
	told    time.Time
}

func newLimitListener(listener net.Listener, log *zap.Logger) *limitListener {
	return &limitListener{Listener: listener, log: log, hosts: map[netip.Addr]int{}}
}

// Accept implements net.Listener.
func (l *limitListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}

		host := hostOf(conn.RemoteAddr())

		if err := l.take(host); err != nil {
			l.refuse(conn, err)

			continue
		}

		return &limitedConn{Conn: conn, release: sync.OnceFunc(func() { l.release(host) })}, nil
	}
}

// take counts a connection, if there is room for it.
func (l *limitListener) take(host netip.Addr) error {
	l.mu.Lock()
	defer l.mu.Unlock()

	switch {
	case l.hosts[host] >= maxHostConns:
		return fmt.Errorf("its address holds %d connections already", maxHostConns)
	case l.total >= maxConns:
		return fmt.Errorf("there are %d connections already", maxConns)
	}

	l.total++
	l.hosts[host]++

	return nil
}

func (l *limitListener) release(host netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.total--

	if l.hosts[host]--; l.hosts[host] == 0 {
		delete(l.hosts, host)
	}
}

// refuse closes a connection. The log is told at a bounded rate.
func (l *limitListener) refuse(conn net.Conn, why error) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a reset: the kernel remembers nothing of it
	}

	why = errors.Join(why, conn.Close())

	l.mu.Lock()
	l.refused++
	refused, tell := l.refused, time.Since(l.told) >= refusedEvery

	if tell {
		l.refused, l.told = 0, time.Now()
	}
	l.mu.Unlock()

	if tell {
		l.log.Warn("connections were refused", zap.String("address", l.Addr().String()), zap.Stringer("remote", conn.RemoteAddr()),
			zap.Int("refused", refused), zap.Error(why))
	}
}

// hostOf is whom a remote address is counted for: an IPv4 address, or a /64 of IPv6.
func hostOf(addr net.Addr) netip.Addr {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}

	host := tcp.AddrPort().Addr().Unmap()

	if prefix, err := host.Prefix(64); err == nil && host.Is6() {
		return prefix.Addr()
	}

	return host
}

// limitedConn is a connection that is counted until it is closed.
type limitedConn struct {
	net.Conn

	release func()
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	defer c.release()

	return c.Conn.Close()
}
