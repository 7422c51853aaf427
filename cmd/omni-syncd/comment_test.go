package main

import (
	"bytes"
	"encoding/pem"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/omni-syncd/omni-syncd/pkg/forge"
	"github.com/omni-syncd/omni-syncd/pkg/forge/forgetest"
)

// A server with a certificate of its owner's: it is believed with --ca-file and not without.
func TestCommentOnAPrivateServer(t *testing.T) {
	server := forgetest.NewGitLab(t)
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}

	private := httptest.NewTLSServer(httputil.NewSingleHostReverseProxy(&url.URL{Scheme: at.Scheme, Host: at.Host}))
	defer private.Close()

	dir := t.TempDir()
	ca, plan := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "plan.md")

	for path, data := range map[string][]byte{
		ca: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: private.Certificate().Raw}), plan: []byte("### A plan\n"),
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	t.Setenv("CI_API_V4_URL", private.URL+at.Path)
	t.Setenv("GITLAB_TOKEN", forgetest.Token)
	t.Setenv("GITHUB_STEP_SUMMARY", "")

	run := func(more ...string) (int, string) {
		var out bytes.Buffer
		args := append([]string{"comment", plan, "--name", "x", "--on", "gitlab", "--project", forgetest.GitLabProject, "--pull-request", "7"}, more...)

		return execute(t.Context(), args, nil, &out, &out), out.String()
	}

	if code, out := run(); code != commentFailed || !strings.Contains(out, "is not trusted") || !strings.Contains(out, "--ca-file") {
		t.Errorf("without the authority: code %d\n%s", code, out)
	}

	if calls := server.Calls(); len(calls) > 0 {
		t.Errorf("a server that is not trusted was asked: %s", calls)
	}

	if code, out := run("--ca-file", ca); code != 0 || !strings.Contains(out, "comment created") {
		t.Errorf("with the authority: code %d\n%s", code, out)
	}

	if comments := server.Comments(); len(comments) != 1 || comments[0].Body != "<!-- omni-syncd:plan:x -->\n### A plan\n" {
		t.Errorf("comments: %v", comments)
	}
}

// What is too long for a comment is not sent, and what is too much for the summary is not added.
func TestCommentBounds(t *testing.T) {
	dir := t.TempDir()
	summary, plan := filepath.Join(dir, "summary.md"), filepath.Join(dir, "plan.md")
	write := func(path string, bytes int) {
		t.Helper()

		if err := os.WriteFile(path, []byte(strings.Repeat("x", bytes)), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	t.Setenv("GITHUB_STEP_SUMMARY", summary)
	t.Setenv("GITHUB_TOKEN", forgetest.Token)

	run := func() (int, string) {
		var out bytes.Buffer

		return execute(t.Context(), []string{"comment", plan, "--name", "x", "--on", "svn"}, nil, &out, &out), out.String()
	}

	for _, test := range []struct {
		bytes int
		error string
	}{
		{forge.MaxBody, "a comment may have 65536"},
		{maxSummary + 1, "larger than 1024 KiB"},
	} {
		write(plan, test.bytes)

		if code, out := run(); code != commentWrong || !strings.Contains(out, test.error) {
			t.Errorf("%d bytes: code %d\n%s", test.bytes, code, out)
		}
	}

	write(plan, 1000)
	write(summary, maxSummary-1000)

	if _, out := run(); !strings.Contains(out, "larger than GitHub takes") {
		t.Errorf("a summary that is full: %s", out)
	}

	if got := len(read(t, summary)); got != maxSummary-1000 {
		t.Errorf("the summary has %d bytes", got)
	}
}
