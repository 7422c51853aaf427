package diff_test

import (
	"strings"
	"testing"

	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// The same patch written by two versions of omnictl differs in its quotes. An adoption planned an update of it, and each
// of the two took the other's text for drift.
func TestG4_PatchTextIsNoChange(t *testing.T) {
	const inGit, inOmni = `machine: {env: {A: "n", B: 'x'}}`, "machine:\n  env:\n    A: n\n    B: x\n"

	desired := resources{cluster("1.34.3"), patch("400-one", inGit)}

	for name, test := range map[string]struct {
		options []option
		want    string
	}{
		"ours":       {[]option{ours}, ""},
		"an orphan":  {nil, "ConfigPatch 400-one  adopted: it exists and is as Git says"},
		"of a label": {[]option{ours, label("env", "prod")}, "ConfigPatch 400-one  metadata.labels[env]: -prod"},
	} {
		live := patch("400-one", inOmni, append(test.options, served)...)
		plan := diff.Compute(diff.Input{Source: self, Target: "one", Desired: desired, Live: resources{cluster("1.34.3", ours, served), live}})

		if test.want == "" {
			if !plan.Empty() {
				t.Errorf("%s: %s", name, plan.Summary())
			}

			continue
		}

		if len(plan.Changes) != 1 || !strings.HasPrefix(plan.Changes[0].Line(), test.want) {
			t.Fatalf("%s: %s", name, plan.Changes[0].Line())
		}

		data, err := plan.Changes[0].New.(*omni.ConfigPatch).TypedSpec().Value.GetUncompressedData()
		if err != nil || string(data.Data()) != inOmni {
			t.Errorf("%s: its text is written too: %q, %v", name, data.Data(), err)
		}
	}

	live := patch("400-one", "machine:\n  env:\n    A: \"n\"\n    B: y\n", ours, served)
	if plan := diff.Compute(diff.Input{Source: self, Target: "one", Desired: desired, Live: resources{cluster("1.34.3", ours, served), live}}); len(plan.Changes) != 1 {
		t.Errorf("another value is no change: %s", plan.Summary())
	}
}
