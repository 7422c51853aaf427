package config

import (
	"errors"
	"fmt"
	"net"
	"time"
)

// API is where the daemon is asked and told.
type API struct {
	// Socket is the path of a unix socket for the daemon's own user and root, or [None].
	// Default: omni-syncd.sock in $RUNTIME_DIRECTORY (systemd's) or $XDG_RUNTIME_DIR; without
	// either of them there is no socket.
	Socket string `yaml:"socket"`
	// Listen is host:port, for others. It needs a certificate, and a way to tell who somebody
	// is: TokensFile, OIDC or Kubernetes, or several of them.
	Listen string `yaml:"listen"`
	// CertFile and KeyFile are the server's certificate; it is read anew when it changes.
	CertFile string `yaml:"certFile"`
	KeyFile  string `yaml:"keyFile"`
	// ClientCAFile holds authorities (PEM); every client has to show a certificate of theirs
	// besides its token.
	ClientCAFile string `yaml:"clientCAFile"`
	// TokensFile holds the hashes of tokens and what each may; it is read anew when it changes.
	TokensFile string           `yaml:"tokensFile"`
	OIDC       *OIDC            `yaml:"oidc"`
	Kubernetes *KubernetesLogin `yaml:"kubernetes"`
}

// None is the socket of a daemon without one.
const None = "none"

// OIDC lets in who has an ID token of an issuer.
type OIDC struct {
	// Issuer is its https URL, and Audience is whom a token has to be made for.
	Issuer   string `yaml:"issuer"`
	Audience string `yaml:"audience"`
	// CAFile holds certificates (PEM) that are trusted in addition to the system's.
	CAFile string `yaml:"caFile"`
	// UsernameClaim names the caller in the audit log. Default: email, or sub if that is missing
	// or not verified.
	UsernameClaim string `yaml:"usernameClaim"`
	// Claim is looked at for Grants. Default: groups.
	Claim  string       `yaml:"claim"`
	Grants []ClaimGrant `yaml:"grants"`
}

// ClaimGrant gives a role to whose claim is, or holds, a value.
type ClaimGrant struct {
	Value string `yaml:"value"`
	Role  string `yaml:"role"`
	// Clusters are globs for names. Default: everything.
	Clusters []string `yaml:"clusters"`
}

// KubernetesLogin lets in the service accounts and users of the cluster that the daemon runs
// in, see [Kubernetes], as that cluster's roles say.
type KubernetesLogin struct {
	// Audiences are whom a token may be made for. Default: omni-syncd.
	Audiences []string `yaml:"audiences"`
}

// Access is what the daemon hands out besides logins.
type Access struct {
	// ServiceAccounts allows kubeconfigs with a token. Default: none is handed out.
	ServiceAccounts *ServiceAccounts `yaml:"serviceAccounts"`
	// Directory is kept filled with the kubeconfig and talosconfig of every synced cluster.
	Directory *AccessDirectory `yaml:"directory"`
	// Secrets are kept, too, with the kubeconfig of every synced cluster.
	Secrets *AccessSecrets `yaml:"secrets"`
}

// ServiceAccounts says which kubeconfigs with a token are handed out.
type ServiceAccounts struct {
	// MaxTTL is how long a token may hold. It cannot be revoked, so keep it short.
	MaxTTL Duration `yaml:"maxTTL"`
	// Users are globs for the user names that may be asked for; one that begins with system:
	// has to be named in full. Groups are names; without any, tokens have no groups.
	Users  []string `yaml:"users"`
	Groups []string `yaml:"groups"`
}

// AccessDirectory is a directory with a kubeconfig and a talosconfig for each cluster.
type AccessDirectory struct {
	// Path of the directory; it is made if need be.
	Path string `yaml:"path"`
	// ServiceAccount makes kubeconfigs with a token, renewed when half its time is over.
	// Default: without, so that who uses it logs in.
	ServiceAccount *ServiceAccount `yaml:"serviceAccount"`
}

// ServiceAccount is whom the tokens of a directory, or of Secrets, are for; `access.serviceAccounts` has to
// allow it.
type ServiceAccount struct {
	User   string   `yaml:"user"`
	Groups []string `yaml:"groups"`
	TTL    Duration `yaml:"ttl"`
}

// minTokenTTL is the least time to live of a token that is kept. Nobody can revoke it, and for each cluster one is made
// in half of that.
const minTokenTTL = time.Minute

func (a *ServiceAccount) checkTTL(key string) error {
	if ttl := time.Duration(a.TTL); ttl < minTokenTTL {
		return fmt.Errorf("%s.ttl: %s is too short: a token is made anew at half its time; the least is %s", key, ttl, minTokenTTL)
	}

	return nil
}

// check says what is wrong with the API; paths and grants are looked at when they are used.
func (a *API) check() []error {
	var problems []error

	complain := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	ways := a.TokensFile != "" || a.OIDC != nil || a.Kubernetes != nil

	switch {
	case a.Listen == "" && (ways || a.CertFile != "" || a.KeyFile != "" || a.ClientCAFile != ""):
		complain("api.listen: it is missing; the unix socket needs no certificate and no tokens")
	case a.Listen == "":
	default:
		if _, _, err := net.SplitHostPort(a.Listen); err != nil {
			complain("api.listen: %q is no address; write host:port, such as 0.0.0.0:8443", a.Listen)
		}

		if a.CertFile == "" || a.KeyFile == "" {
			complain("api: certFile and keyFile are needed with listen: tokens must not travel in the clear")
		}

		if !ways {
			complain("api: nobody could get in by %s; give tokensFile, oidc or kubernetes", a.Listen)
		}
	}

	if o := a.OIDC; o != nil {
		if o.Issuer == "" || o.Audience == "" {
			complain("api.oidc: issuer and audience are needed")
		}

		if len(o.Grants) == 0 {
			complain("api.oidc.grants: there is none, so nobody may anything; give a value of the claim a role")
		}
	}

	return problems
}

func (a *Access) check() []error {
	var problems []error

	if s := a.ServiceAccounts; s != nil && (s.MaxTTL <= 0 || len(s.Users) == 0) {
		problems = append(problems, errors.New("access.serviceAccounts: maxTTL and users are needed; leave all of it out to hand out no tokens"))
	}

	problems = append(problems, a.Secrets.check()...)

	d := a.Directory
	if d == nil {
		return problems
	}

	if d.Path == "" {
		problems = append(problems, errors.New("access.directory.path: it is missing"))
	}

	if account := d.ServiceAccount; account != nil && (account.User == "" || account.TTL <= 0) {
		problems = append(problems, errors.New("access.directory.serviceAccount: user and ttl are needed"))
	} else if account != nil {
		if err := account.checkTTL("access.directory.serviceAccount"); err != nil {
			problems = append(problems, err)
		}
	}

	return problems
}

// files are the paths in the API's configuration.
func (a *API) files() []*string {
	paths := []*string{&a.CertFile, &a.KeyFile, &a.ClientCAFile, &a.TokensFile}
	if a.Socket != None {
		paths = append(paths, &a.Socket)
	}

	if a.OIDC != nil {
		paths = append(paths, &a.OIDC.CAFile)
	}

	return paths
}
