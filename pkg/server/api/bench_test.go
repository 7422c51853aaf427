package api_test

import (
	"fmt"
	"testing"
	"testing/fstest"

	"connectrpc.com/connect"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/server/api"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// What `omni-syncd status` asks of a daemon with 1,000 clusters, over a socket: less than
// 50 ms, with a real engine and real plans.
func BenchmarkStatus1000(b *testing.B) {
	const clusters = 1000

	o := daemon.StartOmni(b, embedded.Config{NoControllers: true})
	w := &world{Daemon: daemon.Start(b, o, func(cfg *sync.Config, _ *omni.SnapshotConfig) { cfg.DryRun = true })}

	files := fstest.MapFS{}

	for i := range clusters {
		name := fmt.Sprintf("cluster-%04d", i)
		files[name+".yaml"] = &fstest.MapFile{Data: fmt.Appendf(nil,
			"kind: Cluster\nname: %s\nkubernetes: {version: v1.34.3}\ntalos: {version: v1.12.0}\n---\nkind: ControlPlane\nmachines: [5f3a1c00-0000-4000-8000-%012d]\n", name, i)}
	}

	w.Apply(b, files)
	w.serve(b, api.Config{Engine: w.Daemon})

	for b.Loop() {
		if _, err := w.ListSources(b.Context(), connect.NewRequest(&v1.ListSourcesRequest{})); err != nil {
			b.Fatal(err)
		}

		res, err := w.ListClusters(b.Context(), connect.NewRequest(&v1.ListClustersRequest{}))
		if err != nil || len(res.Msg.GetClusters()) != clusters {
			b.Fatal(err, len(res.Msg.GetClusters()))
		}
	}
}
