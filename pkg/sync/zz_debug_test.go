package sync_test

import (
	"testing"
	"time"

	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

func TestZZ(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	for _, name := range []string{"a", "z"} {
		c := omnires.NewCluster(name)
		c.TypedSpec().Value.TalosVersion, c.TypedSpec().Value.KubernetesVersion = "1.12.0", "1.34.3"
		if err := o.State().Create(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	backup, _ := o.Backup(t.Context())
	d := daemon.Start(t, o, func(c *sync.Config, s *omni.SnapshotConfig) {
		s.Relist = time.Second
		c.Logger = zaptest.NewLogger(t, zaptest.Level(zap.InfoLevel))
		s.Logger = c.Logger
	})
	applied(t, d, d.Feed(fleet("1.34.3", "a", "z")))
	applied(t, d, d.Feed(fleet("1.34.3", "a")))
	if err := o.Restore(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	t.Log("restored")
	deadline := time.After(6 * time.Second)
	for !adopted(t, o, "a") {
		select {
		case <-deadline:
			st, _ := d.Status()
			r, ok := d.Snapshot.Get(omnires.ClusterType, "a")
			l, _ := o.State().Get(t.Context(), omnires.NewCluster("a").Metadata())
			t.Fatal(daemon.Describe(st), ok, r.Metadata().Version(), diff.SourceOf(r), l.Metadata().Version(), d.Snapshot.Age(), d.Snapshot.Stats()[6])
		case <-time.After(50 * time.Millisecond):
		}
	}
}
