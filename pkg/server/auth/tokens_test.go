package auth

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
)

func TestNewToken(t *testing.T) {
	token, hash := newToken(t)
	other, otherHash := newToken(t)

	if token == other || hash == otherHash || len(token) != 47 || !isToken(token) || !strings.HasPrefix(token, "osd_") || !strings.HasPrefix(hash, "sha256:") || len(hash) != 71 {
		t.Errorf("a token of %d bytes with the hash %s", len(token), hash)
	}
}

func TestTokens(t *testing.T) {
	ci, ciHash := newToken(t)
	ops, opsHash := newToken(t)
	old, oldHash := newToken(t)
	stranger, _ := newToken(t)

	tokens, _, _ := tokensOf(t, "tokens:\n"+
		entryOf("ci", ciHash, "    grants: [{role: viewer, clusters: ['prod-*']}]\n")+
		entryOf("ops@example.com", "sha256:"+strings.ToUpper(opsHash[7:]), "    expires: 2999-01-01T01:00:00+01:00\n    grants:\n    - role: operator\n    - role: access\n      clusters:\n      - prod-?\n")+
		entryOf("old", oldHash, "    expires: 2020-01-01T00:00:00Z\n"+viewAll))

	for token, want := range map[string][]string{
		ci:  {"viewer prod-1", "viewer prod-22"},
		ops: {"viewer prod-1", "viewer prod-22", "viewer test", "viewer ", "operator prod-1", "operator prod-22", "operator test", "operator ", "access prod-1"},
	} {
		caller, err := tokens.Authenticate(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}

		var got []string

		for _, role := range Roles {
			for _, cluster := range []string{"prod-1", "prod-22", "test", ""} {
				if caller.May(t.Context(), role, cluster) == nil {
					got = append(got, fmt.Sprintf("%s %s", role, cluster))
				}
			}
		}

		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", caller.Name, diff)
		}
	}

	caller, _ := tokens.Authenticate(t.Context(), ops)
	if caller.Name != "token ops@example.com" || !caller.Expires.Equal(time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("%s until %s", caller.Name, caller.Expires)
	}

	var expired *ExpiredError
	if _, err := tokens.Authenticate(t.Context(), old); !errors.As(err, &expired) || expired.Name != "token old" || strings.Contains(err.Error(), old[:8]) {
		t.Error(err)
	}

	for _, token := range []string{"", "osd_", stranger, ci + "x", ci[:46], strings.ToUpper(ci), "x" + ci, ciHash, strings.Repeat("x", 1<<20)} {
		if _, err := tokens.Authenticate(t.Context(), token); !errors.Is(err, ErrUnknown) {
			t.Errorf("%.80q: %v", token, err)
		}
	}
}

func TestTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token, hash := newToken(t)
		at := time.Now().Add(time.Hour)
		tokens, _, _ := tokensOf(t, "tokens:\n"+entryOf("ci", hash, "    expires: "+at.Format(time.RFC3339)+"\n"+viewAll))

		time.Sleep(time.Hour - 1)

		caller, err := tokens.Authenticate(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}

		time.Sleep(time.Nanosecond)

		var expired *ExpiredError
		if _, err := tokens.Authenticate(t.Context(), token); !errors.As(err, &expired) {
			t.Error(err)
		}

		if err := caller.May(t.Context(), Viewer, "a"); !errors.As(err, &expired) {
			t.Error(err)
		}
	})
}

func TestTokenFileChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, oneHash := newToken(t)
		two, twoHash := newToken(t)
		first := "tokens:\n" + entryOf("ci", oneHash, viewAll)
		tokens, file, logs := tokensOf(t, first)

		expect := func(what string, knowsOne, knowsTwo bool, logged int) {
			t.Helper()

			_, errOne := tokens.Authenticate(t.Context(), one)
			_, errTwo := tokens.Authenticate(t.Context(), two)

			if (errOne == nil) != knowsOne || (errTwo == nil) != knowsTwo {
				t.Errorf("%s: %v, %v", what, errOne, errTwo)
			}

			if n := logs.FilterLevelExact(zap.ErrorLevel).Len(); n != logged {
				t.Errorf("%s: %d errors were logged, want %d", what, n, logged)
			}
		}

		caller, err := tokens.Authenticate(t.Context(), one)
		if err != nil {
			t.Fatal(err)
		}

		// The same size, and perhaps the same time of change.
		write(t, file, "tokens:\n"+entryOf("ci", twoHash, viewAll))
		time.Sleep(checkEvery)

		if err := caller.May(t.Context(), Viewer, "a"); !errors.Is(err, ErrUnknown) {
			t.Error("a request under way of who was removed:", err)
		}

		expect("replaced", false, true, 0)

		write(t, file, "tokens: [")

		for range 3 {
			time.Sleep(checkEvery)
			expect("broken", false, true, 1)
		}

		write(t, file, "toks: []")
		time.Sleep(checkEvery)
		expect("broken in another way", false, true, 2)

		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}

		for range 3 {
			time.Sleep(checkEvery)
			expect("missing", false, true, 3)
		}

		write(t, file, first)
		time.Sleep(checkEvery)
		expect("good again", true, false, 3)

		write(t, file, "tokens: []")
		time.Sleep(checkEvery)
		expect("none", false, false, 3)

		for _, entry := range logs.All() {
			if text := fmt.Sprint(entry.Message, entry.ContextMap()); leaked(text, one)+leaked(text, two) != "" {
				t.Error("the log holds a token:", text)
			}
		}
	})
}

// Of a file that was changed a moment ago the time of change says nothing.
func TestTokenFileWrittenTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, oneHash := newToken(t)
		_, twoHash := newToken(t)
		file := filepath.Join(t.TempDir(), "tokens.yaml")
		now := time.Now()

		replace := func(hash string) {
			write(t, file, "tokens:\n"+entryOf("ci", hash, viewAll))

			if err := os.Chtimes(file, now, now); err != nil {
				t.Fatal(err)
			}
		}

		replace(oneHash)

		tokens, err := NewTokens(TokensConfig{File: file})
		if err != nil {
			t.Fatal(err)
		}

		replace(twoHash)
		time.Sleep(checkEvery)

		if _, err := tokens.Authenticate(t.Context(), one); !errors.Is(err, ErrUnknown) {
			t.Error("the second change was not seen:", err)
		}
	})
}

// A file that has been at rest for a while is not read again, and is looked at once a second.
func TestTokenFileAtRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token, hash := newToken(t)
		content := "tokens:\n" + entryOf("ci", hash, viewAll)
		tokens, file, _ := tokensOf(t, content)
		old := time.Now().Add(-time.Hour)

		touch := func() {
			if err := os.Chtimes(file, old, old); err != nil {
				t.Fatal(err)
			}
		}

		touch()
		time.Sleep(checkEvery)

		if _, err := tokens.Authenticate(t.Context(), token); err != nil {
			t.Fatal(err)
		}

		// What is the same to the eye is not read.
		_, other := newToken(t)
		write(t, file, "tokens:\n"+entryOf("ci", other, viewAll))
		touch()
		time.Sleep(checkEvery)

		if _, err := tokens.Authenticate(t.Context(), token); err != nil {
			t.Error("it was read again:", err)
		}

		// Another time of change is seen, but not before it is looked for.
		old = old.Add(time.Second)
		touch()

		if _, err := tokens.Authenticate(t.Context(), token); err != nil {
			t.Error("it was looked at twice in a second:", err)
		}

		time.Sleep(checkEvery)

		if _, err := tokens.Authenticate(t.Context(), token); !errors.Is(err, ErrUnknown) {
			t.Error("the change was not seen:", err)
		}
	})
}

// Kubernetes puts a new folder in place of the old one by renaming a link.
func TestTokenFileLinkSwap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, oneHash := newToken(t)
		two, twoHash := newToken(t)
		dir := t.TempDir()
		old := time.Now().Add(-time.Hour)

		for version, hash := range map[string]string{"v1": oneHash, "v2": twoHash} {
			if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
				t.Fatal(err)
			}

			file := filepath.Join(dir, version, "tokens.yaml")
			write(t, file, "tokens:\n"+entryOf("ci", hash, viewAll))

			if err := os.Chtimes(file, old, old); err != nil { // equal in both
				t.Fatal(err)
			}
		}

		link := func(version string) {
			if err := errors.Join(os.Symlink(version, filepath.Join(dir, "tmp")), os.Rename(filepath.Join(dir, "tmp"), filepath.Join(dir, "data"))); err != nil {
				t.Fatal(err)
			}
		}

		link("v1")

		tokens, err := NewTokens(TokensConfig{File: filepath.Join(dir, "data", "tokens.yaml")})
		if err != nil {
			t.Fatal(err)
		}

		if _, err := tokens.Authenticate(t.Context(), one); err != nil {
			t.Error(err)
		}

		link("v2")
		time.Sleep(checkEvery)

		if _, err := tokens.Authenticate(t.Context(), two); err != nil {
			t.Error(err)
		}

		if _, err := tokens.Authenticate(t.Context(), one); !errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
	})
}

func TestTokenFileOfOthers(t *testing.T) {
	_, hash := newToken(t)
	tokens, file, logs := tokensOf(t, "tokens:\n"+entryOf("ci", hash, viewAll))

	if logs.Len() != 0 {
		t.Error(logs.All())
	}

	if err := os.Chmod(file, 0o620); err != nil {
		t.Fatal(err)
	}

	if _, err := NewTokens(tokens.TokensConfig); err != nil || logs.FilterMessageSnippet("others than its owner can write").Len() != 1 {
		t.Error(err, logs.All())
	}
}
