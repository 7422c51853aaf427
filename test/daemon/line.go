//go:build unix

package daemon

import (
	"io"
	"net"
	"net/url"
	"sync/atomic"
	"syscall"
	"testing"
)

// Line is the network between a client and an Omni, and leads nowhere for a while. It buffers next to nothing: what it
// does not take stays with the sender's kernel, as on a half-open connection.
type Line struct {
	// Endpoint is where the client finds the Omni through the line.
	Endpoint string
	// Ended gets one for each connection that ended.
	Ended chan struct{}

	target string
	held   atomic.Pointer[chan struct{}] // what is on its way to the server waits for it
	sent   atomic.Int64
	opened atomic.Int64
}

// NewLine starts a line to an Omni; it ends with the test.
func NewLine(t testing.TB, o *Omni) *Line {
	t.Helper()

	endpoint, err := url.Parse(o.Endpoint())
	check(t, err)

	small := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if failed := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10) }); failed != nil {
			return failed
		}

		return err
	}}

	listener, err := small.Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)

	l := &Line{Ended: make(chan struct{}, 100), target: endpoint.Host}
	endpoint.Host = listener.Addr().String()
	l.Endpoint = endpoint.String()
	l.Stall()()

	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}

			l.opened.Add(1)

			go l.pass(client)
		}
	}()

	t.Cleanup(func() { _ = listener.Close() })

	return l
}

func (l *Line) pass(client net.Conn) {
	defer func() { l.Ended <- struct{}{} }()
	defer client.Close() //nolint:errcheck // nothing is lost

	server, err := net.Dial("tcp", l.target)
	if err != nil {
		return
	}
	defer server.Close() //nolint:errcheck // nothing is lost

	go func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	}()

	for buffer := make([]byte, 512); ; {
		n, err := client.Read(buffer)
		<-*l.held.Load()

		wrote, failed := server.Write(buffer[:n])
		l.sent.Add(int64(wrote))

		if err != nil || failed != nil {
			return
		}
	}
}

// Stall lets nothing pass on its way to the server, and nobody is told, until release is called. What is left then of a
// connection that was reset meanwhile passes too.
func (l *Line) Stall() (release func()) {
	held := make(chan struct{})
	l.held.Store(&held)

	return func() { close(held) }
}

// Sent returns how many bytes went to the server.
func (l *Line) Sent() int64 { return l.sent.Load() }

// Opened returns how many connections there were.
func (l *Line) Opened() int64 { return l.opened.Load() }
