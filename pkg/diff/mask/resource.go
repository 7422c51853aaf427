package mask

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
)

// masker masks one side of a comparison.
type masker struct {
	*markers

	side     side
	declared []glob
	all      bool // every value of a document is secret
}

// resource returns a copy of r with markers in the place of secrets.
func (m *masker) resource(r resource.Resource) (resource.Resource, error) {
	if r == nil {
		return nil, nil //nolint:nilnil // a version that does not exist
	}

	masked := r.DeepCopy()

	m.pairs([]string{"metadata", "labels"}, r.Metadata().Labels().Raw(), masked.Metadata().Labels().Set)
	m.pairs([]string{"metadata", "annotations"}, r.Metadata().Annotations().Raw(), masked.Metadata().Annotations().Set)

	holder, ok := masked.Spec().(interface{ GetValue() proto.Message })
	if !ok {
		// Nothing that omni-syncd writes is like that. What it holds is unknown, so it is not shown.
		raw := fmt.Sprintf("%+v", r.Spec())

		return opaque{masked.Metadata(), m.marker(m.side, secret{raw: raw, value: raw, unreadable: true}, "spec")}, nil
	}

	payload, err := omni.Payload(r)
	if err != nil {
		return nil, err
	}

	spec := holder.GetValue().ProtoReflect()

	if payload == nil {
		m.message(spec, []string{"spec"})

		return masked, nil
	}

	fields := spec.Descriptor().Fields()
	spec.Clear(fields.ByName("compressed_data"))

	if len(payload) > 0 {
		text := m.payload(string(payload), []string{"spec", "data"})

		if data := fields.ByName("data"); data.Kind() == protoreflect.BytesKind {
			spec.Set(data, protoreflect.ValueOfBytes([]byte(text)))
		} else {
			spec.Set(data, protoreflect.ValueOfString(text))
		}
	}

	return masked, nil
}

// metadata returns the masked metadata of r, without a spec.
func (m *masker) metadata(r resource.Resource) (resource.Resource, error) {
	if r == nil {
		return nil, nil //nolint:nilnil // a version that does not exist
	}

	md := r.Metadata().Copy()

	m.pairs([]string{"metadata", "labels"}, r.Metadata().Labels().Raw(), md.Labels().Set)
	m.pairs([]string{"metadata", "annotations"}, r.Metadata().Annotations().Raw(), md.Annotations().Set)

	return opaque{md: &md}, nil
}

// opaque is a resource whose spec cannot be looked into.
type opaque struct {
	md     *resource.Metadata
	marker string
}

func (o opaque) Metadata() *resource.Metadata { return o.md }
func (o opaque) Spec() any                    { return o.marker }
func (o opaque) DeepCopy() resource.Resource  { return o }

func (m *masker) pairs(path []string, pairs map[string]string, set func(key, value string)) {
	for key, value := range pairs {
		if masked := m.field(append(slices.Clone(path), key), value); masked != value {
			set(key, masked)
		}
	}
}

// message masks the strings of a message in place.
func (m *masker) message(message protoreflect.Message, path []string) {
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		at := append(slices.Clone(path), string(field.Name()))

		switch {
		case field.IsMap():
			value.Map().Range(func(key protoreflect.MapKey, element protoreflect.Value) bool {
				if masked, ok := m.value(field.MapValue(), element, append(slices.Clone(at), key.String())); ok {
					value.Map().Set(key, masked)
				}

				return true
			})
		case field.IsList():
			for i := range value.List().Len() {
				if masked, ok := m.value(field, value.List().Get(i), append(slices.Clone(at), index)); ok {
					value.List().Set(i, masked)
				}
			}
		default:
			if masked, ok := m.value(field, value, at); ok {
				message.Set(field, masked)
			}
		}

		return true
	})
}

// value masks a single value; it reports whether there is a new one to be set.
func (m *masker) value(field protoreflect.FieldDescriptor, value protoreflect.Value, path []string) (protoreflect.Value, bool) {
	switch field.Kind() {
	case protoreflect.MessageKind:
		m.message(value.Message(), path)
	case protoreflect.StringKind:
		masked := m.field(path, value.String())

		return protoreflect.ValueOfString(masked), masked != value.String()
	case protoreflect.BytesKind:
		// Omni has no bytes but a compressed payload. If it gets some, they are not shown.
		return protoreflect.ValueOfBytes([]byte(m.whole(string(value.Bytes()), path))), len(value.Bytes()) > 0
	default:
	}

	return value, false
}

// field masks a string field of a resource.
func (m *masker) field(path []string, value string) string {
	switch {
	case value == "":
		return value
	case isPayload(path):
		return m.payload(value, path)
	case m.declaredSecret(path) || sensitive(path[len(path)-1]) && !isBool(value) && !sealed(value):
		return m.whole(value, path)
	default:
		return m.apply(value, m.inside(value, path, 0))
	}
}

// payload masks a text that is YAML or JSON by contract: what cannot be read is not shown at all.
func (m *masker) payload(text string, path []string) string {
	found, ok := m.document(text, nil, 0)
	if !ok {
		return m.marker(m.side, secret{raw: text, value: text, unreadable: true}, join(path))
	}

	return m.apply(text, found)
}

func (m *masker) whole(value string, path []string) string {
	return m.marker(m.side, secret{raw: value, value: value}, join(path))
}

func isBool(value string) bool { return value == "true" || value == "false" }

func join(path []string) string { return strings.Join(path, "\x00") }
