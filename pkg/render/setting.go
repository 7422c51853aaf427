package render

import (
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/template"
	"github.com/omni-syncd/omni-syncd/pkg/template/schema"
)

// set puts what a template says with keys that upstream's code of this build lacks into what that code made of the rest: here
// templates of newer releases become resources. What is false is not on the wire.
func set(settings []template.Setting, resources []resource.Resource) template.Problems {
	var problems template.Problems

	for _, setting := range settings {
		if !setting.Value { // of a text, too
			continue
		}

		flag, done := FlagOf(setting.Newer), false
		for _, r := range resources {
			done = done || r.Metadata().Type() == omni.ClusterType && flag.Set(r)
		}

		if !done {
			problems = append(problems, template.Problemf(setting.Position, "the template code of Omni's client has changed: there is no place for %s", setting.Newer))
		}
	}

	return problems
}

// FlagOf returns the field of Omni's protobufs that a switch is.
func FlagOf(n schema.Newer) livestate.Flag {
	return livestate.Flag{Message: n.Message, Number: n.Number}
}

// Set returns the switches that the template sets, of those that only newer clients have.
func (t *Target) Set() []schema.Newer {
	var keys []schema.Newer

	for _, setting := range t.Settings {
		if !setting.IsText {
			keys = append(keys, setting.Newer)
		}
	}

	return keys
}
