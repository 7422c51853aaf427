package diff

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff/mask"
	"github.com/omni-syncd/omni-syncd/pkg/report"
)

// MarkdownOptions says how a report is written as a comment.
type MarkdownOptions struct {
	// Limit is how many bytes the text may have; 0 is [MaxComment]. Bytes are what is
	// counted because no service counts more of anything: GitHub counts characters.
	Limit int
	// FullURL leads to the whole report, for what was left out; "" says "see the job's artifact".
	FullURL string
	// Footer is a line of trusted Markdown at the end: who wrote this, and when.
	Footer string
}

// MaxComment is a little less than the 65,536 characters that a comment on GitHub may have.
const MaxComment = 65_000

// Marker returns the first line of a report's Markdown: hidden, and the same for every
// report of that name, so that a comment is found again and updated instead of repeated.
func Marker(name string) string {
	if name == "" {
		name = "default"
	}

	safe := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._/ ", r) {
			return r
		}

		return '-'
	}, name)

	for strings.Contains(safe, "--") { // what a comment of HTML must not hold
		safe = strings.ReplaceAll(safe, "--", "-")
	}

	return "<!-- omni-syncd:plan:" + strings.Trim(safe, " -") + " -->"
}

// errLimit says that a limit leaves no room for the shortest text.
var errLimit = errors.New("the limit of the Markdown is too small for anything: use 1000 bytes or more")

// WriteMarkdown writes a report as a comment for a pull request. It fits the limit by leaving out
// what matters least, and says so: first lines of the longest diffs, then the details of
// clusters, harmless ones first, then rows of the table.
func WriteMarkdown(w io.Writer, r *Report, opts MarkdownOptions) error {
	if opts.Limit == 0 {
		opts.Limit = MaxComment
	}

	m := markdown{Report: r, MarkdownOptions: opts}
	if err := m.prepare(); err != nil {
		return err
	}

	text := m.fit()
	if len(text) > opts.Limit {
		return errLimit
	}

	_, err := io.WriteString(w, text)

	return err
}

// markdown is one run of WriteMarkdown.
type markdown struct {
	*Report
	MarkdownOptions

	sections []section
}

// section is one target that there is something to say about.
type section struct {
	*Entry

	worst Severity
	// diff is the whole diff.
	diff string
}

// icons stand for severities; each has a word beside it, for those who do not see it.
var icons = map[Severity]string{Destructive: "🔴", Disruptive: "🟡", Info: "🔵", "": "⚪"}

func (m *markdown) prepare() error {
	for i := range m.Entries {
		e := &m.Entries[i]
		if e.silent() {
			continue
		}

		diff, err := e.diff(m.Mask)
		if err != nil {
			return err
		}

		m.sections = append(m.sections, section{e, Worst(e.Consequences), diff})
	}

	// The worst are read first, and are the last to be left out.
	weight := func(s section) int {
		if s.worst == "" {
			return Info.rank() + 1
		}

		return s.worst.rank()
	}

	slices.SortStableFunc(m.sections, func(a, b section) int { return weight(a) - weight(b) })

	return nil
}

// diff returns all lines that change, under the line of text of each resource.
func (e *Entry) diff(opts mask.Options) (string, error) {
	var out strings.Builder

	for i := range e.Plan.Changes {
		c := &e.Plan.Changes[i]

		// A line that says it all has the colour of what it says.
		switch line := OneLine(c.Line()); {
		case c.Action == Adopt:
			fmt.Fprintf(&out, "  %s\n", line)

			continue
		case c.Metadata().Type() == omni.MachineSetNodeType && (c.Action == Create || c.Action == Destroy):
			fmt.Fprintf(&out, "%s %s\n", symbol[c.Action], line)

			continue
		default:
			fmt.Fprintf(&out, "@@ %s %s @@\n", c.Action, line)
		}

		for _, gone := range c.Cascade {
			fmt.Fprintf(&out, "- %s\n", OneLine(Name(gone)))
		}

		unified, err := UnifiedWith(c, opts)
		if err != nil {
			return "", err
		}

		first := true

		for line := range strings.Lines(unified) {
			if c.Action != Update && unsetField.MatchString(line) {
				continue // what is not set says nothing of what comes or goes
			}

			if !strings.HasPrefix(line, "@@") { // its line numbers are of no file that anybody has
				out.WriteString(strings.TrimSuffix(line, "\n") + "\n")
			} else if !first {
				out.WriteString(" ⋯\n")
			}

			first = false
		}
	}

	return out.String(), nil
}

// unsetField is a line of a spec, and none of what is in a payload: that is indented further.
var unsetField = regexp.MustCompile(`^[+-]  [a-z]+: (null|\[\])\n?$`)

// cut is how much of a report is written.
type cut struct {
	diff    int // bytes of the diff of each section
	details int // sections with details, the worst ones
	rows    int // rows of the table
}

func (m *markdown) render(c cut) string {
	var out strings.Builder

	out.WriteString(Marker(m.Name) + "\n")
	out.WriteString("### " + m.verdict() + "\n\n")
	m.compared(&out)
	m.problems(&out)
	m.table(&out, c.rows)
	m.details(&out, c)

	if m.Footer != "" {
		out.WriteString("\n<sub>" + m.Footer + "</sub>\n")
	}

	return out.String()
}

// verdict is the report in one line.
func (m *markdown) verdict() string {
	var creates, changes, destroys, waiting, adopts, conflicts, differ int

	worst := Severity("")

	for i := range m.sections {
		s := &m.sections[i]
		creates += s.Plan.Count(Create)
		changes += s.Plan.Count(Update, Release)
		adopts += s.Plan.Count(Adopt)
		destroys += s.Plan.Count(Destroy)
		conflicts += len(s.Plan.Conflicts)
		waiting += len(s.Plan.Waiting)

		if !s.Plan.Empty() {
			differ++
		}

		if s.worst != "" && (worst == "" || s.worst.rank() < worst.rank()) && !s.Plan.Empty() {
			worst = s.worst
		}
	}

	broken := ""
	if n := m.errors(); n > 0 {
		broken = "❌ " + count(n, "problem") + " · "
	}

	if differ == 0 {
		return broken + "⚪ No difference in " + count(len(m.Entries), "target")
	}

	var parts []string

	for _, p := range []struct {
		n    int
		what string
	}{{creates, "to create"}, {changes, "to change"}, {destroys, "to destroy"}, {adopts, "to adopt"}, {waiting, "waiting"}, {conflicts, "in conflict"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}

	text := fmt.Sprintf("%s%s of %s differ%s: %s", broken, icons[worst]+" "+fmt.Sprint(differ), count(len(m.Entries), "target"), each(differ, "s", ""), strings.Join(parts, ", "))
	if len(parts) == 0 {
		text = strings.TrimSuffix(text, ": ")
	}

	if worst == Destructive {
		text += " — **destructive**"
	}

	return text
}

func (m *markdown) errors() int {
	n := 0

	for i := range m.Problems {
		if m.Problems[i].Level == report.Error {
			n++
		}
	}

	return n
}

// compared says what was compared with what.
func (m *markdown) compared(out *strings.Builder) {
	switch {
	case m.Revision != "" && m.Base != "":
		fmt.Fprintf(out, "Compares %s with where the branch left %s; Omni was not asked.\n\n", code(clip(m.Revision, maxName)), code(clip(m.Base, maxName)))
	case m.Base != "":
		fmt.Fprintf(out, "Compares with where the branch left %s; Omni was not asked.\n\n", code(clip(m.Base, maxName)))
	case m.Revision != "":
		fmt.Fprintf(out, "Compares %s with Omni.\n\n", code(clip(m.Revision, maxName)))
	}
}

// Bounds of what one report shows of lists and names from outside (G12).
const (
	maxProblems = 30
	maxList     = 20
	maxName     = 120
	maxHeld     = 60
	maxSentence = 600
)

func (m *markdown) problems(out *strings.Builder) {
	if len(m.Problems) == 0 {
		return
	}

	out.WriteString("**Problems**\n\n")

	for i := range m.Problems {
		if i == maxProblems {
			fmt.Fprintf(out, "- and %d more, %s\n", len(m.Problems)-maxProblems, m.elsewhere())

			break
		}

		f := &m.Problems[i]
		icon := map[report.Level]string{report.Error: "❌ error", report.Warning: "⚠️ warning", report.Note: "ℹ️ note"}[f.Level]
		fmt.Fprintf(out, "- %s", icon)

		if at := f.At(); at != "" {
			out.WriteString(" " + code(clip(at, 2*maxName)))
		}

		out.WriteString(" " + prose(clip(f.Message, maxSentence)) + "\n")
	}

	out.WriteString("\n")
}

// elsewhere points to what is left out.
func (m *markdown) elsewhere() string {
	if m.FullURL == "" {
		return "see the job's artifact"
	}

	return "see the [full plan](<" + strings.NewReplacer("<", "%3C", ">", "%3E", "\n", "", "\r", "", " ", "%20", "\\", "%5C", "|", "%7C").Replace(m.FullURL) + ">)"
}

// table is one row for each target that there is something to say about.
func (m *markdown) table(out *strings.Builder, rows int) {
	if len(m.sections) == 0 {
		return
	}

	out.WriteString("| | target | create | change | destroy | what happens | held |\n|---|---|--:|--:|--:|---|---|\n")

	for i := range min(rows, len(m.sections)) {
		s := &m.sections[i]
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s | %s | %s |\n", s.icon(), prose(s.title()), number(s.Plan.Count(Create)),
			number(s.Plan.Count(Update, Release)+s.Plan.Count(Adopt)), number(s.Plan.Count(Destroy)), s.short(), prose(clip(s.held(), maxHeld)))
	}

	out.WriteString("\n")

	if left := len(m.sections) - min(rows, len(m.sections)); left > 0 {
		fmt.Fprintf(out, "✂️ %s not in this table to fit the comment: %s.\n\n", count(left, "target")+each(left, " is", " are"), m.elsewhere())
	}
}
