package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/omni-syncd/omni-syncd/pkg/server/auth"
)

// What the verb prints is what the daemon takes.
func TestTokenIsTaken(t *testing.T) {
	var token, entry bytes.Buffer

	cmd := newToken()
	cmd.SetArgs([]string{"ci", "--role", "operator", "--role", "access", "--clusters", "*", "--clusters", "[a-c]?", "--expires", "1d"})
	cmd.SetOut(&token)
	cmd.SetErr(&entry)

	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}

	file := filepath.Join(t.TempDir(), "tokens.yaml")
	if err := os.WriteFile(file, []byte("tokens:\n"+entry.String()), 0o600); err != nil {
		t.Fatal(err)
	}

	tokens, err := auth.NewTokens(auth.TokensConfig{File: file})
	if err != nil {
		t.Fatalf("%v\n%s", err, entry.String())
	}

	caller, err := tokens.Authenticate(t.Context(), strings.TrimSpace(token.String()))
	if err != nil {
		t.Fatal(err)
	}

	if err := errors.Join(caller.May(t.Context(), auth.Viewer, "x"), caller.May(t.Context(), auth.Access, "x")); err != nil {
		t.Error(err)
	}

	if left := time.Until(caller.Expires); caller.MayAll(t.Context(), auth.Viewer) == nil || caller.Name != "token ci" || left > 24*time.Hour || left < 23*time.Hour {
		t.Errorf("%+v", caller)
	}
}
