package source

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
)

// lookTool finds a program. Without it the test is skipped, except where all tools have
// to be there.
func lookTool(t testing.TB, name string, places ...string) string {
	t.Helper()

	for _, candidate := range append([]string{name}, places...) {
		if path, err := exec.LookPath(candidate); err == nil {
			return path
		}
	}

	if os.Getenv("OMNI_SYNCD_TEST_TOOLS") == "required" {
		t.Fatalf("%s is not installed", name)
	}

	t.Skipf("%s is not installed", name)

	return ""
}

// sshServer is OpenSSH's sshd on a loopback address: one process for each connection, as
// inetd does it.
type sshServer struct {
	t       testing.TB
	path    string
	dir     string
	address string
	user    string

	mu          sync.Mutex
	connections int
	log         bytes.Buffer
}

// serveSSH starts a server with host keys of these kinds. It knows no user's key yet.
func serveSSH(t testing.TB, kinds ...string) *sshServer {
	t.Helper()

	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}

	s := &sshServer{t: t, path: lookTool(t, "sshd", "/usr/sbin/sshd"), dir: t.TempDir(), user: me.Username}

	if me.Uid == "0" { // sshd insists on its own folder when it is root
		if err = os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}

	// The shell is not to read the profile of whoever runs the tests: that may wait for a lock
	// that a login that was cut off has left behind.
	config := fmt.Sprintf("AuthorizedKeysFile %s\nSetEnv HOME=%s\nStrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\n"+
		"PasswordAuthentication no\nKbdInteractiveAuthentication no\nLogLevel VERBOSE\nAllowTcpForwarding yes\n", filepath.Join(s.dir, "authorized_keys"), s.dir)
	for _, kind := range kinds {
		config += "HostKey " + s.hostKey(kind) + "\n"
	}

	writeFiles(t, s.dir, map[string]string{"sshd_config": config, "authorized_keys": ""})

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	s.address = listener.Addr().String()

	var running sync.WaitGroup

	t.Cleanup(running.Wait)
	t.Cleanup(func() { listener.Close() })

	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}

			running.Go(func() { s.serve(conn.(*net.TCPConn)) })
		}
	})

	return s
}

func (s *sshServer) serve(conn *net.TCPConn) {
	file, err := conn.File()
	if err = errors.Join(err, conn.Close()); err != nil {
		s.t.Error(err)

		return
	}
	defer file.Close()

	s.mu.Lock()
	s.connections++
	s.mu.Unlock()

	var said bytes.Buffer

	cmd := exec.Command(s.path, "-i", "-e", "-f", filepath.Join(s.dir, "sshd_config"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = file, file, &said
	cmd.Run() //nolint:errcheck // it ends with the connection

	s.mu.Lock()
	defer s.mu.Unlock()

	s.log.Write(said.Bytes())
}

// took returns how many connections there were since the last call.
func (s *sshServer) took() int {
	s.mu.Lock()
	defer s.mu.Unlock()

	n := s.connections
	s.connections = 0

	return n
}

func (s *sshServer) url(r *repo) string { return "ssh://" + s.user + "@" + s.address + r.dir }

// hostKey makes a key of the server, with OpenSSH's own tool.
func (s *sshServer) hostKey(kind string) string {
	s.t.Helper()

	name := filepath.Join(s.dir, "host_"+kind)
	if out, err := exec.Command(lookTool(s.t, "ssh-keygen"), "-q", "-t", kind, "-N", "", "-f", name).CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}

	return name
}

// public reads a key of the server.
func (s *sshServer) public(kind string) ssh.PublicKey {
	s.t.Helper()

	data, err := os.ReadFile(filepath.Join(s.dir, "host_"+kind+".pub"))
	if err != nil {
		s.t.Fatal(err)
	}

	key, _, _, _, err := ssh.ParseAuthorizedKey(data)
	if err != nil {
		s.t.Fatal(err)
	}

	return key
}

// known writes a file that knows the server by these of its keys.
func (s *sshServer) known(kinds ...string) string {
	s.t.Helper()

	host, port, err := net.SplitHostPort(s.address)
	if err != nil {
		s.t.Fatal(err)
	}

	text := "# the servers\nelsewhere.example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl\n"
	for _, kind := range kinds {
		text += fmt.Sprintf("[%s]:%s %s", host, port, ssh.MarshalAuthorizedKey(s.public(kind)))
	}

	name := filepath.Join(s.t.TempDir(), "known_hosts")
	writeFiles(s.t, filepath.Dir(name), map[string]string{"known_hosts": text})

	return name
}

// admit lets a key in.
func (s *sshServer) admit(key ssh.PublicKey) {
	s.t.Helper()

	writeFiles(s.t, s.dir, map[string]string{"authorized_keys": string(ssh.MarshalAuthorizedKey(key))})
}

// newKey makes a user's key and writes it to a file.
func newKey(t testing.TB, passphrase string) (file string, private ed25519.PrivateKey, public ssh.PublicKey) {
	t.Helper()

	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}

	var block *pem.Block
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(private, "jane")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "jane", []byte(passphrase))
	}

	if err != nil {
		t.Fatal(err)
	}

	if public, err = ssh.NewPublicKey(private.Public()); err != nil {
		t.Fatal(err)
	}

	return secretFile(t, string(pem.EncodeToMemory(block))), private, public
}

// secretFile writes a file that only we can read.
func secretFile(t testing.TB, text string) string {
	t.Helper()

	name := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}

	return name
}

// wantError checks that there is an error with a text, and nothing secret in it.
func wantError(t testing.TB, err error, want string, secrets ...string) {
	t.Helper()

	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)

		return
	}

	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %q", err)
	}

	for _, secret := range secrets {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("a secret is in %q", err)
		}
	}
}
