package diff_test

import (
	"testing"

	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// Omni refuses control characters in annotations, and JSON leaves U+0085 and U+007F as they are: an author with one of
// them in the name could not remove a cluster.
func TestDeparting_ASCII(t *testing.T) {
	want := diff.Departure{State: diff.Leaving, ID: "1", Author: "Zoë\u0085\u007f 🙂\n<zoe@example.com>", Revision: "main@sha1:1"}

	marked := diff.Departing(omni.NewCluster("a"), want)
	value, _ := marked.Metadata().Annotations().Get(string(diff.Leaving))

	for _, r := range value {
		if r < ' ' || r > '~' {
			t.Errorf("%q has %U", value, r)
		}
	}

	if got := diff.DepartureOf(marked); got != want {
		t.Errorf("%+v became %+v", want, got)
	}
}
