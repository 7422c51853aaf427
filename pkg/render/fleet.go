package render

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/resource/protobuf"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	_ "github.com/siderolabs/omni/client/pkg/omni/resources/registry" // the table that the types below register in
	"go.yaml.in/yaml/v4"

	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// fleetDigest stands for all manifests of a set.
func fleetDigest(set *template.Set) string {
	digest := sha256.New()
	for _, m := range set.Manifests {
		digest.Write([]byte(m.Digest)) // of fixed length
	}

	return "fleet:" + hex.EncodeToString(digest.Sum(nil))
}

// renderFleet makes the fleet target of all manifests. They are one unit: one that is broken keeps back all, because
// a target without it would say that it should not exist.
func renderFleet(set *template.Set, digest string) *result {
	res := &result{}
	target := &Target{Digest: digest}
	positions := map[key]template.Position{}

	for _, manifests := range byFile(set.Manifests) {
		docs := documents(manifests[0].File)

		for _, m := range manifests {
			if m.Problems.Undecodable() {
				continue
			}

			if m.Document >= len(docs) {
				res.problems = append(res.problems, template.Problemf(m.Position, "the YAML parser of Omni's client cannot read this document: write it as omnictl prints it").Of(template.RuleManifest))

				continue
			}

			d := manifestDecoder{Manifest: m}

			if r := d.decode(docs[m.Document]); r != nil {
				target.Resources = append(target.Resources, r)
				positions[keyOf(r.Metadata())] = m.Position
			}

			res.problems = append(res.problems, d.problems...)
		}
	}

	if len(res.problems) > 0 {
		return res
	}

	sortResources(target.Resources)

	target.position = func(md *resource.Metadata) template.Position { return positions[keyOf(md)] }
	res.target = target

	return res
}

// byFile groups manifests, which are sorted by path.
func byFile(manifests []*template.Manifest) [][]*template.Manifest {
	var files [][]*template.Manifest

	for i, m := range manifests {
		if i == 0 || manifests[i-1].Path != m.Path {
			files = append(files, nil)
		}

		files[len(files)-1] = append(files[len(files)-1], m)
	}

	return files
}

// documents parses a file, as far as it can be parsed.
func documents(file []byte) []*yaml.Node {
	var docs []*yaml.Node

	for decoder := yaml.NewDecoder(bytes.NewReader(file)); ; {
		var doc yaml.Node
		if err := decoder.Decode(&doc); err != nil || len(doc.Content) != 1 {
			return docs
		}

		docs = append(docs, doc.Content[0])
	}
}

// manifestDecoder turns one manifest into a resource.
type manifestDecoder struct {
	*template.Manifest
	problems template.Problems
}

func (d *manifestDecoder) problem(at template.Position, format string, args ...any) {
	d.problems = append(d.problems, template.Problemf(at, format, args...).Of(template.RuleManifest))
}

// metadataKeys are the keys of metadata as Omni prints it. Those that are not copied are the server's.
var metadataKeys = []string{
	"namespace", "type", "id", "labels", "annotations", "version", "owner", "phase", "created", "updated", "finalizers",
}

// decode returns nil if there are problems.
func (d *manifestDecoder) decode(doc *yaml.Node) (r resource.Resource) {
	defer func() {
		if fault := recover(); fault != nil {
			d.problem(d.Position, "the code of Omni's client gave up on this manifest: %v", fault)

			r = nil
		}
	}()

	kind, ok := kindOf(d.Type)

	switch {
	case !ok:
		d.problem(d.At("metadata", "type"), "a manifest cannot hold a resource of type %s (a cluster and its parts are written as a template)%s; these types it can: %s",
			d.Type, template.Meant(d.Type, typeNames()), strings.Join(typeNames(), ", "))
	case d.Namespace != kind.Namespace:
		d.problem(d.At("metadata", "namespace"), "namespace is %q: %s are in namespace %q, write that", d.Namespace, d.Type, kind.Namespace)
	}

	d.checkKeys(doc, []string{"metadata", "spec"})
	d.checkKeys(value(doc, "metadata"), metadataKeys, "metadata")
	d.checkKeys(value(value(doc, "metadata"), "labels"), nil, "metadata", "labels")
	d.checkKeys(value(value(doc, "metadata"), "annotations"), nil, "metadata", "annotations")
	d.checkReserved(value(doc, "metadata"))

	if !ok {
		return nil // the spec is of no type that is known
	}

	r, err := protobuf.CreateResource(d.Type)
	if err != nil {
		d.problem(d.At("metadata", "type"), "this build does not know resources of type %s: remove it, or use a newer omni-syncd", d.Type)

		return nil
	}

	var written resource.Metadata
	if err := written.UnmarshalYAML(value(doc, "metadata")); err != nil && len(d.problems) == 0 {
		d.problem(d.At("metadata"), "%s: write it as omnictl prints it", template.PlainWords(err))
	}

	*r.Metadata() = resource.NewMetadata(d.Namespace, d.Type, d.ID, resource.VersionUndefined)
	*r.Metadata().Labels() = *written.Labels()
	*r.Metadata().Annotations() = *written.Annotations()

	spec := value(doc, "spec")
	if spec == nil {
		spec = &yaml.Node{Kind: yaml.MappingNode}
	}

	// What cannot be decoded is passed over, and the rest is looked at.
	if err := spec.Decode(r.Spec()); err != nil {
		d.decodeProblems(err)
	}

	if d.checkSpec(r, spec); len(d.problems) > 0 {
		return nil
	}

	return r
}

// decodeProblems reports what the decoder of a spec says, where it says it is.
func (d *manifestDecoder) decodeProblems(err error) {
	decoding := (*yaml.LoadErrors)(nil)
	if !errors.As(err, &decoding) {
		d.problem(d.At("spec"), "%s: write it as omnictl prints it", template.PlainWords(err))

		return
	}

	for _, e := range decoding.Errors {
		if len(d.Manifest.Problems) > 0 && strings.HasPrefix(e.Err.Error(), "mapping key") {
			continue // said already
		}

		d.problem(template.Position{File: d.Path, Line: e.Line, Column: max(e.Column, 1)}, "%s", template.InWords(e.Err))
	}
}

// addresses are the labels under omni.sidero.dev/ by which a resource says what it is for. Omni takes any other key under
// that prefix, too, and gives it a meaning: what it locks, migrated or imported. Those are not for people to write.
var addresses = []string{
	omni.LabelCluster, omni.LabelMachineSet, omni.LabelClusterMachine, omni.LabelMachine, omni.LabelMachineRequestSet, omni.LabelInfraProviderID,
}

// checkReserved refuses what is Omni's own. What says which tool manages a resource is left out of what is written, and an
// exported manifest has it.
func (d *manifestDecoder) checkReserved(metadata *yaml.Node) {
	for _, where := range []string{"labels", "annotations"} {
		n := value(metadata, where)
		if n == nil {
			continue
		}

		for _, key := range keys(n) {
			switch {
			case !strings.HasPrefix(key, omni.SystemLabelPrefix), where == "labels" && slices.Contains(addresses, key),
				strings.HasPrefix(key, omni.SystemLabelPrefix+"managed-by-"):
			default:
				d.problem(d.Key("metadata", where, key), "metadata.%s: names under %s are Omni's own: remove %s", where, omni.SystemLabelPrefix, key)
			}
		}
	}
}

// checkKeys makes sure that a node, if it is there, is a mapping, and has no other keys than those known (nil for any).
func (d *manifestDecoder) checkKeys(n *yaml.Node, known []string, path ...string) {
	if n == nil {
		return
	}

	if n.Kind != yaml.MappingNode {
		d.problem(d.At(path...), "%s must be a mapping: write it as key: value", strings.Join(path, "."))

		return
	}

	for i := 0; i+1 < len(n.Content); i += 2 {
		if key := n.Content[i].Value; known != nil && !slices.Contains(known, key) {
			path := append(path[:len(path):len(path)], key)
			d.unknown(path, known, "")
		}
	}
}

// unknown reports a key at the end of a path that there is not.
func (d *manifestDecoder) unknown(path, known []string, where string) {
	advice := template.DidYouMean(path[len(path)-1], known)
	if advice == "" {
		advice = ": remove it"
	}

	problem := template.Problemf(d.Key(path...), "unknown field %s%s%s", strings.Join(path, "."), where, advice)
	d.problems = append(d.problems, problem.Of(template.RuleUnknown))
}

// keys returns the keys of a mapping.
func keys(n *yaml.Node) []string {
	var all []string
	for i := 0; i+1 < len(n.Content); i += 2 {
		all = append(all, n.Content[i].Value)
	}

	return all
}

// checkSpec finds fields that the type does not have. The decoder passes over them in silence, so the spec is written
// out again: every field that there is appears then.
func (d *manifestDecoder) checkSpec(r resource.Resource, spec *yaml.Node) {
	raw, err := yaml.Marshal(r.Spec())
	if err != nil {
		d.problem(d.At("spec"), "%v", err)

		return
	}

	var known yaml.Node
	if err := yaml.Unmarshal(raw, &known); err != nil || len(known.Content) != 1 {
		d.problem(d.At("spec"), "the spec cannot be written out again: %v", err)

		return
	}

	d.compare(spec, known.Content[0], "spec")
}

func (d *manifestDecoder) compare(written, known *yaml.Node, path ...string) {
	for written.Kind == yaml.AliasNode {
		written = written.Alias
	}

	switch {
	case written.Kind == yaml.MappingNode && known.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(written.Content); i += 2 {
			key := written.Content[i].Value
			deeper := append(path[:len(path):len(path)], key)

			if other := value(known, key); other != nil {
				d.compare(written.Content[i+1], other, deeper...)
			} else if key != "<<" {
				d.unknown(deeper, keys(known), " in "+d.Type)
			}
		}
	case written.Kind == yaml.SequenceNode && known.Kind == yaml.SequenceNode && len(written.Content) == len(known.Content):
		for i := range written.Content {
			d.compare(written.Content[i], known.Content[i], path...)
		}
	}
}

// value returns the value of a mapping's key, or nil.
func value(n *yaml.Node, key string) *yaml.Node {
	for i := 0; n != nil && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}

	return nil
}
