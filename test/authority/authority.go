// Package authority makes a certificate authority for tests, with the certificates of a
// server on this machine and of a client.
package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// life is how long everything holds.
const life = time.Hour

// Authority is a certificate authority, and what it signed.
type Authority struct {
	// CAFile, CertFile and KeyFile are PEM files: the authority's certificate, and the
	// server's with its key.
	CAFile, CertFile, KeyFile string
	// Pool trusts the authority.
	Pool *x509.CertPool
	// Client is a client's certificate.
	Client tls.Certificate
}

// New makes an authority with its files in a folder.
func New(dir string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}

	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-life), NotAfter: time.Now().Add(life),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}

	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		return nil, err
	}

	if root, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}

	a := &Authority{Pool: x509.NewCertPool()}
	a.Pool.AddCert(root)

	if a.CAFile, err = write(dir, "ca.pem", "CERTIFICATE", der); err != nil {
		return nil, err
	}

	cert, own, err := sign(root, key, x509.ExtKeyUsageServerAuth)
	if err != nil {
		return nil, err
	}

	if a.CertFile, err = write(dir, "server.pem", "CERTIFICATE", cert); err != nil {
		return nil, err
	}

	if der, err = x509.MarshalPKCS8PrivateKey(own); err != nil {
		return nil, err
	}

	if a.KeyFile, err = write(dir, "server.key", "PRIVATE KEY", der); err != nil {
		return nil, err
	}

	cert, own, err = sign(root, key, x509.ExtKeyUsageClientAuth)
	a.Client = tls.Certificate{Certificate: [][]byte{cert}, PrivateKey: own}

	return a, err
}

// sign makes a certificate for 127.0.0.1 and its key.
func sign(root *x509.Certificate, key *ecdsa.PrivateKey, usage x509.ExtKeyUsage) ([]byte, *ecdsa.PrivateKey, error) {
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}

	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: root.NotBefore, NotAfter: root.NotAfter, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{usage}, KeyUsage: x509.KeyUsageDigitalSignature,
	}, root, own.Public(), key)

	return der, own, err
}

func write(dir, name, kind string, der []byte) (string, error) {
	path := filepath.Join(dir, name)

	return path, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
