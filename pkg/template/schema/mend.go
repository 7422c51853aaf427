package schema

import (
	"reflect"

	"go.yaml.in/yaml/v4"
)

// Mend makes of a document with unknown keys the one that was probably meant, in place: a key that is nearly a known one
// gets its name, another is left out, and so is one that is set twice. It reports whether a key was left out.
//
// The result is never applied. It is there to find the other mistakes of a document that upstream's code refuses to
// decode because of the first one.
func Mend(doc *yaml.Node) (lost bool) {
	types, err := models()
	if err != nil || doc.Kind != yaml.MappingNode {
		return false
	}

	for i := 0; i+1 < len(doc.Content); i += 2 {
		if doc.Content[i].Value != "kind" {
			continue
		}

		if nearest, ok := Nearest(doc.Content[i+1].Value, kinds); ok {
			doc.Content[i+1].Value = nearest
		}

		if typ := types[doc.Content[i+1].Value]; typ != nil {
			return mend(doc, typ)
		}
	}

	return false
}

func mend(n *yaml.Node, typ reflect.Type) (lost bool) {
	typ = plain(typ)

	switch {
	case n.Kind == yaml.AliasNode || decodesItself(typ):
	case n.Kind == yaml.SequenceNode && typ.Kind() == reflect.Slice:
		for _, item := range n.Content {
			lost = mend(item, typ.Elem()) || lost
		}
	case n.Kind == yaml.MappingNode && typ.Kind() == reflect.Struct:
		lost = mendKeys(n, typ)
	}

	return lost
}

func mendKeys(n *yaml.Node, typ reflect.Type) (lost bool) {
	known := map[string]reflect.Type{}
	for _, f := range fields(typ) {
		known[f.key] = f.typ
	}

	written := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		written[n.Content[i].Value] = true
	}

	kept, seen := n.Content[:0], map[string]bool{}

	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]

		if known[key.Value] == nil && key.Value != "<<" {
			nearest, ok := Nearest(key.Value, Keys(typ.Name()))
			if !ok || written[nearest] {
				lost = true

				continue
			}

			key.Value = nearest
		}

		if seen[key.Value] {
			lost = true

			continue
		}

		seen[key.Value] = true
		kept = append(kept, key, value)

		if deeper := known[key.Value]; deeper != nil {
			lost = mend(value, deeper) || lost
		}
	}

	n.Content = kept

	return lost
}
