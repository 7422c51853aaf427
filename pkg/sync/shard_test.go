package sync_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// pair starts two shards: the one that has the fleet resources and the other one, of which
// it returns the name of a cluster.
func pair(t *testing.T, o *daemon.Omni) (fleet, other *daemon.Daemon, name string) {
	t.Helper()

	shards := make([]*daemon.Daemon, 2)

	for i := range shards {
		shards[i] = daemon.Start(t, o, func(cfg *sync.Config, _ *omni.SnapshotConfig) { cfg.Shard = sync.Shard{Index: i, Count: 2} })
	}

	if fleet, other = shards[0], shards[1]; !fleet.Shard.Owns("") {
		fleet, other = other, fleet
	}

	for i := 0; !other.Shard.Owns(name); i++ {
		name = fmt.Sprintf("c%d", i)
	}

	return fleet, other, name
}

// G4: a MachineClass that Omni kept for the sake of a cluster of another shard can go once
// that is done with it, also if it is gone.
func TestG4_ClusterOfAnotherShardFreesItsClass(t *testing.T) {
	for _, gone := range []bool{false, true} {
		t.Run(fmt.Sprintf("gone=%t", gone), func(t *testing.T) {
			o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
			fleet, other, name := pair(t, o)

			files := fstest.MapFS{"x.yaml": class("x", "1"), "y.yaml": class("y", "1"), "b.yaml": cluster("b", "1.34.3", machine(1)), "a.yaml": ofClass(name, "x")}

			for _, d := range []*daemon.Daemon{fleet, other} {
				d.Feed(files)
			}

			for _, d := range []*daemon.Daemon{fleet, other} {
				d.Until(t, func(s sync.Status) bool { return s.Synced() && s.Settled() && len(s.Targets) > 0 })
			}

			delete(files, "x.yaml")

			if files["a.yaml"] = ofClass(name, "y"); gone {
				delete(files, "a.yaml")
			}

			fleet.Feed(files)
			fleet.Until(t, func(s sync.Status) bool { return strings.Contains(message(s, ""), "in use") })
			other.Apply(t, files)
			fleet.Until(t, func(s sync.Status) bool { return s.Synced() && s.Settled() })
			expect(t, "classes", []string{"y"}, live(t, o, omnires.MachineClassType))
		})
	}
}
