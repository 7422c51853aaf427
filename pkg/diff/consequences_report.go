package diff

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/cosi-project/runtime/pkg/resource"

	"github.com/omni-syncd/omni-syncd/pkg/diff/mask"
	"github.com/omni-syncd/omni-syncd/pkg/report"
)

// Report is what one run came to, for people and for programs: [WriteReport],
// [WriteMarkdown] and [WriteJSON] write it, and [Report.Findings] is what of it belongs to a
// place in a file.
type Report struct {
	// Name tells reports about one pull request from each other, if there are several; it
	// is in the hidden marker of the Markdown. "default" if empty.
	Name string
	// Base and Revision are what was compared with what, as IDs of revisions or in words;
	// left out if empty.
	Base, Revision string
	// Mask says which secrets are masked in the lines of the diffs.
	Mask mask.Options
	// Entries are the targets that were compared, in the order of [Report.Sort].
	Entries []Entry
	// Problems are what is wrong in the files, and what Omni would refuse. A target with a
	// broken template has no entry.
	Problems []report.Finding
}

// Entry is the plan of one target, and what is known about it beyond the plan.
type Entry struct {
	Plan *Plan
	// Path is the template's file; "" for fleet resources.
	Path string
	// Held is why the plan would not be applied; "" if it would, or if the plan says so
	// itself (locked, conflicts).
	Held string
	// Consequences are those of the plan, from [Consequences].
	Consequences []Consequence
	// Position says where in Git a resource is described, as render.Target does; nil if
	// nobody knows.
	Position func(*resource.Metadata) (file string, line, column int)
}

// Sort puts fleet resources first and then the clusters by name.
func (r *Report) Sort() {
	slices.SortStableFunc(r.Entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Plan.Target, b.Plan.Target), cmp.Compare(a.Plan.Source, b.Plan.Source))
	})
	r.Problems = report.Sort(r.Problems)
}

// Different reports whether any plan holds a difference.
func (r *Report) Different() bool {
	return slices.ContainsFunc(r.Entries, func(e Entry) bool { return !e.Plan.Empty() })
}

// silent reports whether there is nothing to say about an entry.
func (e *Entry) silent() bool {
	return e.Plan.Empty() && len(e.Plan.Foreign) == 0 && len(e.Plan.SwitchedOff) == 0 && e.Held == ""
}

// held says why nothing of a plan is applied; "" if it is.
func (e *Entry) held() string {
	switch p := e.Plan; {
	case p.Locked && len(p.Changes) > 0:
		return "the cluster is locked in Omni"
	case len(p.Conflicts) > 0:
		return count(len(p.Conflicts), "conflict")
	default:
		return e.Held
	}
}

// The rules of [Report.Findings].
const (
	RuleConflict    = "conflict"
	RuleDestructive = "destructive-change"
)

// Rules says in a sentence what each of the rules means.
func Rules() map[string]string {
	return map[string]string{
		RuleConflict:    "A resource that Git describes belongs to somebody else",
		RuleDestructive: "The change wipes machines or deletes something for good",
	}
}

// Findings returns the problems, and every conflict and destructive consequence at the place
// in Git that it comes from.
func (r *Report) Findings() []report.Finding {
	findings := slices.Clone(r.Problems)

	for i := range r.Entries {
		e := &r.Entries[i]

		for _, c := range e.Plan.Conflicts {
			findings = append(findings, e.finding(RuleConflict, report.Error, c.Resource.Metadata(), Name(c.Resource)+" is not ours: "+c.Reason))
		}

		for _, c := range e.Consequences {
			if c.Severity == Destructive {
				findings = append(findings, e.finding(RuleDestructive, report.Warning, c.Resource, c.Text))
			}
		}
	}

	return report.Sort(findings)
}

// finding puts a message at the place of a resource, at worst at the template's file. What
// left Git is nowhere.
func (e *Entry) finding(rule string, level report.Level, md *resource.Metadata, message string) report.Finding {
	f := report.Finding{Rule: rule, Level: level, Target: e.Plan.Target, Message: OneLine(e.Plan.Title() + ": " + message)}

	switch {
	case e.Plan.Removed:
	case md != nil && e.Position != nil:
		f.File, f.Line, f.Column = e.Position(md)
	default:
		f.File = e.Path
	}

	return f
}

// WriteReport writes a report for people: every plan as [WriteText] does, with its
// consequences below the headline, and what was compared above all if that was not Omni. Problems are not in it: they are errors, and go elsewhere.
func WriteReport(w io.Writer, r *Report, opts TextOptions) error {
	above := r.without()

	for i := range r.Entries {
		e := &r.Entries[i]
		opts.Path, opts.Held = e.Path, e.Held

		var plan bytes.Buffer
		if err := WriteText(&plan, e.Plan, opts); err != nil {
			return err
		}

		headline, rest, _ := strings.Cut(plan.String(), "\n")
		if plan.Len() == 0 {
			continue
		}

		if _, err := fmt.Fprintf(w, "%s%s\n%s%s", above, headline, consequenceLines(e.Consequences, opts.Color), rest); err != nil {
			return err
		}

		above = ""
	}

	return nil
}

// without says that a report knows nothing of Omni; "" if it does.
func (r *Report) without() string {
	switch {
	case r.Base == "":
		return ""
	case r.Revision == "":
		return "Compared with where the branch left " + OneLine(r.Base) + "; Omni was not asked.\n\n"
	default:
		return OneLine(r.Revision) + " compared with where the branch left " + OneLine(r.Base) + "; Omni was not asked.\n\n"
	}
}

// marksOf stand before a consequence in text.
var marksOf = map[Severity]string{Destructive: "!!", Disruptive: "!", Info: "i"}

func consequenceLines(consequences []Consequence, color bool) string {
	var out strings.Builder

	for i := range consequences {
		c := &consequences[i]
		mark := fmt.Sprintf("%-2s", marksOf[c.Severity])

		if tint := map[Severity]string{Destructive: colors["-"], Disruptive: colors["~"]}[c.Severity]; color && tint != "" {
			mark = tint + mark + reset
		}

		fmt.Fprintf(&out, "  %s %s\n", mark, OneLine(c.Text))
	}

	return out.String()
}

// OneLine makes text from outside fit for one line of a terminal, a log or a table: control
// characters and those that change the direction of writing are replaced.
func OneLine(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\r', r == '\t', r == '\u2028', r == '\u2029':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r):
			return '\uFFFD'
		default:
			return r
		}
	}, strings.ToValidUTF8(text, "\uFFFD"))
}
