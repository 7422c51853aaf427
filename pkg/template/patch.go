package template

import (
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/config/types/v1alpha1"
	"gopkg.in/yaml.v3"

	"github.com/omni-syncd/omni-syncd/pkg/template/schema"
)

// patch is the content of an entry, wherever it is written.
type patch struct {
	ownFile bool // it is in a file of its own
	start   Position
	data    []byte       // its text; nil if it is a part of the template's YAML
	docs    []*yaml.Node // nil if it cannot be parsed
	shift   func(line, column int) Position
}

func (t *Template) patchOf(item, node *yaml.Node) patch {
	p := patch{start: positionOf(t.Path, node)}
	p.shift = func(line, column int) Position { return p.start }

	if name := effective(item, "file"); name != "" {
		content := t.inlinedContent(item)
		if content == nil {
			return p
		}

		file := path.Join(path.Dir(t.Path), name)
		p.ownFile, p.data = true, []byte(strings.TrimPrefix(*content, "\ufeff"))
		p.start = Position{File: file, Line: 1, Column: 1}
		p.shift = func(line, column int) Position { return Position{file, line, max(column, 1)} }
	} else {
		inline := effectiveNode(item, "inline")

		switch {
		case inline == nil:
			return p
		case inline.Kind == yaml.MappingNode:
			p.docs = []*yaml.Node{inline}
		case inline.Kind == yaml.SequenceNode:
			p.docs = inline.Content
		default:
			p.data = []byte(inline.Value)

			if inline.Style&yaml.LiteralStyle != 0 {
				indent := t.source.indent(inline.Line + 1)
				p.shift = func(line, column int) Position {
					return Position{t.Path, inline.Line + line, indent + max(column, 1)}
				}
			}
		}

		if p.data == nil {
			p.shift = func(line, column int) Position { return Position{t.Path, line, max(column, 1)} }
		}
	}

	if p.data != nil {
		p.docs, _ = parse(p.data) // as far as it is YAML
	}

	return p
}

// inlinedContent returns the content that the file of an entry was replaced by.
func (t *Template) inlinedContent(item *yaml.Node) *string {
	docs := t.documents().list

	inlined, err := parse(t.Inlined())
	if err != nil || len(inlined) != len(docs) {
		return nil
	}

	for i, doc := range docs {
		list := field(doc, "patches")
		if list == nil {
			continue
		}

		if at := slices.Index(list.Content, item); at >= 0 {
			same := field(inlined[i], "patches")
			if same == nil || at >= len(same.Content) {
				return nil
			}

			if content := effectiveNode(same.Content[at], "inline"); content != nil && content.Kind == yaml.ScalarNode {
				return &content.Value
			}
		}
	}

	return nil
}

// indent returns how far a block that begins at a line is indented.
func (s source) indent(line int) int {
	for ; line <= len(s.lines); line++ {
		if text := s.line(line); strings.Trim(text, " ") != "" {
			return len(text) - len(strings.TrimLeft(text, " "))
		}
	}

	return 0
}

func (p *patch) place(n *yaml.Node) Position { return p.shift(max(n.Line, 1), n.Column) }

func (p *patch) first(nodes []*yaml.Node) Position {
	if len(nodes) == 0 {
		return p.start
	}

	return p.place(nodes[0])
}

// line returns the position of what is on a line of the text.
func (p *patch) line(line int) Position {
	if p.data == nil {
		return p.start
	}

	column := 1

	if text, ok := Lines(p.data)(line); ok {
		column = len(text) - len(strings.TrimLeft(text, " -")) + 1
	}

	return p.shift(line, column)
}

// keysAt returns the keys at the end of a path, written with dots, in which lists are passed over.
func keysAt(docs []*yaml.Node, name string) []*yaml.Node {
	var found []*yaml.Node

	var walk func(n *yaml.Node, rest string)

	walk = func(n *yaml.Node, rest string) {
		switch n = resolve(n); n.Kind {
		case yaml.SequenceNode:
			for _, item := range n.Content {
				walk(item, rest)
			}
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				key := n.Content[i]
				if key.Value == rest {
					found = append(found, key)
				} else if deeper, ok := strings.CutPrefix(rest, key.Value+"."); ok && key.Value != "" {
					walk(n.Content[i+1], deeper)
				}
			}
		}
	}

	for _, doc := range docs {
		walk(doc, name)
	}

	return found
}

// talosKey suggests a key of Talos' main configuration document instead of an unknown one at a path.
func talosKey(name string) string {
	typ := reflect.TypeFor[v1alpha1.Config]()
	words := strings.Split(name, ".")

	for i, word := range words {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
			typ = typ.Elem()
		}

		if typ.Kind() != reflect.Struct {
			break
		}

		keys := map[string]reflect.Type{}

		for j := range typ.NumField() {
			if key, _, _ := strings.Cut(typ.Field(j).Tag.Get("yaml"), ","); key != "" && key != "-" {
				keys[key] = typ.Field(j).Type
			}
		}

		if keys[word] == nil {
			known := make([]string, 0, len(keys))
			for key := range keys {
				known = append(known, key)
			}

			if nearest, ok := schema.Nearest(word, known); ok && (i > 0 || len(words) > 1) {
				return ": did you mean " + nearest + "?"
			}

			break
		}

		typ = keys[word]
	}

	return ": correct or remove it"
}
