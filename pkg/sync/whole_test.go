package sync_test

import (
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// onTheMove is a directory that was read before it came to rest.
type onTheMove struct{ fstest.MapFS }

func (onTheMove) Moving() bool { return true }

// G2: a folder link that leads nowhere, a pipe in place of a template and a directory that was read while it was copied
// deleted the clusters that were missing. They are kept, changes arrive, and what is missing once all of it can be read is
// deleted.
func TestG2_Whole(t *testing.T) {
	all := func() fstest.MapFS {
		files := fleet("1.34.3", "a")
		files["apps"] = &fstest.MapFile{Mode: fs.ModeSymlink, Data: []byte("releases/1")}
		files["releases/1/b.yaml"] = cluster("b", "1.34.3", machine('b'))

		return files
	}
	without := func(change func(fstest.MapFS)) fstest.MapFS {
		files := all()
		delete(files, "releases/1/b.yaml")
		delete(files, "apps")

		files["a.yaml"] = cluster("a", "1.35.0", machine('a'))
		change(files)

		return files
	}

	for name, files := range map[string]fs.FS{
		"a folder link that leads nowhere": without(func(files fstest.MapFS) { files["apps"] = all()["apps"] }),
		"a pipe":                           without(func(files fstest.MapFS) { files["b.yaml"] = &fstest.MapFile{Mode: fs.ModeNamedPipe} }),
		"a directory on the move":          onTheMove{without(func(fstest.MapFS) {})},
	} {
		t.Run(name, func(t *testing.T) {
			o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
			d := daemon.Start(t, o, func(cfg *sync.Config, _ *omni.SnapshotConfig) { cfg.Sources[0].Scope.Exclude = []string{"releases"} })
			expect(t, "at first", synced("a", "b"), syncs(d.Apply(t, all())))

			status := d.Apply(t, files)
			expect(t, "not whole", map[string]sync.SyncStatus{"a": sync.Synced, "b": sync.OutOfSync}, syncs(status))

			if got := message(status, "b"); !strings.Contains(got, "not whole") {
				t.Errorf("message of b: %q\n%s", got, daemon.Describe(status))
			}

			if !slices.Contains(live(t, o, omnires.ClusterType), "b") {
				t.Fatal("b was deleted")
			}

			d.Again(status.Sources[0].Revision, without(func(fstest.MapFS) {}))
			d.Until(t, func(sync.Status) bool { return !slices.Contains(live(t, o, omnires.ClusterType), "b") })
		})
	}
}
