package auth

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// entryOf returns an entry of a token file.
func entryOf(name, hash, more string) string {
	return "  - name: " + name + "\n    hash: " + hash + "\n" + more
}

const viewAll = "    grants: [{role: viewer}]\n"

func newToken(t testing.TB) (token, hash string) {
	t.Helper()

	token, hash, err := NewToken()
	if err != nil {
		t.Fatal(err)
	}

	return token, hash
}

func write(t testing.TB, file, content string) {
	t.Helper()

	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// tokensOf opens a token file with this content.
func tokensOf(t testing.TB, content string) (tokens *Tokens, file string, logs *observer.ObservedLogs) {
	t.Helper()

	file = filepath.Join(t.TempDir(), "tokens.yaml")
	write(t, file, content)

	core, logs := observer.New(zap.DebugLevel)

	tokens, err := NewTokens(TokensConfig{File: file, Logger: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}

	return tokens, file, logs
}
