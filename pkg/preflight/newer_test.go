package preflight_test

import (
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

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
