package template

import (
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/omni-syncd/omni-syncd/pkg/template/schema"
)

// Annotations are those under a prefix that mean something.
type Annotations struct {
	Prefix string
	// Known are those of the Cluster of a template: by their names they have the values that they can take, or none if they
	// take any. A manifest may have those of InManifests, too.
	Known       map[string][]string
	InManifests []string
	// Ignored reports whether an annotation may stand anywhere and says nothing, as in what was exported.
	Ignored func(name string) bool
}

// CheckAnnotations finds annotations that mean nothing: a name or a value that there is not, or a place where it is not
// looked at.
//
// Find does not do this: what an annotation means is decided where it is acted on.
func (s *Set) CheckAnnotations(a Annotations) Problems {
	var problems Problems

	const manifest = "manifest"

	names := slices.Sorted(maps.Keys(a.Known))

	say := func(at Position, format string, args ...any) {
		problems = append(problems, Problemf(at, format, args...).Of(RuleUnknown))
	}

	check := func(file, kind string, annotations *yaml.Node) {
		if !isMapping(annotations) {
			return
		}

		for i := 0; i+1 < len(annotations.Content); i += 2 {
			key, value := annotations.Content[i], annotations.Content[i+1]
			values, ok := a.Known[key.Value]

			switch {
			case !strings.HasPrefix(key.Value, a.Prefix), a.Ignored != nil && a.Ignored(key.Value):
			case !ok:
				say(positionOf(file, key), "the annotation %s means nothing%s", key.Value, schema.DidYouMean(key.Value, names))
			case kind != kindCluster && !(kind == manifest && slices.Contains(a.InManifests, key.Value)):
				say(positionOf(file, key), "the annotation %s means nothing on a %s: move it to the Cluster of a template", key.Value, kind)
			case len(values) > 0 && !slices.Contains(values, scalar(value)):
				say(positionOf(file, value), "the annotation %s: %q means nothing%s", key.Value, scalar(value), schema.DidYouMean(scalar(value), values))
			}
		}
	}

	for _, t := range s.Templates {
		for _, doc := range t.documents().list {
			check(t.Path, meantKind(doc), field(doc, "annotations"))
		}
	}

	for _, m := range s.Manifests {
		check(m.Path, manifest, field(field(m.root, "metadata"), "annotations"))
	}

	return problems.Sorted()
}
