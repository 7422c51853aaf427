package bench

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
	"github.com/omni-syncd/omni-syncd/test/fleet"

	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
)

// A fleet in which some clusters never get anywhere.
const (
	others  = 160 // clusters that a commit touches
	stuck   = 20  // clusters whose teardown does not end
	refused = 20  // clusters whose change Omni refuses; it is tried again with every commit
)

// small returns the template of a cluster with one machine.
func small(name string, machine, edit int) *fstest.MapFile {
	return &fstest.MapFile{Data: fmt.Appendf(nil, `kind: Cluster
name: %s
labels: {edit: "%d"}
kubernetes: {version: v1.34.3}
talos: {version: v1.12.0}
---
kind: ControlPlane
machines: [%s]
`, name, edit, fleet.MachineID(9000, machine))}
}

// BenchmarkIsolation is a commit that touches 160 clusters, alone and beside 20 that hang
// in their teardown and 20 that Omni refuses (G6). The two lines are to be alike.
func BenchmarkIsolation(b *testing.B) {
	b.Run("alone", func(b *testing.B) { isolation(b, 0, 0) })
	b.Run("beside-stuck-and-refused", func(b *testing.B) { isolation(b, stuck, refused) })
}

func isolation(b *testing.B, stuck, refused int) {
	o := startFar(b, 0, embedded.Config{})
	d := daemon.Start(b, o.Omni, func(c *sync.Config, _ *livestate.SnapshotConfig) { c.Sources[0].MaxDelete = stuck })

	files := func(edit int, withStuck bool) fstest.MapFS {
		all := fstest.MapFS{}

		for n := range others {
			all[fmt.Sprintf("other-%03d.yaml", n)] = small(fmt.Sprintf("other-%03d", n), n, edit)
		}

		for n := range refused {
			all[fmt.Sprintf("refused-%03d.yaml", n)] = small(fmt.Sprintf("refused-%03d", n), 1000+n, min(edit, 1))
		}

		for n := range stuck {
			if withStuck {
				all[fmt.Sprintf("stuck-%03d.yaml", n)] = small(fmt.Sprintf("stuck-%03d", n), 2000+n, 0)
			}
		}

		return all
	}

	d.Apply(b, files(0, true))

	for n := range stuck {
		check(b, o.State().AddFinalizer(b.Context(), omnires.NewCluster(fmt.Sprintf("stuck-%03d", n)).Metadata(), "somebody"))
	}

	for n := range refused {
		o.Faults().Add(embedded.Fault{
			Match: embedded.Match{Verb: embedded.VerbUpdate, Type: omnires.ClusterType, ID: fmt.Sprintf("refused-%03d", n)},
			Code:  codes.InvalidArgument, Message: "not like this",
		})
	}

	edit := 0

	for b.Loop() {
		edit++
		next := files(edit, false)

		took := o.spend(func() { untilOthersAre(b, d, d.Feed(next)) })
		b.ReportMetric(float64(took.RPCs), "RPCs")
	}

	// They are what they are meant to be.
	d.Until(b, func(s sync.Status) bool {
		return outOfSync(s, "stuck-") == stuck && outOfSync(s, "refused-") == refused
	})
	d.Stop(b)
	o.Stop(b)
}

// untilOthersAre waits until every other cluster is Synced with a revision. It follows the
// changes: to look at the whole status at each of them would be most of what is measured.
func untilOthersAre(b *testing.B, d *daemon.Daemon, revision string) {
	done := map[string]bool{}

	for version := uint64(0); ; {
		changes, newer := d.Changes(version)
		version = changes.Version

		for i := range changes.Targets {
			if t := &changes.Targets[i]; strings.HasPrefix(t.Target, "other-") {
				done[t.Target] = t.Sync == sync.Synced && t.Revision == revision
			}
		}

		if len(done) == others && !slices.Contains(slices.Collect(maps.Values(done)), false) {
			return
		}

		select {
		case <-newer:
		case <-b.Context().Done():
			b.Fatal("it does not end")
		}
	}
}

// outOfSync counts the clusters of a kind that are not what Git says.
func outOfSync(s sync.Status, prefix string) int {
	n := 0

	for i := range s.Targets {
		if t := &s.Targets[i]; strings.HasPrefix(t.Target, prefix) && t.Sync == sync.OutOfSync {
			n++
		}
	}

	return n
}
