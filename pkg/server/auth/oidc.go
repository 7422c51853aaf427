package auth

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/coreos/go-oidc/v3/oidc"
)

// OIDCConfig describes an issuer of OpenID Connect, and what its users may.
type OIDCConfig struct {
	// Issuer is its https URL, exactly as it stands in its tokens (`iss`).
	Issuer string
	// Audience has to be one of those of a token (`aud`): the ID of the client that people log in with.
	Audience string
	// CAFile holds certificates (PEM) that are trusted in addition to the system's. It is read once.
	CAFile string
	// UsernameClaim names the claim with the caller's name for the audit log. Default: `email`, if
	// there is one and `email_verified` is not false. A token without it is named by its `sub`.
	// A name grants nothing.
	UsernameClaim string
	// Claim names the claim of which Grants speak, for instance `groups`: a string or a list of
	// strings at the top level of the token. Default: `groups`.
	Claim string
	// Grants say what the values of Claim give. Who has none of them may nothing.
	Grants []ClaimGrant
}

// ClaimGrant gives a grant to those whose claim has a value.
type ClaimGrant struct {
	// Value is compared exactly.
	Value string
	Grant
}

// OIDC knows the tokens of an issuer: ID tokens, or access tokens of the same form (JWT).
type OIDC struct {
	OIDCConfig

	keys *keySet
}

// NewOIDC checks the configuration. The issuer is asked when a token of its comes, and again
// when it did not answer.
func NewOIDC(cfg OIDCConfig) (*OIDC, error) {
	cfg.Claim = cmp.Or(cfg.Claim, "groups")

	issuer, err := url.Parse(cfg.Issuer)

	switch {
	case err != nil || issuer.Scheme != "https" || issuer.Host == "":
		return nil, errors.New("the issuer is no https URL: write it like https://login.example.com/realm")
	case issuer.User != nil || issuer.RawQuery != "" || issuer.Fragment != "":
		return nil, errors.New("the URL of the issuer has a user, a query or a fragment: an issuer has none of them")
	case cfg.Audience == "":
		return nil, errors.New("the audience of the issuer's tokens is missing: without it a token for any other program would do; it is the ID of the client that people log in with")
	case len(cfg.Grants) > MaxGrants:
		return nil, fmt.Errorf("the issuer has %d grants, at most %d are taken", len(cfg.Grants), MaxGrants)
	}

	for i, grant := range cfg.Grants {
		if err := grant.Check(); err != nil {
			return nil, fmt.Errorf("grant %d of the issuer: %w", i+1, err)
		}

		if grant.Value == "" {
			return nil, fmt.Errorf("grant %d of the issuer has no value: write which `%s` it is for", i+1, cfg.Claim)
		}
	}

	client, err := issuerClient(cfg.CAFile)
	if err != nil {
		return nil, err
	}

	return &OIDC{cfg, &keySet{issuer: cfg.Issuer, client: client}}, nil
}

// Authenticate implements [Authenticator].
func (o *OIDC) Authenticate(ctx context.Context, token string) (*Caller, error) {
	return o.authenticate(ctx, token, true)
}

// recall implements recaller: the keys that are known are enough for most tokens.
func (o *OIDC) recall(ctx context.Context, token string) (*Caller, error) {
	return o.authenticate(ctx, token, false)
}

func (o *OIDC) authenticate(ctx context.Context, token string, ask bool) (*Caller, error) {
	if len(token) > MaxToken || issuerOf(token) != o.Issuer {
		return nil, ErrUnknown
	}

	signature := &signature{keys: o.keys, ask: ask}
	verifier := oidc.NewVerifier(o.Issuer, signature, &oidc.Config{ClientID: o.Audience, SupportedSigningAlgs: algorithmNames()})

	// What go-oidc says is not passed on: it quotes from the token.
	verified, err := verifier.Verify(ctx, token)

	var expired *oidc.TokenExpiredError

	switch {
	case err == nil:
	case signature.err != nil && !errors.Is(signature.err, errSignature):
		return nil, signature.err
	case errors.As(err, &expired):
		return nil, &ExpiredError{Name: "the token of " + o.Issuer, At: expired.Expiry}
	case signature.good:
		return nil, fmt.Errorf("%w: %s made it, but it is not for the audience %q, or not valid yet", ErrUnknown, o.Issuer, o.Audience)
	default:
		return nil, fmt.Errorf("%w: it says that it is from %s, but the signature is not", ErrUnknown, o.Issuer)
	}

	var claims map[string]json.RawMessage
	if err := verified.Claims(&claims); err != nil {
		return nil, ErrUnknown
	}

	var grants []Grant

	for _, value := range texts(claims[o.Claim]) {
		for _, grant := range o.Grants {
			if grant.Value == value {
				grants = append(grants, grant.Grant)
			}
		}
	}

	caller := Granted("oidc "+o.username(claims, verified.Subject), grants...)
	caller.Expires, caller.id = verified.Expiry, "oidc sub="+verified.Subject
	caller.how = fmt.Sprintf("whoever runs omni-syncd can grant it to a value of the claim `%s` of %s", o.Claim, o.Issuer)

	return caller, nil
}

// signature is go-oidc's view of the keys, for one token. It keeps what go-oidc makes one text of.
type signature struct {
	keys *keySet
	ask  bool
	good bool
	err  error
}

// VerifySignature implements oidc.KeySet.
func (s *signature) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	payload, err := s.keys.verify(ctx, token, s.ask)
	s.good, s.err = err == nil, err

	return payload, err
}

func algorithmNames() []string {
	names := make([]string, len(algorithms))
	for i, algorithm := range algorithms {
		names[i] = string(algorithm)
	}

	return names
}

// issuerOf returns who is said to have issued a token, and "" if it is no JWT in the
// compact form. Nothing is proved by it.
func issuerOf(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}

	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}

	var claims struct {
		Issuer string `json:"iss"`
	}

	if json.Unmarshal(payload, &claims) != nil {
		return ""
	}

	return claims.Issuer
}

// username names the caller. What cannot be an honest name is not one.
func (o *OIDC) username(claims map[string]json.RawMessage, subject string) string {
	claim := cmp.Or(o.UsernameClaim, "email")

	name := texts(claims[claim])
	if len(name) != 1 || !honest(name[0]) || claim == "email" && unverified(claims["email_verified"]) {
		// Labelled, so that nobody is named by somebody else's claim.
		return "sub=" + cut(strconv.QuoteToGraphic(subject), maxName)
	}

	return name[0]
}

func honest(name string) bool {
	return name != "" && len(name) <= maxName && utf8.ValidString(name) && !strings.HasPrefix(name, "sub=") &&
		!strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsGraphic(r) })
}

// unverified tells whether a claim says false. Some issuers write it as a text.
func unverified(claim json.RawMessage) bool {
	text := strings.ToLower(strings.Trim(string(claim), `" `))

	return text != "" && text != "true"
}

// texts returns the values of a claim that is a string or a list of strings. Anything else has none.
func texts(claim json.RawMessage) []string {
	var one string
	if json.Unmarshal(claim, &one) == nil && len(claim) > 0 && claim[0] == '"' {
		return []string{one}
	}

	var many []string
	if json.Unmarshal(claim, &many) != nil {
		return nil
	}

	return many
}
