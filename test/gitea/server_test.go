package gitea

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

const (
	// user owns everything.
	user = "jane"
	// stopTime is how long Gitea may take to stop.
	stopTime = 20 * time.Second
)

// server is a Gitea on loopback, and an https server in front of it that notes what is
// asked for.
type server struct {
	binary, dir, config string
	plain               string // URL of Gitea itself
	secure              string // URL of the server in front
	caFile              string // which signed the certificate of that
	ssh                 string // host:port of Gitea's own ssh server
	token               string // may do everything

	mu       sync.Mutex
	requests []string
}

// start starts a Gitea, which the end of the test stops.
func start(t *testing.T) *server {
	t.Helper()

	s := &server{binary: os.Getenv("GITEA_BIN"), dir: t.TempDir()}
	if s.binary == "" {
		t.Skip("GITEA_BIN names no gitea binary")
	}

	if !filepath.IsAbs(s.binary) {
		t.Fatalf("GITEA_BIN is %s: give an absolute path", s.binary)
	}

	s.config = filepath.Join(s.dir, "app.ini")

	web := freeAddress(t)
	s.plain, s.ssh = "http://"+web, freeAddress(t)

	s.putInFront(t)
	s.configure(t, web)
	s.cli(t, "migrate")
	s.cli(t, "admin", "user", "create", "--username", user, "--email", "jane@example.com", "--admin", "--random-password", "--must-change-password=false")
	s.token = s.newToken(t, "all", "all")

	s.serve(t)

	return s
}

// freeAddress returns an address that nobody listens at. Gitea cannot be handed a socket: it
// takes its parent for an older Gitea then, and ends it.
func freeAddress(t *testing.T) string {
	t.Helper()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	if err = listener.Close(); err != nil {
		t.Fatal(err)
	}

	return listener.Addr().String()
}

// putInFront starts the server that notes requests.
func (s *server) putInFront(t *testing.T) {
	t.Helper()

	to, err := url.Parse(s.plain)
	if err != nil {
		t.Fatal(err)
	}

	pass := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }, // also for a watch that ends
	}
	front := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r.Method+" "+r.URL.RequestURI())
		s.mu.Unlock()

		pass.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)

	s.secure, s.caFile = front.URL, file(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})))
}

// took returns what was asked of the server in front since the last call.
func (s *server) took() []string {
	s.mu.Lock()
	defer s.mu.Unlock()

	requests := s.requests
	s.requests = nil

	return requests
}

// configure writes Gitea's configuration: all it has is below one folder, and it has
// nobody to talk to but us.
func (s *server) configure(t *testing.T, web string) {
	t.Helper()

	webHost, webPort, err := net.SplitHostPort(web)
	if err != nil {
		t.Fatal(err)
	}

	sshHost, sshPort, err := net.SplitHostPort(s.ssh)
	if err != nil {
		t.Fatal(err)
	}

	static := os.Getenv("GITEA_STATIC")
	if static == "" {
		static = filepath.Dir(s.binary)
	}

	// Gitea refuses to run as root, as tests in a container do.
	text := fmt.Sprintf(`
I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = %v
RUN_MODE = prod
WORK_PATH = %s

[server]
PROTOCOL = http
HTTP_ADDR = %s
HTTP_PORT = %s
ROOT_URL = %s/
LOCAL_ROOT_URL = http://%s/
STATIC_ROOT_PATH = %s
OFFLINE_MODE = true
START_SSH_SERVER = true
BUILTIN_SSH_SERVER_USER = git
SSH_LISTEN_HOST = %s
SSH_LISTEN_PORT = %s
SSH_ROOT_PATH = %s
GRACEFUL_HAMMER_TIME = 5s

[database]
DB_TYPE = sqlite3
SQLITE_JOURNAL_MODE = WAL

[security]
INSTALL_LOCK = true
SECRET_KEY = %s

[webhook]
ALLOWED_HOST_LIST = loopback

[log]
MODE = console
LEVEL = info

[service]
DISABLE_REGISTRATION = true

[openid]
ENABLE_OPENID_SIGNIN = false

[picture]
DISABLE_GRAVATAR = true

[actions]
ENABLED = false

[cron.update_checker]
ENABLED = false
`, os.Getuid() == 0, s.dir, webHost, webPort, s.secure, web, static, sshHost, sshPort, filepath.Join(s.dir, ".ssh"), rand.Text())

	if err = os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *server) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.binary, append(args, "--config", s.config)...)
	cmd.Dir = s.dir
	cmd.Env = []string{"HOME=" + s.dir, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + s.dir, "USER=" + os.Getenv("USER")}

	return cmd
}

// cli runs a command of Gitea and returns the last line that it prints.
func (s *server) cli(t *testing.T, args ...string) string {
	t.Helper()

	var out, problems bytes.Buffer

	cmd := s.command(t.Context(), args...)
	cmd.Stdout, cmd.Stderr = &out, &problems

	if err := cmd.Run(); err != nil {
		t.Fatalf("gitea %s: %v\n%s%s", strings.Join(args, " "), err, out.Bytes(), problems.Bytes())
	}

	lines := strings.Split(strings.TrimSpace(out.String()), "\n")

	return lines[len(lines)-1]
}

// newToken makes a token with some scopes.
func (s *server) newToken(t *testing.T, name, scopes string) string {
	t.Helper()

	return s.cli(t, "admin", "user", "generate-access-token", "--username", user, "--token-name", name, "--scopes", scopes, "--raw")
}

// serve runs Gitea until the test ends. It returns when Gitea listens.
func (s *server) serve(t *testing.T) {
	t.Helper()

	log, err := os.Create(filepath.Join(s.dir, "gitea.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close() //nolint:errcheck // Gitea has its own

	// Gitea tells when it is ready as it would tell systemd.
	state, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: filepath.Join(s.dir, "notify")})
	if err != nil {
		t.Fatal(err)
	}

	cmd := s.command(t.Context(), "web")
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+state.LocalAddr().String())
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTime

	began := time.Now()

	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}

	ended := make(chan struct{})

	go func() {
		cmd.Wait()    //nolint:errcheck // its log says more
		state.Close() //nolint:errcheck // so that nobody waits for it
		close(ended)
	}()

	t.Cleanup(func() {
		<-ended

		if t.Failed() {
			t.Logf("Gitea's log ends with:\n%s", tail(log.Name()))
		}
	})

	message := make([]byte, 4096)

	for ready := false; !ready; {
		n, err := state.Read(message)
		if err != nil {
			t.Fatalf("Gitea does not start: %v", err)
		}

		ready = strings.Contains(string(message[:n]), "READY=1")
	}

	var version struct{ Version string }

	s.api(t, http.MethodGet, "/version", nil, &version)
	t.Logf("Gitea %s answers after %s", version.Version, time.Since(began).Round(time.Millisecond))
}

// tail returns the end of a file.
func tail(name string) string {
	data, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}

	return string(data[max(0, len(data)-8000):])
}

// api calls Gitea's API as the owner of everything.
func (s *server) api(t *testing.T, method, path string, in, out any) {
	t.Helper()

	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}

	req, err := http.NewRequestWithContext(t.Context(), method, s.plain+"/api/v1"+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}

	req.Header.Set("Authorization", "Bearer "+s.token)
	req.Header.Set("Content-Type", "application/json")

	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // read

	data, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 300 {
		t.Fatalf("%s %s: %v, %s: %s", method, path, err, res.Status, data)
	}

	if out != nil {
		if err = json.Unmarshal(data, out); err != nil {
			t.Fatalf("%s %s: %v: %s", method, path, err, data)
		}
	}
}

// hostKey returns the key that Gitea made for its ssh server.
func (s *server) hostKey(t *testing.T) ssh.PublicKey {
	t.Helper()

	data, err := os.ReadFile(filepath.Join(s.dir, "data", "ssh", "gitea.rsa"))
	if err != nil {
		t.Fatal(err)
	}

	key, err := ssh.ParsePrivateKey(data)
	if err != nil {
		t.Fatal(err)
	}

	return key.PublicKey()
}

// knownHosts writes a file that knows a key of a host.
func knownHosts(t *testing.T, host string, key ssh.PublicKey) string {
	t.Helper()

	return file(t, knownhosts.Line([]string{host}, key)+"\n")
}

// file writes a file that only we can read.
func file(t *testing.T, text string) string {
	t.Helper()

	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}

	return name
}
