package omni

import (
	"bytes"
	"fmt"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"google.golang.org/protobuf/proto"
)

// Payload is the unpacked body of a resource that carries one, such as the patch of a ConfigPatch or the manifests of a
// KubernetesManifestGroup. It is nil for every other resource.
func Payload(r resource.Resource) ([]byte, error) {
	holder, ok := r.Spec().(interface{ GetValue() proto.Message })
	if !ok {
		return nil, nil
	}

	compressor, ok := holder.GetValue().(specs.FieldCompressor[specs.Buffer, []byte])
	if !ok {
		return nil, nil
	}

	text, err := textOf(compressor)
	if err != nil {
		return nil, fmt.Errorf("unpacking %s: %w", r.Metadata(), err)
	}

	return text, nil
}

func textOf(compressor specs.FieldCompressor[specs.Buffer, []byte]) ([]byte, error) {
	buffer, err := compressor.GetUncompressedData(specs.WithConfigCompressionOption(uncompressed()))
	if err != nil {
		return nil, err
	}

	defer buffer.Free()

	return bytes.Clone(buffer.Data()), nil
}
