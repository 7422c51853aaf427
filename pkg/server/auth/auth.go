// Package auth decides who calls the daemon's API over the network, and what a caller may do.
//
//	source ──▶ template ──▶ render ──▶ diff ──▶ sync ──▶ omni
//	                                             ▲│
//	           listener ──▶ auth ──▶ api ────────┘└──▶ status
//
// It stands beside the flow, between a listener and package api. [Require] is the way in: it
// takes the bearer token of a request, asks the [Authenticator]s whose it is, and puts
// the [Caller] into the context. What the caller may do is asked with [Caller.May], by
// whoever does it. Nothing is allowed that was not granted.
//
// The unix socket has no tokens: its peer is the [Owner].
package auth

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
)

// Bounds (G12).
const (
	// MaxToken is how long a token may be, in bytes. Those of some issuers carry hundreds of
	// groups.
	MaxToken = 16 << 10
	// MaxClusterName is how long the name of a cluster can be, in bytes, and a glob for it.
	MaxClusterName = 253
	// MaxGrants is how many grants one token, or one issuer, has at most.
	MaxGrants = 64
	// MaxGlobs is how many globs one grant has at most.
	MaxGlobs = 256
)

// Role is what somebody may do.
type Role string

// The roles.
const (
	// Viewer sees status, plans and history.
	Viewer Role = "viewer"
	// Operator reconciles, confirms, suspends and resumes. It is a viewer of the same clusters.
	Operator Role = "operator"
	// Access gets a kubeconfig and a talosconfig. It implies nothing else.
	Access Role = "access"
)

// Roles are all roles.
var Roles = []Role{Viewer, Operator, Access}

// Grant gives a role for some clusters, or for everything.
type Grant struct {
	Role Role `yaml:"role"`
	// Clusters are globs (`*`, `?`, `[a-z]`) for names. Without any (nil) the grant is for
	// everything, fleet resources and sources included; `*` is every cluster and nothing
	// else. A list that is there but empty is refused by Check, and matches nothing.
	Clusters []string `yaml:"clusters,omitempty,flow"`
}

// Check says what is wrong with a grant.
func (g Grant) Check() error {
	switch {
	case !slices.Contains(Roles, g.Role):
		return fmt.Errorf("the role%s is unknown: use viewer, operator or access", shown(string(g.Role)))
	case g.Clusters != nil && len(g.Clusters) == 0:
		return errors.New("the list of clusters is empty: leave `clusters` out to grant the role for everything, or remove the grant")
	case len(g.Clusters) > MaxGlobs:
		return fmt.Errorf("there are %d globs for clusters, at most %d are taken: use wider ones", len(g.Clusters), MaxGlobs)
	}

	for _, glob := range g.Clusters {
		_, err := path.Match(glob, "x")

		switch {
		case glob == "":
			return errors.New("a glob for clusters is empty: write `*` for every cluster")
		case len(glob) > MaxClusterName:
			return fmt.Errorf("a glob for clusters has %d bytes, at most %d are taken", len(glob), MaxClusterName)
		case err != nil:
			return fmt.Errorf("the glob%s is malformed: `*`, `?`, `[a-z]` and `\\` have a meaning, `[` needs its `]`", shown(glob))
		case strings.ContainsAny(glob, ", \t"):
			return fmt.Errorf("the glob%s has a comma or a blank: write several globs as a list", shown(glob))
		case strings.Contains(glob, "/"):
			return fmt.Errorf("the glob%s has a slash: the name of a cluster has none", shown(glob))
		}
	}

	return nil
}

// allow tells whether one of the grants gives a role for a cluster; "" is everything.
func allow(grants []Grant, role Role, cluster string) bool {
	return slices.ContainsFunc(grants, func(g Grant) bool { return g.gives(role) && g.matches(cluster) })
}

// gives tells whether a grant is of a role, or of one that implies it.
func (g Grant) gives(role Role) bool { return g.Role == role || g.Role == Operator && role == Viewer }

func (g Grant) matches(cluster string) bool {
	if g.Clusters == nil {
		return true
	}

	// `*` matches the empty name, which means much more than one cluster.
	return cluster != "" && slices.ContainsFunc(g.Clusters, func(glob string) bool {
		ok, err := path.Match(glob, cluster)

		return ok && err == nil
	})
}

// Caller is who makes a request, and what it may do.
type Caller struct {
	// Name is for the audit log: "token ci", "oidc joe@example.com", "kubernetes
	// system:serviceaccount:ns:name". It is printable and at most some hundred bytes long.
	Name string
	// Expires is when the caller has to prove anew who it is, zero for never. The context of a
	// request ends then, which bounds streams.
	Expires time.Time

	id  string // whose rate is limited; Name if empty
	how string // how it would be granted what it may not do
	// held are the grants as they are now; if it is nil, decides is asked.
	held    func() ([]Grant, error)
	decides func(ctx context.Context, role Role, cluster string) (bool, error)
}

// Owner may everything: it is the daemon's own user, or root.
func Owner(name string) *Caller {
	return Granted(name, Grant{Role: Operator}, Grant{Role: Access})
}

// Granted returns a caller that may what the grants say.
func Granted(name string, grants ...Grant) *Caller {
	return &Caller{Name: name, held: func() ([]Grant, error) { return grants, nil }}
}

// May tells whether the caller has a role for a cluster; "" stands for everything, as with
// [Caller.MayAll]. It returns nil, a [*DeniedError], an [*ExpiredError], [ErrUnknown] if the
// token was taken back, or another error if it could not be found out, which is no permission;
// try again then.
//
// It answers from what holds now: a token that was removed since may nothing any more. Who
// serves a stream asks it now and then. It may ask a Kubernetes API server; who has to know
// it of many clusters asks for the [Sight].
func (c *Caller) May(ctx context.Context, role Role, cluster string) error {
	if c == nil || c.held == nil && c.decides == nil || !slices.Contains(Roles, role) || len(cluster) > MaxClusterName {
		return denied(c, role, cluster)
	}

	if !c.Expires.IsZero() && !time.Now().Before(c.Expires) {
		return &ExpiredError{Name: c.Name, At: c.Expires}
	}

	var (
		ok  bool
		err error
	)

	if c.held == nil {
		ok, err = c.decides(ctx, role, cluster)
	} else {
		var grants []Grant

		grants, err = c.held()
		ok = err == nil && allow(grants, role, cluster)
	}

	switch {
	case err != nil:
		return err
	case !ok:
		return denied(c, role, cluster)
	default:
		return nil
	}
}

// MayAll tells whether the caller has a role for everything: by a grant that no glob limits. The
// errors are those of May.
func (c *Caller) MayAll(ctx context.Context, role Role) error { return c.May(ctx, role, "") }

type callerKey struct{}

// With returns a context that carries the caller.
func With(ctx context.Context, c *Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// Of returns the caller of a request. There is none in a request that nobody checked.
func Of(ctx context.Context) (*Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(*Caller)

	return c, ok && c != nil
}

// Authenticator is one way in.
type Authenticator interface {
	// Authenticate returns whose token it is. The error is [ErrUnknown] if the token is not of its
	// kind or not good, and the next way is tried; an [*ExpiredError] if it was good
	// once; anything else if it cannot tell now. No error holds a part of the token.
	Authenticate(ctx context.Context, token string) (*Caller, error)
}

// ErrUnknown is the error for a token that nobody knows.
var ErrUnknown = errors.New("the token is not known")

// DeniedError says that a caller may not do something.
type DeniedError struct {
	Caller string
	Role   Role
	// Cluster is "" for everything.
	Cluster string
	// How says how it would be granted; it may be empty.
	How string
}

func denied(c *Caller, role Role, cluster string) error {
	if c == nil {
		return &DeniedError{Role: role, Cluster: cluster}
	}

	return &DeniedError{Caller: c.Name, Role: role, Cluster: cluster, How: c.how}
}

// Error implements error.
func (e *DeniedError) Error() string {
	who, what, how := e.Caller, "everything (fleet resources and all clusters)", e.How

	if who == "" {
		who = "nobody"
	}

	if e.Cluster != "" {
		what = fmt.Sprintf("the cluster %q", cut(e.Cluster, MaxClusterName))
	}

	if how == "" {
		how = "whoever runs omni-syncd can grant it"
	}

	return fmt.Sprintf("%s lacks the role %s for %s: %s", who, e.Role, what, how)
}

// ExpiredError says that a token was good once.
type ExpiredError struct {
	// Name says whose it was.
	Name string
	At   time.Time
}

// Error implements error.
func (e *ExpiredError) Error() string {
	return fmt.Sprintf("%s expired at %s: get a new one", e.Name, e.At.UTC().Format(time.RFC3339))
}

// UnavailableError says that somebody who has to be asked does not answer.
type UnavailableError struct {
	// Who is asked.
	Who string
	// Err is why there is no answer. It holds nothing secret.
	Err error
}

// Error implements error.
func (e *UnavailableError) Error() string {
	return fmt.Sprintf("%s cannot be asked now: %v; try again", e.Who, e.Err)
}

// Unwrap is for errors.Is.
func (e *UnavailableError) Unwrap() error { return e.Err }

// ConnectError gives an error of [Caller.May] or an [Authenticator] its code: PermissionDenied,
// Unauthenticated or, for what could not be found out, Unavailable.
func ConnectError(err error) *connect.Error {
	var (
		deniedErr  *DeniedError
		expiredErr *ExpiredError
	)

	switch {
	case errors.As(err, &deniedErr):
		return connect.NewError(connect.CodePermissionDenied, err)
	case errors.As(err, &expiredErr), errors.Is(err, ErrUnknown):
		return connect.NewError(connect.CodeUnauthenticated, err)
	default:
		return connect.NewError(connect.CodeUnavailable, err)
	}
}
