package sync_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cosi-project/runtime/pkg/state"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// G1: a source that may have no other clusters than its own ordered a backup of another one, and of a locked one: the ID of
// an EtcdManualBackup is a cluster's.
func TestG1_BackupOfAnotherCluster(t *testing.T) {
	backup := text("metadata: {namespace: ephemeral, type: EtcdManualBackups.omni.sidero.dev, id: prod}\nspec: {backupat: {seconds: 1790000000}}\n")

	for name, test := range map[string]struct {
		change func(*sync.Config)
		lock   bool
		want   string
	}{
		"not allowed": {func(c *sync.Config) { c.Sources[0].Allow.Clusters = []string{"team-*"} }, false, "allow.clusters"},
		"locked":      {func(*sync.Config) {}, true, "locked"},
	} {
		t.Run(name, func(t *testing.T) {
			o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
			first := daemon.Start(t, o, nil)
			first.Apply(t, fstest.MapFS{"prod.yaml": cluster("prod", "1.34.3", machine(1))})
			first.Stop(t)

			if test.lock {
				lock(t, o, "prod")
			}

			d := daemon.Start(t, o, func(c *sync.Config, _ *omni.SnapshotConfig) {
				c.Sources[0].Prune = false
				test.change(c)
			})
			last := d.Feed(fstest.MapFS{"backup.yaml": backup, "c.yaml": cluster("team-a", "1.34.3", machine(2))})
			status := within(t, d, "an answer", func(s sync.Status) bool {
				return s.Settled() && s.Sources[0].Revision == last && target(s, "") != nil
			})

			if got := message(status, ""); !strings.Contains(got, test.want) {
				t.Errorf("it says %q", got)
			}

			if _, err := o.State().Get(t.Context(), omnires.NewEtcdManualBackup("prod").Metadata()); !state.IsNotFoundError(err) {
				t.Errorf("a backup was ordered: %v", err)
			}
		})
	}
}
