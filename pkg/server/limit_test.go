//go:build linux

package server_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/omni-syncd/omni-syncd/pkg/server"
)

// hold makes a request from a local address (on Linux all of 127.0.0.0/8 is local) and
// keeps the connection open and idle. It returns nil if the server closed it without an answer.
func hold(t *testing.T, from, to string, overTLS bool) net.Conn {
	t.Helper()

	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}

	conn, err := dialer.Dial("tcp", to)
	if errors.Is(err, syscall.ECONNRESET) {
		return nil // already
	}

	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))

	if overTLS {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // only looked at
	}

	if _, err := fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return nil
	}

	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		if err, ok := err.(net.Error); ok && err.Timeout() {
			t.Fatal("it waits; it must be answered or closed at once")
		}

		return nil
	}

	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()

	return conn
}

// One host that holds connections and does nothing keeps nobody else out, on any listener.
func TestListen_OneHost(t *testing.T) {
	cert, key := pair(t, t.TempDir(), 1)

	for name, cfg := range map[string]server.Config{
		"plain": {}, "TLS": {CertFile: cert, KeyFile: key}, "gRPC": {CertFile: cert, KeyFile: key, HTTP2: true},
	} {
		t.Run(name, func(t *testing.T) {
			core, logs := observer.New(zapcore.WarnLevel)
			cfg.Listen, cfg.Handler, cfg.Logger = "127.0.0.1:0", http.NotFoundHandler(), zap.New(core)
			s, stop := run(t, cfg)
			overTLS := cfg.CertFile != ""

			const tried = 300

			var held []net.Conn

			for range tried {
				if conn := hold(t, "127.0.0.1", s.Addr(), overTLS); conn != nil {
					held = append(held, conn)
				}
			}

			if len(held) != server.MaxHostConns {
				t.Errorf("one host holds %d connections, want %d", len(held), server.MaxHostConns)
			}

			if hold(t, "127.0.0.2", s.Addr(), overTLS) == nil {
				t.Error("another host is kept out")
			}

			lines := logs.FilterMessage("connections were refused").All()
			if len(lines) == 0 || len(lines) > 3 || lines[0].ContextMap()["refused"] != int64(1) {
				t.Errorf("%d connections were refused, and the log has %d lines: %v", tried-len(held), len(lines), lines)
			}

			// What is closed makes room.
			must(t, held[0].Close())
			eventually(t, func() bool { return hold(t, "127.0.0.1", s.Addr(), overTLS) != nil })
			must(t, stop())
		})
	}
}

// All hosts together have a bound, too.
func TestListen_AllHosts(t *testing.T) {
	s, stop := run(t, server.Config{Listen: "127.0.0.1:0", Handler: http.NotFoundHandler()})

	var last net.Conn

	for i := range server.MaxConns {
		from := fmt.Sprintf("127.0.0.%d", 1+i/server.MaxHostConns)
		if last = hold(t, from, s.Addr(), false); last == nil {
			t.Fatalf("connection %d, from %s, is refused", i, from)
		}
	}

	if hold(t, "127.0.0.99", s.Addr(), false) != nil {
		t.Error("there are more connections than the bound")
	}

	must(t, last.Close())
	eventually(t, func() bool { return hold(t, "127.0.0.99", s.Addr(), false) != nil })
	must(t, stop())
}

func TestHostOf(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7:1": "192.0.2.7", "[::ffff:192.0.2.7]:1": "192.0.2.7",
		"[2001:db8:1:2:3:4:5:6]:1": "2001:db8:1:2::", "[2001:db8:1:2:ffff::1]:2": "2001:db8:1:2::", "[2001:db8:1:3::1]:1": "2001:db8:1:3::",
		"[::1]:1": "::",
	} {
		tcp, err := net.ResolveTCPAddr("tcp", addr)
		must(t, err)

		if got := server.HostOf(tcp).String(); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}
