package template

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

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

// parseFile decides what a YAML file is and puts it where it belongs.
func (f *finder) parseFile(name string) {
	data, err := readBounded(f.fsys, name, MaxTemplateSize)
	if errors.Is(err, errTooLarge) {
		if what := looksLike(data); what != "" {
			f.suspect(RuleLimit, Position{File: name}, "this looks like %s, but it is larger than %d KiB: split it up", what, MaxTemplateSize>>10)
		}

		return
	}

	if err != nil {
		f.seen.failed(err)
		f.unreadable(name, "cannot be read: %s", reason(err))

		return
	}

	if text, encoding := fromUTF16(data); encoding != "" {
		if what := looksLike(text); what != "" {
			f.suspect(RuleSyntax, Position{File: name}, "this looks like %s, but its text is in %s: save it as UTF-8", what, encoding)
		} else {
			f.file.opaque = name
		}

		return
	}

	// What could not be ours in any form is not parsed at all: most YAML in a repository.
	if !bytes.Contains(data, []byte("kind")) && !bytes.Contains(data, []byte("metadata")) && !bytes.Contains(data, []byte("kubernetes")) {
		if isOpaque(data) {
			f.file.opaque = name
		}

		return
	}

	data = bytes.TrimPrefix(data, []byte("\ufeff"))

	docs, err := parse(data)
	if err != nil {
		if what := looksLike(data); what != "" {
			line, column, message := syntaxError(data, err)
			f.suspect(RuleSyntax, Position{File: name, Line: line, Column: column}, "this looks like %s, but it is not valid YAML: %s", what, message)
		} else if unparsed(data) {
			f.file.opaque = name
		}

		return
	}

	f.classify(name, data, docs)
}

func (f *finder) suspect(rule Rule, at Position, format string, args ...any) {
	f.file.suspects = append(f.file.suspects, Problemf(at, format, args...).Of(rule))
}

func (f *finder) classify(name string, data []byte, docs []*yaml.Node) {
	if slices.ContainsFunc(docs, isCluster) {
		f.addTemplate(name, data, docs)

		return
	}

	suspected := false

	for i, doc := range docs {
		if doc.Kind == yaml.SequenceNode && slices.ContainsFunc(doc.Content, isCluster) {
			f.file.opaque = name // its documents were indented, or it is about something else
		}

		if !isMapping(doc) || field(doc, "apiVersion") != nil {
			continue
		}

		if problem, ok := orphan(name, doc); ok {
			if !suspected { // the first document says it for the file
				f.file.suspects = append(f.file.suspects, problem)
			}

			suspected = true
		} else if metadata := field(doc, "metadata"); isMapping(metadata) {
			f.addManifest(name, data, i, doc, metadata)
		}
	}
}

func isCluster(doc *yaml.Node) bool {
	return scalar(field(doc, "kind")) == kindCluster && field(doc, "apiVersion") == nil
}

// orphan reports a document that makes sense only in a template, although its file is none.
func orphan(name string, doc *yaml.Node) (Problem, bool) {
	kind := field(doc, "kind")

	switch scalar(kind) {
	case kindControlPlane, kindWorkers, kindMachine:
		return Problemf(positionOf(name, kind), "kind: %s, but no kind: Cluster document in this file: a template is one file, separated by ---", kind.Value), true
	}

	// The body of a cluster under another name. Helm values and the like do not have all three.
	if !isMapping(field(doc, "kubernetes")) || !isMapping(field(doc, "talos")) || field(doc, "name") == nil {
		return Problem{}, false
	}

	if kind == nil {
		return Problemf(positionOf(name, doc), "this looks like a cluster template, but it has no kind: add kind: Cluster"), true
	}

	return Problemf(positionOf(name, kind), "this looks like a cluster template, but its kind is %q: it must be Cluster", kind.Value), true
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
	templateKind      = regexp.MustCompile(`(?m)(^|[{,][ \t]*)["']?kind["']?[ \t]*:[ \t]*["']?(Cluster|ControlPlane|Workers|Machine)["']?[ \t\r]*([,}#].*)?$`)
	kubernetesObject  = regexp.MustCompile(`(?m)^apiVersion[ \t]*:`)
	manifestMetadata  = regexp.MustCompile(`(?m)(^|[{,][ \t]*)metadata[ \t]*:`)
	manifestType      = regexp.MustCompile(`(?m)(^[ \t]+|[{,][ \t]*)type[ \t]*:[ \t]*["']?[A-Za-z0-9]+\.([a-z0-9-]+\.)*sidero\.dev["']?[ \t\r]*([,}#].*)?$`)
)

// looksLike judges by the text alone, in block or in flow style, whether a file that cannot be parsed was meant for us.
// It returns what it looks like, or "".
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
	syntaxMark = regexp.MustCompile(`line (\d+)(?:, column (\d+))?: `)
	tabIndent  = regexp.MustCompile(`^ *\t`)
)

// syntaxError takes the position out of a parser's message. It asks upstream's parser for a second opinion, because
// that one knows the column.
func syntaxError(data []byte, err error) (line, column int, message string) {
	message = err.Error()

	if !utf8.Valid(data) {
		line, column = invalidAt(data)

		return line, column, "this byte is no text in UTF-8: save the file as UTF-8"
	}

	if _, other := decodeAll(data); other != nil {
		message = other.Error()
	}

	line, column = 1, 1

	// One mark, or that of the construct it is in and then that of the fault.
	if marks := syntaxMark.FindAllStringSubmatch(message, -1); len(marks) > 0 {
		text := message
		message = text[strings.LastIndex(text, marks[len(marks)-1][0])+len(marks[len(marks)-1][0]):]

		mark := marks[len(marks)-1]
		if strings.HasSuffix(message, "end of stream") {
			mark = marks[0] // better where it begins than where the file ends
		}

		line, _ = strconv.Atoi(mark[1])
		column, _ = strconv.Atoi(mark[2])

		switch {
		case strings.Contains(text, "while parsing"):
			line++ // these count lines from 0
		case strings.HasPrefix(message, "unknown anchor"):
			column-- // and this one columns from 2
		}
	}

	lines := bytes.Split(data, []byte("\n"))
	line, column = min(max(line, 1), len(lines)), max(column, 1)

	if strings.HasPrefix(message, "found character that cannot start any token") && tabIndent.Match(lines[line-1]) {
		message = "a tab cannot indent in YAML: use spaces"
	}

	return line, column, oneLine(message)
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
