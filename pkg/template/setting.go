package template

import (
	"bytes"
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/omni-syncd/omni-syncd/pkg/template/schema"
)

// Setting is a key that upstream's models of this build lack, as a template sets it.
type Setting struct {
	schema.Newer

	Name     string // of the document, if it has one: a machine's ID, say
	Value    bool   // of a switch
	Text     string // of a text
	Position Position
}

// Settings returns what the template sets of the keys that only newer clients know. They are not in [Template.Inlined]. Do not
// modify it.
func (t *Template) Settings() []Setting { return t.settings }

// notCut says how a key has to be written.
func notCut(n schema.Newer) string {
	how := fmt.Sprintf("`%[1]s: true` or `%[1]s: false`", n.Key)
	if n.IsText {
		how = fmt.Sprintf("`%s: '…'`", n.Key)
	}

	return "write " + how + " on one line, without anchors, aliases or tags"
}

// takeSettings takes the keys out of the text that upstream would refuse.
func (t *Template) takeSettings(docs []*yaml.Node) {
	for _, doc := range docs {
		for _, n := range schema.AllNewer() {
			if scalar(field(doc, "kind")) != n.Kind {
				continue
			}

			_, in := entry(doc, n.In)
			if key, value := entry(in, n.Key); key != nil {
				t.takeSetting(Setting{Newer: n, Name: scalar(field(doc, "name")), Position: positionOf(t.Path, key)}, in, key, value)
			}
		}
	}
}

func (t *Template) takeSetting(s Setting, in, key, value *yaml.Node) {
	cut, ok := t.source.cut(in, key, value)
	if !ok {
		t.problem(key, "%s", notCut(s.Newer))

		return
	}

	t.edits = append(t.edits, cut)

	switch tag := resolve(value).ShortTag(); {
	case tag == "!!null": // as if it was not there
	case s.IsText:
		s.Text = value.Value
		t.settings = append(t.settings, s)
		t.checkDisk(s, in, value)
	case value.Decode(&s.Value) == nil: // yes and on, too, as for any other switch
		t.settings = append(t.settings, s)
	default:
		t.Problems = append(t.Problems, Problemf(positionOf(t.Path, value), "here stands %s, and true or false is needed", written(strings.TrimLeft(tag, "!"))).Of(RuleInvalid))
	}
}

// cut returns the edit that takes a pair out of a mapping, if it is written plainly. A mapping without any pairs is nothing,
// which upstream takes for an empty one.
func (s source) cut(in, key, value *yaml.Node) (edit, bool) {
	start, keyEnd, ok := s.span(key)
	if !ok || in.Anchor != "" {
		return edit{}, false
	}

	end, ok := s.colon(keyEnd)
	if !ok {
		return edit{}, false
	}

	switch {
	case value.Kind == yaml.ScalarNode && value.ShortTag() == "!!null" && value.Value == "" && value.Anchor == "" && value.Style&yaml.TaggedStyle == 0:
	case value.Kind == yaml.ScalarNode:
		if _, end, ok = s.span(value); !ok {
			return edit{}, false
		}
	default:
		return edit{}, false
	}

	if in.Style&yaml.FlowStyle == 0 {
		// A tab that is left at the beginning of a line would be refused.
		rest := bytes.TrimLeft(s.data[end:], " \t")

		return edit{start, len(s.data) - len(rest), ""}, true
	}

	// The comma goes with it: one at the end is allowed, and one at the beginning is not.
	rest := bytes.TrimLeft(s.data[end:], " \t\r\n")

	switch {
	case bytes.HasPrefix(rest, []byte(",")):
		return edit{start, len(s.data) - len(rest) + 1, ""}, true
	case bytes.HasPrefix(rest, []byte("}")):
		return edit{start, end, ""}, true
	default:
		return edit{}, false
	}
}
