package source

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"
)

// A look is one connection, and so is a fetch. It is incremental, and a force-push is
// told from others, which takes a second session on the same connection.
func TestSSH(t *testing.T) {
	r := newRepo(t, true)
	allowFilter(t, r)
	base := r.commit("one", map[string]string{"a": "1", "big": noise(200 << 10)})

	s := serveSSH(t, "ed25519")
	key, _, public := newKey(t, "")
	s.admit(public)

	g := newTestGit(t, GitConfig{URL: s.url(r), Login: Login{SSHKeyFile: key, KnownHostsFile: s.known("ed25519")}})

	if rev := fetch(t, g); rev.ID != "main@sha1:"+base.String() || read(t, rev.FS, "a") != "1" || s.took() != 1 {
		t.Errorf("got %+v", rev)
	}

	fetch(t, g)

	if n := s.took(); n != 1 {
		t.Errorf("an unchanged branch took %d connections", n)
	}

	r.commit("two", map[string]string{"a": "2", "big": noise(200 << 10)})

	if rev := fetch(t, g); read(t, rev.FS, "a") != "2" || rev.Forced || s.took() != 1 {
		t.Errorf("got %+v", rev)
	}

	r.commitTree("main", "three", r.files(map[string]string{"a": "3"}), base)

	if rev := fetch(t, g); read(t, rev.FS, "a") != "3" || !rev.Forced || s.took() != 1 {
		t.Errorf("got %+v", rev)
	}

	// The short form, where the path is as it stands.
	if where, err := locate("git@example.com:team/fleet.git"); err != nil || *where.ssh != (sshAddress{"git", "example.com", "22", "team/fleet.git"}) {
		t.Errorf("got %+v, %v", where.ssh, err)
	}
}

// allowFilter makes a server leave out files when it is asked to.
func allowFilter(t testing.TB, r *repo) {
	t.Helper()

	cfg, err := r.Config()
	if err != nil {
		t.Fatal(err)
	}

	cfg.Raw.Section("uploadpack").SetOption("allowFilter", "true")

	if err = r.Storer.SetConfig(cfg); err != nil {
		t.Fatal(err)
	}
}

func TestSSHHostKeys(t *testing.T) {
	r := newRepo(t, true)
	r.commit("one", map[string]string{"a": "1"})

	s := serveSSH(t, "ed25519", "ecdsa", "rsa")
	other := serveSSH(t, "ed25519")
	key, _, public := newKey(t, "")
	s.admit(public)

	print := ssh.FingerprintSHA256(s.public("ed25519"))
	host, port, _ := net.SplitHostPort(s.address) //nolint:errcheck // it is one

	with := func(line string) string {
		name := filepath.Join(t.TempDir(), "known_hosts")
		writeFiles(t, filepath.Dir(name), map[string]string{"known_hosts": line})

		return name
	}
	line := func(address string, key ssh.PublicKey) string {
		return address + " " + string(ssh.MarshalAuthorizedKey(key))
	}
	address := fmt.Sprintf("[%s]:%s", host, port)

	for _, test := range []struct {
		name, known, want string
	}{
		{"known", s.known("ed25519"), ""},
		{"only the second kind", s.known("ecdsa"), ""}, // the server would show another one if it were not asked
		{"only rsa", s.known("rsa"), ""},
		{"hashed", with(line(knownhosts.HashHostname(address), s.public("ed25519"))), ""},
		{"pattern", with(line("127.0.0.*", s.public("ed25519"))), ""},
		{"unknown", s.known(), "is not known: it is ssh-ed25519 " + print},
		{"unknown, line to add", s.known(), address + " ssh-ed25519 AAAA"},
		{"changed", with(line(address, other.public("ed25519"))), "is not the one that is known: the server shows ssh-ed25519 " + print},
		{"revoked", with("@revoked " + line(address, s.public("ed25519")) + line(address, s.public("ed25519"))), "is marked as revoked"},
		{"missing", filepath.Join(t.TempDir(), "nothing"), "does not exist"},
		{"broken", with("what is this\n"), "cannot be read"},
		{"other port", with(line(host, s.public("ed25519"))), "is not known"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := newTestGit(t, GitConfig{URL: s.url(r), Login: Login{SSHKeyFile: key, KnownHostsFile: test.known}}).Fetch(t.Context())
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}

				return
			}

			wantError(t, err, test.want)
		})
	}

	other.admit(public)

	// A server that has no key of the kinds that are known of it.
	known := with(line(fmt.Sprintf("[127.0.0.1]:%s", other.address[strings.LastIndex(other.address, ":")+1:]), s.public("ecdsa")))
	_, err := newTestGit(t, GitConfig{URL: other.url(r), Login: Login{SSHKeyFile: key, KnownHostsFile: known}}).Fetch(t.Context())
	wantError(t, err, "has other kinds of host keys (ssh-ed25519")
}

func TestSSHKeys(t *testing.T) {
	const passphrase = "S3CRET phrase"

	r := newRepo(t, true)
	r.commit("one", map[string]string{"a": "1"})

	s := serveSSH(t, "ed25519")
	known := s.known("ed25519")
	locked, private, public := newKey(t, passphrase)
	plain, _, stranger := newKey(t, "")
	s.admit(public)

	socket := serveAgent(t, private)

	for _, test := range []struct {
		name, socket string
		login        Login
		want         string
	}{
		{"passphrase", "", Login{SSHKeyFile: locked, SSHPassphraseFile: secretFile(t, passphrase+"\n")}, ""},
		{"no passphrase", "", Login{SSHKeyFile: locked}, "is encrypted: give the file of its passphrase"},
		{"wrong passphrase", "", Login{SSHKeyFile: locked, SSHPassphraseFile: secretFile(t, "S3CRET")}, "does not open with the passphrase"},
		{"empty passphrase", "", Login{SSHKeyFile: locked, SSHPassphraseFile: secretFile(t, "\n")}, "is empty"},
		{"stranger", "", Login{SSHKeyFile: plain}, "does not let " + s.user + " in with the key " + ssh.FingerprintSHA256(stranger)},
		{"no key", "", Login{SSHKeyFile: secretFile(t, "S3CRET")}, "has to be a private key"},
		{"agent", socket, Login{SSHAgent: true}, ""},
		{"agent besides a key", socket, Login{SSHAgent: true, SSHKeyFile: plain}, ""},
		{"empty agent", serveAgent(t), Login{SSHAgent: true}, "the ssh agent holds no key"},
		{"no agent", "", Login{SSHAgent: true}, "SSH_AUTH_SOCK is not set"},
		{"dead agent", filepath.Join(t.TempDir(), "x"), Login{SSHAgent: true}, "cannot be reached"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("SSH_AUTH_SOCK", test.socket)

			test.login.KnownHostsFile = known

			_, err := newTestGit(t, GitConfig{URL: s.url(r), Login: test.login}).Fetch(t.Context())
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}

				return
			}

			wantError(t, err, test.want, "S3CRET")
		})
	}

	// Another key is used from the next look on.
	g := newTestGit(t, GitConfig{URL: s.url(r), Login: Login{SSHKeyFile: plain, KnownHostsFile: known}})
	if _, err := g.Fetch(t.Context()); err == nil {
		t.Fatal("a stranger was let in")
	}

	s.admit(stranger)
	fetch(t, g)

	// What the server says about a repository that is not there.
	_, err := newTestGit(t, GitConfig{URL: s.url(r) + "x", Login: Login{SSHKeyFile: plain, KnownHostsFile: known}}).Fetch(t.Context())
	wantError(t, err, "does not appear to be a git repository")

	empty := newRepo(t, true)
	_, err = newTestGit(t, GitConfig{URL: s.url(empty), Login: Login{SSHKeyFile: plain, KnownHostsFile: known}}).Fetch(t.Context())
	wantError(t, err, errEmpty.Error())
}

// The path is one word for the shell on the server, whatever is in it.
func TestSSHOddPath(t *testing.T) {
	r := newRepo(t, true)
	r.commit("one", map[string]string{"a": "1"})

	odd := filepath.Join(filepath.Dir(r.dir), "it's; touch owned $(touch owned)!.git")
	if err := os.Rename(r.dir, odd); err != nil {
		t.Fatal(err)
	}

	s := serveSSH(t, "ed25519")
	key, _, public := newKey(t, "")
	s.admit(public)

	url := "ssh://" + s.user + "@" + s.address + strings.ReplaceAll(odd, " ", "%20")
	fetch(t, newTestGit(t, GitConfig{URL: url, Login: Login{SSHKeyFile: key, KnownHostsFile: s.known("ed25519")}}))
}

// serveAgent serves an agent with these keys and returns its socket.
func serveAgent(t *testing.T, keys ...any) string {
	t.Helper()

	ring := agent.NewKeyring()
	for _, key := range keys {
		if err := ring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
			t.Fatal(err)
		}
	}

	dir, err := os.MkdirTemp("", "agent") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { os.RemoveAll(dir) })

	socket := filepath.Join(dir, "socket")

	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { listener.Close() })

	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}

			go func() {
				defer conn.Close()

				agent.ServeAgent(ring, conn) //nolint:errcheck // ends with the connection
			}()
		}
	}()

	return socket
}
