package access

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/siderolabs/omni/client/pkg/client/management"
	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

const (
	// issueTimeout bounds a call to Omni.
	issueTimeout = 30 * time.Second
	// maxName is how long a name in a request may be, in bytes.
	maxName = 253
	// maxGroups is how many groups a request may name.
	maxGroups = 64
)

// GrantTypes are how a person may log in with a kubeconfig; "" leaves it to Omni.
var GrantTypes = []string{"auto", "authcode", "authcode-keyboard"}

// Omni gives out the configs of its clusters; see [omni.Conn].
type Omni interface {
	Kubeconfig(ctx context.Context, cluster string, opts ...management.KubeconfigOption) ([]byte, error)
	Talosconfig(ctx context.Context, cluster string) ([]byte, error)
}

// Clusters knows which clusters are managed; see [sync.Engine.Managed].
type Clusters interface {
	Managed(source, cluster string) (sync.Key, error)
}

// Request asks for a kubeconfig.
type Request struct {
	// Source is "" if the cluster's name is enough.
	Source, Cluster string
	// GrantType is one of [GrantTypes], or "".
	GrantType string
	// ServiceAccount asks for a token in place of a login, if it is not nil.
	ServiceAccount *ServiceAccount
}

// ServiceAccount is whom a kubeconfig with a token is for. Nobody can revoke the token.
type ServiceAccount struct {
	// User and Groups are what the cluster's RBAC sees.
	User   string
	Groups []string
	// TTL is how long the token holds.
	TTL time.Duration
}

// IssuerConfig configures an [Issuer].
type IssuerConfig struct {
	Omni     Omni
	Clusters Clusters
	// ServiceAccounts says which tokens may be asked for; nil: none.
	ServiceAccounts *ServiceAccountPolicy
	// Logger is told what was handed out, never the thing itself. It may be nil.
	Logger *zap.Logger
}

// Issuer hands out kubeconfigs and talosconfigs of managed clusters. It is safe for
// concurrent use.
type Issuer struct{ IssuerConfig }

// NewIssuer returns an issuer.
func NewIssuer(cfg IssuerConfig) *Issuer {
	cfg.Logger = cmp.Or(cfg.Logger, zap.NewNop())

	return &Issuer{cfg}
}

// Kubeconfig returns a kubeconfig, byte for byte as Omni gives it to the connection's
// service account for the same request. Without a service account in the request there is
// no secret in it. Every error is an [Error], or that of ctx.
func (i *Issuer) Kubeconfig(ctx context.Context, req Request) ([]byte, error) {
	opts, err := i.options(req)
	if err != nil {
		return nil, err
	}

	key, err := i.managed(req.Source, req.Cluster)
	if err != nil {
		return nil, err
	}

	data, err := ask(ctx, func(ctx context.Context) ([]byte, error) { return i.Omni.Kubeconfig(ctx, key.Target, opts...) })
	if err != nil {
		return nil, err
	}

	if account := req.ServiceAccount; account != nil {
		i.Logger.Info("issued a kubeconfig with a token", zap.String("source", key.Source), zap.String("cluster", key.Target),
			zap.String("user", account.User), zap.Strings("groups", account.Groups), zap.Duration("ttl", account.TTL))
	} else {
		i.Logger.Debug("issued a kubeconfig", zap.String("source", key.Source), zap.String("cluster", key.Target))
	}

	return data, nil
}

// Talosconfig returns a talosconfig, byte for byte as Omni gives it to the connection's
// service account. There is no secret in it: the identity is that service account's, and
// who uses it signs with a key of their own. The errors are as those of Kubeconfig.
func (i *Issuer) Talosconfig(ctx context.Context, source, cluster string) ([]byte, error) {
	key, err := i.managed(source, cluster)
	if err != nil {
		return nil, err
	}

	data, err := ask(ctx, func(ctx context.Context) ([]byte, error) { return i.Omni.Talosconfig(ctx, key.Target) })
	if err != nil {
		return nil, err
	}

	i.Logger.Debug("issued a talosconfig", zap.String("source", key.Source), zap.String("cluster", key.Target))

	return data, nil
}

// Check says whether a kubeconfig may be asked for, apart from the cluster: without a call.
func (i *Issuer) Check(req Request) error {
	_, err := i.options(req)

	return err
}

// options checks a request and makes of it what upstream's client takes.
func (i *Issuer) options(req Request) ([]management.KubeconfigOption, error) {
	opts, err := req.Options()
	if err != nil {
		return nil, err
	}

	if req.ServiceAccount == nil {
		return opts, nil
	}

	return opts, i.ServiceAccounts.check(req.ServiceAccount)
}

// Options returns what upstream's client takes for the request. The error says that it
// makes no sense; whether it is allowed is not asked.
func (r Request) Options() ([]management.KubeconfigOption, error) {
	var opts []management.KubeconfigOption

	if r.GrantType != "" {
		if !slices.Contains(GrantTypes, r.GrantType) {
			return nil, failure(Invalid, "the grant type is none of %s", strings.Join(GrantTypes, ", "))
		}

		if r.ServiceAccount != nil {
			return nil, failure(Invalid, "a kubeconfig holds a token or a login: a grant type is for a login")
		}

		opts = append(opts, management.WithGrantType(r.GrantType))
	}

	if account := r.ServiceAccount; account != nil {
		if err := account.check(); err != nil {
			return nil, err
		}

		opts = append(opts, management.WithServiceAccount(account.TTL, account.User, account.Groups...))
	}

	return opts, nil
}

// check says what is wrong with the words of a request.
func (a *ServiceAccount) check() error {
	switch {
	case a.User == "":
		return failure(Invalid, "a service account needs the name of a user")
	case len(a.Groups) > maxGroups:
		return failure(Invalid, "a service account has up to %d groups, not %d", maxGroups, len(a.Groups))
	case a.TTL <= 0:
		return failure(Invalid, "the ttl of a service account must be longer than nothing")
	}

	for _, name := range append([]string{a.User}, a.Groups...) {
		if !isName(name) {
			return failure(Invalid, "%.300q is no name of a user or group: it has up to %d printable characters, and no blanks around it", name, maxName)
		}
	}

	return nil
}

// managed returns the target behind a cluster that access may be given to.
func (i *Issuer) managed(source, cluster string) (sync.Key, error) {
	if cluster == "" {
		return sync.Key{}, failure(Invalid, "name a cluster")
	}

	key, err := i.Clusters.Managed(source, cluster)

	var (
		unmanaged *sync.UnmanagedError
		ambiguous *sync.AmbiguousError
		notYet    *sync.NotYetError
	)

	switch {
	case err == nil:
		return key, nil
	case errors.As(err, &unmanaged):
		return key, &Error{NotFound, err}
	case errors.As(err, &ambiguous):
		return key, &Error{Invalid, err}
	case errors.As(err, &notYet) && notYet.Unread:
		return key, failure(Unavailable, "it cannot be told now whether a source manages the cluster %q: %s", cluster, notYet.Reason)
	default:
		return key, &Error{NotYet, err}
	}
}

// ask bounds a call to Omni and gives its error a kind.
func ask(ctx context.Context, call func(context.Context) ([]byte, error)) ([]byte, error) {
	calling, cancel := context.WithTimeout(ctx, issueTimeout)
	defer cancel()

	data, err := call(calling)

	switch {
	case err == nil:
		return data, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case omni.NotFound(err):
		return nil, &Error{NotYet, err} // it went since it was looked up
	case omni.Rejected(err), omni.Denied(err):
		return nil, &Error{Refused, err}
	default:
		return nil, &Error{Unavailable, err}
	}
}
