package omni

import (
	"strings"
	"testing"
)

func TestServer(t *testing.T) {
	t.Parallel()

	for _, test := range []struct {
		server             Server
		untested, outdated bool
	}{
		{"v1.9.0", false, false},
		{"v1.9.3", false, false},
		{"v1.9.0-beta.1", false, false},
		{"v1.9.99", false, false},
		{"v1.10.4", false, false},
		{"v1.11.0-alpha.0", true, false},
		{"v1.11.0", true, false},
		{"v1.11.0-alpha.2", true, false},
		{"v2.0.0", true, false},
		{"v1.8.9", false, true},
		{"v0.50.0", false, true},
		// The version of a private build says nothing: it counts as untested.
		{"", true, false},
		{"a1b2c3d-dirty", true, false},
		{"1234567", true, false},
	} {
		if got := test.server.Untested(); (got != "") != test.untested || got != "" && !strings.Contains(got, test.server.String()) {
			t.Errorf("%q untested: %q", test.server, got)
		}

		if got := test.server.Outdated(); (got != "") != test.outdated {
			t.Errorf("%q outdated: %q", test.server, got)
		}
	}
}
