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

		flag, done := livestate.Flag{Message: setting.Message, Number: setting.Number}, false
		for _, r := range resources {
			done = done || r.Metadata().Type() == omni.ClusterType && flag.Set(r)
		}

		if !done {
			problems = append(problems, template.Problemf(setting.Position, "the template code of Omni's client has changed: there is no place for %s", setting.Newer))
		}
	}

	return problems
}

// Set returns the switches that the template sets, of those that only newer clients have.
func (t *Target) Set() []schema.Newer {
	var keys []schema.Newer

	for _, setting := range t.Settings {
		if !setting.Newer.Text {
			keys = append(keys, setting.Newer)
		}
	}

	return keys
}
