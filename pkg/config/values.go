package config

import (
	"errors"
	"fmt"

	"gopkg.in/yaml.v3"
)

// checkValues refuses keys without a value. Decoded they would be like keys that are not
// there, and that means another thing: `clusters:` would be all clusters, and
// `kubernetes:` nothing at all.
func checkValues(data []byte) error {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return err
	}

	var (
		problems []error
		walk     func(*yaml.Node)
	)

	walk = func(node *yaml.Node) {
		if node.Kind == yaml.MappingNode {
			for i := 0; i+1 < len(node.Content); i += 2 {
				if key, value := node.Content[i], node.Content[i+1]; value.Kind == yaml.ScalarNode && value.ShortTag() == "!!null" {
					problems = append(problems, fmt.Errorf("line %d: %s has no value; give it one, `{}` for the defaults, or leave it out", key.Line, key.Value))
				}
			}
		}

		for _, child := range node.Content {
			walk(child)
		}
	}

	walk(&document)

	return errors.Join(problems...)
}
