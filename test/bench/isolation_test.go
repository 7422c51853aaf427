package bench

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"

	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
)

// A fleet in which some clusters never get anywhere.
const (
	others  = 160 // clusters that a commit touches
	stuck   = 20  // clusters whose teardown does not end
	refused = 20  // clusters whose change Omni refuses, anew with every commit
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
`, name, edit, machineID(9000, machine))}
}

// BenchmarkIsolation is a commit that touches 160 clusters, alone and beside 20 that hang
// in their teardown and 20 that Omni refuses (G6). The two lines are to be alike.
func BenchmarkIsolation(b *testing.B) {
	b.Run("alone", func(b *testing.B) { isolation(b, 0, 0) })
	b.Run("beside-stuck-and-refused", func(b *testing.B) { isolation(b, stuck, refused) })
}

func isolation(b *testing.B, stuck, refused int) {
	o := newOmni(b)
	d := daemon.Start(b, o.Omni, func(c *sync.Config, _ *livestate.SnapshotConfig) { c.Sources[0].MaxDelete = stuck })

	files := func(edit int, withStuck bool) fstest.MapFS {
		all := fstest.MapFS{}

		for n := range others {
			all[fmt.Sprintf("other-%03d.yaml", n)] = small(fmt.Sprintf("other-%03d", n), n, edit)
		}

		for n := range refused {
			all[fmt.Sprintf("refused-%03d.yaml", n)] = small(fmt.Sprintf("refused-%03d", n), 1000+n, edit)
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

		o.count(b, func() {
			id := d.Feed(next)
			d.Until(b, func(s sync.Status) bool { return count(s, "other-", id, sync.Synced) == others })
		})
	}

	// They are what they are meant to be.
	d.Until(b, func(s sync.Status) bool {
		return count(s, "stuck-", "", sync.OutOfSync) == stuck && count(s, "refused-", "", sync.OutOfSync) == refused
	})
	d.Stop(b)
	o.Stop(b)
}

// count counts the clusters of a kind that have a state with a revision ("" is any).
func count(s sync.Status, prefix, revision string, state sync.SyncStatus) int {
	n := 0

	for i := range s.Targets {
		t := &s.Targets[i]
		if strings.HasPrefix(t.Target, prefix) && t.Sync == state && (revision == "" || t.Revision == revision) {
			n++
		}
	}

	return n
}
