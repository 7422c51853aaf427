package template

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/omni-syncd/omni-syncd/pkg/template/schema"
)

// CheckAnnotations finds annotations under a prefix that mean nothing: a name or a value that there is not, or a place
// where it is not looked at. The known ones belong on the Cluster of a template; by their names they have the values that
// they can take, or none if they take any.
//
// Find does not do this: what an annotation means is decided where it is acted on.
func (s *Set) CheckAnnotations(prefix string, known map[string][]string) Problems {
	var problems Problems

	names := make([]string, 0, len(known))
	for name := range known {
		names = append(names, name)
	}

	slices.Sort(names)

	say := func(at Position, format string, args ...any) {
		problems = append(problems, Problemf(at, format, args...).Of(RuleUnknown))
	}

	check := func(file, kind string, annotations *yaml.Node) {
		if !isMapping(annotations) {
			return
		}

		for i := 0; i+1 < len(annotations.Content); i += 2 {
			key, value := annotations.Content[i], annotations.Content[i+1]
			values, ok := known[key.Value]

			switch {
			case !strings.HasPrefix(key.Value, prefix):
			case !ok:
				say(positionOf(file, key), "the annotation %s means nothing%s", key.Value, schema.DidYouMean(key.Value, names))
			case kind != kindCluster:
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
		check(m.Path, "manifest", field(field(m.root, "metadata"), "annotations"))
	}

	return problems.Sorted()
}
