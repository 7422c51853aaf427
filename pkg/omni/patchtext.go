package omni

import (
	"bytes"
	"errors"
	"io"

	"go.yaml.in/yaml/v4"
)

// samePatch reports whether two patches of Talos's configuration mean the same: they hold the same documents, one after the
// other, however those are quoted, indented, ordered inside or commented. Two versions of omnictl write one patch in two
// ways, and nothing should be written to a machine for that.
//
// It compares what stands there and not what Go makes of it: 1.10 and 1.1 are one number and two versions. In doubt
// (a text that does not parse, a key given twice, a key that is no scalar) they differ. It reads with the library that
// Talos reads with: github.com/siderolabs/talos/pkg/machinery v1.14, config/configloader/internal/decoder.
func samePatch(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}

	docsA, errA := documents(a)
	docsB, errB := documents(b)

	if errA != nil || errB != nil || len(docsA) != len(docsB) {
		return false
	}

	budget := maxCompared

	for i := range docsA {
		if !sameNode(docsA[i], docsB[i], &budget) {
			return false
		}
	}

	return true
}

// maxCompared bounds the nodes that samePatch looks at, because aliases can make a few lines mean billions of them.
const maxCompared = 100_000

// documents parses a text; a document that holds nothing is none.
func documents(text []byte) ([]*yaml.Node, error) {
	var docs []*yaml.Node

	for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var doc yaml.Node

		switch err := decoder.Decode(&doc); {
		case errors.Is(err, io.EOF):
			return docs, nil
		case err != nil:
			return nil, err
		}

		if len(doc.Content) == 1 && doc.Content[0].ShortTag() != "!!null" {
			docs = append(docs, doc.Content[0])
		}
	}
}

func sameNode(a, b *yaml.Node, budget *int) bool {
	if *budget--; *budget < 0 {
		return false
	}

	for a.Kind == yaml.AliasNode {
		a = a.Alias
	}

	for b.Kind == yaml.AliasNode {
		b = b.Alias
	}

	if a.Kind != b.Kind || a.ShortTag() != b.ShortTag() || len(a.Content) != len(b.Content) {
		return false
	}

	switch a.Kind { //nolint:exhaustive // a document is taken apart by documents, an alias above
	case yaml.ScalarNode:
		return a.Value == b.Value || a.ShortTag() == "!!null"
	case yaml.SequenceNode:
		for i := range a.Content {
			if !sameNode(a.Content[i], b.Content[i], budget) {
				return false
			}
		}

		return true
	case yaml.MappingNode:
		return sameMapping(a, b, budget)
	default:
		return false
	}
}

func sameMapping(a, b *yaml.Node, budget *int) bool {
	values, unique := byKey(b)
	if _, uniqueA := byKey(a); !unique || !uniqueA {
		return false
	}

	for i := 0; i < len(a.Content); i += 2 {
		value, ok := values[scalarOf(a.Content[i])]
		if !ok || !sameNode(a.Content[i+1], value, budget) {
			return false
		}
	}

	return true
}

// scalar is what a scalar key stands for.
type scalar struct{ tag, value string }

func scalarOf(n *yaml.Node) scalar { return scalar{n.ShortTag(), n.Value} }

// byKey returns the values of a mapping. It is false if a key is there twice or is no scalar.
func byKey(mapping *yaml.Node) (map[scalar]*yaml.Node, bool) {
	values := make(map[scalar]*yaml.Node, len(mapping.Content)/2)

	for i := 0; i+1 < len(mapping.Content); i += 2 {
		k := mapping.Content[i]
		if _, twice := values[scalarOf(k)]; twice || k.Kind != yaml.ScalarNode {
			return nil, false
		}

		values[scalarOf(k)] = mapping.Content[i+1]
	}

	return values, true
}
