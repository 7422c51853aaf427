package sync_test

import (
	"strings"
	"testing"

	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// F7: Omni 1.10 refuses a patch with a key of the cluster, and it did so after the cluster and its machine sets were made. It is
// refused before anything is written now; Omni 1.9 takes it.
func TestPreflightKnowsTheServer(t *testing.T) {
	files := fleet("1.34.3", "a")
	files["a.yaml"].Data = []byte(strings.Replace(string(files["a.yaml"].Data), "---\nkind: ControlPlane\n",
		"patches:\n  - name: keys\n    inline:\n      cluster:\n        serviceAccount:\n          key: LS0tCg==\n---\nkind: ControlPlane\n", 1))

	for version, taken := range map[string]bool{embedded.Version: true, "v1.10.4": false} {
		t.Run(version, func(t *testing.T) {
			o := daemon.StartOmni(t, embedded.Config{NoControllers: true, Version: version})
			status := daemon.Start(t, o, nil).Apply(t, files)

			if taken {
				expect(t, "status", synced("a"), syncs(status))

				return
			}

			if got := message(status, "a"); !strings.Contains(got, "Omni v1.10.4 takes no config patch that holds cluster.serviceAccount") {
				t.Errorf("says %q", got)
			}

			expect(t, "status", map[string]sync.SyncStatus{"a": sync.OutOfSync}, syncs(status))
			expect(t, "clusters", []string(nil), live(t, o, omnires.ClusterType))
			expect(t, "server", omni.Server(version), status.Server)
		})
	}
}
