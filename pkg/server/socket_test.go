//go:build unix

package server_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/omni-syncd/omni-syncd/pkg/server"
)

// dialEnv makes the test binary a client of a socket: another user has no other.
const dialEnv = "SERVER_TEST_DIAL"

func TestMain(m *testing.M) {
	if path := os.Getenv(dialEnv); path != "" {
		os.Exit(dial(path))
	}

	os.Exit(m.Run())
}

// dial exits 0 if the socket answers, 3 if it may not be opened, 4 if it is closed without an answer.
func dial(path string) int {
	conn, err := net.Dial("unix", path)
	if errors.Is(err, os.ErrPermission) {
		return 3
	} else if err != nil {
		return 1
	}

	_, _ = io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")

	if answer, _ := io.ReadAll(conn); len(answer) == 0 {
		return 4
	}

	return 0
}

// folder is short: the path of a socket is.
func folder(t *testing.T) string {
	t.Helper()

	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = os.RemoveAll(dir) })

	return dir
}

// serve answers at a socket with the user that asked, until the test ends.
func serve(t *testing.T, path string, log *zap.Logger) {
	t.Helper()

	s, err := server.Listen(server.Config{Socket: path, Logger: log, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, ok := server.PeerOf(r.Context())
		if !ok || int(peer.UID) != os.Getuid() || int(peer.PID) != os.Getpid() {
			t.Errorf("peer: %+v, %v", peer, ok)
		}

		_, _ = io.WriteString(w, r.Proto)
	})})
	if err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)

	go func() { done <- s.Run(ctx) }()

	t.Cleanup(func() {
		stop()

		if err := <-done; err != nil {
			t.Error(err)
		}

		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
	})
}

func client(path string, http2 bool) *http.Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
		Protocols: new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(!http2)
	transport.Protocols.SetUnencryptedHTTP2(http2)

	return &http.Client{Transport: transport}
}

func TestSocket(t *testing.T) {
	path := filepath.Join(folder(t), "run", "api.sock")
	serve(t, path, nil)

	for name, mode := range map[string]os.FileMode{path: 0o600 | os.ModeSocket, filepath.Dir(path): 0o700 | os.ModeDir} {
		if info, err := os.Stat(name); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v, want %v", name, info.Mode(), err, mode)
		}
	}

	for http2, want := range map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"} {
		c := client(path, http2)

		res, err := c.Get("http://socket/")
		if err != nil {
			t.Fatal(err)
		}

		got, err := io.ReadAll(res.Body)
		if err != nil || string(got) != want {
			t.Errorf("%s, %v, want %s", got, err, want)
		}

		_ = res.Body.Close()
		c.CloseIdleConnections()
	}

	if _, err := server.Listen(server.Config{Socket: path}); err == nil || !strings.Contains(err.Error(), "somebody listens there") {
		t.Errorf("a second daemon: %v", err)
	}
}

func TestSocketInTheWay(t *testing.T) {
	dir := folder(t)

	file, link, stale := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "stale")
	if err := errors.Join(os.WriteFile(file, []byte("precious"), 0o600), os.Symlink(stale, link)); err != nil {
		t.Fatal(err)
	}

	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}

	left.SetUnlinkOnClose(false)

	if err := left.Close(); err != nil {
		t.Fatal(err)
	}

	for path, want := range map[string]string{
		file: "something else is there", link: "something else is there", dir: "something else is there",
		filepath.Join(dir, strings.Repeat("x", 120)): "choose a shorter one",
		filepath.Join(file, "api.sock"):              "make the folder of the socket",
	} {
		if _, err := server.Listen(server.Config{Socket: path}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}

	if data, err := os.ReadFile(file); err != nil || string(data) != "precious" {
		t.Errorf("the file in the way: %q, %v", data, err)
	}

	serve(t, stale, nil) // what a crash left behind is replaced
}

// Another user gets nothing, even through a socket whose mode lets everybody in.
func TestSocketOtherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}

	dir := folder(t)
	path := filepath.Join(dir, "api.sock")
	core, logs := observer.New(zapcore.InfoLevel)
	serve(t, path, zap.New(core))

	// The binary of the test is in a folder that is closed to others.
	binary := filepath.Join(dir, "client")
	if err := errors.Join(os.Chmod(dir, 0o755), copyFile(binary, os.Args[0])); err != nil {
		t.Fatal(err)
	}

	connect := func() int {
		cmd := exec.Command(binary)
		cmd.Env = []string{dialEnv + "=" + path}
		cmd.Dir = dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54321}}

		if err := cmd.Run(); cmd.ProcessState == nil {
			t.Skip("another user cannot run anything here: ", err)
		}

		return cmd.ProcessState.ExitCode()
	}

	if got := connect(); got != 3 {
		t.Errorf("the mode lets another user in: exit %d", got)
	}

	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}

	if got := connect(); got != 4 {
		t.Errorf("the check lets another user in: exit %d", got)
	}

	if refused := logs.FilterMessage("a connection to the socket was refused").All(); len(refused) != 1 || refused[0].ContextMap()["uid"] != uint32(54321) {
		t.Errorf("log: %v", refused)
	}
}

func copyFile(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}

	return os.WriteFile(to, data, 0o755)
}
