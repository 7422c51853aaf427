package api_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
	"github.com/omni-syncd/omni-syncd/pkg/server"
	"github.com/omni-syncd/omni-syncd/pkg/server/auth"
	"github.com/omni-syncd/omni-syncd/test/authority"
)

// anyError stands for whatever TLS 1.3 leaves of a refusal: it comes after the client has
// begun to talk.
const anyError = "*"

// TestWaysNotIn are ways on which nobody gets as far as a token.
func TestWaysNotIn(t *testing.T) {
	w := start(t, nil)
	w.Apply(t, fleet("a"))

	dir := t.TempDir()
	ca := newAuthority(t, dir)
	tokens, file := tokensOf(t, dir)
	tlsOnly := w.listen(t, server.Config{Listen: "127.0.0.1:0", CertFile: ca.CertFile, KeyFile: ca.KeyFile, HTTP2: true}, file)
	mutual := w.listen(t, server.Config{Listen: "127.0.0.1:0", CertFile: ca.CertFile, KeyFile: ca.KeyFile, ClientCAFile: ca.CAFile, HTTP2: true}, file)

	for _, test := range []struct {
		name, url string
		tls       *tls.Config
		token     bool
		want      string // a part of the error; "" for none
	}{
		{"the server's authority is unknown", "https://" + tlsOnly, &tls.Config{}, true, "certificate signed by unknown authority"},
		{"clear text", "http://" + tlsOnly, nil, true, "400 Bad Request"},
		{"TLS 1.1", "https://" + tlsOnly, &tls.Config{RootCAs: ca.Pool, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, true, "protocol version"},
		{"no client certificate", "https://" + mutual, &tls.Config{RootCAs: ca.Pool}, true, anyError},
		{"a client certificate of somebody else", "https://" + mutual, &tls.Config{RootCAs: ca.Pool, Certificates: []tls.Certificate{newAuthority(t, t.TempDir()).Client}}, true, anyError},
		{"a client certificate, no token", "https://" + mutual, &tls.Config{RootCAs: ca.Pool, Certificates: []tls.Certificate{ca.Client}}, false, "unauthenticated"},
		{"both", "https://" + mutual, &tls.Config{RootCAs: ca.Pool, Certificates: []tls.Certificate{ca.Client}}, true, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			header := ""
			if test.token {
				header = "Bearer " + tokens["operator"]
			}

			transport := &http.Transport{TLSClientConfig: test.tls, ForceAttemptHTTP2: true}
			defer transport.CloseIdleConnections()

			_, err := newAsker(&http.Client{Transport: withHeader{transport, header}}, test.url).status.ListSources(t.Context(), connect.NewRequest(&v1.ListSourcesRequest{}))
			if (err == nil) != (test.want == "") || err != nil && test.want != anyError && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// overHTTP2 returns a client of the socket that speaks HTTP/2, as gRPC does.
func (w *world) overHTTP2(t *testing.T) *http.Client {
	t.Helper()

	transport := &http.Transport{Protocols: new(http.Protocols), DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", w.socket)
	}}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)

	return &http.Client{Transport: transport}
}

// Who connects and says nothing is cut off.
func TestHalfOpen(t *testing.T) {
	t.Parallel()

	w := start(t, nil)
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	_, file := tokensOf(t, dir)
	address := w.listen(t, server.Config{Listen: "127.0.0.1:0", CertFile: ca.CertFile, KeyFile: ca.KeyFile, HTTP2: true}, file)

	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // it is closed by the server

	// The first bytes of a handshake, and no more.
	if _, err = conn.Write([]byte{22, 3, 1}); err != nil {
		t.Fatal(err)
	}

	if err = conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		t.Fatal(err)
	}

	if _, err = io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
}

// withHeader sends an Authorization header.
type withHeader struct {
	http.RoundTripper

	value string
}

func (h withHeader) RoundTrip(r *http.Request) (*http.Response, error) {
	if h.value != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", h.value)
	}

	return h.RoundTripper.RoundTrip(r)
}

// listen serves the API at an address until the test ends.
func (w *world) listen(t *testing.T, cfg server.Config, tokenFile string) (address string) {
	t.Helper()

	tokens, err := auth.NewTokens(auth.TokensConfig{File: tokenFile})
	if err != nil {
		t.Fatal(err)
	}

	// The failures of one address are bounded, and here all callers are one.
	cfg.Handler = auth.Require(auth.Config{Authenticators: []auth.Authenticator{tokens}, FailureBurst: 1000}, w.handler)

	s, err := server.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)

	go func() { done <- s.Run(ctx) }()

	t.Cleanup(func() {
		stop()

		if err := <-done; err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})

	return s.Addr()
}

func newAuthority(t *testing.T, dir string) *authority.Authority {
	t.Helper()

	a, err := authority.New(dir)
	if err != nil {
		t.Fatal(err)
	}

	return a
}
