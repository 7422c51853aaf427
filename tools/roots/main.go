// Command roots prints the certificates of the authorities that Mozilla trusts, as PEM: what
// the container image trusts. They come with a module of Go's own, so that go.sum pins them
// and the image does not depend on the machine that it is made on. A newer version of
// golang.org/x/crypto/x509roots/fallback brings newer ones.
package main

import (
	"bufio"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run() error {
	out := bufio.NewWriter(os.Stdout)

	for root := range bundle.Roots() {
		// An authority that is trusted with a condition only, such as "for what it signed
		// before a day", cannot be told so in PEM, and is left out.
		if root.Constraint != nil {
			continue
		}

		certificate, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			return fmt.Errorf("parse a certificate of the bundle: %w", err)
		}

		fmt.Fprintf(out, "# %s\n", certificate.Subject)

		if err := pem.Encode(out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			return fmt.Errorf("write the bundle: %w", err)
		}
	}

	return out.Flush()
}
