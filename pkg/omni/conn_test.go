package omni

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/protobuf/server"
	"github.com/siderolabs/go-api-signature/pkg/message"
	"github.com/siderolabs/go-api-signature/pkg/pgp"
	"github.com/siderolabs/go-api-signature/pkg/serviceaccount"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func newKey(t *testing.T, lifetime time.Duration) (encoded string, key *pgp.Key) {
	t.Helper()

	key, err := pgp.GenerateKey("omni-syncd", "", "omni-syncd@serviceaccount.omni.sidero.dev", lifetime)
	if err != nil {
		t.Fatal(err)
	}

	encoded, err = serviceaccount.Encode("omni-syncd", key)
	if err != nil {
		t.Fatal(err)
	}

	return encoded, key
}

func TestDialRefusesKeys(t *testing.T) {
	t.Parallel()

	good, key := newKey(t, time.Hour)
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

	public, err := key.ArmorPublic()
	if err != nil {
		t.Fatal(err)
	}

	for name, test := range map[string]struct{ key, want string }{
		"none":            {"", "no service account key"},
		"blank":           {" \n", "no service account key"},
		"not base64":      {"secret!" + good, "is not valid base64"},
		"cut off":         {good[:len(good)-3], "is not valid base64"},
		"cut in half":     {good[:len(good)/8*4], "is not that of a service account"},
		"not JSON":        {b64("secret"), "is not that of a service account"},
		"another JSON":    {b64(`["secret"]`), "is not that of a service account"},
		"no key":          {b64(`{"name":"secret"}`), "holds no usable private key"},
		"broken key":      {b64(`{"name":"secret","pgp_key":"-----BEGIN PGP PRIVATE KEY BLOCK-----\nsecret"}`), "holds no usable private key"},
		"only the public": {b64(`{"name":"secret","pgp_key":"` + strings.ReplaceAll(public, "\n", `\n`) + `"}`), "holds no usable private key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			_, err := Dial(ConnConfig{Endpoint: "https://omni.example.com", ServiceAccountKey: test.key})
			refused(t, err, test.want)

			if strings.Contains(err.Error(), "secret") || len(test.key) > 10 && strings.Contains(err.Error(), test.key[:10]) {
				t.Errorf("the error shows a part of the key: %v", err)
			}
		})
	}
}

func TestDialRefusesExpiredKey(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		key, _ := newKey(t, time.Hour)
		if _, err := checkKey(key); err != nil {
			t.Fatal(err)
		}

		time.Sleep(2 * time.Hour)

		_, err := checkKey(key)
		refused(t, err, "has expired")
	})
}

func refused(t *testing.T, err error, want string) {
	t.Helper()

	if err == nil {
		t.Fatal("accepted")
	}

	if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("the error is %q, want one line with %q", err, want)
	}
}

func TestEndpoint(t *testing.T) {
	t.Parallel()

	for _, test := range []struct {
		endpoint, target string
		secure, insecure bool
		want             string
	}{
		{endpoint: "https://omni.example.com", target: "omni.example.com:443", secure: true},
		{endpoint: " https://omni.example.com:8099/\n", target: "omni.example.com:8099", secure: true},
		{endpoint: "https://[2001:db8::1]", target: "[2001:db8::1]:443", secure: true},
		{endpoint: "http://localhost:8080", target: "localhost:8080"},
		{endpoint: "grpc://127.0.0.1", target: "127.0.0.1:80"},
		{endpoint: "grpc://[::1]:1", target: "[::1]:1"},
		{endpoint: "http://omni.example.com", want: "clear text"},
		{endpoint: "http://localhost.example.com", want: "clear text"},
		{endpoint: "http://omni.example.com", insecure: true, target: "omni.example.com:80"},
		{endpoint: "", want: "OMNI_ENDPOINT"},
		{endpoint: "omni.example.com", want: "not a URL"},
		{endpoint: "omni.example.com:443", want: "not a URL"},
		{endpoint: "https://", want: "not a URL"},
		{endpoint: "https://%zz", want: "not a URL"},
		{endpoint: "ftp://omni.example.com", want: "must begin with https://"},
		{endpoint: "https://omni.example.com/api", want: "host and port only"},
		{endpoint: "https://omni.example.com?a=b", want: "host and port only"},
		{endpoint: "https://user:hunter2@omni.example.com", want: "must not hold a user or password"},
	} {
		target, secure, err := parseEndpoint(test.endpoint, test.insecure)

		switch {
		case test.want != "":
			refused(t, err, test.want)

			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows the password: %v", err)
			}
		case err != nil, target != test.target, secure != test.secure:
			t.Errorf("%q: %q, %v, %v, want %q, %v", test.endpoint, target, secure, err, test.target, test.secure)
		}
	}
}

func TestDialRefusesCA(t *testing.T) {
	t.Parallel()

	key, _ := newKey(t, time.Hour)
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")

	if err := os.WriteFile(empty, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}

	for file, want := range map[string]string{filepath.Join(dir, "missing.pem"): "no such file", empty: "holds no certificate"} {
		_, err := Dial(ConnConfig{Endpoint: "https://omni.example.com", ServiceAccountKey: key, CAFile: file})
		refused(t, err, want)
	}
}

// authority makes a certificate for this machine that signs itself, and writes it as a PEM file.
func authority(t *testing.T) (tls.Certificate, string) {
	t.Helper()

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}

	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "omni"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:         true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}

	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}

	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}

	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// verify is the server's side of signed requests: it lets only this key in.
func verify(key *pgp.Key) func(context.Context, string) error {
	return func(ctx context.Context, method string) error {
		md, _ := metadata.FromIncomingContext(ctx)

		msg := message.NewGRPC(md, method)

		signature, err := msg.Signature()
		if err != nil || signature == nil || msg.VerifySignature(key) != nil {
			return status.Error(codes.Unauthenticated, "invalid signature")
		}

		return nil
	}
}

// serveTLS serves a COSI state on loopback with TLS and signatures, through net/http as a real Omni does.
func serveTLS(t *testing.T, cert tls.Certificate, allow func(context.Context, string) error, st state.CoreState) (endpoint string) {
	t.Helper()

	srv := grpc.NewServer(
		grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if err := allow(ctx, info.FullMethod); err != nil {
				return nil, err
			}

			return next(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if err := allow(ss.Context(), info.FullMethod); err != nil {
				return err
			}

			return next(srv, ss)
		}))
	v1alpha1.RegisterStateServer(srv, server.NewState(st))

	web := httptest.NewUnstartedServer(srv)
	web.EnableHTTP2 = true
	web.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	web.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes are meant to fail
	web.StartTLS()
	t.Cleanup(web.Close)
	t.Cleanup(web.CloseClientConnections)

	return web.URL
}

func TestConn(t *testing.T) {
	t.Parallel()

	encoded, key := newKey(t, time.Hour)
	_, stranger := newKey(t, time.Hour)
	cert, ca := authority(t)
	_, otherCA := authority(t)
	lab := newLab()

	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	closed.Close()

	notOmni := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no", http.StatusMethodNotAllowed)
	}))
	notOmni.EnableHTTP2 = true
	notOmni.Config.ErrorLog = log.New(io.Discard, "", 0)
	notOmni.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	notOmni.StartTLS()
	t.Cleanup(notOmni.Close)

	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)

	other := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
	otherListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	go other.Serve(otherListener) //nolint:errcheck // ends with Stop
	t.Cleanup(other.Stop)

	good := serveTLS(t, cert, verify(key), lab)

	for name, test := range map[string]struct {
		endpoint, ca string
		want         string
		rejected     bool
	}{
		"good":                    {good, ca, "", false},
		"unknown authority":       {good, "", "give its PEM file with --omni-ca-file", false},
		"another authority":       {good, otherCA, "neither the system nor the file of --omni-ca-file", false},
		"clear text to TLS":       {strings.Replace(good, "https", "http", 1), "", "127.0.0.1", false},
		"TLS to clear text":       {strings.Replace(plain.URL, "http", "https", 1), ca, "no secure connection", false},
		"clear text, no Omni":     {plain.URL, "", "not as an Omni does", false},
		"nobody there":            {"https://" + closed.Addr().String(), ca, "connection refused", false},
		"a key it does not know":  {serveTLS(t, cert, verify(stranger), lab), ca, "does not accept the service account key", true},
		"a web server":            {notOmni.URL, ca, "not as an Omni does", false},
		"some other gRPC service": {"https://" + otherListener.Addr().String(), ca, "not as an Omni does", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			conn, err := Dial(ConnConfig{Endpoint: test.endpoint, ServiceAccountKey: "\n " + encoded + "\n", CAFile: test.ca, UserAgent: "omni-syncd/test"})
			if err != nil {
				t.Fatal(err)
			}

			defer conn.Close()

			err = conn.Check(t.Context())
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}

				return
			}

			refused(t, err, test.want)

			if !strings.Contains(err.Error(), test.endpoint) {
				t.Errorf("the error does not name %s: %v", test.endpoint, err)
			}

			if needsHuman(err) != test.rejected {
				t.Errorf("rejected: %v, want %v, for %v", needsHuman(err), test.rejected, err)
			}
		})
	}
}

// TestConnSigns reads, writes and watches through one signed connection.
func TestConnSigns(t *testing.T) {
	t.Parallel()

	var (
		mu     sync.Mutex
		agents = map[string]bool{}
	)

	encoded, key := newKey(t, time.Hour)
	cert, ca := authority(t)
	lab := newLab()
	allow := verify(key)

	endpoint := serveTLS(t, cert, func(ctx context.Context, method string) error {
		md, _ := metadata.FromIncomingContext(ctx)

		mu.Lock()
		agents[strings.Join(md.Get("user-agent"), "")] = true
		mu.Unlock()

		return allow(ctx, method)
	}, lab)

	conn, err := Dial(ConnConfig{Endpoint: endpoint, ServiceAccountKey: encoded, CAFile: ca, UserAgent: "omni-syncd/test"})
	if err != nil {
		t.Fatal(err)
	}

	defer conn.Close()

	if conn.Management() == nil {
		t.Error("no management client")
	}

	if err := conn.State().Create(t.Context(), newPatch("p", "c", "machine: {}")); err != nil {
		t.Fatal(err)
	}

	events := make(chan []state.Event)
	if err := conn.State().WatchKindAggregated(t.Context(), resource.NewMetadata("default", "ConfigPatches.omni.sidero.dev", "", resource.VersionUndefined),
		events, state.WithBootstrapContents(true)); err != nil {
		t.Fatal(err)
	}

	if batch := <-events; len(batch) != 2 || !EqualSpec(batch[0].Resource, newPatch("p", "c", "machine: {}")) {
		t.Errorf("the watch says %v", batch)
	}

	mu.Lock()
	defer mu.Unlock()

	for agent := range agents {
		if !strings.HasPrefix(agent, "omni-syncd/test") {
			t.Errorf("user agent %q", agent)
		}
	}
}
