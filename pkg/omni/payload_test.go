package omni_test

import (
	"strings"
	"testing"

	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/compression"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
)

// A payload reads the same whether it is stored compressed, with Omni's dictionary, or not.
func TestPayload(t *testing.T) {
	want := strings.Repeat("machine: {}\n", 500)

	for _, compressed := range []bool{false, true} {
		config, err := compression.BuildConfig(compressed, true, false)
		if err != nil {
			t.Fatal(err)
		}

		patch := omnires.NewConfigPatch("p")
		if err := patch.TypedSpec().Value.SetUncompressedData([]byte(want), specs.WithConfigCompressionOption(config)); err != nil {
			t.Fatal(err)
		}

		if got, err := omni.Payload(patch); err != nil || string(got) != want {
			t.Errorf("compressed %v: %d bytes, %v", compressed, len(got), err)
		}
	}

	if got, err := omni.Payload(omnires.NewCluster("c")); got != nil || err != nil {
		t.Errorf("a cluster has no payload, got %q, %v", got, err)
	}
}
