package sync_test

import (
	"strings"
	"testing"
	"testing/fstest"

	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// G2: a template that was renamed and encrypted in one commit was taken for removed, and its cluster destroyed. It stays
// until somebody can tell what that file is.
func TestG2_RenamedAndEncrypted(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)
	d.Apply(t, fleet("1.34.3", "a", "b"))

	encrypted := fleet("1.34.3", "a")
	encrypted["secret/b.yaml"] = &fstest.MapFile{Data: []byte("\x00GITCRYPT\x00\x01")}

	last := d.Feed(encrypted)
	status := within(t, d, "an answer", func(s sync.Status) bool { return s.Settled() && s.Sources[0].Revision == last })

	if got := message(status, "b"); !strings.Contains(got, "b.yaml is gone, and secret/b.yaml, which is no YAML that anybody can read, may be what became of it") {
		t.Errorf("it says %q", got)
	}

	expect(t, "clusters", []string{"a", "b"}, live(t, o, omnires.ClusterType))

	// Once it is gone, too, the cluster leaves as any other does.
	d.Feed(fleet("1.34.3", "a"))
	within(t, d, "b to go", func(s sync.Status) bool { return s.Settled() && len(s.Targets) == 1 })
	expect(t, "clusters", []string{"a"}, live(t, o, omnires.ClusterType))
}

// G2: a folder of links that a machine without links committed as a text file was taken for an empty one.
func TestG2_FolderBecomesAFile(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)
	files := fleet("1.34.3", "a")
	files["team/x/b.yaml"] = cluster("b", "1.34.3", machine(7))
	d.Apply(t, files)

	linkless := fleet("1.34.3", "a")
	linkless["team"] = text("../shared/team")

	last := d.Feed(linkless)
	status := within(t, d, "an answer", func(s sync.Status) bool { return s.Settled() && s.Sources[0].Revision == last })

	if got := message(status, "b"); !strings.Contains(got, "team is a file and no folder any more, so nobody can tell what became of team/x/b.yaml") {
		t.Errorf("it says %q", got)
	}

	expect(t, "clusters", []string{"a", "b"}, live(t, o, omnires.ClusterType))
}
