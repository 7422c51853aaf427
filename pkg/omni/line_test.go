//go:build unix

package omni

import (
	"context"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// narrow passes bytes on to a server, and buffers next to nothing: what it does not take stays with the sender's kernel,
// as on a line that leads nowhere.
type narrow struct {
	net.Listener
	target string

	stalled atomic.Pointer[chan struct{}] // bytes wait for it on their way up
	up      atomic.Int64                  // bytes that went to the server
	lines   atomic.Int64
	ended   chan struct{} // one for each connection that ended
}

func newNarrow(t *testing.T, target string) *narrow {
	t.Helper()

	small := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if failed := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10) }); failed != nil {
			return failed
		}

		return err
	}}

	listener, err := small.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	n := &narrow{Listener: listener, target: target, ended: make(chan struct{}, 100)}
	n.release()

	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}

			n.lines.Add(1)

			go n.pass(client)
		}
	}()

	t.Cleanup(func() { _ = listener.Close() })

	return n
}

func (n *narrow) pass(client net.Conn) {
	server, err := net.Dial("tcp", n.target)
	if err != nil {
		return
	}

	go func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	}()

	for buffer := make([]byte, 512); ; {
		got, err := client.Read(buffer)
		<-*n.stalled.Load()

		if wrote, failed := server.Write(buffer[:got]); failed != nil || err != nil {
			break
		} else {
			n.up.Add(int64(wrote))
		}
	}

	_ = server.Close()
	n.ended <- struct{}{}
}

func (n *narrow) stall() (release func()) {
	held := make(chan struct{})
	n.stalled.Store(&held)

	return func() { close(held) }
}

func (n *narrow) release() { n.stall()() }

// G5, G8: a write whose time is over on a line that leads nowhere is not delivered when the line works again, and the
// next one takes another line. Neither is one that was under way when the connection was closed.
func TestG8_NothingIsDeliveredLater(t *testing.T) {
	t.Parallel()

	for name, closed := range map[string]bool{"its time is over": false, "the connection is closed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			place := &site{lab: newLab()}
			place.up(t)
			t.Cleanup(place.down)

			line, dial := newNarrow(t, place.address), func() *Conn {
				key, _ := newKey(t, time.Hour)

				conn, err := Dial(ConnConfig{Endpoint: "http://" + place.address, ServiceAccountKey: key})
				if err != nil {
					t.Fatal(err)
				}

				t.Cleanup(func() { _ = conn.Close() })

				return conn
			}

			place.address = line.Addr().String()
			conn := dial()

			if err := conn.State().Create(t.Context(), newPatch("before", "a", "x")); err != nil {
				t.Fatal(err)
			}

			big := make([]byte, 30<<10) // within HTTP/2's first window, so that all of it is sent
			for i := range big {
				big[i] = byte(rand.Uint32())
			}

			before, release := line.up.Load(), line.stall()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()

			if closed {
				time.AfterFunc(100*time.Millisecond, func() { _ = conn.Close() })
			}

			if err := conn.State().Create(ctx, newPatch("late", "a", base64.StdEncoding.EncodeToString(big))); !Transient(err) {
				t.Errorf("the write came back with %v", err)
			}

			release()

			select {
			case <-line.ended:
			case <-time.After(10 * time.Second):
				t.Error("the connection was not ended")
			}

			if sent := line.up.Load() - before; sent > int64(len(big)) {
				t.Errorf("%d bytes were delivered afterwards", sent)
			}

			if closed {
				conn = dial()
			}

			if err := conn.State().Create(t.Context(), newPatch("after", "a", "x")); err != nil {
				t.Error(err)
			}

			if _, err := conn.State().Get(t.Context(), newPatch("late", "a", "").Metadata()); !NotFound(err) || line.lines.Load() != 2 {
				t.Errorf("over %d lines: %v", line.lines.Load(), err)
			}
		})
	}
}

// What only reads does not take the connection along: watches are on it.
func TestLine_Reads(t *testing.T) {
	t.Parallel()

	place := &site{lab: newLab()}
	place.up(t)
	t.Cleanup(place.down)

	line := newNarrow(t, place.address)
	key, _ := newKey(t, time.Hour)

	conn, err := Dial(ConnConfig{Endpoint: "http://" + line.Addr().String(), ServiceAccountKey: key})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the test is over

	if _, err := conn.State().Get(t.Context(), newCluster("a").Metadata()); !NotFound(err) {
		t.Fatal(err)
	}

	release := line.stall()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()

	if _, err := conn.State().Get(ctx, newCluster("a").Metadata()); !Transient(err) {
		t.Errorf("got %v", err)
	}

	release()

	if _, err := conn.State().Get(t.Context(), newCluster("a").Metadata()); !NotFound(err) || line.lines.Load() != 1 {
		t.Errorf("over %d lines: %v", line.lines.Load(), err)
	}
}
