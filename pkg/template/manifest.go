package template

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Manifest is a plain COSI resource, as `omnictl get -o yaml` prints it and `omnictl apply` takes it.
type Manifest struct {
	// Position is where the document begins. Position.File is the Path.
	Position

	// Path is the file, slash-separated, relative to the root of the revision.
	Path string

	// Namespace, Type and ID name the resource.
	Namespace, Type, ID string

	// File is the whole file, and Document the index of this manifest among the YAML documents in it.
	File     []byte
	Document int

	// Digest is a hex SHA-256 over the path, the file's bytes and the index.
	Digest string

	// Problems is what Find found wrong with this manifest. A manifest with problems is never applied.
	Problems Problems

	root *yaml.Node
}

// addManifest adds a document with a metadata mapping, if it is a COSI resource.
func (f *finder) addManifest(name string, data []byte, index int, doc, metadata *yaml.Node) {
	m := &Manifest{
		Position:  positionOf(name, doc),
		Path:      name,
		Namespace: scalar(field(metadata, "namespace")),
		Type:      scalar(field(metadata, "type")),
		ID:        scalar(field(metadata, "id")),
		File:      data,
		Document:  index,
		root:      doc,
	}

	if !strings.HasSuffix(m.Type, "sidero.dev") && (m.Namespace == "" || m.Type == "" || m.ID == "") {
		return // something else that has metadata
	}

	for key, value := range map[string]string{"namespace": m.Namespace, "id": m.ID} {
		if value == "" {
			m.Problems = append(m.Problems, Problemf(positionOf(name, metadata), "metadata.%s of this %s is missing: add it", key, m.Type).Of(RuleManifest))
		}
	}

	m.Problems = append(m.Problems, checkShape(name, []*yaml.Node{doc})...)

	digest := sha256.New()
	feed(digest, "manifest", name, string(data), strconv.Itoa(index))
	m.Digest = hex.EncodeToString(digest.Sum(nil))

	m.Problems = m.Problems.Sorted()
	f.file.manifests = append(f.file.manifests, m)
}

// At returns the position of the value under a path of keys, or of the last part of the path that exists.
func (m *Manifest) At(keys ...string) Position {
	return positionOf(m.Path, descend(m.root, keys...))
}

// Key returns the position of the last key of a path, or of the last part of the path that exists.
func (m *Manifest) Key(keys ...string) Position {
	if len(keys) == 0 {
		return m.Position
	}

	parent := m.root
	for _, key := range keys[:len(keys)-1] {
		if parent = field(parent, key); parent == nil {
			return m.At(keys...)
		}
	}

	if k, _ := entry(parent, keys[len(keys)-1]); k != nil {
		return positionOf(m.Path, k)
	}

	return m.At(keys...)
}
