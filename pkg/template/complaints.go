package template

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// complaints are upstream's messages that need more than a look at the words in them.
var complaints = []struct {
	*regexp.Regexp
	find func(s *search, m []string) bool
}{
	{regexp.MustCompile(`^name is required|^name should only|^custom name is|^name ".*" cannot`), func(s *search, _ []string) bool {
		return s.values("name")
	}},
	{regexp.MustCompile(`^template should contain 1 (\w+), got (\d+)$`), func(s *search, m []string) bool {
		kind := map[string]string{"cluster": kindCluster, "controlplane": kindControlPlane}[m[1]]

		same := search{docs: s.docs}
		same.only(kind, "")

		if len(same.docs) > 1 {
			s.docs = same.docs[1:]
		} else {
			s.only(kindCluster, "")
		}

		return s.values("kind")
	}},
	{regexp.MustCompile(`^duplicate workers with name`), func(s *search, _ []string) bool {
		return s.repeated(kindWorkers, func(doc *yaml.Node) []*yaml.Node { return []*yaml.Node{descend(doc, "name")} })
	}},
	{regexp.MustCompile(`^machine ".*" is used in multiple workers`), func(s *search, _ []string) bool {
		return s.repeated(kindWorkers, machineItems)
	}},
	{regexp.MustCompile(`^machines \[(.*)\] are used in both`), func(s *search, m []string) bool {
		ids := strings.Fields(m[1])
		s.only(kindWorkers, "")

		return s.collect(func(doc *yaml.Node) []*yaml.Node {
			return slices.DeleteFunc(machineItems(doc), func(item *yaml.Node) bool { return !slices.Contains(ids, scalar(item)) })
		})
	}},
	{regexp.MustCompile(`^machine (".*") is (not used|locked and used) in`), func(s *search, m []string) bool {
		id, _ := strconv.Unquote(m[1])
		s.only(kindMachine, id)

		return m[2] != "not used" && s.values("locked") || s.values("name")
	}},
	{regexp.MustCompile(`^(label|annotation) (".*") is invalid`), func(s *search, m []string) bool {
		key, _ := strconv.Unquote(m[2])

		return s.keys(m[1]+"s", key)
	}},
	{regexp.MustCompile(`^disk encryption`), func(s *search, _ []string) bool { return s.values("features", "diskEncryption") }},
	{regexp.MustCompile(`^machine set can not have both`), func(s *search, _ []string) bool {
		s.docs = slices.DeleteFunc(slices.Clone(s.docs), func(doc *yaml.Node) bool {
			return field(doc, "machines") == nil || field(doc, "machineClass") == nil
		})

		return s.values("machineClass")
	}},
	{regexp.MustCompile(`^(\w+) is required in bootstrapSpec`), func(s *search, m []string) bool {
		return s.values("bootstrapSpec", m[1]) || s.values("bootstrapSpec")
	}},
	{regexp.MustCompile(`^path and inline are mutually exclusive`), func(s *search, _ []string) bool {
		return len(s.nodes) > 0 || s.entriesFunc(func(item *yaml.Node) bool {
			return effectiveNode(item, "file") != nil && effectiveNode(item, "inline") != nil
		}, "kubernetes", "manifests")
	}},
	{regexp.MustCompile(`^path or inline is required`), func(s *search, _ []string) bool {
		return len(s.nodes) > 0 || s.entriesFunc(func(item *yaml.Node) bool {
			return effective(item, "file") == "" && effectiveNode(item, "inline") == nil
		}, "kubernetes", "manifests")
	}},
	{regexp.MustCompile(`^kubernetes manifest name is empty`), func(s *search, _ []string) bool {
		return s.entries("", "kubernetes", "manifests")
	}},
	{regexp.MustCompile(`^(?:kubernetes|duplicate) manifest(?: name)? (".*?")`), func(s *search, m []string) bool {
		name, _ := strconv.Unquote(m[1])

		return s.entries(name, "kubernetes", "manifests") && s.last("duplicate", m[0])
	}},
	{regexp.MustCompile(`^(?:duplicate )?healthcheck (".*?")`), func(s *search, m []string) bool {
		name, _ := strconv.Unquote(m[1])

		return s.entries(name, "kubernetes", "healthchecks") && s.last("duplicate", m[0])
	}},
	{regexp.MustCompile(`^resource ID duplicate [^(]*\([^/]*/(.*)\)$`), func(s *search, m []string) bool {
		if !s.collect(func(doc *yaml.Node) []*yaml.Node { return scalars(doc, m[1]) }) {
			return s.repeated(kindMachine, func(doc *yaml.Node) []*yaml.Node { return []*yaml.Node{descend(doc, "name")} })
		}

		s.nodes = s.nodes[min(1, len(s.nodes)-1):] // the first is as good as any if it were alone

		return true
	}},
	{regexp.MustCompile(`required for a healthcheck$`), func(s *search, _ []string) bool {
		return s.entriesFunc(func(item *yaml.Node) bool {
			return effective(item, "name") == "" && effective(item, "idOverride") == ""
		},
			"kubernetes", "healthchecks")
	}},
}

var (
	quotedWord = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	firstWord  = regexp.MustCompile(`^\w+`)
)

// find looks for what a complaint is about.
func (s *search) find(message string) {
	for _, c := range complaints {
		if m := c.FindStringSubmatch(message); m != nil && c.find(s, m) {
			return
		}
	}

	if len(s.nodes) > 0 {
		return // the context said it
	}

	// A key that is not allowed where it is, or a value that is quoted: upstream's messages begin with the one and
	// name the other.
	if word := firstWord.FindString(message); word != "" && s.keys(word) {
		return
	}

	for _, quoted := range quotedWord.FindAllString(message, -1) {
		value, err := strconv.Unquote(quoted)
		if err == nil && value != "" && s.collect(func(doc *yaml.Node) []*yaml.Node { return scalars(doc, value) }) {
			return
		}
	}
}

// keys looks for a path of keys, below the nodes found so far or else in the documents, and ends at the last key
// itself.
func (s *search) keys(keys ...string) bool {
	in := s.nodes
	if len(in) == 0 {
		in = s.docs
	}

	var found []*yaml.Node

	for _, n := range in {
		for _, key := range keys[:len(keys)-1] {
			n = effectiveNode(n, key)
		}

		if k, _ := entry(n, keys[len(keys)-1]); k != nil {
			found = append(found, k)
		}
	}

	if len(found) > 0 {
		s.nodes = found
	}

	return len(found) > 0
}

// last keeps only the last node if a message is about a repetition.
func (s *search) last(word, message string) bool {
	if strings.HasPrefix(message, word) {
		s.nodes = s.nodes[len(s.nodes)-1:]
	}

	return true
}

// repeated looks for nodes whose value was there before, in the documents of a kind.
func (s *search) repeated(kind string, in func(doc *yaml.Node) []*yaml.Node) bool {
	s.only(kind, "")

	before := map[string]bool{}

	return s.collect(func(doc *yaml.Node) []*yaml.Node {
		return slices.DeleteFunc(in(doc), func(n *yaml.Node) bool {
			again := before[scalar(n)]
			before[scalar(n)] = true

			return !again
		})
	})
}

// machineItems returns the entries of a document's list of machines.
func machineItems(doc *yaml.Node) []*yaml.Node {
	list := field(doc, "machines")
	if list == nil || list.Kind != yaml.SequenceNode {
		return nil
	}

	return slices.Clone(list.Content)
}

// scalars returns the values equal to a text, in order. Content that is a cluster's own (inline, job) is not searched.
func scalars(n *yaml.Node, value string) []*yaml.Node {
	var found []*yaml.Node

	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if key := n.Content[i].Value; key != "inline" && key != "job" {
				found = append(found, scalars(n.Content[i+1], value)...)
			}
		}
	case yaml.SequenceNode:
		for _, item := range n.Content {
			found = append(found, scalars(item, value)...)
		}
	case yaml.ScalarNode:
		if scalar(n) == value {
			found = append(found, n)
		}
	}

	return found
}
