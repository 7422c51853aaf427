// Package binary builds the program that people run, for tests that run it as they do.
package binary

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Static builds omni-syncd of this tree as `make build` does, and returns its path. It is also how
// .ci/run builds all that is not raced: another way would compile every dependency once more, minutes on a new machine.
func Static(tb testing.TB) string {
	tb.Helper()

	path := filepath.Join(tb.TempDir(), "omni-syncd")
	build := exec.CommandContext(tb.Context(), "go", "build", "-trimpath", "-o", path, "github.com/omni-syncd/omni-syncd/cmd/omni-syncd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")

	if out, err := build.CombinedOutput(); err != nil {
		tb.Fatalf("%v\n%s", err, out)
	}

	return path
}
