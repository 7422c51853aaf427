package source

import "testing"

func TestIdentity(t *testing.T) {
	for raw, want := range map[string]string{
		"https://github.com/acme/fleet.git":         "github.com/acme/fleet",
		"https://github.com/acme/fleet/":            "github.com/acme/fleet",
		"https://jane:secret@GitHub.com/acme/fleet": "github.com/acme/fleet",
		"https://github.com:443/acme/fleet":         "github.com/acme/fleet",
		"http://git.example.com:80/acme/fleet":      "git.example.com/acme/fleet",
		"https://git.example.com:8443/acme/fleet":   "git.example.com:8443/acme/fleet",
		"git@github.com:acme/fleet.git":             "github.com/acme/fleet",
		"git@github.com:/acme/fleet.git":            "github.com/acme/fleet",
		"github.com:acme/fleet.git":                 "github.com/acme/fleet",
		"ssh://git@github.com/acme/fleet.git":       "github.com/acme/fleet",
		"ssh://git@github.com:22/acme/fleet.git":    "github.com/acme/fleet",
		"ssh://git@github.com:2222/acme/fleet.git":  "github.com:2222/acme/fleet",
		"git+ssh://git@github.com/acme/fleet":       "github.com/acme/fleet",
		"git@[::1]:acme/fleet.git":                  "::1/acme/fleet",
		"file:///srv/git/fleet.git":                 "file:/srv/git/fleet",
		"file:///srv/git/fleet/.git":                "file:/srv/git/fleet",
		"/srv/git/fleet.git":                        "file:/srv/git/fleet",
		"/srv/git/../git/fleet":                     "file:/srv/git/fleet",
		"https://github.com/acme/Fleet":             "github.com/acme/Fleet", // doubt means different
		"https://github.com/acme/fleet-2":           "github.com/acme/fleet-2",
		"":                                          "",
		"https://":                                  "",
		"https://github.com":                        "",
	} {
		if got := Identity(raw); got != want {
			t.Errorf("%q: %q, want %q", raw, got, want)
		}
	}
}
