package source

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
)

// explain turns errors of the network into what to do. URLs are left out: the caller
// adds ours.
func explain(err error) error {
	if err == nil {
		return nil
	}

	var (
		redirect errRedirect
		dns      *net.DNSError
		unknown  x509.UnknownAuthorityError
		name     x509.HostnameError
		invalid  x509.CertificateInvalidError
		op       *net.OpError
		record   tls.RecordHeaderError
		uerr     *url.Error
	)

	text := err.Error()
	if errors.As(err, &uerr) {
		text = uerr.Err.Error()
	}

	switch {
	case errors.As(err, &redirect):
		return redirect
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Errorf("there is no host %q: check the URL and the name server", clean(dns.Name))
	case errors.As(err, &unknown):
		return fmt.Errorf("the server's certificate is from an authority that this machine does not know: set the CA file, if it is your own: %w", unknown)
	case errors.As(err, &name):
		return fmt.Errorf("the server's certificate is for other names: check the host in the URL: %w", name)
	case errors.As(err, &invalid):
		return fmt.Errorf("the server's certificate is not valid: check its dates and this machine's clock: %w", invalid)
	case errors.As(err, &op) && op.Op == "remote error": // what crypto/tls makes of an alert
		return fmt.Errorf("the server ends TLS (%w): does it want a client certificate, or another one?", op.Err)
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("the server closed the connection (%w): try again later; if it always does, it may want a client certificate or refuse this one", syscall.ECONNRESET)
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return errors.New("the server does not speak TLS: check the scheme and the port of the URL")
	case strings.Contains(text, "Proxy Authentication Required"): // net/http has no type for it
		return errProxyLogin
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return fmt.Errorf("the server cut the connection: try again later: %w", io.ErrUnexpectedEOF)
	case uerr != nil:
		return fmt.Errorf("the server cannot be reached: %w", printable(uerr.Err))
	case errors.As(err, &op) && op.Op == "dial":
		return fmt.Errorf("the server cannot be reached: %w", err)
	default:
		return printable(err)
	}
}

// printable makes an error fit to be shown: proxies and ssh servers put words of their own
// into some.
func printable(err error) error {
	if text := clean(err.Error()); text != err.Error() {
		return rewritten{err, text}
	}

	return err
}

// rewritten is an error with another text.
type rewritten struct {
	error

	text string
}

// Error returns the other text.
func (r rewritten) Error() string { return r.text }

// Unwrap returns the error itself.
func (r rewritten) Unwrap() error { return r.error }
