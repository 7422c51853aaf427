package render

import (
	"fmt"
	"io"

	"github.com/cosi-project/runtime/pkg/resource"
	"go.yaml.in/yaml/v4"
)

// WriteYAML writes resources as a multi-document YAML stream, each exactly as omnictl prints it (`omnictl cluster
// template render`, `omnictl get -o yaml`). The timestamps of a resource that was never in Omni are those of its
// rendering.
func WriteYAML(w io.Writer, resources []resource.Resource) error {
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)

	for _, r := range resources {
		node, err := resource.MarshalYAML(r)
		if err != nil {
			return fmt.Errorf("marshaling %s: %w", resource.String(r), err)
		}

		if err := encoder.Encode(node); err != nil {
			return fmt.Errorf("writing %s: %w", resource.String(r), err)
		}
	}

	return encoder.Close()
}
