package template

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// reference is the content of a file that templates refer to.
type reference struct {
	quoted  string            // as YAML
	content [sha256.Size]byte // its digest
	size    int
	fault   string // why it cannot be used, or ""
}

// spot is a list in a document whose entries may refer to a file.
type spot struct {
	keys    []string
	content string // the key that holds the content when it is not in a file
	named   bool   // upstream names an entry without a name after its file
	what    string
}

var (
	patchSpot = spot{[]string{"patches"}, "inline", true, "patch"}
	spots     = map[string][]spot{
		kindCluster: {
			patchSpot,
			{[]string{"kubernetes", "manifests"}, "inline", true, "manifest"},
			{[]string{"kubernetes", "healthchecks"}, "job", false, "health check"},
		},
		kindControlPlane: {patchSpot},
		kindWorkers:      {patchSpot},
		kindMachine:      {patchSpot},
	}
)

// inline resolves all references of a template and makes its inlined text. Without references that is the file as it
// is.
//
// The text is edited in place rather than written anew from its nodes: everything that is not a reference reaches
// upstream exactly as it was written.
func (f *finder) inline(t *Template, docs []*yaml.Node, digest hash.Hash) {
	total := 0

	for _, doc := range docs {
		for _, s := range spots[scalar(field(doc, "kind"))] {
			list, anchored := doc, false

			for _, key := range s.keys {
				_, list = entry(resolve(list), key)
				anchored = anchored || list != nil && (list.Anchor != "" || list.Kind == yaml.AliasNode)
			}

			if list = resolve(list); list == nil || list.Kind != yaml.SequenceNode {
				continue
			}

			for _, item := range list.Content {
				if name := effective(item, "file"); name != "" {
					f.inlineEntry(t, s, item, name, anchored, &total, digest)
				}
			}
		}
	}

	if total > MaxInlineSize {
		t.problem(docs[0], "the files this template refers to are larger than %d MiB together: use fewer or smaller ones", MaxInlineSize>>20)

		return
	}

	t.takeSettings(docs)

	for _, p := range t.Problems {
		if p.Message == notPlain {
			return
		}
	}

	t.whole = true
	slices.SortFunc(t.edits, func(a, b edit) int { return a.start - b.start })
}

const notPlain = "omni-syncd cannot follow this file: write it as `file: <path>` in the entry itself, on one line, without anchors, aliases or tags"

// inlineEntry replaces `file: name` in one entry of a list.
func (f *finder) inlineEntry(t *Template, s spot, item *yaml.Node, name string, anchored bool, total *int, digest hash.Hash) {
	key, value := entry(item, "file")
	if key == nil || anchored || item.Anchor != "" || value.Kind == yaml.AliasNode {
		t.problem(firstNonNil(value, item), notPlain)

		return
	}

	ref := f.reference(t.Path, name)
	feed(digest, s.what, name, ref.fault, string(ref.content[:]))

	*total += ref.size
	if *total > MaxInlineSize {
		return
	}

	if ref.fault != "" {
		t.Problems = append(t.Problems, Problemf(positionOf(t.Path, value), "%s", ref.fault).Of(RuleReference))
		ref.quoted = "{machine: {}}"
	}

	edits, ok := t.source.replaceFile(item, s, name, ref.quoted)

	if both := effectiveNode(item, s.content); both != nil {
		t.problem(key, "%s has both file and %s: keep one of them", called(s.what, entryName(item)), s.content)

		var start, end int

		start, end, ok = t.source.span(value)
		edits = []edit{{start, end, `""`}}
	}

	if !ok {
		t.problem(value, notPlain)

		return
	}

	t.edits = append(t.edits, edits...)
}

// replaceFile returns the edits that turn `file: name` into the content, with the name of the file as the name of the
// entry if upstream would name it so.
func (s source) replaceFile(item *yaml.Node, in spot, name, content string) ([]edit, bool) {
	key, value := entry(item, "file")

	keyStart, keyEnd, keyOK := s.span(key)
	valueStart, valueEnd, valueOK := s.span(value)
	_, colonOK := s.colon(keyEnd)

	// A pair in a flow sequence ([file: x]) is a mapping without braces: nothing can be put into it.
	flow := item.Style&yaml.FlowStyle != 0
	bare := flow && !bytes.HasPrefix(s.data[s.offset(item.Line, item.Column):], []byte("{"))

	if !keyOK || !valueOK || !colonOK || bare {
		return nil, false
	}

	newKey := quote([]byte(in.content)) // with quotes, it needs no space after its colon

	var edits []edit

	if in.named && effective(item, "name") == "" {
		if nameKey, nameValue := entry(item, "name"); nameKey != nil {
			start, end, ok := s.emptySpan(nameKey, nameValue)
			if !ok {
				return nil, false
			}

			edits = append(edits, edit{start, end, " " + quote([]byte(name))})
		} else {
			separator := "\n" + strings.Repeat(" ", key.Column-1)
			if flow {
				separator = ", "
			}

			newKey = "name: " + quote([]byte(name)) + separator + newKey
		}
	}

	return append(edits, edit{keyStart, keyEnd, newKey}, edit{valueStart, valueEnd, content}), true
}

// emptySpan returns where the value of a key with an empty value is: nothing, null or an empty string.
func (s source) emptySpan(key, value *yaml.Node) (start, end int, ok bool) {
	_, keyEnd, ok := s.span(key)
	if !ok {
		return 0, 0, false
	}

	if start, ok = s.colon(keyEnd); !ok {
		return 0, 0, false
	}

	if value.Kind == yaml.ScalarNode && value.Value == "" && value.Style == 0 && value.Anchor == "" {
		return start, start, true
	}

	_, end, ok = s.span(value)

	return start, end, ok
}

// effective returns the text of a key of a list entry, as a decoder sees it: with aliases followed and merge keys
// (<<) applied.
func effective(n *yaml.Node, key string) string { return scalar(effectiveNode(n, key)) }

func effectiveNode(n *yaml.Node, key string) *yaml.Node {
	n = resolve(n)

	if v := field(n, key); v != nil {
		return v
	}

	_, merged := entry(n, "<<")
	merged = resolve(merged)

	switch {
	case isMapping(merged):
		return effectiveNode(merged, key)
	case merged != nil && merged.Kind == yaml.SequenceNode:
		for _, m := range merged.Content {
			if v := effectiveNode(m, key); v != nil {
				return v
			}
		}
	}

	return nil
}

// entryName is what an entry is called in messages.
func entryName(item *yaml.Node) string {
	for _, key := range []string{"name", "idOverride", "file"} {
		if name := effective(item, key); name != "" {
			return name
		}
	}

	return ""
}

// reference reads a file that a template refers to, or returns it from before.
func (f *finder) reference(from, name string) reference {
	clean := path.Join(path.Dir(from), name)

	switch {
	case path.IsAbs(name):
		return reference{fault: fmt.Sprintf("file %q is an absolute path: use one relative to this file's folder", name)}
	case !fs.ValidPath(clean):
		return reference{fault: fmt.Sprintf("file %q leaves the source: only files inside of it can be used; name the repository as the source and this folder as its path, or move the file", name)}
	}

	if len(clean) > MaxReferencePath {
		return reference{fault: fmt.Sprintf("the path of the file, %.40q…, is longer than %d bytes: move the file, or the template", name, MaxReferencePath)}
	}

	ref := f.refer(clean).reference
	if ref.fault != "" {
		ref.fault = fmt.Sprintf("file %q %s", name, ref.fault)
	}

	return ref
}

func (f *finder) readReference(name string) reference {
	info, err := fs.Stat(f.fsys, name)
	f.seen.failed(err)

	switch {
	case errors.Is(err, fs.ErrNotExist):
		return reference{fault: fmt.Sprintf("does not exist: there is no %s; create it or correct the path", name)}
	case err != nil:
		return reference{fault: fmt.Sprintf("cannot be read: %v", reason(err))}
	case info.IsDir():
		return reference{fault: "is a folder: name the file in it"}
	case !info.Mode().IsRegular():
		return reference{fault: "is not a regular file: put the content into one"}
	}

	data, err := readBounded(f.fsys, name, MaxReferenceSize)

	switch {
	case errors.Is(err, errTooLarge):
		return reference{fault: fmt.Sprintf("is larger than %d MiB: split it up", MaxReferenceSize>>20)}
	case err != nil:
		f.seen.failed(err)

		return reference{fault: fmt.Sprintf("cannot be read: %v", reason(err))}
	case !utf8.Valid(data):
		line, _ := invalidAt(data)

		return reference{fault: fmt.Sprintf("is not text in UTF-8: the fault is in line %d; save it as UTF-8", line)}
	}

	return reference{quoted: quote(data), content: sha256.Sum256(data), size: len(data)}
}

func firstNonNil(nodes ...*yaml.Node) *yaml.Node {
	for _, n := range nodes {
		if n != nil {
			return n
		}
	}

	return nil
}
