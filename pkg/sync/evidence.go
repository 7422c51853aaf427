package sync

import (
	"github.com/cosi-project/runtime/pkg/resource"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/preflight"
	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// Evidence is what a plan was made from, for whoever explains it. Resources are shared:
// read, never written.
type Evidence struct {
	// Desired is what Git describes, and Live what Omni holds of it.
	Desired, Live []resource.Resource
	// Whole finds everything in Omni, for fleet resources; nil for clusters, whose plans need no more than Live.
	Whole diff.Lookup
	// Refused is what Omni would refuse of it, at the place in Git.
	Refused template.Problems

	target *render.Target
}

// Position says where in Git a resource is described; the zero Position if it is not.
func (e *Evidence) Position(md *resource.Metadata) template.Position {
	if e.target == nil {
		return template.Position{}
	}

	return e.target.Position(md)
}

// Evidence returns what the plan of a target is made from at this moment. It is empty for
// one that is not known, and while Omni cannot be read.
func (e *Engine) Evidence(key Key) Evidence {
	t := e.lookup(key)
	if t == nil {
		return Evidence{}
	}

	live, err := e.live(t)
	if err != nil {
		return Evidence{}
	}

	found := Evidence{Live: live, target: t.desired}

	if t.Target == "" {
		found.Whole = e.Snapshot
	}

	if t.desired != nil {
		found.Desired = t.desired.Resources
	}

	for _, finding := range e.check(t, e.board.get(key).Plan) {
		found.Refused = append(found.Refused, template.Problem{Position: t.where(&finding), Message: finding.Message})
	}

	return found
}

// where returns where in the revision a finding is about.
func (t *target) where(finding *preflight.Finding) template.Position {
	for _, s := range t.desired.Settings {
		if finding.Key != nil && s.Newer == *finding.Key {
			return s.Position
		}
	}

	return t.desired.Position(finding.Resource)
}
