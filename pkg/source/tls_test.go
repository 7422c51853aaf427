package source

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority is a private CA.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t testing.TB) *authority {
	t.Helper()

	a := &authority{t: t}
	a.cert, a.key = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "Our own CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	a.file = secretFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})))

	return a
}

// sign makes a certificate; the first one signs itself.
func (a *authority) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}

	if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		a.t.Fatal(err)
	}

	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)

	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}

	data, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}

	cert, err := x509.ParseCertificate(data)
	if err != nil {
		a.t.Fatal(err)
	}

	return cert, key
}

// server makes the certificate of a server on a loopback address, with more names.
func (a *authority) server(names ...string) tls.Certificate {
	cert, key := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "server"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: names,
	})

	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// client writes a client certificate and its key.
func (a *authority) client(name string) TLS {
	a.t.Helper()

	cert, key := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})

	data, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}

	return TLS{
		CertFile: secretFile(a.t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))),
		KeyFile:  secretFile(a.t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: data}))),
	}
}

// serveTLS serves a handler with a certificate of the authority.
func (a *authority) serveTLS(handler http.Handler, config *tls.Config, names ...string) *httptest.Server {
	a.t.Helper()

	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}

	config.Certificates = []tls.Certificate{a.server(names...)}

	server := httptest.NewUnstartedServer(handler)
	server.TLS = config
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	a.t.Cleanup(server.Close)

	return server
}

// pool is what trusts the authority.
func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)

	return pool
}

func TestTLS(t *testing.T) {
	r := newRepo(t, true)
	r.commit("one", map[string]string{"a": "1"})

	ours, theirs := newAuthority(t), newAuthority(t)
	files := backend(t, r)
	open := ours.serveTLS(files, nil)
	closed := ours.serveTLS(files, &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.pool()})
	plain := httptest.NewServer(files)
	t.Cleanup(plain.Close)

	client := ours.client("jane")
	with := func(change func(*TLS)) TLS {
		c := client
		c.CAFile = ours.file
		change(&c)

		return c
	}

	for _, test := range []struct {
		name, url string
		tls       TLS
		want      string
	}{
		{"own CA", open.URL, TLS{CAFile: ours.file}, ""},
		{"client certificate", closed.URL, with(func(*TLS) {}), ""},
		{"unknown CA", open.URL, TLS{}, "from an authority that this machine does not know: set the CA file"},
		{"other CA", open.URL, TLS{CAFile: theirs.file}, "from an authority that this machine does not know"},
		{"no client certificate", closed.URL, TLS{CAFile: ours.file}, "client certificate"},
		{"no CA in the file", open.URL, TLS{CAFile: client.KeyFile}, "holds no certificate"},
		{"no CA file", open.URL, TLS{CAFile: filepath.Join(t.TempDir(), "x")}, "the CA file"},
		{"other key", closed.URL, with(func(c *TLS) { c.KeyFile = ours.client("x").KeyFile }), "cannot be used"},
		{"no TLS there", "https" + plain.URL[len("http"):], TLS{CAFile: ours.file}, "does not speak TLS"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := newTestGit(t, GitConfig{URL: test.url + "/fleet", TLS: test.tls}).Fetch(t.Context())
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}

				return
			}

			wantError(t, err, test.want, "PRIVATE KEY")
		})
	}

	// A new certificate counts from the next look on, and so does a new CA.
	g := newTestGit(t, GitConfig{URL: closed.URL + "/fleet", TLS: with(func(*TLS) {})})
	fetch(t, g)

	next := theirs.client("jane")
	replace := func(from TLS) {
		for to, from := range map[string]string{client.CertFile: from.CertFile, client.KeyFile: from.KeyFile} {
			data, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}

			if err = os.WriteFile(to, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}

	replace(next)

	if _, err := g.Fetch(t.Context()); err == nil {
		t.Error("a certificate that nobody knows was accepted")
	}

	replace(ours.client("joe"))
	fetch(t, g)
}

// Our client certificate is shown to the server of the URL only.
func TestTLSRedirect(t *testing.T) {
	r := newRepo(t, true)
	r.commit("one", map[string]string{"a": "1"})

	ca := newAuthority(t)
	ask := &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert}

	var own, foreign []string

	files := backend(t, r)
	names := func(seen *[]string, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			name := "-"
			if certs := req.TLS.PeerCertificates; len(certs) > 0 {
				name = certs[0].Subject.CommonName
			}

			*seen = append(*seen, name+req.Header.Get("Authorization"))

			next.ServeHTTP(w, req)
		})
	}

	elsewhere := ca.serveTLS(names(&foreign, files), ask.Clone())
	plain := httptest.NewServer(files)
	t.Cleanup(plain.Close)

	mux := http.NewServeMux()
	mux.Handle("/fleet/", http.RedirectHandler(elsewhere.URL+"/fleet/info/refs?service="+service, http.StatusMovedPermanently))
	mux.Handle("/down/", http.RedirectHandler(plain.URL+"/fleet/info/refs?service="+service, http.StatusMovedPermanently))

	server := ca.serveTLS(names(&own, mux), ask.Clone())

	cfg := GitConfig{URL: server.URL + "/fleet", TLS: ca.client("jane"), Login: Login{TokenFile: secretFile(t, "x")}}
	cfg.TLS.CAFile = ca.file
	fetch(t, newTestGit(t, cfg))

	if len(own) != 1 || own[0] != "janeBearer x" || len(foreign) != 2 || foreign[0] != "-" || foreign[1] != "-" {
		t.Errorf("the own server saw %q, the other one %q", own, foreign)
	}

	cfg.URL = server.URL + "/down"
	_, err := newTestGit(t, cfg).Fetch(t.Context())
	wantError(t, err, "redirects from https to an address that is not")
}
