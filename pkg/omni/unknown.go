package omni

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A newer Omni stores fields that this build does not know. They come with what is read, as bytes, and an update that
// leaves them out wipes them (G14). So they are put into what is written, at the place that they were at.

// UnknownFields is what became of the fields of a live spec that this build does not know.
type UnknownFields struct {
	// Kept is how many stay, and Gone how many go with a message that is removed.
	Kept, Gone int
	// Ambiguous is the list in which nobody can tell whose they are; "" if there is none. Then nothing may be written.
	Ambiguous string
}

// inexpressible are the fields that the protobufs of this build know and upstream's models do not, so that a rendered template
// says nothing of them. They are kept like those that this build does not know. From omni/client v1.9.3, pkg/template/internal/models/cluster.go.
var inexpressible = map[protoreflect.FullName][]protoreflect.Name{
	"specs.ClusterSpec.Features": {"enable_node_audit_skip"},
}

// eachInexpressible calls do for those of them that a message has.
func eachInexpressible(m protoreflect.Message, do func(protoreflect.FieldDescriptor)) {
	for _, name := range inexpressible[m.Descriptor().FullName()] {
		if field := m.Descriptor().Fields().ByName(name); field != nil && m.Has(field) {
			do(field)
		}
	}
}

// KeepUnknown returns desired with the fields of live that this build does not know: desired itself if there are none, and
// else a copy. They go only with a message that desired no longer has. The flags are the template's: desired has them as
// they should be.
func KeepUnknown(live, desired resource.Resource, flags ...Flag) (resource.Resource, UnknownFields) {
	from, ok := messageOf(live)
	if !ok || !hasUnknown(from.ProtoReflect()) {
		return desired, UnknownFields{}
	}

	next := desired.DeepCopy()

	to, ok := messageOf(next)
	if !ok || to.ProtoReflect().Descriptor() != from.ProtoReflect().Descriptor() {
		return desired, UnknownFields{Gone: countUnknown(from.ProtoReflect(), nil)}
	}

	k := keeper{flags: flags}
	k.keep(from.ProtoReflect(), to.ProtoReflect())

	return next, k.fields
}

func messageOf(r resource.Resource) (proto.Message, bool) {
	holder, ok := r.Spec().(interface{ GetValue() proto.Message })
	if !ok || holder.GetValue() == nil {
		return nil, false
	}

	return holder.GetValue(), holder.GetValue().ProtoReflect().IsValid()
}

// keeper puts unknown fields where they belong.
type keeper struct {
	flags  []Flag // are not kept
	fields UnknownFields
}

// keep puts those of one message, and of those in it, into another one.
func (k *keeper) keep(from, to protoreflect.Message) {
	if unknown := from.GetUnknown(); len(unknown) > 0 {
		k.fields.Kept += count(ours(k.flags, from, unknown, false))

		to.SetUnknown(k.merge(from, unknown, to.GetUnknown()))
	}

	eachInexpressible(from, func(field protoreflect.FieldDescriptor) {
		if !to.Has(field) && !slices.Contains(k.flags, Flag{from.Descriptor().FullName(), field.Number()}) {
			to.Set(field, from.Get(field))

			k.fields.Kept++
		}
	})

	from.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
			if field.MapValue().Message() != nil {
				k.keepMap(value.Map(), to.Mutable(field).Map())
			}
		case field.Message() == nil:
		case field.IsList():
			if hasUnknownIn(value.List()) {
				k.keepList(field, value.List(), to.Mutable(field).List())
			}
		case to.Has(field):
			k.keep(value.Message(), to.Mutable(field).Message())
		case isEmpty(value.Message()):
			// There is nothing in it that a template could have removed.
			if hasUnknown(value.Message()) {
				k.keep(value.Message(), to.Mutable(field).Message())
			}
		default:
			k.fields.Gone += countUnknown(value.Message(), nil)
		}

		return true
	})
}

// merge returns the raw fields of a message as they should be: those of live, but for the flags, which are as desired. Each stays
// where it was, so that equal ones are equal bytes.
func (k *keeper) merge(m protoreflect.Message, live, desired protoreflect.RawFields) protoreflect.RawFields {
	if len(k.flags) == 0 {
		return append(protoreflect.RawFields(nil), live...)
	}

	var (
		merged protoreflect.RawFields
		placed []protoreflect.FieldNumber
	)

	place := func(number protoreflect.FieldNumber) {
		if slices.Contains(placed, number) {
			return
		}

		placed = append(placed, number)
		merged = append(merged, ours([]Flag{{m.Descriptor().FullName(), number}}, m, desired, true)...)
	}

	eachField(live, func(number protoreflect.FieldNumber, field []byte) {
		if slices.Contains(k.flags, Flag{m.Descriptor().FullName(), number}) {
			place(number)
		} else {
			merged = append(merged, field...)
		}
	})

	eachField(desired, func(number protoreflect.FieldNumber, _ []byte) { place(number) })

	return merged
}

// ours returns those of the raw fields of a message that are flags of the template, or the others.
func ours(flags []Flag, m protoreflect.Message, raw protoreflect.RawFields, want bool) protoreflect.RawFields {
	var some protoreflect.RawFields

	eachField(raw, func(number protoreflect.FieldNumber, field []byte) {
		if slices.Contains(flags, Flag{m.Descriptor().FullName(), number}) == want {
			some = append(some, field...)
		}
	})

	return some
}

func (k *keeper) keepMap(from, to protoreflect.Map) {
	from.Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
		if to.Has(key) {
			k.keep(value.Message(), to.Mutable(key).Message())
		} else {
			k.fields.Gone += countUnknown(value.Message(), nil)
		}

		return true
	})
}

// keyFields are the names of the fields by which elements of a list are known.
var keyFields = []protoreflect.Name{"id", "name", "key"}

// keepList matches elements by their key, else by what this build knows of them. Two that cannot be told apart, one of which
// has what nobody knows, are not touched. An element that has no match was removed, or changed in what it is.
func (k *keeper) keepList(field protoreflect.FieldDescriptor, from, to protoreflect.List) {
	used := make([]bool, to.Len())

	for i := range from.Len() {
		element := from.Get(i).Message()
		if !hasUnknown(element) {
			continue
		}

		match, matches, twins := -1, 0, 0

		for j := range to.Len() {
			if sameElement(element, to.Get(j).Message()) {
				matches++

				if !used[j] {
					match = j
				}
			}
		}

		for j := range from.Len() {
			if j != i && sameElement(element, from.Get(j).Message()) {
				twins++
			}
		}

		switch {
		case matches > 1 || matches == 1 && twins > 0:
			k.fields.Ambiguous = string(field.FullName())
		case matches == 0 && keyOf(element) == nil && to.Len() > 0:
			// It has no key, and what is known of it changed: it may be any of those that are there.
			k.fields.Ambiguous = string(field.FullName())
		case matches == 0:
			k.fields.Gone += countUnknown(element, nil)
		default:
			used[match] = true
			k.keep(element, to.Get(match).Message())
		}
	}
}

func sameElement(a, b protoreflect.Message) bool {
	if key := keyOf(a); key != nil {
		return a.Get(key).Equal(b.Get(key))
	}

	return equalKnown(a, b)
}

// keyOf returns the field by which an element is known among others; nil if there is none.
func keyOf(m protoreflect.Message) protoreflect.FieldDescriptor {
	for _, name := range keyFields {
		if field := m.Descriptor().Fields().ByName(name); field != nil && field.Message() == nil && !field.IsList() && m.Has(field) {
			return field
		}
	}

	return nil
}

// equalKnown reports whether two messages are equal in all that this build knows.
func equalKnown(a, b protoreflect.Message) bool { return proto.Equal(known(a), known(b)) }

// known is a copy of a message without the fields that this build does not know.
func known(m protoreflect.Message) proto.Message {
	plain := proto.Clone(m.Interface())
	dropUnknown(plain.ProtoReflect())

	return plain
}

func dropUnknown(m protoreflect.Message) {
	if len(m.GetUnknown()) > 0 {
		m.SetUnknown(nil)
	}

	eachMessage(m, func(inner protoreflect.Message) bool {
		dropUnknown(inner)

		return true
	})
}

// isEmpty reports whether this build knows nothing of what is in a message.
func isEmpty(m protoreflect.Message) bool { return proto.Size(known(m)) == 0 }

func hasUnknown(m protoreflect.Message) bool { return countUnknown(m, nil) > 0 }

func hasUnknownIn(list protoreflect.List) bool {
	for i := range list.Len() {
		if hasUnknown(list.Get(i).Message()) {
			return true
		}
	}

	return false
}

// countUnknown counts the fields that this build does not know, at all levels, without some flags.
func countUnknown(m protoreflect.Message, flags []Flag) int {
	raw := m.GetUnknown()
	if len(flags) > 0 {
		raw = ours(flags, m, raw, false)
	}

	n := count(raw)
	eachInexpressible(m, func(field protoreflect.FieldDescriptor) {
		if !slices.Contains(flags, Flag{m.Descriptor().FullName(), field.Number()}) {
			n++
		}
	})

	eachMessage(m, func(inner protoreflect.Message) bool {
		n += countUnknown(inner, flags)

		return true
	})

	return n
}

// eachMessage calls do for every message directly in another one, until it returns false.
func eachMessage(m protoreflect.Message, do func(protoreflect.Message) bool) {
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		more := true

		switch {
		case field.IsMap() && field.MapValue().Message() != nil:
			value.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				more = do(v.Message())

				return more
			})
		case field.IsMap() || field.Message() == nil:
		case field.IsList():
			for i := 0; i < value.List().Len() && more; i++ {
				more = do(value.List().Get(i).Message())
			}
		default:
			more = do(value.Message())
		}

		return more
	})
}

// count returns how many different fields raw bytes hold.
func count(raw protoreflect.RawFields) int {
	seen := map[protowire.Number]bool{}

	for len(raw) > 0 {
		number, _, n := protowire.ConsumeField(raw)
		if n < 0 {
			return len(seen) + 1 // what cannot be read is something all the same
		}

		seen[number] = true
		raw = raw[n:]
	}

	return len(seen)
}

// String says it to people; "" if there are none.
func (u UnknownFields) String() string {
	var parts []string

	for _, part := range []struct {
		n            int
		one, several string
	}{{u.Kept, "is kept", "are kept"}, {u.Gone, "goes with what holds it", "go with what holds them"}} {
		switch part.n {
		case 0:
		case 1:
			parts = append(parts, "1 field that this version does not know "+part.one)
		default:
			parts = append(parts, fmt.Sprintf("%d fields that this version does not know %s", part.n, part.several))
		}
	}

	return strings.Join(parts, ", and ")
}
