package template

import (
	"io/fs"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/omni-syncd/omni-syncd/pkg/template/schema"
)

// At returns the position of something in the template: in the first document of that kind and name, at the end of a
// path of keys. Without a name it is the document of that kind that has none, else the first. An element of a list is
// named by its value, or by its name, idOverride or file. Where the path cannot be followed to its end, it is the
// position of the last part that exists; where there is no such document, the beginning of the file.
func (t *Template) At(kind, name string, keys ...string) Position {
	var first *yaml.Node

	for _, doc := range t.documents().list {
		if scalar(field(doc, "kind")) != kind {
			continue
		}

		if scalar(field(doc, "name")) == name {
			return positionOf(t.Path, descend(doc, keys...))
		}

		if first == nil && name == "" {
			first = doc
		}
	}

	if first != nil {
		return positionOf(t.Path, descend(first, keys...))
	}

	return Position{File: t.Path, Line: 1, Column: 1}
}

// descend follows a path of keys as far as it goes.
func descend(n *yaml.Node, keys ...string) *yaml.Node {
	at := n

	for _, key := range keys {
		switch n = resolve(n); n.Kind {
		case yaml.MappingNode:
			k, v := entry(n, key)
			if k == nil {
				return at
			}

			// A mapping begins where its first key does, which says less than the key that it stands under.
			at, n = k, v
			if scalar(v) != "" {
				at = v
			}
		case yaml.SequenceNode:
			i := slices.IndexFunc(n.Content, func(item *yaml.Node) bool { return isCalled(item, key) })
			if i < 0 {
				return at
			}

			at, n = n.Content[i], n.Content[i]
		default:
			return at
		}
	}

	return at
}

// isCalled reports whether an element of a list is meant by a name.
func isCalled(item *yaml.Node, name string) bool {
	if scalar(item) != "" {
		return scalar(item) == name
	}

	return slices.ContainsFunc([]string{"name", "idOverride", "file"}, func(key string) bool { return effective(item, key) == name })
}

// Locate turns an error of upstream's Load, Validate or Translate of this template into problems, one for each thing
// upstream complains about, each on one line and at the best position there is: that of the value in question, else of
// the entry or document it is in, else of the file.
func (t *Template) Locate(err error) Problems { return t.LocateRest(err, false) }

// consequences are complaints that may be about what was left out of a template because it could not be decoded.
var consequences = regexp.MustCompile(`^template should contain|is not used in controlplane or workers$|is required|is empty$|mode is not set$`)

// LocateRest is Locate for an error of upstream's code about what could be decoded of a template. If something was lost on
// the way, what may only be its consequence is left out.
func (t *Template) LocateRest(err error, lost bool) Problems {
	var problems Problems

	docs := t.documents()
	defer runtime.KeepAlive(docs) // nodes are told apart by where they are in memory

	seen := map[string]int{}

	for _, c := range flatten(err) {
		if lost && consequences.MatchString(c.message) {
			continue
		}

		s := search{docs: docs.list}
		inlinePatch := false
		words := make([]string, 0, len(c.contexts)+1)

		for _, context := range c.contexts {
			if !s.enter(context) {
				words = append(words, context)
			}

			inlinePatch = inlinePatch || isPatch.MatchString(context)
		}

		complaint := strings.Join(append(words, c.message), ": ")
		s.find(complaint)

		if strings.HasSuffix(complaint, fs.ErrClosed.Error()) {
			complaint = notPlain // render lets upstream read no file at all
		}

		key := strings.Join(append(s.labels, complaint), ": ")
		node := s.pick(seen[key])

		if inlinePatch && len(s.entered) > 0 {
			item := s.entered[min(seen[key], len(s.entered)-1)]
			problems = append(problems, t.patchProblems(item, node, s.labels, complaint)...)
		} else {
			message, rule := advise(withoutValues(key))
			problems = append(problems, Problemf(positionOf(t.Path, node), "%s", message).Of(rule))
		}

		seen[key]++
	}

	return problems.Sorted()
}

// search narrows down where in a template a complaint of upstream belongs.
type search struct {
	docs   []*yaml.Node // documents it may be about
	nodes  []*yaml.Node // nodes it may be about, better than the documents; may be empty
	labels []string     // what of the context is worth telling

	entered []*yaml.Node // the entries whose content the nodes are
}

// isPatch is the context of what Talos' and Omni's code says of the content of a patch.
var isPatch = regexp.MustCompile(`^failed to validate (inline )?patch `)

// pick returns the node for the n-th complaint with the same words.
func (s *search) pick(n int) *yaml.Node {
	for _, nodes := range [][]*yaml.Node{s.nodes, s.docs} {
		if len(nodes) > 0 {
			return nodes[min(n, len(nodes)-1)]
		}
	}

	return &yaml.Node{Line: 1, Column: 1}
}

// contexts are the wrappers of upstream's errors that say where something is.
var contexts = []struct {
	*regexp.Regexp
	enter func(s *search, name string)
}{
	{regexp.MustCompile(`^error validating cluster (".*")$`), func(s *search, _ string) { s.only(kindCluster, "") }},
	{regexp.MustCompile(`^controlplane is invalid()$`), func(s *search, _ string) { s.only(kindControlPlane, "") }},
	{regexp.MustCompile(`^workers is invalid()$`), func(s *search, _ string) { s.only(kindWorkers, "") }},
	{regexp.MustCompile(`^machine (".*") is invalid$`), func(s *search, name string) { s.only(kindMachine, name) }},
	{regexp.MustCompile(`^error validating (Kubernetes|Talos) version$`), func(s *search, name string) {
		s.label(strings.ToLower(name) + ".version")
		s.values(strings.ToLower(name), "version")
	}},
	{regexp.MustCompile(`^patch (".*") is invalid$`), func(s *search, name string) {
		s.label(called("patch", name))
		s.entries(name, "patches")
	}},
	{regexp.MustCompile(`^failed to (?:validate|read|access) (?:inline )?(?:patch )?(".*")$`), func(s *search, _ string) { s.content() }},
	{regexp.MustCompile(`^kubernetes manifest (".*") descriptors validation failed$`), func(s *search, name string) {
		s.label(called("manifest", name))
		s.entries(name, "kubernetes", "manifests")
	}},
}

// enter narrows the search down by a wrapper, and reports whether it knows it.
func (s *search) enter(context string) bool {
	for _, c := range contexts {
		if m := c.FindStringSubmatch(context); m != nil {
			name := m[1]
			if unquoted, err := strconv.Unquote(name); err == nil {
				name = unquoted
			}

			c.enter(s, name)

			return true
		}
	}

	return false
}

// called names an entry of a list.
func called(what, name string) string {
	if name == "" {
		return what + " without a name"
	}

	return what + " " + strconv.Quote(name)
}

func (s *search) label(text string) { s.labels = append(s.labels, text) }

// only keeps the documents of a kind, and of a name if one is given and some document has it.
func (s *search) only(kind, name string) {
	s.docs = slices.DeleteFunc(slices.Clone(s.docs), func(doc *yaml.Node) bool {
		return meantKind(doc) != kind || name != "" && scalar(field(doc, "name")) != name
	})
}

// meantKind returns the kind of a document, or the one that was probably meant.
func meantKind(doc *yaml.Node) string {
	kind := scalar(field(doc, "kind"))
	if nearest, ok := schema.Nearest(kind, schema.Kinds()); ok {
		return nearest
	}

	return kind
}

// values looks for a path of keys in the documents.
func (s *search) values(keys ...string) bool {
	return s.collect(func(doc *yaml.Node) []*yaml.Node {
		at := doc
		for i := range keys {
			deeper := descend(doc, keys[:i+1]...)
			if deeper == at {
				return nil
			}

			at = deeper
		}

		return []*yaml.Node{at}
	})
}

// entries looks for the entries of a list that have a name, or are named after their file; "" means those without one.
func (s *search) entries(name string, keys ...string) bool {
	return s.entriesFunc(func(item *yaml.Node) bool {
		called := effective(item, "name")
		if called == "" {
			called = effective(item, "file")
		}

		return called == name || name != "" && effective(item, "idOverride") == name
	}, keys...)
}

func (s *search) entriesFunc(match func(*yaml.Node) bool, keys ...string) bool {
	return s.collect(func(doc *yaml.Node) []*yaml.Node {
		list := doc
		for _, key := range keys {
			list = field(list, key)
		}

		if list == nil || list.Kind != yaml.SequenceNode {
			return nil
		}

		return slices.DeleteFunc(slices.Clone(list.Content), func(item *yaml.Node) bool { return !match(item) })
	})
}

// collect replaces the nodes by those found in the documents, and reports whether there were any.
func (s *search) collect(in func(doc *yaml.Node) []*yaml.Node) bool {
	var found []*yaml.Node
	for _, doc := range s.docs {
		found = append(found, in(doc)...)
	}

	if len(found) > 0 {
		s.nodes = found
	}

	return len(found) > 0
}

// content moves from entries to what is in them.
func (s *search) content() {
	s.entered = s.nodes

	for i, item := range s.nodes {
		for _, key := range []string{"file", "inline", "job"} {
			if k, v := entry(item, key); k != nil {
				s.nodes = slices.Clone(s.nodes)

				s.nodes[i] = k
				if scalar(v) != "" {
					s.nodes[i] = v
				}

				break
			}
		}
	}
}

// Machine returns the position of a machine in the lists of ControlPlane and Workers, or the beginning of the file.
func (t *Template) Machine(id string) Position {
	for _, m := range t.machines {
		if m.id == id {
			return m.at
		}
	}

	return Position{File: t.Path, Line: 1, Column: 1}
}
