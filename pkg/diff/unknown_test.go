package diff_test

import (
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
)

// withNewer is a field of a newer Omni, whose value is nobody's business.
func withNewer(r resource.Resource) {
	spec := r.(*omni.Cluster).TypedSpec().Value
	if spec.Features == nil {
		spec.Features = &specs.ClusterSpec_Features{}
	}

	spec.Features.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 5, protowire.BytesType), "s3cr3t"))
}

func features(r resource.Resource) {
	r.(*omni.Cluster).TypedSpec().Value.Features = &specs.ClusterSpec_Features{}
}

// G14, G4: a field of a newer Omni is no difference, and outlives every write; its bytes are shown to nobody.
func TestG14_FieldsOfANewerOmniAreKept(t *testing.T) {
	for name, test := range map[string]struct {
		live    resource.Resource
		removed bool
		want    string
	}{
		"nothing else differs": {cluster("1.34.3", ours, served, features, withNewer), false, ""},
		"drift": {cluster("1.33.0", ours, served, features, withNewer), false,
			"update Cluster one  spec.kubernetesversion: 1.33.0 → 1.34.3; 1 field that this version does not know is kept"},
		"adoption": {cluster("1.34.3", served, features, withNewer), false, "adopt Cluster one  adopted: it exists and is as Git says"},
		"a label":  {cluster("1.34.3", ours, served, features, withNewer, label("env", "prod")), false, `update Cluster one  metadata.labels[env]: -prod; 1 field`},
	} {
		plan := diff.Compute(diff.Input{Source: self, Target: "one", Desired: resources{cluster("1.34.3", features)}, Live: resources{test.live}})

		if test.want == "" {
			if !plan.Empty() {
				t.Errorf("%s: %s", name, plan.Summary())
			}

			continue
		}

		if len(plan.Changes) != 1 {
			t.Errorf("%s: %s", name, plan.Summary())

			continue
		}

		change := plan.Changes[0]
		if got := string(change.Action) + " " + change.Line(); !strings.HasPrefix(got, test.want) || strings.Contains(got, "s3cr3t") {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}

		want := cluster("1.34.3", features, withNewer)
		if !livestate.EqualSpec(change.New, want) {
			t.Errorf("%s: it is lost: %v", name, change.New.Spec())
		}
	}
}

// G14: nobody can tell to which element of a list a field belongs, so nothing is written.
func TestG14_AmbiguousIsAConflict(t *testing.T) {
	provision := func(value string, raw []byte) option {
		return func(r resource.Resource) {
			meta := &specs.MetaValue{Value: value}
			meta.ProtoReflect().SetUnknown(raw)
			r.(*omni.MachineClass).TypedSpec().Value.AutoProvision = &specs.MachineClassSpec_Provision{MetaValues: []*specs.MetaValue{meta}}
		}
	}

	live := class(fleetMark, served, provision("a", protowire.AppendVarint(protowire.AppendTag(nil, 9, protowire.VarintType), 1)))
	plan := diff.Compute(diff.Input{Source: self, Desired: resources{class(provision("b", nil))}, Live: resources{live}})

	if len(plan.Conflicts) != 1 || len(plan.Changes) != 0 || !strings.Contains(plan.Conflicts[0].Reason, "meta_values") {
		t.Errorf("%s", plan.Summary())
	}
}
