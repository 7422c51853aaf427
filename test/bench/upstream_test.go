package bench

import (
	"bytes"
	"io"
	"os"
	"path"
	"path/filepath"
	"testing"

	"github.com/siderolabs/omni/client/pkg/template/operations"

	"github.com/omni-syncd/omni-syncd/test/fleet"
)

// upstreamRoot makes the folder that upstream's code resolves files from, and works in it: it
// takes them from where it runs.
func upstreamRoot(tb testing.TB, f *fleet.Fleet) *os.Root {
	tb.Helper()

	dir := tb.TempDir()
	check(tb, os.MkdirAll(filepath.Join(dir, path.Dir(fleet.SharedPatch)), 0o700))
	check(tb, os.WriteFile(filepath.Join(dir, fleet.SharedPatch), f.Files[fleet.SharedPatch].Data, 0o600))

	tb.Chdir(dir)

	root, err := os.OpenRoot(dir)
	check(tb, err)
	tb.Cleanup(func() { root.Close() }) //nolint:errcheck // the test is over

	return root
}

// upstreamText is a template that names its files from where omnictl is run, which is how
// upstream resolves them, instead of from its own folder.
func upstreamText(f *fleet.Fleet, c int) []byte {
	return bytes.ReplaceAll(f.Files[fleet.Path(c)].Data, []byte("../../"+fleet.SharedPatch), []byte(fleet.SharedPatch))
}

// upstreamSync does `omnictl cluster template sync` for one template after the other.
func upstreamSync(tb testing.TB, o *far, f *fleet.Fleet, clusters int) {
	tb.Helper()

	root := upstreamRoot(tb, f)

	for c := range clusters {
		check(tb, operations.SyncTemplate(tb.Context(), bytes.NewReader(upstreamText(f, c)), io.Discard, o.Conn.State(), operations.SyncOptions{}, root))
	}
}
