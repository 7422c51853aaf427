package source

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeGitHub is the one request of GitHub's API that is needed, as it is documented:
// a token for an installation, given to who signs as the app.
type fakeGitHub struct {
	t    testing.TB
	gate *guard

	mu     sync.Mutex
	key    *rsa.PublicKey
	status int
	issued int
	lives  time.Duration
}

func (f *fakeGitHub) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()

	if f.status != 0 {
		http.Error(w, `{"message": "S3CRET"}`, f.status)

		return
	}

	if req.Method != http.MethodPost || req.URL.Path != "/api/v3/app/installations/42/access_tokens" {
		http.NotFound(w, req)

		return
	}

	if err := f.checkJWT(req.Header.Get("Authorization")); err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)

		return
	}

	f.issued++
	token := fmt.Sprintf("ghs_S3CRET%d", f.issued)
	f.gate.set(basicOf("x-access-token", token))

	w.WriteHeader(http.StatusCreated)
	json.NewEncoder(w).Encode(map[string]any{ //nolint:errcheck // the client sees it
		"token": token, "expires_at": time.Now().Add(f.lives).UTC().Format(time.RFC3339),
		"permissions": map[string]string{"contents": "read"}, "repository_selection": "selected",
	})
}

func (f *fakeGitHub) checkJWT(header string) error {
	token, ok := strings.CutPrefix(header, "Bearer ")
	parts := strings.Split(token, ".")

	if !ok || len(parts) != 3 {
		return fmt.Errorf("no JWT")
	}

	var (
		head   struct{ Alg string }
		claims struct {
			Iss      string
			Iat, Exp int64
		}
	)

	for i, into := range []any{&head, &claims} {
		data, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			return err
		}

		if err = json.Unmarshal(data, into); err != nil {
			return err
		}
	}

	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return err
	}

	now := time.Now().Unix()

	switch sum := sha256.Sum256([]byte(parts[0] + "." + parts[1])); {
	case head.Alg != "RS256":
		return fmt.Errorf("algorithm %s", head.Alg)
	case rsa.VerifyPKCS1v15(f.key, crypto.SHA256, sum[:], signature) != nil:
		return fmt.Errorf("signature")
	case claims.Iss != "7":
		return fmt.Errorf("issuer %s", claims.Iss)
	case claims.Iat > now || claims.Exp < now || claims.Exp > now+600:
		return fmt.Errorf("times %d to %d", claims.Iat, claims.Exp)
	default:
		return nil
	}
}

func (f *fakeGitHub) answer(status int) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.status = status
}

// appKey makes an app's key, in the format in which GitHub hands it out.
func appKey(t testing.TB) (string, *rsa.PublicKey) {
	t.Helper()

	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}

	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})), &key.PublicKey
}

func TestGitHubApp(t *testing.T) {
	r := newRepo(t, true)
	r.commit("one", map[string]string{"a": "1"})

	gate := &guard{next: backend(t, r), want: "nobody", offers: "Basic"}
	text, public := appKey(t)
	other, otherPublic := appKey(t)
	hub := &fakeGitHub{t: t, gate: gate, key: public, lives: time.Hour}

	mux := http.NewServeMux()
	mux.Handle("/api/v3/", hub)
	mux.Handle("/", gate)

	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)

	app := func() *GitHubApp {
		return &GitHubApp{AppID: 7, InstallationID: 42, PrivateKeyFile: secretFile(t, text), BaseURL: server.URL + "/api/v3/"}
	}
	newGit := func(app *GitHubApp) *Git {
		return newTestGit(t, GitConfig{URL: server.URL + "/fleet", Login: Login{GitHubApp: app}})
	}

	// A token is used until it ends.
	used := app()
	g := newGit(used)
	fetch(t, g)
	r.commit("two", map[string]string{"a": "2"})

	if rev := fetch(t, g); read(t, rev.FS, "a") != "2" || hub.issued != 1 {
		t.Errorf("%d tokens", hub.issued)
	}

	// A token that was revoked is replaced.
	gate.set("nobody")

	_, err := g.Fetch(t.Context())
	wantError(t, err, "does not accept the login", "S3CRET")
	fetch(t, g)

	// Another key counts from the next look on.
	if err = os.WriteFile(used.PrivateKeyFile, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}

	_, err = g.Fetch(t.Context())
	wantError(t, err, "GitHub does not accept the key", "S3CRET")

	hub.mu.Lock()
	hub.key = otherPublic
	hub.mu.Unlock()
	fetch(t, g)

	hub.key = public

	// Tokens that are about to end are not used.
	hub.lives, hub.issued = 30*time.Second, 0
	g = newGit(app())
	fetch(t, g)
	fetch(t, g)

	if hub.issued != 2 {
		t.Errorf("%d tokens", hub.issued)
	}

	for _, test := range []struct {
		name   string
		status int
		change func(*GitHubApp)
		want   string
	}{
		{"installation", 0, func(a *GitHubApp) { a.InstallationID = 1 }, "knows no such installation"},
		{"app", 0, func(a *GitHubApp) { a.AppID = 1 }, "does not accept the key"},
		{"suspended", http.StatusForbidden, func(*GitHubApp) {}, "the installation is suspended"},
		{"down", http.StatusBadGateway, func(*GitHubApp) {}, "502 Bad Gateway"},
		{"redirect", http.StatusMovedPermanently, func(*GitHubApp) {}, "301 Moved Permanently"},
		{"no key", 0, func(a *GitHubApp) { a.PrivateKeyFile = secretFile(t, "S3CRET") }, "has to be an RSA key in PEM"},
		{"no answer", http.StatusOK, func(*GitHubApp) {}, "the answer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			hub.answer(test.status)

			changed := app()
			test.change(changed)

			_, err := newGit(changed).Fetch(t.Context())
			wantError(t, err, test.want, "S3CRET", "ghs_")
		})
	}
}
