// Package schema knows the keys of a cluster template: which there are, what they mean, and which was meant when one is
// written wrong. [JSON] is the JSON Schema for editors.
//
// It stands beside package template, which asks it for the words of a message. What a key is called and what type it has
// is read from upstream's Go types when the program runs, so it cannot go stale. What the types do not say (which keys are
// required, what excludes what, what a value looks like) is written down here, and a test holds every word of it against
// what upstream's Load and Validate do with it.
package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"time"

	"github.com/siderolabs/omni/client/api/omni/specs"
)

// object is a JSON object. Its keys are written in alphabetical order.
type object = map[string]any

// list is a JSON array.
type list = []any

// ID names the schema. It is an address of its own and not one to fetch: editors are given the file.
const ID = "https://omni-syncd.dev/schemas/cluster-template.json"

// JSON returns the JSON Schema (draft 7, which editors' YAML language server takes best) of one document of a cluster
// template. That server judges each document of a file by itself, so what is wrong between documents is for
// `omni-syncd validate` to say.
func JSON() ([]byte, error) {
	roots, err := models()
	if err != nil {
		return nil, err
	}

	b := builder{definitions: object{}}
	branches := list{}

	for _, kind := range kinds {
		b.define(kind, roots[kind], false)

		branches = append(branches, object{
			"if":   object{"required": list{"kind"}, "properties": object{"kind": object{"const": kind}}},
			"then": object{"$ref": "#/definitions/" + kind},
		})
	}

	if b.err != nil {
		return nil, b.err
	}

	var out bytes.Buffer

	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")

	err = encoder.Encode(object{
		"$schema":     "http://json-schema.org/draft-07/schema#",
		"$id":         ID,
		"title":       "Omni cluster template",
		"description": "A document of a cluster template of Sidero Omni. A template is one file: a Cluster, a ControlPlane, and any number of Workers and Machine documents, separated by ---.",
		"type":        "object",
		"required":    list{"kind"},
		"properties":  object{"kind": object{"enum": kinds, "description": descriptions["Meta.kind"]}},
		"allOf":       branches,
		"definitions": b.definitions,
	})

	return out.Bytes(), err
}

// builder collects the definitions.
type builder struct {
	definitions object
	err         error
}

// define adds the definition of a struct under a name, once, and returns a reference to it.
func (b *builder) define(name string, typ reflect.Type, nullable bool) object {
	ref := object{"$ref": "#/definitions/" + name}
	if b.definitions[name] != nil {
		return ref
	}

	definition := object{"type": "object", "additionalProperties": false}
	if nullable {
		definition["type"] = list{"object", "null"}
	}

	b.definitions[name] = definition
	properties := object{}

	for _, f := range fields(typ) {
		if slices.Contains(forbidden[name], f.key) {
			continue
		}

		properties[f.key] = b.property(name, f)
	}

	if properties["kind"] != nil {
		properties["kind"] = object{"const": name, "description": descriptions["Meta.kind"]}
	}

	definition["properties"] = properties

	if keys := required[name]; len(keys) > 0 {
		definition["required"] = keys
	}

	maps.Copy(definition, relations[name])

	return ref
}

// property is the schema of the value of a key.
func (b *builder) property(name string, f field) object {
	isRequired := slices.Contains(required[name], f.key)
	schema := b.value(f.typ, !isRequired)

	maps.Copy(schema, values[f.owner+"."+f.key])

	if text := descriptions[f.owner+"."+f.key]; text != "" {
		// Beside a $ref nothing else counts in this draft.
		if schema["$ref"] != nil {
			schema = object{"allOf": list{schema}}
		}

		schema["description"] = text
	}

	return schema
}

// value is the schema of a type. A key that may be left out may also stand there with nothing after it.
func (b *builder) value(typ reflect.Type, nullable bool) object {
	typ = plain(typ)

	of := func(name string) object {
		if nullable {
			return object{"type": list{name, "null"}}
		}

		return object{"type": name}
	}

	if decodesItself(typ) {
		return b.special(typ, nullable)
	}

	switch typ.Kind() {
	case reflect.Struct:
		return b.define(typ.Name(), typ, nullable)
	case reflect.Slice:
		schema := of("array")
		schema["items"] = b.value(typ.Elem(), false)

		return schema
	case reflect.Map:
		schema := of("object")
		// `true` and 1 are texts to upstream's decoder where it wants one.
		schema["additionalProperties"] = object{"type": list{"string", "number", "boolean", "null"}}

		return schema
	case reflect.String:
		schema := of("string")
		maps.Copy(schema, values[typ.Name()])

		return schema
	case reflect.Bool:
		return of("boolean")
	case reflect.Uint32:
		schema := of("integer")
		schema["minimum"], schema["maximum"] = 0, math.MaxUint32

		return schema
	default:
		b.err = fmt.Errorf("a template of this version of Omni's client has values of type %s, which the schema does not know", typ)

		return object{}
	}
}

// special is the schema of a type with a decoder of its own.
func (b *builder) special(typ reflect.Type, nullable bool) object {
	var schema object

	switch name := typ.Name(); {
	case typ == reflect.TypeFor[time.Duration]():
		schema = object{"type": "string", "pattern": `^[-+]?(0|([0-9]*\.?[0-9]+|[0-9]+\.)(ns|us|µs|μs|ms|s|m|h)(([0-9]*\.?[0-9]+|[0-9]+\.)(ns|us|µs|μs|ms|s|m|h))*)$`,
			"patternErrorMessage": "A duration is a number and a unit, like 30s, 10m or 1h30m."}
	case name == "OptionalList":
		schema = object{"type": "array", "items": object{"type": list{"string", "number", "boolean", "null"}}}
	case name == "InlineContent":
		schema = object{"anyOf": list{
			object{"type": "string"},
			object{"type": "object"},
			object{"type": "array", "items": object{"type": list{"object", "null"}}},
		}}
	case name == "Size":
		schema = object{"anyOf": list{
			object{"type": "integer", "minimum": 0, "maximum": math.MaxUint32},
			object{"type": "string", "pattern": "^[0-9]{1,9}$"},
			object{"enum": Enum("Size")},
		}}
	case Enum(name) != nil:
		schema = object{"enum": Enum(name)}
	default:
		b.err = fmt.Errorf("a template of this version of Omni's client has values of type %s, which the schema does not know", typ)
	}

	if !nullable {
		return schema
	}

	if words, ok := schema["enum"].([]string); ok {
		nullableWords := list{nil}
		for _, word := range words {
			nullableWords = append(nullableWords, word)
		}

		return object{"enum": nullableWords}
	}

	if alternatives, ok := schema["anyOf"].(list); ok {
		schema["anyOf"] = append(alternatives, object{"type": "null"})
	} else {
		schema["type"] = list{schema["type"], "null"}
	}

	return schema
}

// Enum returns the words that a value of one of upstream's types can be, sorted; nil if it is not about words.
func Enum(typeName string) []string {
	switch typeName {
	case "Size":
		words := append(slices.Collect(maps.Keys(specs.MachineSetSpec_MachineAllocation_Type_value)), "unlimited", "∞", "infinity")

		return slices.Sorted(slices.Values(words))
	case "UpdateStrategyType":
		return slices.Sorted(maps.Keys(specs.MachineSetSpec_UpdateStrategy_value))
	case "KubernetesManifestMode":
		return []string{"full", "one-time"}
	default:
		return nil
	}
}
