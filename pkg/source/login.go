package source

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"

	"go.uber.org/zap"
)

// Login says how to prove who we are to a server. Secrets stand in files, which are
// read anew for every look: replace a file, and the next look uses what it holds.
//
// Which form works where, for https:
//
//   - GitHub: a personal access token as TokenFile, with any User (or none on
//     github.com); best a GitHubApp.
//   - GitLab: any token as TokenFile with User "oauth2" (none on gitlab.com); a deploy
//     token with the user name that GitLab shows beside it. GitLab takes no bearer tokens.
//   - Gitea, Forgejo: a token as TokenFile with or without the name of its owner as User.
//   - Bitbucket Cloud: an access token as TokenFile with User "x-token-auth" (or none on
//     bitbucket.org). Bitbucket Data Center: an HTTP access token as TokenFile without User.
//   - Azure DevOps: a personal access token as TokenFile with any User (or none on
//     dev.azure.com).
//
// For ssh: a key that the server knows (a deploy key is best), and always KnownHostsFile.
type Login struct {
	// User is the user name for https, with PasswordFile or TokenFile.
	User string
	// PasswordFile holds the password of User.
	PasswordFile string
	// TokenFile holds a token. With User it is sent in place of a password. Without, it
	// is sent as "Authorization: Bearer", except to servers that are known to want a user
	// name: github.com, gitlab.com, bitbucket.org and dev.azure.com.
	TokenFile string

	// SSHKeyFile holds a private key, in OpenSSH's or a PEM format.
	SSHKeyFile string
	// SSHPassphraseFile holds the passphrase of an encrypted SSHKeyFile.
	SSHPassphraseFile string
	// SSHAgent asks the agent at $SSH_AUTH_SOCK for keys.
	SSHAgent bool
	// KnownHostsFile holds the keys of servers as OpenSSH's known_hosts does. It is
	// required for ssh: a server that is not in it is refused.
	KnownHostsFile string

	// GitHubApp gets its own short-lived tokens.
	GitHubApp *GitHubApp
}

// none reports whether nothing is set.
func (l Login) none() bool { return l == Login{} }

func (l Login) usesHTTP() bool {
	return l.User != "" || l.PasswordFile != "" || l.TokenFile != "" || l.GitHubApp != nil
}

func (l Login) usesSSH() bool {
	return l.SSHKeyFile != "" || l.SSHPassphraseFile != "" || l.SSHAgent || l.KnownHostsFile != ""
}

// check tells what is wrong with a login for that place.
func (l Login) check(where location, behind proxy) error {
	switch {
	case where.path != "" && !l.none():
		return errors.New("a repository on this machine needs no login: remove it")
	case where.ssh != nil:
		return l.checkSSH()
	case l.usesSSH():
		return errors.New("SSH keys and known hosts do not go with an http URL: use ssh://… or remove them")
	case where.url == nil || l.none():
		return nil
	}

	forms := 0

	for _, set := range []bool{l.PasswordFile != "", l.TokenFile != "", l.GitHubApp != nil} {
		if set {
			forms++
		}
	}

	switch {
	case forms != 1:
		return errors.New("a login is one of a password file, a token file and a GitHub app: give exactly one")
	case l.PasswordFile != "" && l.User == "":
		return errors.New("the login has a password file and no user: name the user (for a token, use the token file)")
	case strings.ContainsAny(l.User, ":\r\n\x00"):
		return errors.New("the user of the login must not contain a colon or a line break")
	case l.GitHubApp != nil && l.User != "":
		return errors.New("a GitHub app has its own user: remove the user")
	case where.url.Scheme == "http" && (!isLoopback(where.url.Hostname()) || behind.leavesMachine()):
		return errors.New("the login would go over the network in clear text: use the https:// URL")
	}

	if l.GitHubApp != nil {
		return l.GitHubApp.check()
	}

	return nil
}

func (l Login) checkSSH() error {
	switch {
	case l.usesHTTP():
		return errors.New("users, passwords, tokens and GitHub apps do not go with ssh, whose user stands in the URL: remove them, or use https://…")
	case l.KnownHostsFile == "":
		return errors.New("ssh needs a file of known hosts, so that nobody can pass for the server: " +
			"make one with \"ssh-keyscan <host>\", and compare the fingerprints with those that the server's operator publishes")
	case l.SSHKeyFile == "" && !l.SSHAgent:
		return errors.New("ssh needs a key: give the file of a private key, or use the agent")
	case l.SSHPassphraseFile != "" && l.SSHKeyFile == "":
		return errors.New("there is a passphrase file and no key file: give both or none")
	default:
		return nil
	}
}

// isLoopback reports whether what is sent to a host stays on this machine.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}

	ip := net.ParseIP(host)

	return ip != nil && ip.IsLoopback()
}

// tokenUsers are the user names that go with a token, for servers that take no bearer
// tokens from Git.
var tokenUsers = map[string]string{
	"github.com":    "x-access-token",
	"gitlab.com":    "oauth2",
	"bitbucket.org": "x-token-auth",
	"dev.azure.com": "token",
}

// credential is what a request carries.
type credential struct {
	header  string   // the value of Authorization; "" for none
	secrets []string // must not be shown, in any form that a server may repeat
}

func basic(user, secret string) credential {
	encoded := base64.StdEncoding.EncodeToString([]byte(user + ":" + secret))

	return credential{"Basic " + encoded, []string{secret, encoded}}
}

func bearer(token string) credential {
	return credential{"Bearer " + token, []string{token}}
}

// forHTTP reads the credential for a host. GitHub apps are not its business.
func (l Login) forHTTP(host string, secrets *secretFiles) (credential, error) {
	switch {
	case l.PasswordFile != "":
		password, err := secrets.line(l.PasswordFile, "password")

		return basic(l.User, password), err
	case l.TokenFile != "":
		token, err := secrets.line(l.TokenFile, "token")
		if err != nil {
			return credential{}, err
		}

		user := l.User
		if user == "" {
			user = tokenUsers[strings.ToLower(host)]
		}

		if user == "" {
			return bearer(token), nil
		}

		return basic(user, token), nil
	default:
		return credential{}, nil
	}
}

// maxSecret bounds a file with a secret, a key or certificates.
const maxSecret = 1 << 20

// secretFiles reads files with secrets in them.
type secretFiles struct {
	log    *zap.Logger
	warned sync.Map // names of files that others can read, and have been told about
}

// line reads a file that holds a secret of one line. Line breaks around it, which
// editors add, do not belong to it.
func (s *secretFiles) line(name, kind string) (string, error) {
	data, err := s.read(name, kind)
	if err != nil {
		return "", err
	}

	text := strings.Trim(string(data), "\r\n")

	switch {
	case strings.TrimSpace(text) == "":
		return "", fmt.Errorf("the %s file %s is empty: put the %s into it", kind, name, kind)
	case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "", fmt.Errorf("the %s file %s holds more than one line, or control characters: only the %s belongs there", kind, name, kind)
	default:
		return text, nil
	}
}

// read reads a whole file.
func (s *secretFiles) read(name, kind string) ([]byte, error) {
	info, data, err := readBounded(name, kind)
	if err != nil {
		return nil, err
	}

	if info.Mode().Perm()&0o004 != 0 {
		if _, told := s.warned.LoadOrStore(name, true); !told {
			s.log.Warn("everybody on this machine can read a file with a secret: chmod 0600 it", zap.String("file", name), zap.String("kind", kind))
		}
	}

	return data, nil
}

// readBounded reads a regular file of sensible size. The error never holds its content.
func readBounded(name, kind string) (fs.FileInfo, []byte, error) {
	info, err := os.Stat(name)

	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, fmt.Errorf("the %s file %s does not exist: check the path", kind, name)
	case err != nil:
		return nil, nil, fmt.Errorf("the %s file: %w", kind, err)
	case !info.Mode().IsRegular(): // reading a pipe could wait for ever
		return nil, nil, fmt.Errorf("the %s file %s is no regular file: give a file that can be read again and again", kind, name)
	}

	file, err := os.Open(name)
	if err != nil {
		return nil, nil, fmt.Errorf("the %s file: %w", kind, err)
	}
	defer file.Close()

	data, err := io.ReadAll(io.LimitReader(file, maxSecret+1))

	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("the %s file: %w", kind, err)
	case len(data) > maxSecret:
		return nil, nil, fmt.Errorf("the %s file %s is larger than %s: is it the right one?", kind, name, mebibytes(maxSecret))
	case len(data) == 0:
		return nil, nil, fmt.Errorf("the %s file %s is empty", kind, name)
	}

	return info, data, nil
}

// scrub takes secrets out of an error's text, where a server repeated them to us. Very short ones stay: they are in every
// text, and what is missing would tell them.
func scrub(err error, secrets []string) error {
	if err == nil {
		return nil
	}

	text := err.Error()

	for _, secret := range secrets {
		if len(secret) >= 4 {
			text = strings.ReplaceAll(text, secret, "…")
		}
	}

	if text == err.Error() {
		return err
	}

	return rewritten{err, text}
}
