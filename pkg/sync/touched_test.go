package sync_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"

	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/pkg/template"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// repository is a tree with digests, as Git has them. It counts what is opened.
type repository struct {
	fstest.MapFS

	opened atomic.Int64
}

// Open implements fs.FS.
func (r *repository) Open(name string) (fs.File, error) {
	r.opened.Add(1)

	return r.MapFS.Open(name)
}

// Digest implements template.Digester.
func (r *repository) Digest(name string) (string, bool) {
	sum := sha256.New()

	for _, path := range slices.Sorted(maps.Keys(r.MapFS)) {
		if path == name || strings.HasPrefix(path, name+"/") {
			fmt.Fprintf(sum, "%s\x00%s\x00", path, r.MapFS[path].Data)
		}
	}

	return string(sum.Sum(nil)), true
}

// A commit that touches nothing under the path of a source, and nothing that its
// templates refer to, is in force at once: no file of it is read.
func TestG3_CommitElsewhere(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, func(c *sync.Config, _ *omni.SnapshotConfig) { c.Sources[0].Scope = template.Scope{Root: "clusters"} })

	files := fstest.MapFS{"clusters/a.yaml": cluster("a", "1.34.3", machine('a')), "README.md": text("fleet")}
	d.Apply(t, &repository{MapFS: files})

	elsewhere := &repository{MapFS: maps.Clone(files)}
	elsewhere.MapFS["README.md"] = text("our fleet")

	before := o.Calls()
	expect(t, "a commit elsewhere", synced("a"), syncs(d.Apply(t, elsewhere)))
	expect(t, "files opened", 0, int(elsewhere.opened.Load()))
	expect(t, "calls", embedded.Calls{}, o.Calls().Since(before))

	touched := &repository{MapFS: maps.Clone(files)}
	touched.MapFS["clusters/a.yaml"] = cluster("a", "1.35.0", machine('a'))
	d.Apply(t, touched)
	expect(t, "version", "1.35.0", kubernetes(t, o, "a"))
}

// broken has a folder that cannot be read.
type broken struct{ fstest.MapFS }

// ReadDir implements fs.ReadDirFS.
func (b broken) ReadDir(name string) ([]fs.DirEntry, error) {
	if name == "docs" {
		return nil, fs.ErrPermission
	}

	return b.MapFS.ReadDir(name)
}

// G11: a cluster left Git with a revision of which a folder could not be read, so it was kept. Read once more that revision
// is whole and the cluster goes: what brings no target anything was taken for what brings nothing.
func TestG11_WholeTheSecondTime(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, noRelist)
	files := fleet("1.34.3", "a", "b")
	d.Apply(t, files)

	left := maps.Clone(files)
	left["docs/README"] = text("docs")
	delete(left, "b.yaml")

	status := d.Apply(t, broken{left})
	expect(t, "clusters", []string{"a", "b"}, live(t, o, omnires.ClusterType))

	d.Again(status.Sources[0].Revision, left)
	d.Until(t, func(s sync.Status) bool { return s.Settled() && len(s.Targets) == 1 })
	expect(t, "clusters", []string{"a"}, live(t, o, omnires.ClusterType))
}
