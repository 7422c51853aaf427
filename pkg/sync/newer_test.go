package sync_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cosi-project/runtime/pkg/safe"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// withFeature gives the template of a cluster a feature.
func withFeature(name, line string) fstest.MapFS {
	files := fleet("1.34.3", name)
	if line != "" {
		files[name+".yaml"].Data = []byte(strings.Replace(string(files[name+".yaml"].Data), "---\nkind: ControlPlane\n", "features:\n  "+line+"\n---\nkind: ControlPlane\n", 1))
	}

	return files
}

// F7: a template with a key of Omni 1.10 was refused as wrong. It reaches Omni, and goes back to the default with it.
func TestKeysOfNewerTemplates(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true, Version: "v1.10.4"})
	d := daemon.Start(t, o, nil)

	for _, step := range []struct {
		line string
		want bool
	}{{"", false}, {"enableNodeAuditSkip: true", true}, {"enableNodeAuditSkip: false", false}, {"enableNodeAuditSkip: true", true}, {"", false}} {
		expect(t, step.line, synced("a"), syncs(d.Apply(t, withFeature("a", step.line))))

		cluster, err := safe.StateGetByID[*omnires.Cluster](t.Context(), o.State(), "a")
		if err != nil {
			t.Fatal(err)
		}

		if got := cluster.TypedSpec().Value.GetFeatures().GetEnableNodeAuditSkip(); got != step.want {
			t.Errorf("%q: it is %v", step.line, got)
		}
	}
}

// F7: an older server drops the key without a word.
func TestKeyThatTheServerDoesNotKnow(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	status := daemon.Start(t, o, nil).Apply(t, withFeature("a", "disablePublicDiscoveryService: true"))

	if got := message(status, "a"); !strings.Contains(got, "features.disablePublicDiscoveryService needs Omni 1.10 or newer, and this one is v1.9.3") {
		t.Errorf("says %q", got)
	}

	expect(t, "status", map[string]sync.SyncStatus{"a": sync.OutOfSync}, syncs(status))
	expect(t, "clusters", []string(nil), live(t, o, omnires.ClusterType))
}
