package mask

import (
	"errors"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// document finds the secrets of a YAML or JSON text of one or more documents. It reports false if the text cannot be
// read, is over a bound, or is no document at all but a bare word: then nothing is known about what it holds.
func (m *masker) document(text string, under []string, nesting int) (spans []span, ok bool) {
	if len(text) > maxText || !utf8.ValidString(text) {
		return nil, false
	}

	defer func() {
		// The YAML library is not ours, and the text may have been made to break it.
		if recover() != nil {
			spans, ok = nil, false
		}
	}()

	documents, err := parse(text)
	if err != nil {
		return nil, false
	}

	w := &walker{masker: m, marks: map[*yaml.Node]mark{}, active: map[*yaml.Node]bool{}}

	var scalars []*yaml.Node

	for _, document := range documents {
		for _, root := range document.Content {
			if root.Kind == yaml.ScalarNode && !isNull(root) {
				return nil, false
			}
		}

		root := spot{}
		if m.all {
			root.verdict = isSecret
		}

		w.walk(document, root)
		scalars = collect(scalars, document)
	}

	if w.over {
		return nil, false
	}

	return m.spans(text, scalars, w.marks, under, nesting)
}

func parse(text string) ([]*yaml.Node, error) {
	var documents []*yaml.Node

	for decoder := yaml.NewDecoder(strings.NewReader(text)); ; {
		var document yaml.Node

		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return documents, nil
		}

		if err != nil {
			return nil, err
		}

		documents = append(documents, &document)
	}
}

// collect appends the scalars of a node in the order of the text. Aliases are not followed: they hold no text.
func collect(scalars []*yaml.Node, n *yaml.Node) []*yaml.Node {
	if n.Kind == yaml.ScalarNode {
		return append(scalars, n)
	}

	for _, child := range n.Content {
		scalars = collect(scalars, child)
	}

	return scalars
}

// spans says where in the text the secrets are: in scalars, and in the comments between them.
func (m *masker) spans(text string, scalars []*yaml.Node, marks map[*yaml.Node]mark, under []string, nesting int) ([]span, bool) {
	var found []span

	cur := &cursor{text: text, lines: lineStarts(text)}
	at := 0 // the end of the scalar before

	for _, n := range scalars {
		s, ok := locate(cur, n, at)
		if !ok {
			return nil, false
		}

		found = append(found, comments(text, at, s.start)...)
		at = s.end

		mark := marks[n]
		path := join(under) + "\x00" + mark.path

		inner, whole := m.scalar(n, mark, append(under[:len(under):len(under)], mark.path), nesting)
		if !whole {
			for _, in := range inner {
				start, end, ok := s.inner(in.start, in.end)
				if !ok { // escapes, folded lines: it cannot be said which letters these are
					whole = true

					break
				}

				in.start, in.end = start, end
				if in.path == "" {
					in.path = path
				}

				found = append(found, in)
			}
		}

		if whole {
			found = append(found, span{s.start, s.end, n.Value, path})
		}
	}

	return append(found, comments(text, at, len(text))...), true
}

// scalar finds the secrets inside of a scalar, or says that it is one as a whole.
func (m *masker) scalar(n *yaml.Node, mark mark, under []string, nesting int) (inner []span, whole bool) {
	if isNull(n) || sealed(n.Value) {
		return nil, false
	}

	switch mark.verdict {
	case isSecret, isAllSecret:
		return nil, true
	case isNamed:
		return nil, !isBool(n.Value)
	case isAssignment:
		name := assignment.FindString(n.Value)

		return []span{{start: len(name), end: len(n.Value)}}, name == ""
	case isDocument:
		found, ok := m.document(n.Value, under, nesting+1)

		return found, !ok || nesting >= maxNesting
	default:
		return m.inside(n.Value, under, nesting), false
	}
}

// inside finds the secrets in a text of which nothing is known: it may be a document, such as a values file in a manifest.
func (m *masker) inside(value string, under []string, nesting int) []span {
	trimmed := strings.TrimLeft(value, " \t\r\n")

	if nesting < maxNesting && (strings.ContainsAny(value, "\r\n") || strings.HasPrefix(trimmed, "{") || strings.HasPrefix(trimmed, "[")) {
		if found, ok := m.document(value, under, nesting+1); ok {
			return found
		}
	}

	// The template of a Secret, say, which is YAML only once it is filled in.
	if secretManifest.MatchString(value) {
		return []span{{start: 0, end: len(value)}}
	}

	return free(value)
}

var secretManifest = regexp.MustCompile(`(?m)^[ \t-]*["']?kind["']?\s*:\s*["']?Secret(?:List)?\b`)

// assignment is the name of a variable and what sets it.
var assignment = regexp.MustCompile(`\A[A-Za-z_][\w.-]*=`)

// isNull reports whether nothing is written. The tag is not asked: it is from whoever wrote the value.
func isNull(n *yaml.Node) bool {
	const quoted = yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle

	return n.Style&quoted == 0 && (n.Value == "" || n.Value == "~" || strings.EqualFold(n.Value, "null"))
}

// comment is the path of what stands in comments.
const comment = "#"

// comments finds the secrets in the comments between two scalars.
func comments(text string, start, end int) []span {
	begin := strings.IndexByte(text[start:end], '#')
	if begin < 0 {
		return nil
	}

	start += begin
	gap := text[start:end]

	var found []span

	for _, s := range free(gap) {
		line := strings.LastIndexAny(gap[:s.start], "\r\n") + 1
		if strings.Contains(gap[line:s.start], "#") || strings.ContainsAny(gap[s.start:s.end], "\r\n") {
			found = append(found, span{start: start + s.start, end: start + s.end, path: comment})
		}
	}

	return found
}
