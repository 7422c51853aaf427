package source

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	tree, bare := newRepo(t, false), newRepo(t, true)
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"fleet.git/x": "", "plain/x": "", "file": ""})

	for _, test := range []struct {
		arg  string
		want Kind
		err  string
	}{
		{"https://example.com/fleet", KindGit, ""},
		{"HTTPS://example.com/fleet", KindGit, ""},
		{"http://localhost/fleet.git", KindGit, ""},
		{"ssh://git@example.com/fleet", KindGit, ""},
		{"git@example.com:platform/fleet.git", KindGit, ""},
		{"file:///srv/fleet", KindGit, ""},
		{bare.dir, KindGit, ""},
		{tree.dir, KindDir, ""},
		{tree.dir + "/.git", KindGit, ""},
		{filepath.Join(dir, "fleet.git"), KindGit, ""},
		{filepath.Join(dir, "fleet.git") + "/", KindGit, ""},
		{filepath.Join(dir, "plain"), KindDir, ""},
		{".", KindDir, ""},
		{"", 0, "empty source"},
		{"htps://jane:SECRET@example.com/x", 0, `htps://example.com/x: unknown scheme "htps"`},
		{filepath.Join(dir, "nothing"), 0, "neither a directory nor a Git URL: no such file or directory"},
		{filepath.Join(dir, "file"), 0, "is a file: give the directory"},
	} {
		got, err := Parse(test.arg)
		if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: got %v, %v; want %v, %q", test.arg, got, err, test.want, test.err)
		}
	}
}

func TestRedact(t *testing.T) {
	for raw, want := range map[string]string{
		"https://example.com/a/b.git":                      "https://example.com/a/b.git",
		"https://jane@example.com/a":                       "https://example.com/a",
		"https://jane:SECRET@example.com/a?token=SECRET#x": "https://example.com/a",
		"https://jane:1/SECRET@example.com/a":              "https://example.com/a",
		"https://jane:1?SECRET@example.com/a":              "https://example.com/a",
		"https://jane:%zzSECRET@example.com/a":             "https://example.com/a",
		"git@example.com:a/b.git":                          "git@example.com:a/b.git",
		"/srv/fleet":                                       "/srv/fleet",
		"":                                                 "",
	} {
		if got := Redact(raw); got != want {
			t.Errorf("%s: got %s, want %s", raw, got, want)
		}
	}
}

// No password, however odd, is shown by Redact or by an error.
func FuzzRedact(f *testing.F) {
	for _, s := range []string{"", ":", "/", "?x", "#", "@", "%", "%2", "://", " ", "\x00", "1/"} {
		f.Add(s, s)
	}

	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "S3CRET"

		raw := "https://jane:" + before + secret + after + "@example.com/fleet"
		if got := Redact(raw); strings.Contains(got, secret) || !strings.HasPrefix(got, "https://") {
			t.Errorf("%q is shown as %q", raw, got)
		}

		if _, err := locate(raw); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", raw, err)
		}

		if _, err := Parse("x" + raw); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", raw, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"https://x", "git@h:p", "a:b", "file://", "://", "user:pw@host:path", "-"} {
		f.Add(s)
	}

	f.Fuzz(func(t *testing.T, arg string) {
		if kind, err := Parse(arg); (kind == 0) == (err == nil) {
			t.Errorf("%q: %v, %v", arg, kind, err)
		}

		NewGit(GitConfig{URL: arg}).Validate() //nolint:errcheck // must not panic
	})
}
