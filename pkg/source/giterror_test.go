package source

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

func TestGitErrors(t *testing.T) {
	full, empty := newRepo(t, true), newRepo(t, true)
	full.commit("one", map[string]string{"a": "a"})

	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/private"):
			w.WriteHeader(http.StatusUnauthorized)
		case strings.HasPrefix(r.URL.Path, "/missing"):
			w.WriteHeader(http.StatusNotFound)
		case strings.HasPrefix(r.URL.Path, "/broken"):
			w.WriteHeader(http.StatusBadGateway)
		default:
			fmt.Fprint(w, "<html>a web site</html>")
		}
	}))
	t.Cleanup(web.Close)

	gone := httptest.NewServer(nil)
	gone.Close()

	file := filepath.Join(t.TempDir(), "file")
	writeFiles(t, filepath.Dir(file), map[string]string{"file": ""})

	for _, test := range []struct {
		name, url, branch, want string
	}{
		{"no URL", "", "", "no repository URL"},
		{"missing folder", filepath.Join(t.TempDir(), "x"), "", "no such folder: check the path"},
		{"file", file, "", "this is a file"},
		{"no repository", t.TempDir(), "", `run "git init"`},
		{"empty", empty.dir, "", "the repository is empty: push a first commit"},
		{"empty, branch", empty.dir, "main", "the repository is empty: push a first commit"},
		{"empty, http", serve(t, empty).url(empty), "", "the repository is empty: push a first commit"},
		{"missing branch", full.dir, "prod", `there is no branch "prod": name one of main`},
		{"missing branch, http", serve(t, full).url(full), "prod", `there is no branch "prod": name one of main`},
		{"bad branch", full.dir, "a..b", `"a..b" is no valid branch name`},
		{"private", web.URL + "/private", "", "the server wants credentials"},
		{"missing, http", web.URL + "/missing", "", "no such repository on the server: check the URL"},
		{"bad gateway", web.URL + "/broken", "", `the server answered "502 Bad Gateway"`},
		{"web site", web.URL + "/site", "", "not from a Git repository"},
		{"refused", gone.URL, "", "the server cannot be reached: dial tcp"},
		{"unknown host", "https://host.invalid/x", "", "host.invalid"},
		{"password", "https://jane:SECRET@example.com/x", "", "credentials in the URL are refused"},
		{"token", "https://example.com/x?token=SECRET", "", "has no query"},
		{"unparsable", "https://jane:SECRET%zz@example.com/x", "", "credentials in the URL are refused"},
		{"invalid", "https://example.com/%zz", "", "not a valid URL"},
		{"ssh", "git@example.com:x.git", "", "ssh needs a file of known hosts"},
		{"ssh URL", "ssh://git@example.com/x.git", "", "ssh needs a file of known hosts"},
		{"ssh without user", "ssh://example.com/x.git", "", "names no user: use ssh://git@host"},
		{"ssh with password", "ssh://git:SECRET@example.com/x.git", "", "credentials in the URL are refused"},
		{"ssh with odd password", "ssh://git:SEC/RET:SECRET@x@example.com/x.git", "", "credentials in the URL are refused"},
		{"short ssh with password", "git:SECRET@example.com:x.git", "", "credentials in the URL are refused"},
		{"ssh without path", "ssh://git@example.com", "", "not a valid ssh URL"},
		{"git protocol", "git://example.com/x.git", "", `scheme "git" is not supported`},
		{"file on a host", "file://host/x", "", "file:///absolute/path"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := newTestGit(t, GitConfig{URL: test.url, Ref: Ref{Branch: test.branch}}).Fetch(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q", err, test.want)
			}

			if text := err.Error(); strings.Contains(text, "SECRET") || strings.Contains(text, "\n") {
				t.Errorf("bad text: %s", text)
			}
		})
	}
}

func TestGitTimeout(t *testing.T) {
	stop := make(chan struct{})
	hang := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stop }))

	t.Cleanup(hang.Close)
	t.Cleanup(func() { close(stop) })

	_, err := newTestGit(t, GitConfig{URL: hang.URL, Timeout: 50 * time.Millisecond}).Fetch(t.Context())
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "not done after 50ms") {
		t.Errorf("got %v", err)
	}
}

// What strangers write is shown on one line, without control characters.
func TestGitHostileText(t *testing.T) {
	r := newRepo(t, true)
	r.commitTree("main", "\n\x1b[31mred\a\r"+strings.Repeat("x", 10_000)+"\nbody", r.files(nil))

	rev := fetch(t, newTestGit(t, GitConfig{URL: r.dir}))
	if want := "[31mred  " + strings.Repeat("x", 191) + "…"; rev.Message != want {
		t.Errorf("got %q", rev.Message)
	}

	v := &view{head: "refs/heads/\x1b[31m", refs: map[plumbing.ReferenceName]plumbing.Hash{"refs/heads/\x1b[31m": {}}}
	for _, branch := range []string{"", "main"} {
		if _, err := v.pick(Ref{Branch: branch}); err == nil || strings.ContainsRune(err.Error(), 0x1b) {
			t.Errorf("got %v", err)
		}
	}
}
