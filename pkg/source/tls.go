package source

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"hash"
)

// TLS says whom to trust and who we are in TLS. The files hold PEM and are read anew for
// every look.
type TLS struct {
	// CAFile holds certificates of authorities to trust besides the system's.
	CAFile string
	// CertFile and KeyFile are the client certificate and its key. It is shown to the
	// server of the URL only, never to one that this redirects to.
	CertFile, KeyFile string
}

func (t TLS) check(where location) error {
	switch {
	case (t.CertFile == "") != (t.KeyFile == ""):
		return errors.New("a client certificate is two files, the certificate and its key: give both or none")
	case t != TLS{} && (where.url == nil || where.url.Scheme != "https"):
		return errors.New("TLS files go with an https:// URL only: remove them, or use https://…")
	default:
		return nil
	}
}

// load reads the files. own is for the server of the URL and shows the client
// certificate, others does not. What was read goes into sum.
func (t TLS) load(secrets *secretFiles, sum hash.Hash) (own, others *tls.Config, err error) {
	others = &tls.Config{MinVersion: tls.VersionTLS12}

	if t.CAFile != "" {
		_, pem, err := readBounded(t.CAFile, "CA")
		if err != nil {
			return nil, nil, err
		}

		if others.RootCAs, err = x509.SystemCertPool(); err != nil {
			others.RootCAs = x509.NewCertPool() // a system without any: then there is only ours
		}

		if !others.RootCAs.AppendCertsFromPEM(pem) {
			return nil, nil, fmt.Errorf("the CA file %s holds no certificate: it has to be PEM, \"-----BEGIN CERTIFICATE-----\"", t.CAFile)
		}

		note(sum, pem)
	}

	own = others.Clone()

	if t.CertFile != "" {
		_, cert, err := readBounded(t.CertFile, "client certificate")
		if err != nil {
			return nil, nil, err
		}

		key, err := secrets.read(t.KeyFile, "client key")
		if err != nil {
			return nil, nil, err
		}

		// The error tells what is wrong with the files and holds nothing of them.
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, nil, fmt.Errorf("the client certificate %s with the key %s cannot be used: %w", t.CertFile, t.KeyFile, err)
		}

		own.Certificates = []tls.Certificate{pair}

		note(sum, cert)
		note(sum, key)
	}

	return own, others, nil
}

// note adds a part to a sum so that no other parts give the same.
func note(sum hash.Hash, part []byte) {
	one := sha256.Sum256(part)
	sum.Write(one[:]) //nolint:errcheck // never fails
}
