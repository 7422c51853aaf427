package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/omni-syncd/omni-syncd/pkg/access"
)

// Who loses a file by a merge finds the reason in the line.
func TestTellShut(t *testing.T) {
	for shut, want := range map[string]string{
		"":  "merged into a: the context b is the current one; more; next: next\n",
		"c": "merged into a: the context b is the current one; only its owner may use c from now on (mode 0600), because of the secret in it; more; next: next\n",
	} {
		var out bytes.Buffer

		cmd := newKubeconfig()
		cmd.SetErr(&out)
		tell(cmd, access.Merged{Path: "a", Context: "b", Current: true, Changed: true, Shut: shut}, "next", "more")

		if got := out.String(); got != want || strings.Count(got, "\n") != 1 {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
