package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// sshAddress is a checked URL of a repository behind ssh.
type sshAddress struct {
	user, host, port string
	path             string // as the server is told
}

func (a sshAddress) address() string { return net.JoinHostPort(a.host, a.port) }

// sshRemote is a repository on a server that is reached with ssh. A look is one
// connection. One goroutine at a time.
type sshRemote struct {
	addr  sshAddress
	login Login
	proxy proxy
	files *secretFiles

	key *openedKey // kept: opening an encrypted one takes a while, on purpose
}

type openedKey struct {
	text, passphrase string
	signer           ssh.Signer
}

func (r *sshRemote) look(ctx context.Context) (*view, error) {
	client, stop, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}

	closeAll := func() { stop(); client.Close() }

	first, err := r.start(client)
	if err != nil {
		closeAll()

		return nil, err
	}

	advert, err := readAdvert(first.out)
	if err != nil {
		err = first.why(err)
		closeAll()

		return nil, err
	}

	// The first request is the answer to the list. One more, after it, is a session of
	// its own on the same connection.
	v := newView(advert, func(_ context.Context, request []byte) (io.ReadCloser, error) {
		session := first
		first = nil

		if session == nil {
			if session, err = r.start(client); err != nil {
				return nil, err
			}

			if _, err := readAdvert(session.out); err != nil {
				return nil, session.why(err)
			}
		}

		if _, err := session.in.Write(request); err != nil {
			return nil, session.why(err)
		}

		return session, nil
	})
	v.close = func() {
		if first != nil {
			io.WriteString(first.in, "0000") //nolint:errcheck // "want nothing": the server ends without complaint
		}

		closeAll()
	}

	return v, nil
}

// connect returns a client that ends with the context, until stop is called.
func (r *sshRemote) connect(ctx context.Context) (_ *ssh.Client, stop func() bool, err error) {
	known, err := readKnownHosts(r.login.KnownHostsFile, r.addr.address())
	if err != nil {
		return nil, nil, err
	}

	auth, shown, done, err := r.auth(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer done()

	conn, err := r.proxy.dial(ctx, r.addr.address(), r.files)
	if err != nil {
		return nil, nil, err
	}

	stop = context.AfterFunc(ctx, func() { conn.Close() })

	c, channels, requests, err := ssh.NewClientConn(conn, r.addr.address(), &ssh.ClientConfig{
		User: r.addr.user, Auth: auth,
		HostKeyCallback: known.check, HostKeyAlgorithms: known.algorithms(),
		ClientVersion: "SSH-2.0-omni-syncd",
	})
	if err == nil {
		return ssh.NewClient(c, channels, requests), stop, nil
	}

	stop()
	conn.Close()

	var mismatch *ssh.AlgorithmNegotiationError

	switch {
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case known.bad != nil:
		return nil, nil, known.bad
	case errors.As(err, &mismatch) && strings.Contains(mismatch.What, "host key"):
		return nil, nil, known.otherKinds(mismatch.RequestedAlgorithms)
	case strings.Contains(err.Error(), "unable to authenticate"): // ssh has no type for it
		return nil, nil, fmt.Errorf("the server does not let %s in with %s: add the public key to the repository (as a deploy key) or to the user", clean(r.addr.user), shown())
	default:
		return nil, nil, fmt.Errorf("connect with ssh: %w", explain(err))
	}
}

// auth returns what proves who we are. shown names it, for an error; done gives back
// what it holds.
func (r *sshRemote) auth(ctx context.Context) (_ []ssh.AuthMethod, shown func() string, done func(), err error) {
	var (
		signers []ssh.Signer
		names   []string
	)

	done = func() {}

	if r.login.SSHKeyFile != "" {
		signer, err := r.signer()
		if err != nil {
			return nil, nil, nil, err
		}

		signers = append(signers, signer)
		names = append(names, "the key "+ssh.FingerprintSHA256(signer.PublicKey()))
	}

	if r.login.SSHAgent {
		conn, held, err := agentSigners(ctx)
		if err != nil {
			return nil, nil, nil, err
		}

		done = func() { conn.Close() }
		signers = append(signers, held...)
		names = append(names, fmt.Sprintf("the %d keys of the ssh agent", len(held)))
	}

	if len(signers) == 0 {
		done()

		return nil, nil, nil, errors.New("the ssh agent holds no key: add one with ssh-add")
	}

	return []ssh.AuthMethod{ssh.PublicKeys(signers...)}, func() string { return strings.Join(names, " and ") }, done, nil
}

// signer opens the key file, if it or the passphrase changed.
func (r *sshRemote) signer() (ssh.Signer, error) {
	name := r.login.SSHKeyFile

	text, err := r.files.read(name, "ssh key")
	if err != nil {
		return nil, err
	}

	passphrase := ""
	if r.login.SSHPassphraseFile != "" {
		if passphrase, err = r.files.line(r.login.SSHPassphraseFile, "passphrase"); err != nil {
			return nil, err
		}
	}

	if r.key != nil && r.key.text == string(text) && r.key.passphrase == passphrase {
		return r.key.signer, nil
	}

	signer, err := ssh.ParsePrivateKey(text)

	if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
		if passphrase == "" {
			return nil, fmt.Errorf("the ssh key %s is encrypted: give the file of its passphrase, or use a key without", name)
		}

		if signer, err = ssh.ParsePrivateKeyWithPassphrase(text, []byte(passphrase)); err != nil {
			return nil, fmt.Errorf("the ssh key %s does not open with the passphrase in %s: check both", name, r.login.SSHPassphraseFile)
		}
	}

	if err != nil { // not shown: it is about the content of the file
		return nil, fmt.Errorf("the ssh key %s cannot be read: it has to be a private key as ssh-keygen makes it", name)
	}

	r.key = &openedKey{string(text), passphrase, signer}

	return signer, nil
}

func agentSigners(ctx context.Context) (net.Conn, []ssh.Signer, error) {
	socket := os.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return nil, nil, errors.New("there is no ssh agent, SSH_AUTH_SOCK is not set: start one, or use a key file")
	}

	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, nil, fmt.Errorf("the ssh agent cannot be reached: is it running? %w", err)
	}

	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline) //nolint:errcheck // a socket that was just opened
	}

	signers, err := agent.NewClient(conn).Signers()
	if err != nil {
		conn.Close()

		return nil, nil, fmt.Errorf("ask the ssh agent for its keys: %w", err)
	}

	return conn, signers, nil
}

// sshSession is one run of git-upload-pack on the server. Reading it reads what that
// answers.
type sshSession struct {
	*ssh.Session

	in   io.Writer
	out  io.Reader
	said *firstWords
}

func (r *sshRemote) start(client *ssh.Client) (*sshSession, error) {
	session, err := client.NewSession()
	if err != nil {
		return nil, fmt.Errorf("the server opens no session: %w", explain(err))
	}

	in, err := session.StdinPipe()
	if err != nil {
		return nil, err
	}

	out, err := session.StdoutPipe()
	if err != nil {
		return nil, err
	}

	s := &sshSession{session, in, out, &firstWords{}}
	session.Stderr = s.said

	// The version of the protocol is not negotiated, which makes it 0.
	if err = session.Start(service + " " + quote(r.addr.path)); err != nil {
		return nil, fmt.Errorf("the server does not run %s: %w", service, explain(err))
	}

	return s, nil
}

func (s *sshSession) Read(p []byte) (int, error) { return s.out.Read(p) }

// Close ends the session, if the server did not do so before.
func (s *sshSession) Close() error {
	if err := s.Session.Close(); !errors.Is(err, io.EOF) {
		return err
	}

	return nil
}

// why adds to an error what the server said on the way out, which is where ssh servers
// tell what is wrong.
func (s *sshSession) why(err error) error {
	// Gitea prints an empty line in place of a list, and the reason beside it.
	if !errors.Is(err, errNoList) && !errors.Is(err, errNoAnswer) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return explain(err)
	}

	// What it says may come after it closed its output. Then it ends; if not, we do not
	// wait for long.
	timer := time.AfterFunc(5*time.Second, func() { s.Session.Close() })
	defer timer.Stop()

	s.Session.Wait() //nolint:errcheck // that it failed is known

	if words := s.said.String(); words != "" {
		return fmt.Errorf("the server says %q: check the URL, and what the key may read", words)
	}

	return explain(err)
}

// quote makes one word of a path for the shell that may run on the server.
func quote(path string) string {
	return "'" + strings.NewReplacer("'", `'\''`, "!", `'\!'`).Replace(path) + "'"
}

// firstWords keeps the beginning of what a server says beside its answer.
type firstWords struct {
	mu   sync.Mutex
	text []byte
}

func (f *firstWords) Write(p []byte) (int, error) {
	const most = 4 << 10

	f.mu.Lock()
	defer f.mu.Unlock()

	f.text = append(f.text, p[:min(len(p), most-len(f.text))]...)

	return len(p), nil
}

// String returns it on one line, fit to be shown.
func (f *firstWords) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()

	return clean(strings.Join(strings.Fields(string(f.text)), " "))
}
