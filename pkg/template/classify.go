package template

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"

	yamlv4 "go.yaml.in/yaml/v4"
	"gopkg.in/yaml.v3"
)

// The kinds of document a template is made of.
const (
	kindCluster      = "Cluster"
	kindControlPlane = "ControlPlane"
	kindWorkers      = "Workers"
	kindMachine      = "Machine"
)

// readFile decides what a YAML file is and puts it where it belongs.
func (f *finder) readFile(name string) {
	data, err := readBounded(f.fsys, name, MaxTemplateSize)
	if errors.Is(err, errTooLarge) {
		if what := looksLike(data); what != "" {
			f.suspect(Position{File: name}, "this looks like %s, but it is larger than %d KiB: split it up", what, MaxTemplateSize>>10)
		}

		return
	}

	if err != nil {
		f.problem(name, "cannot be read: %v", reason(err))

		return
	}

	// What could not be ours in any form is not parsed at all: most YAML in a repository.
	if !bytes.Contains(data, []byte("kind")) && !bytes.Contains(data, []byte("metadata")) && !bytes.Contains(data, []byte("kubernetes")) {
		return
	}

	data = bytes.TrimPrefix(data, []byte("\ufeff"))

	docs, err := parse(data)
	if err != nil {
		if what := looksLike(data); what != "" {
			line, column, message := syntaxError(data, err)
			f.suspect(Position{File: name, Line: line, Column: column}, "this looks like %s, but it is not valid YAML: %s", what, message)
		}

		return
	}

	f.classify(name, data, docs)
}

func (f *finder) suspect(at Position, format string, args ...any) {
	f.suspects = append(f.suspects, Problem{Position: at, Message: fmt.Sprintf(format, args...)})
}

func (f *finder) classify(name string, data []byte, docs []*yaml.Node) {
	var orphan *Problem // the first document that only makes sense in a template

	for i, doc := range docs {
		if field(doc, "apiVersion") != nil || doc.Kind != yaml.MappingNode {
			continue
		}

		kind := field(doc, "kind")
		at := positionOf(name, doc)

		switch {
		case scalar(kind) == kindCluster:
			f.addTemplate(name, data, docs)

			return
		case orphan != nil:
		case scalar(kind) == kindControlPlane, scalar(kind) == kindWorkers, scalar(kind) == kindMachine:
			orphan = &Problem{positionOf(name, kind), fmt.Sprintf(
				"kind: %s, but no kind: Cluster document in this file: a template is one file, separated by ---", kind.Value)}
		case isMapping(field(doc, "kubernetes")) && isMapping(field(doc, "talos")) && field(doc, "name") != nil:
			// The body of a cluster under another name. Helm values and the like do not have all three.
			message := "this looks like a cluster template, but it has no kind: add kind: Cluster"
			if kind != nil {
				at = positionOf(name, kind)
				message = fmt.Sprintf("this looks like a cluster template, but its kind is %q: it must be Cluster", kind.Value)
			}

			orphan = &Problem{at, message}
		default:
			if metadata := field(doc, "metadata"); isMapping(metadata) {
				f.addManifest(name, data, i, doc, metadata)
			}
		}
	}

	if orphan != nil {
		f.suspects = append(f.suspects, *orphan)
	}
}

// parse reads all documents of a file. An empty document is a null scalar.
func parse(data []byte) (docs []*yaml.Node, err error) {
	// The parser is not ours, and what it reads is hostile: a fault in it must not take the daemon down.
	defer func() {
		if fault := recover(); fault != nil {
			docs, err = nil, fmt.Errorf("the YAML parser gave up: %v", fault)
		}
	}()

	for decoder := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var doc yaml.Node

		err := decoder.Decode(&doc)

		switch {
		case errors.Is(err, io.EOF):
			return docs, nil
		case err != nil:
			return nil, err
		case len(docs) == MaxDocuments:
			return nil, fmt.Errorf("more than %d documents in a file", MaxDocuments)
		case len(doc.Content) == 1:
			docs = append(docs, doc.Content[0])
		}
	}
}

var (
	documentSeparator = regexp.MustCompile(`(?m)^---(\s|$)`)
	templateKind      = regexp.MustCompile(`(?m)^kind:[ \t]*["']?(Cluster|ControlPlane|Workers|Machine)["']?[ \t\r]*(#.*)?$`)
	kubernetesObject  = regexp.MustCompile(`(?m)^apiVersion[ \t]*:`)
	manifestMetadata  = regexp.MustCompile(`(?m)^metadata[ \t]*:`)
	manifestType      = regexp.MustCompile(`(?m)^[ \t]+type[ \t]*:[ \t]*["']?[A-Za-z0-9]+\.([a-z0-9-]+\.)*sidero\.dev["']?[ \t\r]*(#.*)?$`)
)

// looksLike judges by the text alone whether a file that cannot be parsed was meant for us. It returns what it looks like, or "".
func looksLike(data []byte) string {
	for _, text := range documentSeparator.Split(string(data), -1) {
		switch {
		case kubernetesObject.MatchString(text):
		case templateKind.MatchString(text):
			return "a cluster template"
		case manifestMetadata.MatchString(text) && manifestType.MatchString(text):
			return "an Omni manifest"
		}
	}

	return ""
}

var (
	syntaxMark    = regexp.MustCompile(`line (\d+)(?:, column (\d+))?: `)
	syntaxContext = regexp.MustCompile(`^(while \w+ [\w ]+?) at .*: `)
)

// syntaxError takes the position out of a parser's message. It asks the newer parser for a second opinion, because that one knows the column.
func syntaxError(data []byte, err error) (line, column int, message string) {
	message = err.Error()

	if _, newer := decodeAll(data); newer != nil {
		message = newer.Error()
	}

	line, column = 1, 1

	marks := syntaxMark.FindAllStringSubmatchIndex(message, -1)
	if len(marks) > 0 {
		last := marks[len(marks)-1]
		line, _ = strconv.Atoi(message[last[2]:last[3]])

		if last[4] >= 0 {
			column, _ = strconv.Atoi(message[last[4]:last[5]])
		}

		// Messages of the parser proper, unlike those of the scanner, count lines from 0.
		if regexp.MustCompile(`while parsing`).MatchString(message) {
			line++
		}

		message = message[last[1]:]
	}

	lines := bytes.Count(data, []byte("\n")) + 1

	return min(max(line, 1), lines), max(column, 1), oneLine(message)
}

// decodeAll runs upstream's parser over a file.
func decodeAll(data []byte) (docs []*yamlv4.Node, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("the YAML parser gave up: %v", fault)
		}
	}()

	for decoder := yamlv4.NewDecoder(bytes.NewReader(data)); ; {
		var doc yamlv4.Node

		err := decoder.Decode(&doc)

		switch {
		case errors.Is(err, io.EOF):
			return docs, nil
		case err != nil:
			return nil, err
		default:
			docs = append(docs, &doc)
		}
	}
}

// entry returns key and value of a mapping's own key; nil, nil if it has none or is no mapping.
func entry(n *yaml.Node, key string) (k, v *yaml.Node) {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil, nil
	}

	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Kind == yaml.ScalarNode && n.Content[i].Value == key {
			return n.Content[i], n.Content[i+1]
		}
	}

	return nil, nil
}

// field returns the value of a mapping's own key with an alias resolved, or nil.
func field(n *yaml.Node, key string) *yaml.Node {
	_, v := entry(n, key)

	return resolve(v)
}

// resolve follows an alias. An alias always points at a real node.
func resolve(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}

	return n
}

// scalar returns the text of a scalar that is not null, or "".
func scalar(n *yaml.Node) string {
	if n = resolve(n); n == nil || n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		return ""
	}

	return n.Value
}

func isMapping(n *yaml.Node) bool { return n != nil && n.Kind == yaml.MappingNode }
