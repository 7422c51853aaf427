package diff

import (
	"encoding/json"
	"io"

	"github.com/cosi-project/runtime/pkg/resource"

	"github.com/omni-syncd/omni-syncd/pkg/diff/mask"
	"github.com/omni-syncd/omni-syncd/pkg/report"
)

// JSONVersion is the version of what [WriteJSON] writes. It goes up when something is taken
// away or means something else; what is new comes without notice, so readers ignore keys
// that they do not know.
const JSONVersion = 1

// The types of the JSON. A key that is left out is "", 0, false or an empty list.
type (
	// JSONReport is the whole document.
	JSONReport struct {
		// Version is [JSONVersion].
		Version  int    `json:"version"`
		Name     string `json:"name,omitempty"`
		Revision string `json:"revision,omitempty"`
		Base     string `json:"base,omitempty"`
		// Different says that a plan holds a difference.
		Different bool `json:"different"`
		// Plans has one for every target that was compared, also those without a difference.
		Plans []JSONPlan `json:"plans"`
		// Problems are about files, and not about what would change.
		Problems []JSONProblem `json:"problems"`
	}

	// JSONPlan is what has to happen to one target.
	JSONPlan struct {
		Source string `json:"source"`
		// Cluster is "" for the fleet resources of the source.
		Cluster string `json:"cluster,omitempty"`
		Path    string `json:"path,omitempty"`
		Summary string `json:"summary"`
		// Empty says that Omni is what Git says.
		Empty   bool `json:"empty"`
		Removed bool `json:"removed,omitempty"`
		Locked  bool `json:"locked,omitempty"`
		// Held is why nothing of it would be applied.
		Held string `json:"held,omitempty"`
		// Severity is the worst one of Consequences.
		Severity     Severity          `json:"severity,omitempty"`
		Consequences []JSONConsequence `json:"consequences,omitempty"`
		// Changes are in the order in which they are applied.
		Changes   []JSONChange `json:"changes,omitempty"`
		Waiting   []JSONReason `json:"waiting,omitempty"`
		Conflicts []JSONReason `json:"conflicts,omitempty"`
		Foreign   []JSONRef    `json:"foreign,omitempty"`
		// SwitchedOff are config patches in Git that somebody switched off in Omni.
		SwitchedOff []JSONRef    `json:"switchedOff,omitempty"`
		Kept        []JSONReason `json:"kept,omitempty"`
		// Leaving goes by itself, when the reason says.
		Leaving []JSONReason `json:"leaving,omitempty"`
	}

	// JSONRef identifies a resource of Omni.
	JSONRef struct {
		Type string `json:"type"`
		ID   string `json:"id"`
		// Kind is the type as people write it.
		Kind string `json:"kind"`
	}

	// JSONChange is one write.
	JSONChange struct {
		JSONRef

		// Action is create, adopt, update, mark, release or destroy.
		Action Action `json:"action"`
		// Line is the change in one line.
		Line   string      `json:"line"`
		Fields []JSONField `json:"fields,omitempty"`
		// Cascade is what Omni destroys along.
		Cascade []JSONRef `json:"cascade,omitempty"`
		// Diff is the unified diff of the YAML, without headers, and with secrets masked.
		Diff string `json:"diff,omitempty"`
	}

	// JSONField is one value that differs, in short and with secrets masked.
	JSONField struct {
		Path string `json:"path"`
		Old  string `json:"old,omitempty"`
		New  string `json:"new,omitempty"`
	}

	// JSONConsequence is what a plan does, in words.
	JSONConsequence struct {
		Severity Severity `json:"severity"`
		Text     string   `json:"text"`
		Short    string   `json:"short,omitempty"`
		Resource *JSONRef `json:"resource,omitempty"`
	}

	// JSONReason is a resource and why it is where it is.
	JSONReason struct {
		JSONRef

		Reason string `json:"reason"`
		// Elsewhere is set if another cluster has to let go of it first.
		Elsewhere bool `json:"elsewhere,omitempty"`
	}

	// JSONProblem is one thing that is wrong in a file, or that Omni would refuse.
	JSONProblem struct {
		Rule    string       `json:"rule"`
		Level   report.Level `json:"level"`
		Message string       `json:"message"`
		File    string       `json:"file,omitempty"`
		Line    int          `json:"line,omitempty"`
		Column  int          `json:"column,omitempty"`
		Cluster string       `json:"cluster,omitempty"`
	}
)

// WriteJSON writes a report as one [JSONReport].
func WriteJSON(w io.Writer, r *Report) error {
	out := JSONReport{
		Version: JSONVersion, Name: r.Name, Revision: r.Revision, Base: r.Base, Different: r.Different(),
		Plans: []JSONPlan{}, Problems: []JSONProblem{},
	}

	for i := range r.Entries {
		plan, err := r.Entries[i].json(r.Mask)
		if err != nil {
			return err
		}

		out.Plans = append(out.Plans, plan)
	}

	for _, f := range r.Problems {
		out.Problems = append(out.Problems, JSONProblem{f.Rule, f.Level, f.Message, f.File, f.Line, f.Column, f.Target})
	}

	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")

	return encoder.Encode(out)
}

func (e *Entry) json(opts mask.Options) (JSONPlan, error) {
	p := e.Plan
	out := JSONPlan{
		Source: p.Source, Cluster: p.Target, Path: e.Path, Summary: p.Summary(), Empty: p.Empty(), Removed: p.Removed,
		Locked: p.Locked, Held: e.Held, Severity: Worst(e.Consequences), Foreign: jsonRefs(p.Foreign), SwitchedOff: jsonRefs(p.SwitchedOff),
	}

	for _, c := range e.Consequences {
		consequence := JSONConsequence{Severity: c.Severity, Text: c.Text, Short: c.Short}

		if c.Resource != nil {
			at := jsonRef(c.Resource)
			consequence.Resource = &at
		}

		out.Consequences = append(out.Consequences, consequence)
	}

	for i := range p.Changes {
		change, err := jsonChange(&p.Changes[i], opts)
		if err != nil {
			return out, err
		}

		out.Changes = append(out.Changes, change)
	}

	for _, w := range p.Waiting {
		out.Waiting = append(out.Waiting, JSONReason{jsonRef(w.Resource.Metadata()), w.Reason, w.Elsewhere})
	}

	for _, c := range p.Conflicts {
		out.Conflicts = append(out.Conflicts, JSONReason{JSONRef: jsonRef(c.Resource.Metadata()), Reason: c.Reason})
	}

	for _, left := range p.Left {
		reason := JSONReason{JSONRef: jsonRef(left.Resource.Metadata()), Reason: left.Reason}

		if left.Leaving {
			out.Leaving = append(out.Leaving, reason)
		} else {
			out.Kept = append(out.Kept, reason)
		}
	}

	return out, nil
}

func jsonChange(c *Change, opts mask.Options) (JSONChange, error) {
	out := JSONChange{JSONRef: jsonRef(c.Metadata()), Action: c.Action, Line: c.Line(), Cascade: jsonRefs(c.Cascade)}

	for _, f := range c.Fields {
		out.Fields = append(out.Fields, JSONField(f))
	}

	if c.Action == Adopt {
		return out, nil
	}

	var err error

	out.Diff, err = UnifiedWith(c, opts)

	return out, err
}

func jsonRef(md *resource.Metadata) JSONRef { return JSONRef{md.Type(), md.ID(), Kind(md.Type())} }

func jsonRefs(resources []resource.Resource) []JSONRef {
	var refs []JSONRef
	for _, r := range resources {
		refs = append(refs, jsonRef(r.Metadata()))
	}

	return refs
}
