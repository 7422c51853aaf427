package omni_test

import (
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
)

// newer gives a message fields of a newer Omni.
func newer(m proto.Message, numbers ...protowire.Number) {
	raw := m.ProtoReflect().GetUnknown()
	for _, n := range numbers {
		raw = protowire.AppendVarint(protowire.AppendTag(raw, n, protowire.VarintType), 1)
	}

	m.ProtoReflect().SetUnknown(raw)
}

func clusterWith(change func(*specs.ClusterSpec)) resource.Resource {
	r := omni.NewCluster("a")
	r.TypedSpec().Value.TalosVersion = "1.12.0"
	r.TypedSpec().Value.Features = &specs.ClusterSpec_Features{}
	change(r.TypedSpec().Value)

	return r
}

func classWith(change func(*specs.MachineClassSpec)) resource.Resource {
	r := omni.NewMachineClass("a")
	change(r.TypedSpec().Value)

	return r
}

func metaValues(values ...string) []*specs.MetaValue {
	var all []*specs.MetaValue
	for i, value := range values {
		all = append(all, &specs.MetaValue{Key: uint32(i + 10), Value: value})
	}

	return all
}

func provision(values ...string) *specs.MachineClassSpec_Provision {
	return &specs.MachineClassSpec_Provision{ProviderId: "p", MetaValues: metaValues(values...)}
}

// keyless has elements without the field that tells them apart.
func keyless(values ...string) *specs.MachineClassSpec_Provision {
	p := provision(values...)
	for _, value := range p.MetaValues {
		value.Key = 0
	}

	return p
}

// G14: every update wiped what a newer Omni stores and this build does not know.
func TestKeepUnknown(t *testing.T) {
	for name, test := range map[string]struct {
		live, desired, want resource.Resource
		fields              livestate.UnknownFields
		says                string
	}{
		"nothing": {
			live:    clusterWith(func(c *specs.ClusterSpec) { c.TalosVersion = "1.11.0" }),
			desired: clusterWith(func(*specs.ClusterSpec) {}), want: clusterWith(func(*specs.ClusterSpec) {}),
		},
		"of the spec and in it": {
			live:    clusterWith(func(c *specs.ClusterSpec) { newer(c, 99); newer(c.Features, 5, 6, 5) }),
			desired: clusterWith(func(c *specs.ClusterSpec) { c.Features.DiskEncryption = true }),
			want: clusterWith(func(c *specs.ClusterSpec) {
				newer(c, 99)
				newer(c.Features, 5, 6, 5)
				c.Features.DiskEncryption = true
			}),
			fields: livestate.UnknownFields{Kept: 3}, says: "3 fields that this version does not know are kept",
		},
		"in a message that is not desired, with nothing else in it": {
			live:    clusterWith(func(c *specs.ClusterSpec) { newer(c.Features, 5) }),
			desired: clusterWith(func(c *specs.ClusterSpec) { c.Features = nil }),
			want:    clusterWith(func(c *specs.ClusterSpec) { newer(c.Features, 5) }),
			fields:  livestate.UnknownFields{Kept: 1}, says: "1 field that this version does not know is kept",
		},
		"in a message that the template removes": {
			live: clusterWith(func(c *specs.ClusterSpec) {
				c.BackupConfiguration = &specs.EtcdBackupConf{Enabled: true, Interval: durationpb.New(1)}
				newer(c.BackupConfiguration, 9)
			}),
			desired: clusterWith(func(*specs.ClusterSpec) {}), want: clusterWith(func(*specs.ClusterSpec) {}),
			fields: livestate.UnknownFields{Gone: 1}, says: "1 field that this version does not know goes with what holds it",
		},
		"known, and not to be said in a template": {
			live:    clusterWith(func(c *specs.ClusterSpec) { c.Features.EnableNodeAuditSkip = true }),
			desired: clusterWith(func(*specs.ClusterSpec) {}),
			want:    clusterWith(func(c *specs.ClusterSpec) { c.Features.EnableNodeAuditSkip = true }),
			fields:  livestate.UnknownFields{Kept: 1}, says: "1 field that this version does not know is kept",
		},
		"in an element that stays, wherever it is": {
			live: classWith(func(c *specs.MachineClassSpec) {
				c.AutoProvision = provision("x", "y")
				newer(c.AutoProvision.MetaValues[1], 9)
			}),
			desired: classWith(func(c *specs.MachineClassSpec) { c.AutoProvision = provision("z", "y") }),
			want: classWith(func(c *specs.MachineClassSpec) {
				c.AutoProvision = provision("z", "y")
				newer(c.AutoProvision.MetaValues[1], 9)
			}),
			fields: livestate.UnknownFields{Kept: 1}, says: "1 field that this version does not know is kept",
		},
		"in an element that changed": {
			live: classWith(func(c *specs.MachineClassSpec) {
				c.AutoProvision = provision("x")
				newer(c.AutoProvision.MetaValues[0], 9)
			}),
			desired: classWith(func(c *specs.MachineClassSpec) { c.AutoProvision = provision("z") }),
			want: classWith(func(c *specs.MachineClassSpec) {
				c.AutoProvision = provision("z")
				newer(c.AutoProvision.MetaValues[0], 9)
			}),
			fields: livestate.UnknownFields{Kept: 1}, says: "1 field that this version does not know is kept",
		},
		"in an element that has no key, and changed": {
			live: classWith(func(c *specs.MachineClassSpec) {
				c.AutoProvision = keyless("x")
				newer(c.AutoProvision.MetaValues[0], 9)
			}),
			desired: classWith(func(c *specs.MachineClassSpec) { c.AutoProvision = keyless("z") }),
			fields:  livestate.UnknownFields{Ambiguous: "specs.MachineClassSpec.Provision.meta_values"},
		},
		"in one of two that are equal": {
			live: classWith(func(c *specs.MachineClassSpec) {
				c.AutoProvision = keyless("x", "x")
				newer(c.AutoProvision.MetaValues[0], 9)
			}),
			desired: classWith(func(c *specs.MachineClassSpec) { c.AutoProvision = keyless("x") }),
			fields:  livestate.UnknownFields{Ambiguous: "specs.MachineClassSpec.Provision.meta_values"},
		},
		"in a list that is gone": {
			live: classWith(func(c *specs.MachineClassSpec) {
				c.AutoProvision = provision("x")
				newer(c.AutoProvision.MetaValues[0], 9)
			}),
			desired: classWith(func(c *specs.MachineClassSpec) { c.AutoProvision = provision() }),
			want:    classWith(func(c *specs.MachineClassSpec) { c.AutoProvision = provision() }),
			fields:  livestate.UnknownFields{Gone: 1}, says: "1 field that this version does not know goes with what holds it",
		},
	} {
		before := test.desired.DeepCopy()
		got, fields := livestate.KeepUnknown(test.live, test.desired)

		if fields != test.fields || fields.Ambiguous == "" && fields.String() != test.says {
			t.Errorf("%s: %+v, %q", name, fields, fields)
		}

		if fields.Ambiguous == "" && !livestate.EqualSpec(got, test.want) {
			t.Errorf("%s: %+v, want %+v", name, got.Spec(), test.want.Spec())
		}

		if !livestate.EqualSpec(before, test.desired) {
			t.Errorf("%s: what is desired was changed in place", name)
		}
	}
}

// Fields that only the protobuf knows are in a table, and that is whole: a template that says all that it can leaves no
// other field unset. A new release of Omni's client that adds one fails here.
func TestInexpressible(t *testing.T) {
	// What the template of 1.9.3 sets, from pkg/template/internal/models.
	set := map[protoreflect.Name]bool{"enable_workload_proxy": true, "disk_encryption": true, "use_embedded_discovery_service": true}
	fields := (&specs.ClusterSpec_Features{}).ProtoReflect().Descriptor().Fields()

	for i := range fields.Len() {
		name := fields.Get(i).Name()
		live := clusterWith(func(c *specs.ClusterSpec) {
			m := c.Features.ProtoReflect()
			m.Set(m.Descriptor().Fields().ByName(name), protoreflect.ValueOfBool(true))
		})

		if _, kept := livestate.KeepUnknown(live, clusterWith(func(*specs.ClusterSpec) {})); (kept.Kept == 1) == set[name] {
			t.Errorf("%s: %+v", name, kept)
		}
	}
}
