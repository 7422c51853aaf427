package omni

import (
	"bytes"
	"reflect"

	"github.com/cosi-project/runtime/pkg/resource"
	cosiproto "github.com/cosi-project/runtime/pkg/resource/protobuf"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/compression"
	"google.golang.org/protobuf/proto"
)

// EqualSpec reports whether two resources have the same spec once it is decoded: data that one of them stores
// compressed and the other does not is equal, and so are patches that differ in their text only. Metadata is not looked at.
func EqualSpec(a, b resource.Resource) bool {
	specA, specB := a.Spec(), b.Spec()

	comparable, ok := specA.(interface{ Equal(any) bool })
	if !ok {
		return reflect.DeepEqual(specA, specB)
	}

	if comparable.Equal(specB) {
		return true
	}

	// Data that cannot be unpacked equals only its own bytes.
	plainA, okA := unpacked(specA)
	plainB, okB := unpacked(specB)

	if !okA || !okB || plainA.ProtoReflect().Descriptor() != plainB.ProtoReflect().Descriptor() {
		return false
	}

	return equalPatch(plainA, plainB) || cosiproto.ProtoEqual(plainA, plainB)
}

// equalPatch reports whether both are patches that mean the same, and nothing besides differs.
func equalPatch(a, b proto.Message) bool {
	patchA, okA := a.(*specs.ConfigPatchSpec)
	patchB, okB := b.(*specs.ConfigPatchSpec)

	if !okA || !okB {
		return false
	}

	textA, errA := textOf(patchA)
	textB, errB := textOf(patchB)

	if errA != nil || errB != nil || !samePatch(textA, textB) {
		return false
	}

	// Both are copies: what else they hold is compared with one text.
	return patchA.SetUncompressedData(textB, specs.WithConfigCompressionOption(uncompressed())) == nil && cosiproto.ProtoEqual(patchA, patchB)
}

// unpacked is a copy of a spec with its data stored plain. It is false for a spec that never holds compressed data, and
// for data that cannot be unpacked.
func unpacked(spec any) (proto.Message, bool) {
	holder, ok := spec.(interface{ GetValue() proto.Message })
	if !ok {
		return nil, false
	}

	switch holder.GetValue().(type) {
	case oneCompressed, manyCompressed:
	default:
		return nil, false // saves the copy
	}

	message := proto.Clone(holder.GetValue())

	return message, unpack(message) == nil
}

// How the client library's specs give access to data that may be compressed.
type (
	oneCompressed  = specs.FieldCompressor[specs.Buffer, []byte]
	manyCompressed = specs.FieldCompressor[[]specs.Buffer, [][]byte]
)

func unpack(message proto.Message) error {
	plain := specs.WithConfigCompressionOption(uncompressed())

	switch m := message.(type) {
	case oneCompressed:
		buffer, err := m.GetUncompressedData(plain)
		if err != nil {
			return err
		}

		defer buffer.Free()

		return m.SetUncompressedData(bytes.Clone(buffer.Data()), plain)
	case manyCompressed:
		buffers, err := m.GetUncompressedData(plain)
		if err != nil {
			return err
		}

		data := make([][]byte, len(buffers))

		for i := range buffers {
			data[i] = bytes.Clone(buffers[i].Data())
			buffers[i].Free()
		}

		return m.SetUncompressedData(data, plain)
	default:
		return nil
	}
}

// plainConfig reads compressed data with Omni's dictionary and stores it plain, whatever the process-wide switch of the
// client library says. It is made at the start, not when first needed: it holds channels, which must not belong to the
// bubble of whichever synctest test comes first.
var plainConfig = func() specs.CompressionConfig {
	config, err := compression.BuildConfig(false, true, false)
	if err != nil {
		panic("the dictionary of Omni's client library does not load: " + err.Error())
	}

	return config
}()

func uncompressed() specs.CompressionConfig { return plainConfig }
