package config

import (
	"errors"
	"fmt"
	"strings"
)

// Git is a Git repository, what of it is followed and how it is reached.
type Git struct {
	// URL is an https://, ssh:// or file:// URL, user@host:path, or the path of a local
	// repository.
	URL string `yaml:"url"`
	// Branch, Tag, SemVer, Commit or Ref: at most one of them. Default: the repository's
	// default branch.
	Branch string `yaml:"branch"`
	// Tag is followed when it is moved.
	Tag string `yaml:"tag"`
	// SemVer is a range of versions; the tag with the highest one in it is followed.
	SemVer string `yaml:"semver"`
	// Commit is the full ID of a commit.
	Commit string `yaml:"commit"`
	// Ref is the full name of any ref, such as refs/pull/7/merge.
	Ref string `yaml:"ref"`
	// User is the user name for https, with PasswordFile or TokenFile.
	User string `yaml:"user"`
	// PasswordFile and TokenFile are read anew when they change.
	PasswordFile string `yaml:"passwordFile"`
	TokenFile    string `yaml:"tokenFile"`
	// SSH is how to log in over ssh.
	SSH SSH `yaml:"ssh"`
	// GitHubApp logs in as an app.
	GitHubApp *GitHubApp `yaml:"githubApp"`
	// TLS says whom to trust, for https.
	TLS TLS `yaml:"tls"`
	// Proxy leads to the server.
	Proxy Proxy `yaml:"proxy"`
	// Verify refuses revisions that nobody of a list signed.
	Verify *Verify `yaml:"verify"`
	// Timeout bounds one look at the repository, its fetch included. Default 5m.
	Timeout Duration `yaml:"timeout"`
}

// SSH is how to log in over ssh.
type SSH struct {
	// KeyFile holds a private key, PassphraseFile the passphrase if it has one.
	KeyFile        string `yaml:"keyFile"`
	PassphraseFile string `yaml:"passphraseFile"`
	// Agent asks the agent at $SSH_AUTH_SOCK.
	Agent bool `yaml:"agent"`
	// KnownHostsFile is required for ssh: a server that is not in it is refused.
	KnownHostsFile string `yaml:"knownHostsFile"`
}

// GitHubApp is an app that is installed where the repository is.
type GitHubApp struct {
	AppID          int64  `yaml:"appID"`
	InstallationID int64  `yaml:"installationID"`
	PrivateKeyFile string `yaml:"privateKeyFile"`
	// BaseURL is the API's address. Default: https://api.github.com.
	BaseURL string `yaml:"baseURL"`
}

// TLS holds PEM files that are read anew when they change.
type TLS struct {
	// CAFile holds certificates that are trusted besides the system's.
	CAFile string `yaml:"caFile"`
	// CertFile and KeyFile are the client's certificate.
	CertFile string `yaml:"certFile"`
	KeyFile  string `yaml:"keyFile"`
}

// Proxy leads to a Git server.
type Proxy struct {
	// URL is http://, https:// or socks5://[user@]host:port, or "none". Default: what the
	// environment says, for https.
	URL string `yaml:"url"`
	// PasswordFile holds the password of the user in URL.
	PasswordFile string `yaml:"passwordFile"`
}

// Verify says what must be signed, and by whom.
type Verify struct {
	// Mode is HEAD (the commit), Tag or TagAndHEAD.
	Mode string `yaml:"mode"`
	// Keys are files of public keys, OpenPGP or SSH.
	Keys []string `yaml:"keys"`
}

// The modes of Verify.
const (
	VerifyHEAD, VerifyTag, VerifyTagAndHEAD = "HEAD", "Tag", "TagAndHEAD"
)

// Webhook lets the server of a source tell that there is news.
type Webhook struct {
	// Provider is github, gitlab, gitea, bitbucket or generic.
	Provider string `yaml:"provider"`
	// SecretFile holds the secret that both sides share, and while it is changed up to
	// four of them, one a line.
	SecretFile string `yaml:"secretFile"`
}

// providers are what Webhook.Provider can be.
var providers = []string{"github", "gitlab", "gitea", "bitbucket", "generic"}

// Check returns what is wrong with a repository that can be told from its keys alone;
// what depends on the kind of URL is checked by the source itself.
func (g *Git) Check() []error {
	var problems []error

	if g.URL == "" {
		problems = append(problems, errors.New("git.url: it is missing"))
	}

	var refs []string

	for _, ref := range []struct{ key, value string }{
		{"branch", g.Branch}, {"tag", g.Tag}, {"semver", g.SemVer}, {"commit", g.Commit}, {"ref", g.Ref},
	} {
		if ref.value != "" {
			refs = append(refs, ref.key)
		}
	}

	if len(refs) > 1 {
		problems = append(problems, fmt.Errorf("git: it has %s; choose one", strings.Join(refs, " and ")))
	}

	if v := g.Verify; v != nil {
		switch {
		case v.Mode != VerifyHEAD && v.Mode != VerifyTag && v.Mode != VerifyTagAndHEAD:
			problems = append(problems, fmt.Errorf("git.verify.mode: %q means nothing; use %s, %s or %s", v.Mode, VerifyHEAD, VerifyTag, VerifyTagAndHEAD))
		case v.Mode != VerifyHEAD && g.Tag == "" && g.SemVer == "" && g.Ref == "":
			problems = append(problems, fmt.Errorf("git.verify.mode: %s needs a tag to follow: set git.tag or git.semver", v.Mode))
		}

		if len(v.Keys) == 0 {
			problems = append(problems, errors.New("git.verify.keys: there is none, so that nothing could be verified"))
		}
	}

	return problems
}

// files returns the paths that the section holds.
func (g *Git) files() []*string {
	files := []*string{
		&g.PasswordFile, &g.TokenFile, &g.SSH.KeyFile, &g.SSH.PassphraseFile, &g.SSH.KnownHostsFile,
		&g.TLS.CAFile, &g.TLS.CertFile, &g.TLS.KeyFile, &g.Proxy.PasswordFile,
	}

	if g.GitHubApp != nil {
		files = append(files, &g.GitHubApp.PrivateKeyFile)
	}

	if g.Verify != nil {
		for i := range g.Verify.Keys {
			files = append(files, &g.Verify.Keys[i])
		}
	}

	if strings.HasPrefix(g.URL, ".") {
		files = append(files, &g.URL)
	}

	return files
}
