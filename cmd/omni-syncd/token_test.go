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
	cmd.SetArgs([]string{"ci", "--role", "operator", "--role", "access", "--clusters", "*,[a-c]?", "--expires", "1d"})
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

// What the shell makes is a file for all to read; -o makes one for its owner, and replaces none.
func TestTokenToFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ci.token")

	run := func() (out, entry string, err error) {
		var stdout, stderr bytes.Buffer

		cmd := newToken()
		cmd.SetArgs([]string{"ci", "-o", file})
		cmd.SetOut(&stdout)
		cmd.SetErr(&stderr)
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		err = cmd.ExecuteContext(t.Context())

		return stdout.String(), stderr.String(), err
	}

	out, entry, err := run()
	if err != nil || out != "" {
		t.Fatal(err, out)
	}

	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}

	if info.Mode() != 0o600 {
		t.Errorf("the file has the mode %v", info.Mode())
	}

	token, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	tokensFile := filepath.Join(t.TempDir(), "tokens.yaml")
	if err := os.WriteFile(tokensFile, []byte("tokens:\n"+entry), 0o600); err != nil {
		t.Fatal(err)
	}

	tokens, err := auth.NewTokens(auth.TokensConfig{File: tokensFile})
	if err != nil {
		t.Fatalf("%v\n%s", err, entry)
	}

	if _, err := tokens.Authenticate(t.Context(), strings.TrimSpace(string(token))); err != nil {
		t.Error(err)
	}

	if out, entry, err := run(); err == nil || out+entry != "" || !strings.Contains(err.Error(), "ci.token is there already") {
		t.Errorf("a second token for the same file: %v, %q", err, out+entry)
	}

	if again, err := os.ReadFile(file); err != nil || !bytes.Equal(again, token) {
		t.Error("the file was changed", err)
	}
}

// Several globs in one word are several, and a variable without a value is not everything.
func TestTokenGlobs(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string // "" is an error
	}{
		{nil, "everything"},
		{[]string{"staging,prod"}, "[staging, prod]"},
		{[]string{"staging, prod"}, "[staging, prod]"},
		{[]string{"staging prod", "edge-*"}, "[staging, prod, edge-*]"},
		{[]string{""}, ""},
		{[]string{" "}, ""},
		{[]string{","}, ""},
		{[]string{"a,,b"}, ""},
	} {
		var entry bytes.Buffer

		cmd := newToken()
		cmd.SetOut(&bytes.Buffer{})
		cmd.SetErr(&entry)
		cmd.SilenceUsage, cmd.SilenceErrors = true, true

		args := []string{"ci"}
		for _, arg := range test.args {
			args = append(args, "--clusters", arg)
		}

		cmd.SetArgs(args)

		switch err := cmd.ExecuteContext(t.Context()); {
		case (err != nil) != (test.want == ""):
			t.Errorf("%q: %v", test.args, err)
		case test.want == "everything":
			if strings.Contains(entry.String(), "clusters") {
				t.Errorf("%q: %s", test.args, entry.String())
			}
		case err == nil && !strings.Contains(entry.String(), "clusters: "+test.want):
			t.Errorf("%q: %s", test.args, entry.String())
		}
	}
}
