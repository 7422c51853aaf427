package omni

import (
	"github.com/cosi-project/runtime/pkg/resource"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Flag is a boolean field of a message in a spec, whether this build's protobufs have it or not.
type Flag struct {
	Message protoreflect.FullName
	Number  protoreflect.FieldNumber
}

// Known reports whether this build's protobufs have the field.
func (f Flag) Known() bool {
	found, err := protoregistry.GlobalTypes.FindMessageByName(f.Message)

	return err == nil && found.Descriptor().Fields().ByNumber(f.Number) != nil
}

// Get reports whether a resource has it set to true.
func (f Flag) Get(r resource.Resource) bool {
	m, ok := messageOf(r)

	return ok && f.in(m.ProtoReflect())
}

// in looks at a message and at those in it.
func (f Flag) in(m protoreflect.Message) bool {
	if m.Descriptor().FullName() == f.Message {
		if field := m.Descriptor().Fields().ByNumber(f.Number); field != nil {
			return field.Kind() == protoreflect.BoolKind && m.Get(field).Bool()
		}

		on := false

		eachField(m.GetUnknown(), func(number protoreflect.FieldNumber, raw []byte) {
			if number == f.Number {
				on = isTrue(raw) // of several the last one counts
			}
		})

		return on
	}

	found := false

	eachMessage(m, func(inner protoreflect.Message) bool {
		found = f.in(inner)

		return !found
	})

	return found
}

// Set sets it to true in a spec that holds its message, and reports whether it does.
func (f Flag) Set(r resource.Resource) bool {
	m, ok := messageOf(r)

	return ok && f.setIn(m.ProtoReflect())
}

func (f Flag) setIn(m protoreflect.Message) bool {
	if m.Descriptor().FullName() == f.Message {
		if field := m.Descriptor().Fields().ByNumber(f.Number); field != nil {
			m.Set(field, protoreflect.ValueOfBool(true))
		} else {
			m.SetUnknown(protowire.AppendVarint(protowire.AppendTag(m.GetUnknown(), f.Number, protowire.VarintType), protowire.EncodeBool(true)))
		}

		return true
	}

	found := false

	eachMessage(m, func(inner protoreflect.Message) bool {
		found = f.setIn(inner)

		return !found
	})

	return found
}

// isTrue reports whether a raw field is a varint other than 0.
func isTrue(raw []byte) bool {
	_, typ, n := protowire.ConsumeTag(raw)
	if n < 0 || typ != protowire.VarintType {
		return false
	}

	value, n := protowire.ConsumeVarint(raw[n:])

	return n > 0 && value != 0
}

// eachField calls do for every field in raw bytes, with its tag. What cannot be read is left out.
func eachField(raw protoreflect.RawFields, do func(number protoreflect.FieldNumber, raw []byte)) {
	for len(raw) > 0 {
		number, _, n := protowire.ConsumeField(raw)
		if n < 0 {
			return
		}

		do(number, raw[:n])
		raw = raw[n:]
	}
}

// Known returns a message without the fields that this build does not know, and how many those are: the message itself if
// there are none, and else a copy. The flags do not count.
func Known(m proto.Message, flags ...Flag) (proto.Message, int) {
	if !hasUnknown(m.ProtoReflect()) {
		return m, 0
	}

	return known(m.ProtoReflect()), countUnknown(m.ProtoReflect(), flags)
}
