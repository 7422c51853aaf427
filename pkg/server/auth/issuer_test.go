package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// issuer is one of OpenID Connect, with discovery, keys and tokens.
type issuer struct {
	url string

	mu        sync.Mutex
	keys      []jose.JSONWebKey // public
	asked     int               // for keys
	down      bool
	discovery func(map[string]any)                                     // changes the document
	answer    func(w http.ResponseWriter, r *http.Request) (done bool) // instead of the issuer
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()

	if i.down {
		panic(http.ErrAbortHandler)
	}

	if i.answer != nil && i.answer(w, r) {
		return
	}

	switch r.URL.Path {
	case "/realm/.well-known/openid-configuration":
		document := map[string]any{"issuer": i.url, "jwks_uri": i.url + "/keys", "id_token_signing_alg_values_supported": []string{"none", "HS256", "RS256"}}
		if i.discovery != nil {
			i.discovery(document)
		}

		_ = json.NewEncoder(w).Encode(document)
	case "/realm/keys":
		i.asked++
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: i.keys})
	default:
		http.NotFound(w, r)
	}
}

func (i *issuer) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()

	change()
}

// key is a key pair of an issuer.
type key struct {
	private crypto.Signer
	public  jose.JSONWebKey
}

func ecKey(t testing.TB, id string) key {
	t.Helper()

	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}

	return key{private, jose.JSONWebKey{Key: private.Public(), KeyID: id, Algorithm: "ES256", Use: "sig"}}
}

func rsaKey(t testing.TB, id string) key {
	t.Helper()

	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}

	return key{private, jose.JSONWebKey{Key: private.Public(), KeyID: id}}
}

// sign makes a token.
func (k key) sign(t testing.TB, algorithm jose.SignatureAlgorithm, claims map[string]any) string {
	t.Helper()

	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}

	return signWith(t, algorithm, jose.JSONWebKey{Key: k.private, KeyID: k.public.KeyID}, payload)
}

func signWith(t testing.TB, algorithm jose.SignatureAlgorithm, secret any, payload []byte) string {
	t.Helper()

	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: secret}, nil)
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

const audience = "omni-syncd"

// claims are those of a good token, with some changed; nil removes one.
func (i *issuer) claims(more map[string]any) map[string]any {
	claims := map[string]any{
		"iss": i.url, "aud": audience, "sub": "0815", "exp": time.Now().Add(time.Hour).Unix(),
		"email": "joe@example.com", "email_verified": true, "groups": []string{"dev", "ops"},
	}

	maps.Copy(claims, more)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })

	return claims
}

var opsGrants = []ClaimGrant{
	{"ops", Grant{Operator, []string{"prod-*"}}}, {"dev", Grant{Role: Viewer}}, {"root", Grant{Role: Access}},
}

// serveIssuer serves an issuer over TLS, and returns who knows its tokens.
func serveIssuer(t testing.TB, keys ...key) (*issuer, *OIDC) {
	t.Helper()

	i := &issuer{}
	for _, key := range keys {
		i.keys = append(i.keys, key.public)
	}

	server := httptest.NewUnstartedServer(i)
	server.Config.ErrorLog = nil
	server.StartTLS()
	t.Cleanup(server.Close)

	i.url = server.URL + "/realm"
	caFile := filepath.Join(t.TempDir(), "ca.pem")
	write(t, caFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))

	o, err := NewOIDC(OIDCConfig{Issuer: i.url, Audience: audience, CAFile: caFile, Grants: opsGrants})
	if err != nil {
		t.Fatal(err)
	}

	return i, o
}

// hurry lets the issuer be asked again at once.
func (o *OIDC) hurry() {
	o.keys.mu.Lock()
	defer o.keys.mu.Unlock()

	o.keys.tried = time.Time{}
}
