package embedded_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/template/operations"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

func TestTemplateBecomesReadyCluster(t *testing.T) {
	s := start(t, embedded.Config{HealthyMachines: true})
	st := operator(t, s)

	syncTemplate(t, st, clusterTemplate)
	waitReady(t, st, "blue")

	var diff bytes.Buffer

	root, err := os.OpenRoot(t.TempDir())
	must(t, err)

	defer root.Close() //nolint:errcheck

	must(t, operations.DiffTemplate(testContext(t), strings.NewReader(clusterTemplate), &diff, st, root))

	if diff.Len() > 0 {
		t.Errorf("upstream sees a difference after its own sync:\n%s", diff.String())
	}

	cluster := waitFor(t, st, omni.NewCluster("blue").Metadata(), func(r *omni.Cluster) bool {
		return r.Metadata().Version().Value() == 14
	})

	if n := len(*cluster.Metadata().Finalizers()); n != 13 {
		t.Errorf("an idle cluster has %d finalizers, want 13", n)
	}
}
