package auth

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

func TestOIDC(t *testing.T) {
	rsaOne, ecOne := rsaKey(t, "r"), ecKey(t, "e")
	i, o := serveIssuer(t, rsaOne, ecOne)
	claims := i.claims(nil)

	for name, token := range map[string]string{"RS256": rsaOne.sign(t, jose.RS256, claims), "PS512": rsaOne.sign(t, jose.PS512, claims), "ES256": ecOne.sign(t, jose.ES256, claims)} {
		caller, err := o.Authenticate(t.Context(), token)
		if err != nil {
			t.Errorf("%s: %v", name, err)

			continue
		}

		if caller.Name != "oidc joe@example.com" || caller.Expires.Unix() != claims["exp"] {
			t.Errorf("%s: %s until %s", name, caller.Name, caller.Expires)
		}

		for _, test := range []struct {
			role    Role
			cluster string
			want    bool
		}{{Viewer, "x", true}, {Viewer, "", true}, {Operator, "prod-1", true}, {Operator, "x", false}, {Operator, "", false}, {Access, "prod-1", false}} {
			if err := caller.May(t.Context(), test.role, test.cluster); (err == nil) != test.want {
				t.Errorf("%s: %s for %q: %v", name, test.role, test.cluster, err)
			}
		}
	}

	if i.asked != 1 {
		t.Errorf("the keys were fetched %d times", i.asked)
	}
}

func TestOIDCRefuses(t *testing.T) {
	good, stranger, narrow := rsaKey(t, "r"), rsaKey(t, "r"), rsaKey(t, "n")
	narrow.public.Algorithm = "RS256"
	i, o := serveIssuer(t, good, ecKey(t, "e"), narrow)
	claims := i.claims(nil)
	now := time.Now()

	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}

	token := good.sign(t, jose.RS256, claims)
	parts := strings.Split(token, ".")
	encode := base64.RawURLEncoding.EncodeToString

	der, err := x509.MarshalPKIXPublicKey(good.public.Key)
	if err != nil {
		t.Fatal(err)
	}

	hmac := func(secret []byte) string {
		return signWith(t, jose.HS256, jose.JSONWebKey{Key: secret, KeyID: "r"}, payload)
	}
	full, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil {
		t.Fatal(err)
	}

	for name, test := range map[string]struct{ token, want string }{
		"no token":                {"", ""},
		"opaque":                  {"abcdef", ""},
		"another issuer":          {good.sign(t, jose.RS256, i.claims(map[string]any{"iss": i.url + "/"})), ""},
		"no issuer":               {good.sign(t, jose.RS256, i.claims(map[string]any{"iss": nil})), ""},
		"another audience":        {good.sign(t, jose.RS256, i.claims(map[string]any{"aud": "other"})), "not for the audience"},
		"other audiences":         {good.sign(t, jose.RS256, i.claims(map[string]any{"aud": []string{"a", "b"}})), "not for the audience"},
		"no audience":             {good.sign(t, jose.RS256, i.claims(map[string]any{"aud": nil})), "not for the audience"},
		"not valid yet":           {good.sign(t, jose.RS256, i.claims(map[string]any{"nbf": now.Add(10 * time.Minute).Unix()})), "not valid yet"},
		"another key":             {stranger.sign(t, jose.RS256, claims), "the signature is not"},
		"another kind of key":     {ecKey(t, "r").sign(t, jose.ES256, claims), "the signature is not"},
		"another algorithm":       {ecKey(t, "e").sign(t, jose.ES256, claims), "the signature is not"},
		"not the key's algorithm": {narrow.sign(t, jose.PS256, claims), "the signature is not"},
		"no signature":            {parts[0] + "." + parts[1] + ".", "the signature is not"},
		"alg none":                {encode([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".", "the signature is not"},
		"alg none, signed":        {encode([]byte(`{"alg":"none","kid":"r"}`)) + "." + parts[1] + "." + parts[2], "the signature is not"},
		"HS256 with PEM":          {hmac(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), "the signature is not"},
		"HS256 with DER":          {hmac(der), "the signature is not"},
		"changed claims":          {parts[0] + "." + encode([]byte(strings.Replace(string(payload), "dev", "root", 1))) + "." + parts[2], "the signature is not"},
		"a part more":             {token + ".x", ""},
		"too long":                {good.sign(t, jose.RS256, i.claims(map[string]any{"x": strings.Repeat("x", MaxToken)})), ""},
		"in the form of JSON":     {full.FullSerialize(), ""},
		"its own key with it":     {embedded(t, stranger, payload), "the signature is not"},
		"a list as claims":        {signWith(t, jose.RS256, jose.JSONWebKey{Key: good.private, KeyID: "r"}, []byte(`["iss"]`)), ""},
	} {
		_, err := o.Authenticate(t.Context(), test.token)
		if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)

			continue
		}

		if len(test.token) > 40 && (leaked(err.Error(), test.token) != "" || strings.Contains(err.Error(), "joe@")) {
			t.Errorf("%s: %v holds a part of the token", name, err)
		}
	}

	for name, exp := range map[string]any{"expired": now.Add(-time.Second).Unix(), "without an end": nil} {
		var expired *ExpiredError
		if _, err := o.Authenticate(t.Context(), good.sign(t, jose.RS256, i.claims(map[string]any{"exp": exp}))); !errors.As(err, &expired) {
			t.Errorf("%s: %v", name, err)
		}
	}

	// Not even that is said to those who cannot sign.
	if _, err := o.Authenticate(t.Context(), stranger.sign(t, jose.RS256, i.claims(map[string]any{"exp": 1}))); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}

	if _, err := o.Authenticate(t.Context(), token); err != nil {
		t.Error("the good one is not taken any more:", err)
	}
}

// embedded signs with a key that the token brings along.
func embedded(t *testing.T, k key, payload []byte) string {
	t.Helper()

	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: k.private}, &jose.SignerOptions{EmbedJWK: true})
	if err != nil {
		t.Fatal(err)
	}

	signed, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}

	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}

	return token
}

func TestOIDCNames(t *testing.T) {
	one := ecKey(t, "e")
	i, o := serveIssuer(t, one)

	for name, test := range map[string]struct {
		claim  string
		claims map[string]any
		want   string
	}{
		"by default":               {"", nil, "oidc joe@example.com"},
		"not verified":             {"", map[string]any{"email_verified": false}, `oidc sub="0815"`},
		"not verified, as a text":  {"", map[string]any{"email_verified": "false"}, `oidc sub="0815"`},
		"verified, as a text":      {"", map[string]any{"email_verified": "true"}, "oidc joe@example.com"},
		"says nothing of it":       {"", map[string]any{"email_verified": nil}, "oidc joe@example.com"},
		"no email":                 {"", map[string]any{"email": nil}, `oidc sub="0815"`},
		"another claim":            {"preferred_username", map[string]any{"preferred_username": "joe"}, "oidc joe"},
		"another claim is missing": {"preferred_username", nil, `oidc sub="0815"`},
		"a number":                 {"n", map[string]any{"n": 1}, `oidc sub="0815"`},
		"two names":                {"groups", nil, `oidc sub="0815"`},
		"a line end":               {"n", map[string]any{"n": "a\nb"}, `oidc sub="0815"`},
		"somebody else's sub":      {"n", map[string]any{"n": `sub="1"`}, `oidc sub="0815"`},
		"long":                     {"n", map[string]any{"n": strings.Repeat("x", 257)}, `oidc sub="0815"`},
		"a line end in sub":        {"", map[string]any{"email": nil, "sub": "a\nb"}, `oidc sub="a\nb"`},
	} {
		o.UsernameClaim = test.claim

		caller, err := o.Authenticate(t.Context(), one.sign(t, jose.ES256, i.claims(test.claims)))
		if err != nil || caller.Name != test.want {
			t.Errorf("%s: %+v, %v, want %s", name, caller, err, test.want)
		}
	}
}

func TestOIDCClaims(t *testing.T) {
	one := ecKey(t, "e")
	i, o := serveIssuer(t, one)

	for name, test := range map[string]struct {
		groups any
		want   []Role // for everything
	}{
		"a text":           {"dev", []Role{Viewer}},
		"a list":           {[]string{"x", "dev", "root"}, []Role{Viewer, Access}},
		"limited":          {"ops", nil},
		"none":             {nil, nil},
		"another":          {[]string{"DEV", "dev ", "de"}, nil},
		"an empty text":    {"", nil},
		"a number":         {1, nil},
		"a mixed list":     {[]any{"dev", 1}, nil},
		"a list in a list": {[]any{[]any{"dev"}}, nil},
		"an object":        {map[string]any{"dev": "dev"}, nil},
	} {
		caller, err := o.Authenticate(t.Context(), one.sign(t, jose.ES256, i.claims(map[string]any{"groups": test.groups})))
		if err != nil {
			t.Errorf("%s: %v", name, err)

			continue
		}

		var got []Role

		for _, role := range Roles {
			if caller.MayAll(t.Context(), role) == nil {
				got = append(got, role)
			}
		}

		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestOIDCConfig(t *testing.T) {
	good := OIDCConfig{Issuer: "https://login.example.com", Audience: "x", Grants: opsGrants}

	if _, err := NewOIDC(good); err != nil {
		t.Error(err)
	}

	for want, edit := range map[string]func(*OIDCConfig){
		"the issuer is no https URL":          func(c *OIDCConfig) { c.Issuer = "http://login.example.com" },
		"is no https URL: write":              func(c *OIDCConfig) { c.Issuer = "" },
		"has a user":                          func(c *OIDCConfig) { c.Issuer = "https://u:secret@login.example.com" },
		"the audience":                        func(c *OIDCConfig) { c.Audience = "" },
		"grant 1 of the issuer has no value":  func(c *OIDCConfig) { c.Grants = []ClaimGrant{{"", Grant{Role: Viewer}}} },
		`grant 1 of the issuer: the role "x"`: func(c *OIDCConfig) { c.Grants = []ClaimGrant{{"a", Grant{Role: "x"}}} },
		"65 grants":                           func(c *OIDCConfig) { c.Grants = make([]ClaimGrant, 65) },
		"no such file":                        func(c *OIDCConfig) { c.CAFile = "missing" },
		"it has to be PEM":                    func(c *OIDCConfig) { c.CAFile = "oidc_test.go" },
	} {
		cfg := good
		edit(&cfg)

		if _, err := NewOIDC(cfg); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
