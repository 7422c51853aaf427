package omni

import (
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

func TestWhere(t *testing.T) {
	x := newIndex()
	for _, id := range []string{"c-2", "a-1", "c-1", "b-1"} {
		x.put(newPatch(id, "cluster", "machine: {}"))
	}

	var got []string
	for _, r := range x.where(omni.ConfigPatchType, func(r resource.Resource) bool { return strings.HasPrefix(r.Metadata().ID(), "c-") }) {
		got = append(got, r.Metadata().ID())
	}

	if strings.Join(got, " ") != "c-1 c-2" {
		t.Errorf("got %v", got)
	}
}
