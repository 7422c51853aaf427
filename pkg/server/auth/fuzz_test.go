package auth

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

func FuzzBearer(f *testing.F) {
	for _, seed := range []string{"", "Bearer x", "bearer  a.b.c", "Basic eDp5", "Bearer x, Bearer y", "Bearer \x00", "Bearer ="} {
		f.Add(seed)
	}

	f.Fuzz(func(t *testing.T, value string) {
		token, err := bearer(http.Header{"Authorization": {value}})
		if err != nil {
			if token != "" {
				t.Errorf("a token and %v", err)
			}

			// What is wrong is said in our words only.
			if len(value) > 8 && strings.Contains(err.Error(), value) && !strings.Contains("Authorization: Bearer <token>", value) {
				t.Errorf("%q is quoted by %v", value, err)
			}

			return
		}

		if token == "" || len(token) > MaxToken || strings.ContainsAny(token, " \t\r\n,;{\"\x00") || !strings.HasSuffix(value, token) {
			t.Errorf("%q of %q", token, value)
		}
	})
}

func FuzzTokenFile(f *testing.F) {
	token, hash := newToken(f)

	for _, seed := range []string{
		"", "tokens: []", "tokens:\n" + entryOf("ci", hash, viewAll), "tokens: &a [*a]", "? [", "tokens: [" + token + "]", "*" + token, token + ": 1",
		"tokens:\n" + entryOf("ci", hash, "    expires: 2027-01-01T00:00:00Z\n    grants: [{role: access, clusters: ['*', a]}]\n"),
	} {
		f.Add(seed)
	}

	f.Fuzz(func(t *testing.T, content string) {
		tokens, err := parseTokens([]byte(content))
		if err != nil {
			if len(err.Error()) > 400 {
				t.Errorf("%d bytes of error", len(err.Error()))
			}

			if leak := leaked(err.Error(), token); leak != "" {
				t.Errorf("%v holds %q of a token", err, leak)
			}

			return
		}

		for _, token := range tokens {
			if CheckName(token.Name) != nil || len(token.Grants) == 0 {
				t.Errorf("%+v", token)
			}

			for _, grant := range token.Grants {
				if err := grant.Check(); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

func FuzzOIDCToken(f *testing.F) {
	one := ecKey(f, "e")
	i := &issuer{url: "https://login.example.com/realm", keys: []jose.JSONWebKey{one.public}}

	o, err := NewOIDC(OIDCConfig{Issuer: i.url, Audience: audience, Grants: opsGrants})
	if err != nil {
		f.Fatal(err)
	}

	o.keys.client = &http.Client{Transport: inProcess{i}}
	token := one.sign(f, jose.ES256, i.claims(nil))

	if _, err := o.Authenticate(f.Context(), token); err != nil {
		f.Fatal(err)
	}

	f.Add(token)
	f.Add(token[:len(token)-1])
	f.Add(fmt.Sprintf("%s.%s.", base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)), strings.Split(token, ".")[1]))
	f.Add("..")
	f.Add("{}")

	f.Fuzz(func(t *testing.T, text string) {
		caller, err := o.Authenticate(t.Context(), text)
		if err == nil && text != token && caller != nil {
			// An ECDSA signature has forms that differ in the last bits of base64 only.
			if strings.Join(strings.Split(text, ".")[:2], ".") != strings.Join(strings.Split(token, ".")[:2], ".") {
				t.Errorf("%q was let in", text)
			}
		}

		if err != nil && len(err.Error()) > 300 {
			t.Errorf("a long error: %v", err)
		}
	})
}
