package template

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"io"
	"strconv"
	"strings"
	"sync"
	"weak"

	"gopkg.in/yaml.v3"
)

// Template is one cluster template: one file. It is immutable once Find has returned it.
type Template struct {
	// Name is the name of the cluster; empty if the template does not say.
	Name string

	// Path is the file, slash-separated, relative to the root of the revision.
	Path string

	// Digest is a hex SHA-256 over the path, the file's bytes and every file it refers to. Equal digests render to
	// equal resources.
	Digest string

	// Problems is what Find found wrong with this template, in this file or between it and others. A template with
	// problems is never applied.
	Problems Problems

	source source
	parsed *parsed
	edits  []edit // sorted; with them made it is what upstream gets
	whole  bool   // it may be handed to upstream

	settings []Setting
	machines []machine
}

// parsed is the documents of a text, for whoever asks where something is in it. As nodes a fleet takes several times
// the memory that its resources take, and hardly anybody asks: the garbage collector has them back.
type parsed struct {
	data []byte

	mu   sync.Mutex
	docs weak.Pointer[documents]
}

type documents struct{ list []*yaml.Node }

// documents returns the nodes of the text, the same ones while somebody holds them.
func (p *parsed) documents() *documents {
	p.mu.Lock()
	defer p.mu.Unlock()

	if docs := p.docs.Value(); docs != nil {
		return docs
	}

	list, _ := parse(p.data) // it could be parsed once
	docs := &documents{list}
	p.docs = weak.Make(docs)

	return docs
}

// documents returns the documents of the template.
func (t *Template) documents() *documents {
	if t.parsed == nil {
		return &documents{}
	}

	return t.parsed.documents()
}

// machine is a machine that a template takes for its cluster.
type machine struct {
	id string
	at Position
}

// Inlined returns the text to hand to upstream's template.Load: the file's bytes, with each `file:` replaced by the
// content of that file. It is nil if the template is too broken to be handed on; its Problems then say why. Do not
// modify it.
//
// A reference that could not be read is replaced by an empty object, so that upstream can judge the rest of the
// template; Problems is not empty then.
func (t *Template) Inlined() []byte {
	switch {
	case !t.whole:
		return nil
	case len(t.edits) == 0:
		return t.source.data
	default:
		return t.source.apply(t.edits)
	}
}

func (f *finder) addTemplate(name string, data []byte, docs []*yaml.Node) {
	t := &Template{Path: name, source: newSource(data), parsed: &parsed{data: data}}
	f.file.templates = append(f.file.templates, t)

	digest := sha256.New()
	feed(digest, "template", name, string(data))

	for _, doc := range docs {
		if scalar(field(doc, "kind")) == kindCluster && t.Name == "" {
			t.Name = scalar(field(doc, "name"))
		}
	}

	// A key that is set twice can be decoded all the same, to find what else is wrong.
	t.Problems = checkShape(name, docs)
	if !t.Problems.Undecodable() {
		f.inline(t, docs, digest)
		t.collectMachines(docs)
	}

	t.Problems = t.Problems.Sorted()
	t.Digest = hex.EncodeToString(digest.Sum(nil))
}

// feed adds strings to a digest, each with its length, so that no two lists of strings feed the same bytes.
func feed(digest hash.Hash, parts ...string) {
	for _, part := range parts {
		digest.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part)))) // a hash never fails
		io.WriteString(digest, part)
	}
}

func (t *Template) problem(n *yaml.Node, format string, args ...any) {
	t.Problems = append(t.Problems, Problemf(positionOf(t.Path, n), format, args...))
}

func (t *Template) collectMachines(docs []*yaml.Node) {
	for _, doc := range docs {
		if kind := scalar(field(doc, "kind")); kind != kindControlPlane && kind != kindWorkers {
			continue
		}

		list := field(doc, "machines")
		if list == nil || list.Kind != yaml.SequenceNode {
			continue
		}

		for _, item := range list.Content {
			if id := scalar(item); id != "" {
				t.machines = append(t.machines, machine{id, positionOf(t.Path, item)})
			}
		}
	}
}

// checkShape finds what must not reach a decoder: keys given twice, and documents that are too deep or too large once
// their aliases are expanded.
func checkShape(name string, docs []*yaml.Node) Problems {
	var problems Problems

	for _, doc := range docs {
		s := shape{file: name, sizes: map[*yaml.Node]int{}}

		size := s.measure(doc, 1)
		if size > MaxNodes {
			s.problem(doc, RuleLimit, "this document has more than %d nodes once its aliases are expanded: use fewer aliases", MaxNodes)
		}

		problems = append(problems, s.problems...)
	}

	return problems
}

type shape struct {
	file     string
	sizes    map[*yaml.Node]int // by node, of those that have an anchor; 0 while inside of it
	deep     bool
	problems Problems
}

func (s *shape) problem(n *yaml.Node, rule Rule, format string, args ...any) {
	s.problems = append(s.problems, Problemf(positionOf(s.file, n), format, args...).Of(rule))
}

// measure counts nodes with their aliases expanded, up to MaxNodes+1.
func (s *shape) measure(n *yaml.Node, depth int) int {
	if n.Kind == yaml.AliasNode {
		size, known := s.sizes[n.Alias]
		if known && size == 0 {
			s.problem(n, RuleLimit, "anchor %q contains itself: remove this alias", n.Value)
		}

		return size
	}

	if depth > MaxDepth {
		if !s.deep {
			s.problem(n, RuleLimit, "more than %d mappings and sequences inside each other: write it flatter", MaxDepth)
		}

		s.deep = true

		return 1
	}

	if n.Anchor != "" {
		s.sizes[n] = 0
	}

	if n.Kind == yaml.MappingNode {
		s.checkKeys(n)
	}

	size := 1
	for _, child := range n.Content {
		size = min(size+s.measure(child, depth+1), MaxNodes+1)
	}

	if n.Anchor != "" {
		s.sizes[n] = size
	}

	return size
}

// keyFault says what is wrong with a node as a key, if anything is. Decoders, and we, name keys
// in what we say of them, so a key that could be anything but a name is found before that, and
// its content, which may be secret, is not told.
func keyFault(key *yaml.Node) (words string, rule Rule) {
	key = resolve(key)

	switch {
	case key.Kind == yaml.MappingNode:
		return "a mapping cannot be a key: write a text", RuleSyntax
	case key.Kind == yaml.SequenceNode:
		return "a list cannot be a key: write a text", RuleSyntax
	case strings.Contains(key.Value, "\n"):
		return "a key of several lines cannot be read: write it on one line", RuleSyntax
	case len(key.Value) > MaxKeySize:
		return "this key has more than " + strconv.Itoa(MaxKeySize) + " bytes: write a shorter one", RuleLimit
	default:
		return "", ""
	}
}

func (s *shape) checkKeys(n *yaml.Node) {
	first := make(map[string]*yaml.Node, len(n.Content)/2)

	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if fault, rule := keyFault(key); fault != "" {
			s.problem(key, rule, "%s", fault)

			continue
		}

		if key.Kind != yaml.ScalarNode {
			continue // an alias of a text
		}

		if other, twice := first[key.Value]; twice && other.ShortTag() == key.ShortTag() {
			s.problem(key, RuleDuplicate, "%s is set twice, first in line %d: remove one of them", key.Value, other.Line)
		} else {
			first[key.Value] = key
		}
	}
}
