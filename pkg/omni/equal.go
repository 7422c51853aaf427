package omni

import (
	"bytes"
	"reflect"
	"sync"

	"github.com/cosi-project/runtime/pkg/resource"
	cosiproto "github.com/cosi-project/runtime/pkg/resource/protobuf"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/compression"
	"google.golang.org/protobuf/proto"
)

// EqualSpec reports whether two resources have the same spec once it is decoded: data that one of them stores
// compressed and the other does not is equal. Metadata is not looked at.
func EqualSpec(a, b resource.Resource) bool {
	specA, specB := a.Spec(), b.Spec()

	comparable, ok := specA.(interface{ Equal(any) bool })
	if !ok {
		return reflect.DeepEqual(specA, specB)
	}

	if comparable.Equal(specB) {
		return true
	}

	plainA, okA := decoded(specA)
	plainB, okB := decoded(specB)

	return okA && okB && plainA.ProtoReflect().Descriptor() == plainB.ProtoReflect().Descriptor() &&
		cosiproto.ProtoEqual(plainA, plainB)
}

// decoded is a copy of a spec with its compressed data unpacked. It is false for a spec that cannot hold compressed
// data, and for data that cannot be unpacked: such a spec equals only its own bytes.
func decoded(spec any) (proto.Message, bool) {
	holder, ok := spec.(interface{ GetValue() proto.Message })
	if !ok {
		return nil, false
	}

	message := holder.GetValue()
	if !compressible(message) {
		return nil, false
	}

	message = proto.Clone(message)

	return message, decode(message) == nil
}

func compressible(message proto.Message) bool {
	switch message.(type) {
	case specs.FieldCompressor[specs.Buffer, []byte], specs.FieldCompressor[[]specs.Buffer, [][]byte]:
		return true
	default:
		return false
	}
}

// decode unpacks in place.
func decode(message proto.Message) error {
	plain := specs.WithConfigCompressionOption(uncompressed())

	switch m := message.(type) {
	case specs.FieldCompressor[specs.Buffer, []byte]:
		buffer, err := m.GetUncompressedData(plain)
		if err != nil {
			return err
		}

		defer buffer.Free()

		return m.SetUncompressedData(bytes.Clone(buffer.Data()), plain)
	case specs.FieldCompressor[[]specs.Buffer, [][]byte]:
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
	}

	return nil
}

// uncompressed reads compressed data with Omni's dictionary and stores it plain, whatever the process-wide switch of
// the client library says.
var uncompressed = sync.OnceValue(func() specs.CompressionConfig {
	config, err := compression.BuildConfig(false, true, false)
	if err != nil {
		panic("the dictionary of Omni's client library does not load: " + err.Error())
	}

	return config
})
