package template

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	yamlv4 "go.yaml.in/yaml/v4"
	"gopkg.in/yaml.v3"

	"github.com/omni-syncd/omni-syncd/pkg/template/schema"
)

// LocateDocument turns an error of upstream's Load of a single document, the index-th of the inlined text, into
// problems.
//
// Upstream writes each document anew before it decodes it, and its line numbers are those of that text. It is made
// here once more, to find the node that a line number means.
func (t *Template) LocateDocument(index int, err error) Problems {
	var problems Problems

	at := t.newDocument(index)

	if decoding := (*yamlv4.LoadErrors)(nil); errors.As(err, &decoding) {
		for _, e := range decoding.Errors {
			message, rule := inWords(e.Err.Error())
			if rule != RuleDuplicate { // said by Find already
				problems = append(problems, Problemf(at.position(e.Line, e.Column), "%s", message).Of(rule))
			}
		}

		return problems
	}

	// Anything else is about the document as a whole: its kind.
	message := oneLine(err.Error())
	if _, after, ok := strings.Cut(message, "error in document at line "); ok {
		_, message, _ = strings.Cut(after, ": ")
	}

	position := at.position(1, 1)
	if docs := t.documents().list; index < len(docs) {
		position = positionOf(t.Path, descend(docs[index], "kind"))
	}

	message, rule := advise(message)

	return Problems{Problemf(position, "%s", message).Of(rule)}
}

var unknownField = regexp.MustCompile(`^field (\S+) not found in type models\.(\w+)$`)

// inWords says what the decoder says without the names of Go types, and what to do.
func inWords(message string) (words string, rule Rule) {
	if m := unknownField.FindStringSubmatch(message); m != nil {
		// A key that upstream does not know and newer clients do: it is there because it could not be taken out.
		for _, n := range schema.AllNewer() {
			if n.Key == m[1] && slices.Contains(schema.Keys(m[2]), m[1]) {
				return notCut(n), ""
			}
		}

		return "unknown field " + m[1] + " in " + m[2] + suggest(m[1], schema.Keys(m[2])), RuleUnknown
	}

	message = withoutValues(plainWords(message))

	if m := wrongType.FindStringSubmatch(message); m != nil {
		return "here stands " + written(m[1]) + ", and " + wanted(m[2]) + " is needed", RuleInvalid
	}

	if strings.HasPrefix(message, "mapping key") && strings.Contains(message, "already defined") {
		return message, RuleDuplicate
	}

	return advise(strings.ReplaceAll(message, "models.", ""))
}

// InWords says what upstream's decoder says of a manifest, in words for people and without the values that were decoded:
// those may be secret, and messages end up in logs.
func InWords(err error) string {
	message, _ := inWords(err.Error())

	return message
}

// DidYouMean returns the end of a message about a wrong word: which known word was probably meant, or else, if they are
// few, which there are.
func DidYouMean(word string, known []string) string { return schema.DidYouMean(word, known) }

// Meant is DidYouMean without the list.
func Meant(word string, known []string) string {
	if nearest, ok := schema.Nearest(word, known); ok {
		return ": did you mean " + nearest + "?"
	}

	return ""
}

// suggest ends a message about an unknown key.
func suggest(word string, known []string) string {
	if nearest := schema.DidYouMean(word, known); nearest != "" {
		return nearest
	}

	return ": remove it"
}

var wrongType = regexp.MustCompile(`^cannot construct !!(\w+) into (\S+)$`)

// written says what a YAML tag is.
func written(tag string) string {
	switch tag {
	case "str":
		return "a text"
	case "seq":
		return "a list"
	case "map":
		return "a mapping"
	case "int", "float":
		return "a number"
	case "bool":
		return "true or false"
	default:
		return tag
	}
}

// wanted says what is decoded into a Go type.
func wanted(typ string) string {
	base := typ[strings.LastIndex(typ, ".")+1:]

	switch {
	case strings.HasPrefix(typ, "[]") || strings.HasSuffix(base, "List"):
		return "a list"
	case typ == "string" || base == "MachineID":
		return "a text"
	case typ == "bool":
		return "true or false"
	case base == "Duration":
		return "a duration like 30s"
	case strings.Contains(typ, "int") && !strings.Contains(typ, "."):
		return "a whole number"
	default:
		return "a mapping" // of the keys of a struct, or of a map
	}
}

// rewritten is a document as upstream decodes it, beside the same document of the inlined text.
type rewritten struct {
	t        *Template
	text     source
	decoded  *yamlv4.Node
	document *yaml.Node
}

func (t *Template) newDocument(index int) rewritten {
	inlined := t.Inlined()
	r := rewritten{t: t, text: newSource(inlined)}

	upstream, err := decodeAll(inlined)
	if err != nil || index >= len(upstream) {
		return r
	}

	ours, err := parse(inlined)
	if err != nil || index >= len(ours) {
		return r
	}

	node := upstream[index]
	if len(node.Content) != 1 {
		return r
	}

	// Twice: once for being a document of its own, once in Load.
	for range 2 {
		raw, err := yamlv4.Marshal(node.Content[0])
		if err != nil {
			return r
		}

		node = new(yamlv4.Node)
		if err := yamlv4.Unmarshal(raw, node); err != nil || len(node.Content) != 1 {
			return r
		}
	}

	r.decoded, r.document = node.Content[0], ours[index]

	return r
}

// position returns where in the repository something is that upstream says is at a line and column.
func (r rewritten) position(line, column int) Position {
	n := r.document
	if n != nil {
		if found := counterpart(r.decoded, n, line, column); found != nil {
			n = found
		}
	}

	if n == nil {
		return Position{r.t.Path, 1, 1}
	}

	line, column = r.t.source.position(original(r.t.edits, r.text.offset(n.Line, n.Column)))

	return Position{r.t.Path, line, column}
}

// counterpart walks two trees of the same shape, and returns the node of the second where the first has one at a line
// and column. Column 0 means any.
func counterpart(a *yamlv4.Node, b *yaml.Node, line, column int) *yaml.Node {
	if a.Line == line && (column == 0 || a.Column == column) && a.Kind != yamlv4.MappingNode {
		return b
	}

	if int(a.Kind) == int(b.Kind) && len(a.Content) == len(b.Content) {
		for i := range a.Content {
			if found := counterpart(a.Content[i], b.Content[i], line, column); found != nil {
				return found
			}
		}
	}

	if a.Line == line && (column == 0 || a.Column == column) {
		return b
	}

	return nil
}
