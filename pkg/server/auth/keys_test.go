package auth

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func TestOIDCRotation(t *testing.T) {
	one, two := ecKey(t, "1"), ecKey(t, "2")
	i, o := serveIssuer(t, one)
	first, second := one.sign(t, jose.ES256, i.claims(nil)), two.sign(t, jose.ES256, i.claims(nil))

	if _, err := o.Authenticate(t.Context(), first); err != nil {
		t.Fatal(err)
	}

	i.set(func() { i.keys = []jose.JSONWebKey{two.public} })

	// A moment after the keys were fetched they are not fetched again.
	if _, err := o.Authenticate(t.Context(), second); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}

	o.hurry()

	if _, err := o.recall(t.Context(), second); !errors.Is(err, ErrUnknown) || i.asked != 1 {
		t.Error("somebody was asked:", err)
	}

	if _, err := o.Authenticate(t.Context(), second); err != nil {
		t.Error(err)
	}

	if _, err := o.recall(t.Context(), second); err != nil {
		t.Error(err)
	}

	o.hurry()

	if _, err := o.Authenticate(t.Context(), first); !errors.Is(err, ErrUnknown) {
		t.Error("a key that was withdrawn:", err)
	}
}

func TestOIDCIssuerAway(t *testing.T) {
	one := ecKey(t, "1")
	i, o := serveIssuer(t, one)
	token := one.sign(t, jose.ES256, i.claims(nil))

	i.set(func() { i.down = true })

	for name, test := range map[string]struct {
		change func()
		want   string
	}{
		"down":             {func() {}, "cannot be asked now"},
		"an error":         {func() { i.down, i.answer = false, status(503) }, "it answers 503"},
		"not found":        {func() { i.down, i.answer = false, status(404) }, "it answers 404"},
		"no JSON":          {func() { i.down, i.answer = false, text("secret-page") }, "not the JSON"},
		"too large":        {func() { i.down, i.answer = false, text(strings.Repeat(" ", maxDocument+1)) }, "larger than"},
		"another host":     {func() { i.down, i.answer = false, redirect("https://127.0.0.1:1/x") }, "redirects to somewhere else"},
		"without TLS":      {func() { i.down, i.answer = false, redirect(strings.Replace(i.url, "https", "http", 1)) }, "redirects to somewhere else"},
		"a loop":           {func() { i.down, i.answer = false, redirect("/realm/.well-known/openid-configuration") }, "redirects to somewhere else, or too often"},
		"another name":     {func() { i.down, i.discovery = false, func(d map[string]any) { d["issuer"] = i.url + "/" } }, "it calls itself"},
		"keys without TLS": {func() { i.down, i.discovery = false, func(d map[string]any) { d["jwks_uri"] = "http://127.0.0.1/" } }, "no https URL"},
		"keys in a file":   {func() { i.down, i.discovery = false, func(d map[string]any) { d["jwks_uri"] = "file:///etc/passwd" } }, "no https URL"},
		"no keys":          {func() { i.down, i.keys = false, nil }, "no key that can be used"},
		"a symmetric key": {func() {
			i.down, i.keys = false, []jose.JSONWebKey{{Key: []byte("0123456789abcdef0123456789abcdef"), KeyID: "1"}}
		}, "no key that can be used"},
		"a private key":         {func() { i.down, i.keys = false, []jose.JSONWebKey{{Key: one.private, KeyID: "1"}} }, "no key that can be used"},
		"a key for another use": {func() { i.down, i.keys = false, []jose.JSONWebKey{{Key: one.public.Key, KeyID: "1", Use: "enc"}} }, "no key that can be used"},
		"too many keys": {func() {
			i.down, i.keys = false, make([]jose.JSONWebKey, 0)
			for range maxKeys + 1 {
				i.keys = append(i.keys, one.public)
			}
		}, "101 keys"},
	} {
		i.set(test.change)
		o.hurry()

		_, err := o.Authenticate(t.Context(), token)

		var unavailable *UnavailableError
		if !errors.As(err, &unavailable) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret-page") || leaked(err.Error(), token) != "" {
			t.Errorf("%s: %.200v", name, err)
		}

		i.set(func() { i.answer, i.discovery, i.keys, i.down = nil, nil, []jose.JSONWebKey{one.public}, true })
	}

	// A token that is somebody else's is not held up.
	if _, err := o.Authenticate(t.Context(), one.sign(t, jose.ES256, map[string]any{"iss": "https://kubernetes.default.svc"})); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}

	i.set(func() { i.down = false })
	o.hurry()

	if _, err := o.Authenticate(t.Context(), token); err != nil {
		t.Error("up again:", err)
	}
}

func status(code int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(code)

		return true
	}
}

func text(text string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		_, _ = w.Write([]byte(text))

		return true
	}
}

func redirect(to string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, to, http.StatusFound)

		return true
	}
}

// inProcess answers without a network, so that time can be made to pass.
type inProcess struct{ http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (res *http.Response, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("connection refused")
		}
	}()

	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)

	return w.Result(), nil
}

// How often the issuer is asked, and for how long its keys are good.
func TestOIDCTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, stranger := ecKey(t, "1"), ecKey(t, "2"), ecKey(t, "3")
		i := &issuer{url: "https://login.example.com/realm", keys: []jose.JSONWebKey{one.public, two.public}, down: true}

		o, err := NewOIDC(OIDCConfig{Issuer: i.url, Audience: audience, Grants: opsGrants})
		if err != nil {
			t.Fatal(err)
		}

		o.keys.client = &http.Client{Transport: inProcess{i}}
		far := map[string]any{"exp": time.Now().Add(1000 * time.Hour).Unix()}
		good, withdrawn, bad := one.sign(t, jose.ES256, i.claims(far)), two.sign(t, jose.ES256, i.claims(far)), stranger.sign(t, jose.ES256, i.claims(far))

		expect := func(what, token, want string, asked int) {
			t.Helper()

			var unavailable *UnavailableError

			got := "in"
			switch _, err := o.Authenticate(t.Context(), token); {
			case errors.As(err, &unavailable):
				got = "unavailable"
			case err != nil:
				got = "unknown"
			}

			synctest.Wait() // for what is fetched in the background

			if got != want || i.asked != asked {
				t.Errorf("%s: %s after %d fetches, want %s and %d", what, got, i.asked, want, asked)
			}
		}

		expect("away from the start", good, "unavailable", 0)
		i.set(func() { i.down = false })
		expect("at once", good, "unavailable", 0)
		time.Sleep(askAgainFailed)
		expect("a moment later", good, "in", 1)

		for range 1000 {
			expect("a flood of bad ones", bad, "unknown", 1)
		}

		time.Sleep(askAgain)
		expect("a bad one", bad, "unknown", 2)
		expect("a bad one", bad, "unknown", 2)

		i.set(func() { i.keys = i.keys[:1] })
		time.Sleep(keysFresh + 1)
		expect("an old key, for the last time", withdrawn, "in", 3)
		expect("withdrawn", withdrawn, "unknown", 3)

		i.set(func() { i.down = true })
		time.Sleep(keysFresh + 1)
		expect("away", good, "in", 3)
		expect("away, and bad", bad, "unavailable", 3)
		time.Sleep(keysKept - keysFresh - 1)
		expect("away for long", good, "in", 3)
		time.Sleep(askAgain)
		expect("away for too long", good, "unavailable", 3)
	})
}

// All who come while the keys are fetched wait for one fetch, and not longer than they want to.
func TestOIDCTogether(t *testing.T) {
	one := ecKey(t, "1")
	i, o := serveIssuer(t, one)
	token := one.sign(t, jose.ES256, i.claims(nil))

	i.mu.Lock() // the issuer hangs

	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	var unavailable *UnavailableError
	if _, err := o.Authenticate(ctx, token); !errors.As(err, &unavailable) {
		t.Error(err)
	}

	var group sync.WaitGroup

	for range 20 {
		group.Go(func() {
			if _, err := o.Authenticate(t.Context(), token); err != nil {
				t.Error(err)
			}
		})
	}

	i.mu.Unlock()
	group.Wait()

	if i.asked != 1 {
		t.Errorf("the keys were fetched %d times", i.asked)
	}
}
