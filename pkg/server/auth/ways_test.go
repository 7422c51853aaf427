package auth

import (
	"fmt"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
)

// The whole way: three ways in, one door.
func TestAllWays(t *testing.T) {
	token, hash := newToken(t)
	tokens, _, _ := tokensOf(t, "tokens:\n"+entryOf("ci", hash, viewAll))
	one := ecKey(t, "e")
	i, o := serveIssuer(t, one)
	s := &apiServer{users: map[string]authenticationv1.TokenReviewStatus{"ann": review("ann", "omni-syncd")}}
	k := reviewed(t, s, nil)
	g := guard(Config{Authenticators: []Authenticator{tokens, o, k}})

	jwt := one.sign(t, "ES256", i.claims(nil))

	for token, want := range map[string]string{token: "token ci", jwt: "oidc joe@example.com", "ann": "kubernetes ann"} {
		w := g.ask(token, here)
		if w.Code != 200 {
			t.Fatalf("%s: %d %s", want, w.Code, w.Body)
		}

		if caller, _ := Of(g.seen[len(g.seen)-1].Context()); caller.Name != want {
			t.Errorf("%s, want %s", caller.Name, want)
		}
	}

	// Guesses use up the budget; what is known by heart still gets in.
	for range DefaultFailureBurst {
		if w := g.ask("guess", here); w.Code != 401 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}

	asked := len(s.reviews)

	for token, want := range map[string]int{token: 200, jwt: 200, "ann": 200, "guess": 429, "bob": 429} {
		if w := g.ask(token, here); w.Code != want {
			t.Errorf("%d %s, want %d", w.Code, w.Body, want)
		}
	}

	if len(s.reviews) != asked {
		t.Errorf("the API server was asked %d times more", len(s.reviews)-asked)
	}

	for _, entry := range g.logs.All() {
		if text := fmt.Sprint(entry.ContextMap()); leaked(text, token)+leaked(text, jwt) != "" || strings.Contains(text, "guess") {
			t.Error("the log holds a token:", text)
		}
	}
}
