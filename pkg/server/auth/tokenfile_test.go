package auth

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTokenFileProblems(t *testing.T) {
	token, hash := newToken(t)
	good := entryOf("ci", hash, viewAll)
	_, second := newToken(t)

	var many strings.Builder

	many.WriteString("tokens:\n")

	for i := range MaxTokens + 1 {
		fmt.Fprintf(&many, "  - {name: n%d, hash: %s}\n", i, hash)
	}

	for name, test := range map[string]struct{ content, want string }{
		"empty":                  {"", "it is empty: write `tokens: []`"},
		"a comment":              {"# nothing\n", "it is empty"},
		"null":                   {"tokens:\n", "line 1: `tokens` has no value"},
		"tilde":                  {"tokens: ~\n", "line 1: `tokens` has no value"},
		"a list":                 {"- x\n", "line 1: something else stands where keys belong"},
		"a token alone":          {token, "line 1: something else"},
		"no YAML":                {"tokens: [\n", "it is no YAML"},
		"token as anchor":        {"tokens: *" + token + "\n", "it is no YAML: "},
		"token as key":           {token + ": x\n", "line 1: the key is unknown here: use tokens"},
		"unknown key":            {"tokns: []\n", `line 1: the key "tokns" is unknown here: use tokens`},
		"two documents":          {"tokens: []\n---\ntokens: []\n", "after the end of the first"},
		"twice":                  {"tokens: []\ntokens: []\n", "line 2: `tokens` stands there twice"},
		"token in the list":      {"tokens: [" + token + "]\n", "line 1: something else"},
		"unknown key of a token": {"tokens:\n" + entryOf("ci", hash, viewAll+"    clusters: [x]\n"), `line 5: the key "clusters" is unknown here: use expires, grants, hash, name`},
		"no name":                {"tokens:\n  - hash: " + hash + "\n" + viewAll, "line 2: `name` is missing"},
		"a bad name":             {"tokens:\n" + entryOf("'a b'", hash, viewAll), "line 2: a token needs a name"},
		"token as name":          {"tokens:\n" + entryOf(token, hash, viewAll), "line 2: a token needs a name"},
		"a long name":            {"tokens:\n" + entryOf(strings.Repeat("x", 64), hash, viewAll), "line 2: a token needs a name"},
		"no hash":                {"tokens:\n  - name: ci\n" + viewAll, "line 2: `hash` is missing"},
		"token as hash":          {"tokens:\n" + entryOf("ci", token, viewAll), "line 3: the hash of a token is written"},
		"token with prefix":      {"tokens:\n" + entryOf("ci", "sha256:"+token, viewAll), "line 3: the hash of a token is written"},
		"half a hash":            {"tokens:\n" + entryOf("ci", hash[:40], viewAll), "line 3: the hash"},
		"no hexadecimal":         {"tokens:\n" + entryOf("ci", hash[:70]+"g", viewAll), "line 3: the hash"},
		"no time":                {"tokens:\n" + entryOf("ci", hash, "    expires: tomorrow\n"+viewAll), "line 4: it expires at no time"},
		"an empty time":          {"tokens:\n" + entryOf("ci", hash, "    expires:\n"+viewAll), "line 4: `expires` has no value"},
		"zero time":              {"tokens:\n" + entryOf("ci", hash, "    expires: 0001-01-01T00:00:00Z\n"+viewAll), "line 4: it expires"},
		"no grants":              {"tokens:\n" + entryOf("ci", hash, ""), "line 2: `grants` is missing"},
		"empty grants":           {"tokens:\n" + entryOf("ci", hash, "    grants: []\n"), "line 4: the token has no grants"},
		"null grant":             {"tokens:\n" + entryOf("ci", hash, "    grants: [null]\n"), "line 4: something else"},
		"no role":                {"tokens:\n" + entryOf("ci", hash, "    grants: [{clusters: [a]}]\n"), "line 4: `role` is missing"},
		"unknown role":           {"tokens:\n" + entryOf("ci", hash, "    grants: [{role: admin}]\n"), `line 4: the role "admin" is unknown`},
		"token as role":          {"tokens:\n" + entryOf("ci", hash, "    grants: [{role: "+token+"}]\n"), "line 4: the role is unknown"},
		"half a token as role":   {"tokens:\n" + entryOf("ci", hash, "    grants: [{role: "+token[:20]+"}]\n"), "line 4: the role is unknown"},
		"null clusters":          {"tokens:\n" + entryOf("ci", hash, "    grants:\n    - role: viewer\n      clusters:\n"), "line 6: `clusters` has no value"},
		"empty clusters":         {"tokens:\n" + entryOf("ci", hash, "    grants:\n    - role: viewer\n      clusters: []\n"), "line 6: the list of clusters is empty"},
		"a cluster":              {"tokens:\n" + entryOf("ci", hash, "    grants: [{role: viewer, clusters: prod}]\n"), "line 4: a list belongs here"},
		"null glob":              {"tokens:\n" + entryOf("ci", hash, "    grants: [{role: viewer, clusters: [~]}]\n"), "line 4: a text belongs here"},
		"empty glob":             {"tokens:\n" + entryOf("ci", hash, "    grants: [{role: viewer, clusters: ['']}]\n"), "line 4: a glob for clusters is empty"},
		"malformed glob":         {"tokens:\n" + entryOf("ci", hash, "    grants: [{role: viewer, clusters: ['[']}]\n"), "line 4: the glob \"[\" is malformed"},
		"an alias":               {"tokens:\n" + entryOf("ci", hash, "    grants: &g [{role: viewer}]\n") + entryOf("two", second, "    grants: *g\n"), "line 7:"},
		"a merge":                {"tokens:\n" + entryOf("ci", hash, "    <<: {expires: 2030-01-01T00:00:00Z}\n"+viewAll), `line 4: the key "<<" is unknown`},
		"two names":              {"tokens:\n" + good + entryOf("ci", second, viewAll), "line 5: there are two tokens with the name ci"},
		"two hashes":             {"tokens:\n" + good + entryOf("two", hash, viewAll), "line 5: the tokens ci and two have the same hash"},
		"too many":               {many.String(), "line 2: the list has 1001 items, at most 1000"},
		"too many grants":        {"tokens:\n" + entryOf("ci", hash, "    grants: ["+strings.Repeat("{role: viewer},", MaxGrants+1)+"]\n"), "line 4: the list has 65 items"},
		"too many globs":         {"tokens:\n" + entryOf("ci", hash, "    grants: [{role: viewer, clusters: ["+strings.Repeat("a,", MaxGlobs+1)+"]}]\n"), "line 4: the list has 257 items"},
		"too large":              {"tokens: []\n" + strings.Repeat("#", MaxTokenFile), "it is larger than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "tokens.yaml")
			write(t, file, test.content)

			_, err := NewTokens(TokensConfig{File: file})
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), file) {
				t.Fatalf("%v, want %q", err, test.want)
			}

			if leak := leaked(err.Error(), token); leak != "" {
				t.Errorf("%v holds %q of the token", err, leak)
			}
		})
	}

	for name, want := range map[string]string{filepath.Join(t.TempDir(), "missing"): "no such file", t.TempDir(): "not a regular file", os.DevNull: "not a regular file"} {
		if _, err := NewTokens(TokensConfig{File: name}); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// leaked returns a part of a token that stands in a text.
func leaked(text, token string) string {
	for i := len(tokenPrefix); i+8 <= len(token); i++ {
		if strings.Contains(text, token[i:i+8]) {
			return token[i : i+8]
		}
	}

	return ""
}
