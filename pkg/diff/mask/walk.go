package mask

import (
	"strings"

	"gopkg.in/yaml.v3"
)

// Bounds of a document; one that is over them is masked as a whole.
const (
	// maxText is far above what Omni takes for a patch.
	maxText = 8 << 20
	// maxDepth is how deep mappings and lists may lie in each other.
	maxDepth = 100
	// maxSteps is how many nodes are looked at, aliases followed.
	maxSteps = 1 << 19
	// maxNesting is how deep documents may stand in texts of documents: a manifest in a patch is 1.
	maxNesting = 3
)

// mark is what was found out about a scalar.
type mark struct {
	verdict verdict
	path    string
}

// walker finds out which scalars of a document are secret. It follows aliases: an anchored value is secret if it is used as one.
type walker struct {
	*masker

	marks  map[*yaml.Node]mark
	active map[*yaml.Node]bool // aliases being followed, against cycles
	steps  int
	over   bool // a bound was hit
}

// spot is where a node stands.
type spot struct {
	at []string
	// objects are the mappings with a kind that the node is in: rules for a kind count from there.
	objects []object
	// verdict is that on everything here; undecided if it has to be looked for.
	verdict verdict
}

type object struct {
	depth int // how many keys of the path lead to it
	kind  string
}

func (s spot) below(key string, v verdict) spot {
	s.at = append(s.at[:len(s.at):len(s.at)], key)
	s.verdict = v

	return s
}

func (w *walker) walk(n *yaml.Node, s spot) {
	if w.steps++; w.steps > maxSteps || len(s.at) > maxDepth {
		w.over = true
	}

	if w.over {
		return
	}

	switch n.Kind {
	case yaml.DocumentNode:
		for _, child := range n.Content {
			w.walk(child, s)
		}
	case yaml.AliasNode:
		if !w.active[n.Alias] {
			w.active[n.Alias] = true
			w.walk(n.Alias, s)
			delete(w.active, n.Alias)
		}
	case yaml.ScalarNode:
		w.mark(n, s)
	case yaml.SequenceNode:
		w.sequence(n, s)
	case yaml.MappingNode:
		w.mapping(n, s)
	}
}

// mark keeps the sternest verdict: a value may be used in several places.
func (w *walker) mark(n *yaml.Node, s spot) {
	if old, known := w.marks[n]; !known || s.verdict > old.verdict {
		w.marks[n] = mark{s.verdict, join(s.at)}
	}
}

func (w *walker) sequence(n *yaml.Node, s spot) {
	flag := false // the element before is a flag such as --password
	curl := false // the list is a call of curl

	for _, child := range n.Content {
		element := resolve(child)
		below := s.below(index, s.verdict)

		if below.verdict == undecided {
			below.verdict = w.rule(below)
		}

		if flag && below.verdict == undecided && element.Kind == yaml.ScalarNode {
			below.verdict = isNamed
		}

		curl = curl || element.Kind == yaml.ScalarNode && strings.HasSuffix(element.Value, "curl")
		flag = curl && userFlags[element.Value] || element.Kind == yaml.ScalarNode && strings.HasPrefix(element.Value, "-") && sensitive(strings.TrimLeft(element.Value, "-"))

		if len(s.at) == 0 && isOperation(element) {
			w.operation(element)
		}

		w.walk(child, below)
	}
}

// userFlags come before user:password in a call of curl.
var userFlags = map[string]bool{"-u": true, "--user": true, "-U": true, "--proxy-user": true}

// operation is one of a JSON patch: its path says what its value is.
func (w *walker) operation(n *yaml.Node) {
	var pointer []string

	for _, path := range values(n, "path") {
		pointer = pointer[:0]

		for _, key := range strings.Split(strings.TrimPrefix(path.Value, "/"), "/") {
			if key == "-" || key != "" && strings.Trim(key, "0123456789") == "" {
				key = index
			}

			pointer = append(pointer, strings.NewReplacer("~1", "/", "~0", "~").Replace(key))
		}

		if path.Value == "" || len(pointer) > maxDepth {
			pointer = nil
		}

		s := spot{}

		for i, key := range pointer {
			s = s.below(key, s.verdict)
			if s.verdict == undecided {
				s.verdict = w.rule(s)
			}

			if s.verdict == undecided && sensitive(key) && (i == 0 || pointer[i-1] != "properties") {
				s.verdict = isNamed
			}
		}

		for _, value := range values(n, "value") {
			w.walk(value, s)
		}
	}
}

func isOperation(n *yaml.Node) bool {
	return n.Kind == yaml.MappingNode && len(values(n, "op")) > 0 && len(values(n, "path")) > 0
}

// mapping walks a mapping: its own keys and those that it merges.
func (w *walker) mapping(n *yaml.Node, s spot) {
	// A mapping under a key such as "secret" may only say where a secret is.
	if s.verdict == isNamed && isReference(keysOf(n)) {
		s.verdict = undecided
	}

	var about facts

	for _, kind := range values(n, "kind") {
		name := strings.TrimSpace(kind.Value)
		about.secret = about.secret || strings.EqualFold(name, "Secret")

		if strings.EqualFold(name, "SecretList") {
			name = "SecretList"
		}

		if kinds[name] {
			s.objects = append(s.objects[:len(s.objects):len(s.objects)], object{len(s.at), name})
		}
	}

	about.pair = len(values(n, "crt"))+len(values(n, "cert"))+len(values(n, "certificate")) > 0

	for _, name := range append(values(n, "name"), values(n, "key")...) {
		about.named = about.named || sensitive(name.Value)
	}

	w.entries(n, s, about)
}

// facts are what the other entries of a mapping say about one of its entries.
type facts struct {
	secret bool // a Kubernetes Secret
	pair   bool // a certificate, whose "key" is private
	named  bool // {name: DB_PASSWORD, value: ...}
}

func (w *walker) entries(n *yaml.Node, s spot, about facts) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]

		if isMerge(key) {
			w.merge(value, s, about)

			continue
		}

		name := resolve(key)
		hidden := s.verdict == isSecret || s.verdict == isNamed

		if name.Kind != yaml.ScalarNode {
			v := s.verdict
			if hidden {
				v = isAllSecret
			}

			w.walk(key, s.below("?", v))
			w.walk(value, s.below("?", v))

			continue
		}

		// {hunter2} is a mapping with a key and no value: the key is the secret.
		keyVerdict := undecided
		if v := resolve(value); s.verdict == isAllSecret || hidden && v.Kind == yaml.ScalarNode && isNull(v) {
			keyVerdict = isSecret
		}

		w.mark(name, spot{at: s.at, verdict: keyVerdict})

		below := s.below(name.Value, s.verdict)
		if s.verdict < isDocument {
			below.verdict = max(s.verdict, w.entry(below, resolve(value), about))
		}

		w.walk(value, below)
	}
}

// entry says what the value of one entry of a mapping is.
func (w *walker) entry(s spot, value *yaml.Node, about facts) verdict {
	name := s.at[len(s.at)-1]

	if name == "stringData" || about.secret && name == "data" {
		return isSecret
	}

	if v := w.rule(s); v != undecided {
		return v
	}

	switch {
	case s.verdict == isPublic:
		return undecided
	case len(s.at) > 1 && s.at[len(s.at)-2] == "properties" && value.Kind == yaml.MappingNode && isSchema(keysOf(value)):
		return undecided
	case sensitive(name),
		name == "value" && about.named,
		name == "key" && about.pair && value.Kind == yaml.ScalarNode:
		return isNamed
	default:
		return undecided
	}
}

// merge walks what "<<" takes in, as if it stood here.
func (w *walker) merge(value *yaml.Node, s spot, about facts) {
	switch value.Kind {
	case yaml.AliasNode:
		if w.steps++; w.steps > maxSteps {
			w.over = true
		}

		if !w.active[value.Alias] && !w.over {
			w.active[value.Alias] = true
			w.merge(value.Alias, s, about)
			delete(w.active, value.Alias)
		}
	case yaml.SequenceNode:
		for _, element := range value.Content {
			w.merge(element, s, about)
		}
	case yaml.MappingNode:
		if w.steps++; w.steps <= maxSteps {
			w.entries(value, s, about)
		}
	default:
		w.walk(value, s)
	}
}

// rule asks what is declared and what the rules say, from the root of the document and from that of the object.
func (w *walker) rule(s spot) verdict {
	if w.declaredSecret(s.at) {
		return isSecret
	}

	found := decide("", s.at)

	for _, o := range s.objects {
		if own := s.at[o.depth:]; len(own) > 0 {
			found = max(found, decide(o.kind, own))
		}
	}

	return found
}

func resolve(n *yaml.Node) *yaml.Node {
	for range maxDepth {
		if n.Kind != yaml.AliasNode || n.Alias == nil {
			break
		}

		n = n.Alias
	}

	return n
}

func isMerge(key *yaml.Node) bool { return key.Kind == yaml.ScalarNode && key.Value == "<<" }

// maxMerged is how many mappings are looked into for the entries of one.
const maxMerged = 64

// values returns the scalars under a key of a mapping: several if the key stands there twice or is merged in, too.
func values(n *yaml.Node, key string) []*yaml.Node {
	var found []*yaml.Node

	each(n, func(k, v *yaml.Node) {
		if k.Value == key && (v.Kind == yaml.ScalarNode || key == "value") {
			found = append(found, v)
		}
	})

	return found
}

func keysOf(n *yaml.Node) []string {
	var keys []string

	each(n, func(k, _ *yaml.Node) { keys = append(keys, k.Value) })

	return keys
}

// each calls back with the entries of a mapping, merged ones too.
func each(n *yaml.Node, f func(key, value *yaml.Node)) {
	todo := []*yaml.Node{n}

	for i := 0; i < len(todo) && i < maxMerged; i++ {
		n := resolve(todo[i])

		if n.Kind == yaml.SequenceNode {
			todo = append(todo, n.Content...)
		}

		if n.Kind != yaml.MappingNode {
			continue
		}

		for j := 0; j+1 < len(n.Content); j += 2 {
			if isMerge(n.Content[j]) {
				todo = append(todo, n.Content[j+1])
			} else {
				f(resolve(n.Content[j]), resolve(n.Content[j+1]))
			}
		}
	}
}
