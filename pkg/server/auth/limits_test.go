package auth

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Those who wait for an answer count before they fail.
func TestFailuresAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})

		var (
			mu    sync.Mutex
			asked int
		)

		g := guard(Config{FailureBurst: 1000, Authenticators: []Authenticator{authenticatorFunc(func(context.Context, string) (*Caller, error) {
			mu.Lock()
			asked++
			mu.Unlock()
			<-open

			return nil, ErrUnknown
		})}})

		var group sync.WaitGroup

		for range 100 {
			group.Go(func() { g.ask("guess", here) })
		}

		synctest.Wait()

		if asked != maxAsking {
			t.Errorf("%d ask at once, want %d", asked, maxAsking)
		}

		close(open)
		group.Wait()
	})
}

type authenticatorFunc func(context.Context, string) (*Caller, error)

// A flood of refused requests is a few lines in the log, and none of them starts a new one.
func TestRefusalLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := guard(Config{})

		for range 10000 {
			g.ask("", here, func(r *http.Request) { r.URL.Path = "/a\nb" + strings.Repeat("c", 1000) })
		}

		if g.logs.Len() != logBurst {
			t.Errorf("%d lines", g.logs.Len())
		}

		time.Sleep(time.Second)
		g.ask("", here)

		last := g.logs.All()[g.logs.Len()-1].ContextMap()
		if last["left_out_before"] != int64(10000-logBurst) {
			t.Error(last)
		}

		if path := g.logs.All()[0].ContextMap()["path"].(string); strings.Contains(path, "\n") || len(path) > maxName+3 {
			t.Errorf("%d %q", len(path), path)
		}
	})
}

func TestRemoteOf(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1:80":                  "192.0.2.1",
		"[::ffff:192.0.2.1]:80":         "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:80":     "2001:db8:1:2::/64",
		"[2001:db8:1:2:ffff::1%eth0]:1": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1":              "fe80::/64",
		"2001:db8::1":                   "2001:db8::/64",
		"":                              "unknown",
		"@":                             "unknown",
		"pipe":                          "unknown",
	} {
		if got := remoteOf(addr); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

func TestBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBounded[int, string](3)

		for i := range 10 {
			b.put(i, "x", time.Minute)
		}

		if len(b.items) != 3 || b.order.Len() != 3 {
			t.Errorf("%d entries", len(b.items))
		}

		b.get(7)
		b.put(10, "y", time.Hour)

		if _, ok := b.get(8); ok {
			t.Error("what was used for longest is still there")
		}

		if _, ok := b.get(7); !ok {
			t.Error("what was just used is gone")
		}

		time.Sleep(time.Minute)

		if _, ok := b.get(7); ok || len(b.items) != 2 {
			t.Error("what is too old is still there")
		}

		if _, ok := b.get(10); !ok {
			t.Error("what is not too old is gone")
		}
	})
}

// A refused request holds its connection no longer than it takes to say so, even if its body trickles.
func TestRefusedUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, end := net.Pipe()
		listener := &oneConn{conn: end, done: make(chan struct{})}
		server := &http.Server{Handler: Require(Config{}, http.NotFoundHandler())} // without any timeout of its own

		go server.Serve(listener) //nolint:errcheck // ends when it is closed

		began := time.Now()

		fmt.Fprintf(client, "POST /x HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n")

		var group sync.WaitGroup

		group.Go(func() {
			for {
				if _, err := client.Write([]byte("x")); err != nil {
					return
				}

				time.Sleep(100 * time.Millisecond)
			}
		})

		answer, _ := io.ReadAll(client)
		if took := time.Since(began); !strings.HasPrefix(string(answer), "HTTP/1.1 401 ") || took > 3*time.Second {
			t.Errorf("after %s: %.60q", took, answer)
		}

		_ = client.Close()
		_ = server.Close()
		group.Wait()
	})
}

// oneConn is a listener with one connection.
type oneConn struct {
	conn net.Conn
	once sync.Once
	done chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	if conn := l.conn; conn != nil {
		l.conn = nil

		return conn, nil
	}

	<-l.done

	return nil, net.ErrClosed
}

func (l *oneConn) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }
