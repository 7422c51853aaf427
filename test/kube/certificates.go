package kube

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"time"
)

// pair is the PEM of a certificate and its key.
type pair struct{ cert, key []byte }

// certify makes the keys of a cluster: the CA, the server, who may do everything, and the
// key that signs the tokens of ServiceAccounts.
func (c *Cluster) certify() error {
	ca := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "test"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}

	authority, caKey, err := sign(ca, ca, nil)
	if err != nil {
		return err
	}

	server, _, err := sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:    []string{"kubernetes.default.svc"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca, caKey)
	if err != nil {
		return err
	}

	c.admin, _, err = sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, ca, caKey)
	if err != nil {
		return err
	}

	_, accounts, err := newKey()
	if err != nil {
		return err
	}

	c.CA = authority.cert

	return errors.Join(
		os.WriteFile(c.path("ca.crt"), authority.cert, 0o600),
		os.WriteFile(c.path("server.crt"), server.cert, 0o600),
		os.WriteFile(c.path("server.key"), server.key, 0o600),
		os.WriteFile(c.path("accounts.key"), accounts, 0o600),
	)
}

// sign makes a key and a certificate for it; without the key of a parent it signs itself.
func sign(template, parent *x509.Certificate, parentKey crypto.Signer) (pair, crypto.Signer, error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return pair{}, nil, err
	}

	if parentKey == nil {
		parentKey = key
	}

	if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		return pair{}, nil, err
	}

	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)

	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return pair{}, nil, err
	}

	return pair{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), keyPEM}, key, nil
}

// newKey makes a key, and returns its PEM too.
func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}

	der, err := x509.MarshalECPrivateKey(key) // the form that kube-apiserver takes for all its keys
	if err != nil {
		return nil, nil, err
	}

	return key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}
