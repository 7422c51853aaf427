package render

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"go.yaml.in/yaml/v4"

	"github.com/omni-syncd/omni-syncd/pkg/template/schema"
)

// WriteYAML writes resources as a multi-document YAML stream, each exactly as omnictl prints it (`omnictl cluster
// template render`, `omnictl get -o yaml`). The timestamps of a resource that was never in Omni are those of its
// rendering.
func WriteYAML(w io.Writer, resources []resource.Resource) error {
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)

	for _, r := range resources {
		whole, err := resource.MarshalYAML(r)
		if err != nil {
			return fmt.Errorf("marshaling %s: %w", resource.String(r), err)
		}

		if whole, err = WithNewer(r, whole, "spec"); err != nil {
			return err
		}

		if err := encoder.Encode(whole); err != nil {
			return fmt.Errorf("writing %s: %w", resource.String(r), err)
		}
	}

	return encoder.Close()
}

// WithNewer adds to what a resource is written as in YAML what this build's protobufs have no name for and a template can say, as
// a newer client writes it. spec are the keys that lead to the spec. Of anything else it returns what it got.
func WithNewer(r resource.Resource, whole any, spec ...string) (any, error) {
	var node *yaml.Node

	for _, n := range schema.Switches() {
		flag := FlagOf(n)
		if flag.Known() || r.Metadata().Type() != omni.ClusterType || !flag.Get(r) {
			continue
		}

		if node == nil {
			node = &yaml.Node{}
			if err := node.Encode(whole); err != nil {
				return nil, fmt.Errorf("marshaling %s: %w", resource.String(r), err)
			}

			whole = node
		}

		at := node
		for _, key := range append(slices.Clone(spec), n.In) {
			at = under(at, key)
		}

		if at != nil {
			at.Content = append(at.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: strings.ToLower(n.Key)}, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"})
		}
	}

	return whole, nil
}

// under returns the value of a key; nil if there is none.
func under(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}

	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}

	return nil
}
