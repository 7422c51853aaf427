package preflight_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/preflight"
	"github.com/omni-syncd/omni-syncd/pkg/template/schema"
)

// F7: a server drops what it does not know without a word, and the template would never be in force.
func TestKeysOfNewerTemplates(t *testing.T) {
	for _, n := range schema.Switches() {
		for server, refused := range map[livestate.Server]bool{
			"v1.9.3": n.Since != "1.9", "v1.10.4": false, "v1.10.0-beta.0": false, "v1.11.0": false, "": false, "dev": false,
		} {
			for _, on := range []bool{true, false} {
				cluster := omni.NewCluster("blue")
				cluster.TypedSpec().Value.Features = &specs.ClusterSpec_Features{}

				if on && !(livestate.Flag{Message: n.Message, Number: n.Number}).Set(cluster) {
					t.Fatalf("%s cannot be set", n)
				}

				var said []string
				for _, f := range preflight.Check(preflight.Input{Target: "blue", Desired: []resource.Resource{cluster}, Snapshot: memory{}, Server: server}) {
					if strings.Contains(f.Message, "or newer, and this one is") {
						said = append(said, f.Message)
					}
				}

				if want := refused && on; want != (len(said) == 1) || want && !strings.HasPrefix(said[0], n.String()+" needs Omni 1.10 or newer, and this one is v1.9.3;") {
					t.Errorf("%s=%v on %q: %q", n, on, server, said)
				}
			}
		}
	}
}

// A key that leaves the template is a write of the Cluster, which Omni judges whole. It was taken for one that is kept, and patches were
// written before Omni refused the Cluster.
func TestKeyThatLeavesIsAWrite(t *testing.T) {
	for _, n := range schema.Switches() {
		flag := livestate.Flag{Message: n.Message, Number: n.Number}
		features := omni.NewFeaturesConfig(omni.FeaturesConfigID)
		features.TypedSpec().Value.EtcdBackupSettings = &specs.EtcdBackupSettings{MinInterval: durationpb.New(3 * time.Hour), MaxInterval: durationpb.New(24 * time.Hour)}

		cluster := func() *omni.Cluster {
			r := omni.NewCluster("blue")
			r.TypedSpec().Value.Features = &specs.ClusterSpec_Features{}
			r.TypedSpec().Value.TalosVersion, r.TypedSpec().Value.KubernetesVersion = "1.14.0", "1.34.3"
			r.TypedSpec().Value.BackupConfiguration = &specs.EtcdBackupConf{Enabled: true, Interval: durationpb.New(time.Hour)}

			return r
		}

		have := cluster()
		have.Metadata().Annotations().Set(diff.MarkSource, source)
		flag.Set(have)

		for mark, want := range map[string]int{`["field/` + n.String() + `"]`: 1, `[]`: 0} { // what no template said stays, and nothing is written
			have.Metadata().Annotations().Set(diff.MarkApplied, mark)

			m := memory{}.put(features, newServer("v1.10.4"), have)
			in := preflight.Input{Target: "blue", Desired: []resource.Resource{cluster()}, Snapshot: m, Server: m.server()}
			in.Live = m.cluster("blue", in.Desired)
			in.Plan = diff.Compute(diff.Input{Source: source, Target: "blue", Desired: in.Desired, Live: in.Live})

			var said []string
			for _, f := range preflight.Check(in) {
				if strings.Contains(f.Message, "backup interval") {
					said = append(said, f.Message)
				}
			}

			if len(said) != want {
				t.Errorf("%s, %s: %q, plan %s", n, mark, said, in.Plan.Summary())
			}
		}
	}
}

// What to do about a public discovery service that is off depends on who switched it off.
func TestDiscoveryRemedy(t *testing.T) {
	n := schema.DisablePublicDiscovery()
	cluster := omni.NewCluster("blue")
	cluster.TypedSpec().Value.Features = &specs.ClusterSpec_Features{UseEmbeddedDiscoveryService: true}
	cluster.TypedSpec().Value.TalosVersion = "1.13.0"
	livestate.Flag{Message: n.Message, Number: n.Number}.Set(cluster)

	m := memory{}.put(newServer("v1.10.4"))

	for _, f := range preflight.Check(preflight.Input{Target: "blue", Desired: []resource.Resource{cluster}, Snapshot: m, Server: m.server()}) {
		if strings.Contains(f.Message, "discovery") {
			if !strings.HasSuffix(f.Message, "cannot do without; take that out of the template") || f.Key == nil || *f.Key != n {
				t.Errorf("says %q about %v", f.Message, f.Key)
			}

			return
		}
	}

	t.Error("nothing found")
}
