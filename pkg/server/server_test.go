package server_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/omni-syncd/omni-syncd/pkg/server"
)

// run serves until the returned function is called, which returns what Run returned.
func run(t *testing.T, cfg server.Config) (*server.Server, func() error) {
	t.Helper()

	s, err := server.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)

	go func() { done <- s.Run(ctx) }()

	t.Cleanup(cancel)

	return s, func() error {
		cancel()

		return <-done
	}
}

// pair writes a self-signed certificate with a serial number.
func pair(t *testing.T, dir string, serial int64) (cert, key string) {
	t.Helper()

	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)

	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	must(t, err)
	keyDER, err := x509.MarshalECPrivateKey(private)
	must(t, err)

	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	must(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), 0o600))
	must(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))

	return cert, key
}

func must(t *testing.T, err error) {
	t.Helper()

	if err != nil {
		t.Fatal(err)
	}
}

// served returns the serial number of the certificate that is served.
func served(t *testing.T, addr string) int64 {
	t.Helper()

	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // only looked at
	must(t, err)
	defer conn.Close() //nolint:errcheck // only looked at

	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// A certificate that is renewed is served without a restart; one that is half written is
// not, and the last one goes on.
func TestListen_CertificateRotates(t *testing.T) {
	dir := t.TempDir()
	cert, key := pair(t, dir, 1)
	s, stop := run(t, server.Config{Listen: "127.0.0.1:0", CertFile: cert, KeyFile: key, Handler: http.NotFoundHandler()})

	if got := served(t, s.Addr()); got != 1 {
		t.Fatalf("certificate %d", got)
	}

	old := time.Now().Add(-time.Hour) // another time than the next one's, however fast this goes
	pair(t, dir, 2)
	must(t, os.Chtimes(cert, old, old))
	eventually(t, func() bool { return served(t, s.Addr()) == 2 })

	must(t, os.WriteFile(cert, []byte("-----BEGIN CERT"), 0o600))

	for range 3 {
		if got := served(t, s.Addr()); got != 2 {
			t.Fatalf("certificate %d", got)
		}
	}

	must(t, stop())
}

// eventually waits for what takes the server a second to look at.
func eventually(t *testing.T, condition func() bool) {
	t.Helper()

	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()

	for deadline := time.Now().Add(20 * time.Second); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("it does not happen")
		}
	}
}

// What cannot be served is an error at start, which names the address or the file.
func TestListen_Errors(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close() //nolint:errcheck // nothing is lost

	dir := t.TempDir()
	cert, _ := pair(t, dir, 1)
	_, other := pair(t, t.TempDir(), 2)

	for want, cfg := range map[string]server.Config{
		"address already in use":       {Listen: taken.Addr().String()},
		"no such file":                 {Listen: "127.0.0.1:0", CertFile: filepath.Join(dir, "none"), KeyFile: other},
		"does not match":               {Listen: "127.0.0.1:0", CertFile: cert, KeyFile: other},
		filepath.Join(dir, "cert.pem"): {Listen: "127.0.0.1:0", CertFile: cert, KeyFile: other},
	} {
		if _, err := server.Listen(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", cfg, err, want)
		}
	}
}

// A request under way is answered after the stop; nobody new is let in.
func TestRun_Drains(t *testing.T) {
	began, finish := make(chan struct{}), make(chan struct{})
	s, stop := run(t, server.Config{Listen: "127.0.0.1:0", Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(began)
		<-finish
		fmt.Fprint(w, "answered")
	})})

	answer := make(chan string, 1)

	go func() {
		res, err := http.Get("http://" + s.Addr())
		if err != nil {
			answer <- err.Error()

			return
		}
		defer res.Body.Close() //nolint:errcheck // only read

		body, _ := io.ReadAll(res.Body)
		answer <- string(body)
	}()

	<-began

	stopped := make(chan error, 1)

	go func() { stopped <- stop() }()

	eventually(t, func() bool {
		conn, err := net.Dial("tcp", s.Addr())
		if err == nil {
			conn.Close() //nolint:errcheck // only tried
		}

		return err != nil
	})
	close(finish)

	if got := <-answer; got != "answered" {
		t.Errorf("got %q", got)
	}

	must(t, <-stopped)
}

// G12: headers have a bound.
func TestRun_HeaderBound(t *testing.T) {
	s, stop := run(t, server.Config{Listen: "127.0.0.1:0", Handler: http.NotFoundHandler()})

	conn, err := net.Dial("tcp", s.Addr())
	must(t, err)
	defer conn.Close() //nolint:errcheck // only tried

	go fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", strings.Repeat("x", 1<<20)) //nolint:errcheck // it is cut off

	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	defer res.Body.Close() //nolint:errcheck // only looked at

	if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %s", res.Status)
	}

	must(t, stop())
}
