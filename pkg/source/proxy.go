package source

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"
	socks "golang.org/x/net/proxy"
)

// proxy is a checked GitConfig.Proxy.
type proxy struct {
	none         bool
	url          *url.URL // nil: as the environment says, for https
	passwordFile string
}

// parseProxy checks what GitConfig.Proxy says. Errors do not repeat it: it may hold a
// password, which is what is refused.
func parseProxy(raw, passwordFile string) (proxy, error) {
	switch raw {
	case "", "none":
		if passwordFile != "" {
			return proxy{}, errors.New("there is a password file for a proxy and no proxy: name the proxy, or remove the file")
		}

		return proxy{none: raw != ""}, nil
	}

	u, err := url.Parse(raw)

	switch {
	case err != nil || u.Host == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return proxy{}, errors.New("the proxy is no valid URL: it reads like http://host:3128 or socks5://user@host:1080")
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5":
		return proxy{}, errors.New("the proxy's scheme is not supported: use http://, https:// or socks5://")
	}

	if _, has := u.User.Password(); has {
		return proxy{}, errors.New("the proxy's URL holds a password, which would end in process lists and logs: put it into a file")
	}

	if u.User.Username() == "" && passwordFile != "" {
		return proxy{}, errors.New("there is a password file for the proxy and no user: use http://user@host:port")
	}

	if u.Port() == "" {
		port := map[string]string{"http": "80", "https": "443", "socks5": "1080"}[u.Scheme]
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}

	return proxy{url: u, passwordFile: passwordFile}, nil
}

// leavesMachine reports whether requests for this machine leave it. Those that the
// environment names are not used for loopback addresses.
func (p proxy) leavesMachine() bool { return p.url != nil && !isLoopback(p.url.Hostname()) }

// withPassword returns the proxy's URL as it is used, never shown.
func (p proxy) withPassword(secrets *secretFiles) (*url.URL, string, error) {
	if p.url == nil || p.passwordFile == "" {
		return p.url, "", nil
	}

	password, err := secrets.line(p.passwordFile, "proxy password")
	if err != nil {
		return nil, "", err
	}

	full := *p.url
	full.User = url.UserPassword(p.url.User.Username(), password)

	return &full, password, nil
}

// forHTTP returns what http.Transport.Proxy takes.
func (p proxy) forHTTP(full *url.URL) func(*http.Request) (*url.URL, error) {
	switch {
	case p.none:
		return nil
	case full != nil:
		return http.ProxyURL(full)
	default:
		// Not http.ProxyFromEnvironment, which reads the environment once.
		find := httpproxy.FromEnvironment().ProxyFunc()

		return func(req *http.Request) (*url.URL, error) { return find(req.URL) }
	}
}

const dialTimeout = 30 * time.Second

// dial connects to an address for ssh, which uses a proxy only if one is named: that is
// what people know from OpenSSH.
func (p proxy) dial(ctx context.Context, address string, secrets *secretFiles) (net.Conn, error) {
	direct := &net.Dialer{Timeout: dialTimeout}

	if p.url == nil {
		conn, err := direct.DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, explain(err)
		}

		return conn, nil
	}

	full, password, err := p.withPassword(secrets)
	if err != nil {
		return nil, err
	}

	conn, err := p.through(ctx, direct, full, address)
	if err != nil {
		return nil, scrub(fmt.Errorf("through the proxy %s: %w", Redact(p.url.String()), err), []string{password})
	}

	return conn, nil
}

func (p proxy) through(ctx context.Context, direct *net.Dialer, full *url.URL, address string) (net.Conn, error) {
	if full.Scheme == "socks5" {
		var auth *socks.Auth
		if name := full.User.Username(); name != "" {
			password, _ := full.User.Password()
			auth = &socks.Auth{User: name, Password: password}
		}

		dialer, err := socks.SOCKS5("tcp", full.Host, auth, direct)
		if err != nil {
			return nil, err
		}

		conn, err := dialer.(socks.ContextDialer).DialContext(ctx, "tcp", address) //nolint:forcetypeassert // documented

		return conn, explain(err)
	}

	conn, err := direct.DialContext(ctx, "tcp", full.Host)
	if err != nil {
		return nil, explain(err)
	}

	if full.Scheme == "https" {
		secure := tls.Client(conn, &tls.Config{ServerName: full.Hostname(), MinVersion: tls.VersionTLS12})
		if err = secure.HandshakeContext(ctx); err != nil {
			conn.Close()

			return nil, explain(err)
		}

		conn = secure
	}

	tunnel, err := connect(ctx, conn, full, address)
	if err != nil {
		conn.Close()

		return nil, err
	}

	return tunnel, nil
}

// connect asks an HTTP proxy for a connection to an address.
func connect(ctx context.Context, conn net.Conn, full *url.URL, address string) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()

	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}

	if name := full.User.Username(); name != "" {
		password, _ := full.User.Password()
		req.Header.Set("Proxy-Authorization", basic(name, password).header)
	}

	if err := req.Write(conn); err != nil {
		return nil, err
	}

	const maxHead = 64 << 10

	head := &io.LimitedReader{R: conn, N: maxHead}
	buffered := bufio.NewReader(head)

	res, err := http.ReadResponse(buffered, req)

	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, errors.New("it does not answer as an HTTP proxy does: check its address")
	case res.StatusCode == http.StatusProxyAuthRequired:
		return nil, errors.New("it wants a user and a password, or refuses these: check them")
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("it refuses to connect to %s (%s): check what it allows", address, statusText(res.StatusCode))
	}

	head.N = unbounded

	// An ssh server speaks first, so what follows the head may be here already.
	return tunnel{conn, buffered}, nil
}

type tunnel struct {
	net.Conn

	r io.Reader
}

func (t tunnel) Read(p []byte) (int, error) { return t.r.Read(p) }

// statusText names an HTTP status in our words, not in the server's.
func statusText(code int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", code, http.StatusText(code)))
}
