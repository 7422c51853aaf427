package embedded

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/siderolabs/go-api-signature/pkg/message"
	"github.com/siderolabs/go-api-signature/pkg/pgp"
	"github.com/siderolabs/go-api-signature/pkg/serviceaccount"
	"github.com/siderolabs/omni/client/pkg/access"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Role is what an account may do; a higher role may do everything a lower one may.
type Role int

// The roles of Omni, without those for infrastructure providers.
const (
	RoleNone     Role = iota // a valid key, and nothing but versions and the like to read
	RoleReader               // reads, and gets user kubeconfigs and talosconfigs
	RoleOperator             // writes templates and fleet resources, gets kubeconfigs for service accounts
	RoleAdmin                // everything a user may do
)

// String returns Omni's name of the role.
func (r Role) String() string {
	return [...]string{"None", "Reader", "Operator", "Admin"}[r]
}

// Account is a service account.
type Account struct {
	// Name as in its key and in Write.Identity.
	Name string
	// Role of the account, Omni-wide, or in the clusters below.
	Role Role
	// Clusters limits the account to these clusters, as an access policy does: elsewhere its role is RoleNone, so that reading a
	// whole kind is refused, and with a selector for the cluster's label allowed. Empty is no limit.
	Clusters []string
}

// Names of the accounts that every server has.
const (
	AccountReader   = "reader"
	AccountOperator = "operator"
	AccountAdmin    = "admin"
)

func defaultAccounts() []Account {
	return []Account{
		{Name: AccountReader, Role: RoleReader},
		{Name: AccountOperator, Role: RoleOperator},
		{Name: AccountAdmin, Role: RoleAdmin},
	}
}

// keyLifetime is far beyond any demo's or test's end.
const keyLifetime = 365 * 24 * time.Hour

type account struct {
	Account

	key   *pgp.Key
	token string // what OMNI_SERVICE_ACCOUNT_KEY holds; secret
}

// identity is who the account is to Omni: what stands in a kubeconfig and a talosconfig.
func (a Account) identity() string { return a.Name + access.ServiceAccountNameSuffix }

// accounts are found by the fingerprint of their key, as in Omni: the identity in a request is only a claim.
type accounts map[string]*account

func newAccounts(list []Account) (accounts, error) {
	result := accounts{}

	for _, a := range list {
		if result.named(a.Name) != nil {
			return nil, fmt.Errorf("account %q is given twice", a.Name)
		}

		key, err := pgp.GenerateKey(a.Name, "automation", a.identity(), keyLifetime)
		if err != nil {
			return nil, fmt.Errorf("generate the key of account %q: %w", a.Name, err)
		}

		token, err := serviceaccount.Encode(a.Name, key)
		if err != nil {
			return nil, fmt.Errorf("encode the key of account %q: %w", a.Name, err)
		}

		result[key.Fingerprint()] = &account{Account: a, key: key, token: token}
	}

	return result, nil
}

func (a accounts) named(name string) *account {
	for _, acc := range a {
		if acc.Name == name {
			return acc
		}
	}

	return nil
}

// ServiceAccountKey returns the key of an account in the form OMNI_SERVICE_ACCOUNT_KEY takes, or "" if there is no such account.
// It is a secret, though only this server takes it.
func (s *Server) ServiceAccountKey(name string) string {
	if acc := s.accounts.named(name); acc != nil {
		return acc.token
	}

	return ""
}

type callerKey struct{}

// caller returns the account whose signature was verified, or nil.
func caller(ctx context.Context) *account {
	acc, _ := ctx.Value(callerKey{}).(*account)

	return acc
}

// signatureParts of the header: version, identity, fingerprint, signature.
const signatureParts = 4

var errUnauthenticated = status.Error(codes.Unauthenticated, "invalid signature")

// authenticate verifies the signature over the method, the timestamp and the signed headers, and returns a context that knows the
// caller. As with a real Omni a request is only as fresh as its timestamp, five minutes either way: the same signature may come
// twice within that time. The body is not signed, and the client is never told what was wrong.
func (a accounts) authenticate(ctx context.Context, method string) (context.Context, error) {
	md, _ := metadata.FromIncomingContext(ctx)

	acc, err := a.verify(md, method)
	if err != nil {
		return nil, errUnauthenticated
	}

	return context.WithValue(ctx, callerKey{}, acc), nil
}

func (a accounts) verify(md metadata.MD, method string) (*account, error) {
	header := md.Get(message.SignatureHeaderKey)
	if len(header) != 1 || len(strings.Split(header[0], " ")) != signatureParts {
		return nil, errors.New("no signature or a malformed one") // the library would panic on it
	}

	msg := message.NewGRPC(md, method)

	signature, err := msg.Signature()
	if err != nil {
		return nil, err
	}

	acc, ok := a[signature.KeyFingerprint]
	if !ok {
		return nil, errors.New("unknown key")
	}

	return acc, msg.VerifySignature(acc.key)
}
