package config_test

import (
	"strings"
	"testing"

	"github.com/omni-syncd/omni-syncd/pkg/config"
)

// G9: a key that is no name was quoted with all that is in it.
func TestG9_NoContentOfKeys(t *testing.T) {
	for _, key := range []string{
		"? {password: CANARY-77}", "? [CANARY-77]", "? &a {b: CANARY-77}", `? "CANARY-77\nx"`, "? CANARY-77" + strings.Repeat("y", 3000),
	} {
		for _, text := range []string{key + "\n: x\n", "sources:\n  - name: a\n    git: {" + key + ": x}\n", "omni: {" + key + ": x}\nsources: []\n"} {
			_, err := config.Parse([]byte(text))
			if err == nil || strings.Contains(err.Error(), "CANARY") || !strings.Contains(err.Error(), "this key is no name") {
				t.Errorf("%q: %v", text, err)
			}
		}
	}
}
