package source

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
)

// connectProxy is an HTTP proxy that makes connections. It has its own idea of where hosts
// are, so that a test can name hosts that do not exist.
type connectProxy struct {
	t     testing.TB
	login string            // the Proxy-Authorization that it wants, or ""
	hosts map[string]string // from host:port to where it is

	mu   sync.Mutex
	seen []string
}

func (p *connectProxy) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if got := req.Header.Get("Proxy-Authorization"); got != p.login {
		http.Error(w, "you sent "+got, http.StatusProxyAuthRequired)

		return
	}

	p.mu.Lock()
	p.seen = append(p.seen, req.Method+" "+req.Host)
	p.mu.Unlock()

	target, ok := p.hosts[req.Host]
	if !ok || req.Method != http.MethodConnect {
		http.Error(w, "no such host", http.StatusForbidden)

		return
	}

	there, err := net.Dial("tcp", target)
	if err != nil {
		p.t.Error(err)

		return
	}
	defer there.Close()

	here, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		p.t.Error(err)

		return
	}
	defer here.Close()

	// What the server says first may come in one piece with the answer.
	first := make([]byte, 1)

	if strings.HasSuffix(req.Host, ":22") {
		if _, err = io.ReadFull(there, first); err != nil {
			return
		}
	} else {
		first = nil
	}

	if _, err = fmt.Fprintf(here, "HTTP/1.1 200 OK\r\n\r\n%s", first); err != nil {
		return
	}

	var running sync.WaitGroup

	running.Go(func() {
		io.Copy(there, here)              //nolint:errcheck // ends with the connection
		there.(*net.TCPConn).CloseWrite() //nolint:errcheck // may be closed
	})
	io.Copy(here, there) //nolint:errcheck // ends with the connection
	here.Close()
	running.Wait()
}

func (p *connectProxy) took() []string {
	p.mu.Lock()
	defer p.mu.Unlock()

	seen := p.seen
	p.seen = nil

	return seen
}

func TestProxy(t *testing.T) {
	r := newRepo(t, true)
	r.commit("one", map[string]string{"a": "1"})

	ca := newAuthority(t)
	web := ca.serveTLS(backend(t, r), nil, "git.example.com", "proxy.example.com")
	sshd := serveSSH(t, "ed25519")
	key, _, public := newKey(t, "")
	sshd.admit(public)

	hosts := map[string]string{"git.example.com:443": web.Listener.Addr().String(), "git.example.com:22": sshd.address}
	open := &connectProxy{t: t, hosts: hosts}
	closed := &connectProxy{t: t, hosts: hosts, login: basicOf("jane", secret)}
	openURL, closedURL := httptest.NewServer(open), httptest.NewServer(closed)
	t.Cleanup(openURL.Close)
	t.Cleanup(closedURL.Close)

	secure := ca.serveTLS(open, &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})

	known := secretFile(t, "git.example.com "+string(ssh.MarshalAuthorizedKey(sshd.public("ed25519"))))
	sshURL := "ssh://" + sshd.user + "@git.example.com" + r.dir
	sshLogin := Login{SSHKeyFile: key, KnownHostsFile: known}
	webURL := "https://git.example.com/fleet"
	withUser := strings.Replace(closedURL.URL, "http://", "http://jane@", 1)
	password := secretFile(t, secret+"\n")

	gone := httptest.NewServer(nil)
	gone.Close()

	for _, test := range []struct {
		name, env, noProxy string
		cfg                GitConfig
		want               string
		seen               []string
	}{
		{"https", "", "", GitConfig{URL: webURL, Proxy: openURL.URL}, "", []string{"CONNECT git.example.com:443"}},
		{"ssh", "", "", GitConfig{URL: sshURL, Proxy: openURL.URL, Login: sshLogin}, "", []string{"CONNECT git.example.com:22"}},
		{"https by TLS", "", "", GitConfig{URL: webURL, Proxy: secure.URL}, "", []string{"CONNECT git.example.com:443"}},
		{"environment", openURL.URL, "", GitConfig{URL: webURL}, "", []string{"CONNECT git.example.com:443"}},
		{"environment is not for ssh", openURL.URL, "", GitConfig{URL: sshURL, Login: sshLogin, Timeout: 10 * time.Second}, "git.example.com", nil},
		{"none", openURL.URL, "", GitConfig{URL: webURL, Proxy: "none", Timeout: 10 * time.Second}, "git.example.com", nil},
		{"not for this host", openURL.URL, "example.com", GitConfig{URL: webURL, Timeout: 10 * time.Second}, "git.example.com", nil},
		{"password", "", "", GitConfig{URL: webURL, Proxy: withUser, ProxyPasswordFile: password}, "", []string{"CONNECT git.example.com:443"}},
		{"password for ssh", "", "", GitConfig{URL: sshURL, Proxy: withUser, ProxyPasswordFile: password, Login: sshLogin}, "", []string{"CONNECT git.example.com:22"}},
		{"no password", "", "", GitConfig{URL: webURL, Proxy: closedURL.URL}, "the proxy wants a user and a password", nil},
		{"wrong password", "", "", GitConfig{URL: sshURL, Proxy: withUser, ProxyPasswordFile: secretFile(t, "S3CRET"), Login: sshLogin}, "wants a user and a password", nil},
		{"refused", "", "", GitConfig{URL: strings.Replace(sshURL, "git.", "other.", 1), Proxy: openURL.URL, Login: sshLogin}, "refuses to connect to other.example.com:22 (403 Forbidden)", []string{"CONNECT other.example.com:22"}},
		{"gone", "", "", GitConfig{URL: webURL, Proxy: gone.URL}, "cannot be reached", nil},
		{"gone, ssh", "", "", GitConfig{URL: sshURL, Proxy: gone.URL, Login: sshLogin}, "through the proxy " + gone.URL + ": the server cannot be reached", nil},
		{"no proxy there", "", "", GitConfig{URL: sshURL, Proxy: "http://" + sshd.address, Login: sshLogin}, "does not answer as an HTTP proxy", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, name := range []string{"HTTP_PROXY", "http_proxy", "https_proxy", "no_proxy", "ALL_PROXY", "all_proxy"} {
				t.Setenv(name, "")
			}

			t.Setenv("HTTPS_PROXY", test.env)
			t.Setenv("NO_PROXY", test.noProxy)

			if strings.HasPrefix(test.cfg.URL, "https") {
				test.cfg.TLS.CAFile = ca.file
			}

			_, err := newTestGit(t, test.cfg).Fetch(t.Context())

			switch {
			case test.want != "":
				wantError(t, err, test.want, secret, "S3CRET")
			case err != nil:
				t.Error(err)
			}

			if diff := cmp.Diff(test.seen, append(open.took(), closed.took()...)); diff != "" {
				t.Errorf("the proxies saw: %s", diff)
			}
		})
	}
}

// What strangers say on the way is shown on one line, without control characters.
func TestHostileWords(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { listener.Close() })

	var says atomic.Value

	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}

			io.CopyN(io.Discard, conn, 3)              //nolint:errcheck // the client speaks first, or as well
			io.WriteString(conn, says.Load().(string)) //nolint:errcheck // the client sees it
			conn.(*net.TCPConn).CloseWrite()           //nolint:errcheck // then it ends below
			io.Copy(io.Discard, conn)                  //nolint:errcheck // so that it is not reset
			conn.Close()
		}
	}()

	address := listener.Addr().String()
	key, _, _ := newKey(t, "")
	login := Login{SSHKeyFile: key, KnownHostsFile: secretFile(t, "# none\n")}

	for _, test := range []struct {
		says string
		cfg  GitConfig
	}{
		{"HTTP/1.1 500 \x1b[31mred\a\r\n\r\n", GitConfig{URL: "https://git.example.com/x", Proxy: "http://" + address}},
		{"HTTP/1.1 500 \x1b[31mred\a\r\n\r\n", GitConfig{URL: "ssh://git@git.example.com/x", Proxy: "http://" + address, Login: login}},
		{"HTTP/1.1 500 \x1b[31mred\a\r\nContent-Length: 0\r\n\r\n", GitConfig{URL: "http://" + address + "/x"}},
		{"HTTP/1.1 \x1b[31mred\a\r\n\r\n", GitConfig{URL: "http://" + address + "/x"}},
		{"\x1b[31mred\a\r\n\r\n", GitConfig{URL: "http://" + address + "/x"}},
		{"SSH-1.0-\x1b[31mred\a\r\n", GitConfig{URL: "ssh://git@" + address + "/x", Login: login}},
		{"\x1b[31mred\a\r\n", GitConfig{URL: "ssh://git@git.example.com/x", Proxy: "socks5://" + address, Login: login}},
	} {
		says.Store(test.says)

		_, err := newTestGit(t, test.cfg).Fetch(t.Context())
		if err == nil || strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Errorf("%q by %q: got %q", test.cfg.URL, test.cfg.Proxy, err)
		}
	}
}

// ssh -D is a SOCKS5 proxy: the real one, through a real sshd.
func TestSOCKS(t *testing.T) {
	r := newRepo(t, true)
	r.commit("one", map[string]string{"a": "1"})

	sshd := serveSSH(t, "ed25519")
	key, _, public := newKey(t, "")
	sshd.admit(public)

	known := sshd.known("ed25519")
	proxy := startSOCKS(t, sshd, key, known)

	ca := newAuthority(t)
	web := ca.serveTLS(backend(t, r), nil)

	for _, cfg := range []GitConfig{
		{URL: web.URL + "/fleet", TLS: TLS{CAFile: ca.file}, Proxy: proxy},
		{URL: sshd.url(r), Login: Login{SSHKeyFile: key, KnownHostsFile: known}, Proxy: proxy},
	} {
		sshd.took()

		if rev := fetch(t, newTestGit(t, cfg)); read(t, rev.FS, "a") != "1" {
			t.Error("wrong content")
		}
	}

	_, err := newTestGit(t, GitConfig{
		URL: "ssh://git@127.0.0.1:1/x", Login: Login{SSHKeyFile: key, KnownHostsFile: known}, Proxy: proxy,
	}).Fetch(t.Context())
	wantError(t, err, "through the proxy "+proxy)
}

// startSOCKS runs ssh -D until the test ends and returns the proxy's URL.
func startSOCKS(t *testing.T, s *sshServer, key, known string) string {
	t.Helper()

	host, port, err := net.SplitHostPort(s.address)
	if err != nil {
		t.Fatal(err)
	}

	listener, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free
	if err != nil {
		t.Fatal(err)
	}

	address := listener.Addr().String()
	listener.Close()

	cmd := exec.Command(lookTool(t, "ssh"), "-N", "-D", address, "-F", "none", "-i", key, "-p", port, "-o", "UserKnownHostsFile="+known,
		"-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "ExitOnForwardFailure=yes", s.user+"@"+host)
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}

	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // may have ended
		<-ended
	})

	// It does not tell when it listens.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	for newBell().wait(ctx, 20*time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()

			return "socks5://" + address
		}

		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("ssh -D ended: %v", err)
		default:
		}
	}

	t.Fatal("ssh -D does not listen")

	return ""
}
