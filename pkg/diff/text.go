package diff

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cosi-project/runtime/pkg/resource"
	upstream "github.com/siderolabs/omni/client/pkg/diff"
	"go.yaml.in/yaml/v4"

	"github.com/omni-syncd/omni-syncd/pkg/diff/mask"
	"github.com/omni-syncd/omni-syncd/pkg/render"
)

// TextOptions says how a plan is written for people.
type TextOptions struct {
	// Color uses ANSI colours; only for a terminal.
	Color bool
	// Lines adds a unified diff of the YAML below each changed resource.
	Lines bool
	// Path is the template's file, shown beside the cluster's name.
	Path string
	// Held is why the plan would not be applied; "" if it would.
	Held string
	// Mask says which secrets are masked in Lines. The lines of single fields are masked when a plan is made.
	Mask mask.Options
}

// symbol is what stands before a resource in a plan.
var symbol = map[Action]string{Create: "+", Adopt: "=", Update: "~", Release: "~", Destroy: "-"}

var colors = map[string]string{"+": "\x1b[32m", "-": "\x1b[31m", "~": "\x1b[33m", "=": "\x1b[36m", "@": "\x1b[36m", "!": "\x1b[31m"}

const (
	bold  = "\x1b[1m"
	reset = "\x1b[0m"
)

// Title names the target of a plan.
func (p *Plan) Title() string {
	if p.Target == "" {
		return "fleet resources of " + p.Source
	}

	return "cluster " + p.Target
}

// Summary is the plan in one line: "2 to create, 1 to change, 1 to destroy".
func (p *Plan) Summary() string {
	var parts []string

	add := func(n int, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}

	add(p.Count(Create), "to create")
	add(p.Count(Adopt), "to adopt")
	add(p.Count(Update, Release), "to change")
	add(p.Count(Destroy), "to destroy")
	add(len(p.Waiting), "waiting")
	add(len(p.Conflicts), "in conflict")
	add(len(p.Left)-len(p.Kept()), "leaving")
	add(len(p.Kept()), "left Git and kept")

	if len(parts) == 0 {
		return "no difference"
	}

	return strings.Join(parts, ", ")
}

// WriteText writes a plan for people: a headline, one line per resource and, if asked
// for, the lines of YAML that change. An empty plan with nothing to report writes nothing.
func WriteText(w io.Writer, p *Plan, opts TextOptions) error {
	if p = p.WithoutMarks(); p.Empty() && len(p.Foreign) == 0 && len(p.SwitchedOff) == 0 {
		return nil
	}

	t := textWriter{TextOptions: opts}
	t.headline(p)

	if opts.Held != "" {
		t.line("!", "nothing of this would be applied: "+strings.ReplaceAll(opts.Held, "\n", "; "))
	}

	for i := range p.Changes {
		if err := t.change(&p.Changes[i]); err != nil {
			return err
		}
	}

	for _, waiting := range p.Waiting {
		t.line("!", fmt.Sprintf("%s waits: %s", Name(waiting.Resource), waiting.Reason))
	}

	if len(p.Conflicts) > 0 && len(p.Changes) > 0 {
		t.line("!", "nothing of this is applied while there is a conflict:")
	}

	for _, conflict := range p.Conflicts {
		t.line("!", fmt.Sprintf("%s is not ours: %s", Name(conflict.Resource), conflict.Reason))
	}

	for _, foreign := range p.Foreign {
		t.line(" ", Name(foreign)+" is foreign: it is not in Git and was not made by omni-syncd; kept")
	}

	for _, off := range p.SwitchedOff {
		t.line(" ", Name(off)+" "+switchedOff)
	}

	for _, left := range p.Left {
		t.line(" ", Name(left.Resource)+" "+left.Words())
	}

	_, err := w.Write(t.out.Bytes())

	return err
}

// switchedOff is what is said of a patch in Plan.SwitchedOff.
const switchedOff = "is switched off in Omni (label " + labelDisabled + "): it has no effect until somebody enables it there"

// Words says of a resource that left Git why it stays, or when it goes.
func (l *Left) Words() string {
	if l.Leaving {
		return l.Reason
	}

	return "left Git and is kept: " + l.Reason
}

func (c *Change) note() string {
	if c.Note == "" {
		return ""
	}

	return "; " + c.Note
}

// Line describes a change in one line.
func (c *Change) Line() string {
	line := Name(&metadataOnly{c.Metadata()})

	switch {
	case c.Action == Adopt && SourceOf(c.Old) != "":
		return line + "  changes hands: from the source " + SourceOf(c.Old) + " to " + SourceOf(c.New)
	case c.Action == Adopt:
		return line + "  adopted: it exists and is as Git says"
	case c.Action == Mark:
		return line + "  marked: only a mark of omni-syncd changes"
	case c.Action == Release:
		return line + "  released: it left Git and stays in Omni"
	case len(c.Cascade) > 0:
		return fmt.Sprintf("%s  and %d more that belong to it%s", line, len(c.Cascade), c.note())
	case len(c.Fields) > 0:
		return line + "  " + joinFields(c.Fields) + c.note()
	case c.Note != "":
		return line + c.note()
	default:
		return line
	}
}

// maxFields bounds how many changed fields one line names.
const maxFields = 4

func joinFields(fields []Field) string {
	var parts []string

	for i, field := range fields {
		if i == maxFields {
			parts = append(parts, fmt.Sprintf("and %d more", len(fields)-maxFields))

			break
		}

		parts = append(parts, field.String())
	}

	return strings.Join(parts, ", ")
}

// Name is how a resource is called in text: its kind as people write it, and its ID.
func Name(r interface{ Metadata() *resource.Metadata }) string {
	return Kind(r.Metadata().Type()) + " " + r.Metadata().ID()
}

// Kind shortens a resource type: MachineClasses.omni.sidero.dev is a MachineClass.
func Kind(t resource.Type) string {
	name, _, _ := strings.Cut(t, ".")

	switch {
	case name == "KernelArgs":
		return name
	case strings.HasSuffix(name, "sses"), strings.HasSuffix(name, "ches"):
		return strings.TrimSuffix(name, "es")
	default:
		return strings.TrimSuffix(name, "s")
	}
}

type metadataOnly struct{ md *resource.Metadata }

func (m *metadataOnly) Metadata() *resource.Metadata { return m.md }

type textWriter struct {
	TextOptions

	out bytes.Buffer
}

func (t *textWriter) headline(p *Plan) {
	title := p.Title()
	if t.Path != "" {
		title += " (" + t.Path + ")"
	}

	title = visible(title)

	if t.Color {
		title = bold + title + reset
	}

	fmt.Fprintf(&t.out, "%s: %s\n", title, p.Summary())

	if p.Locked {
		t.line("!", "the cluster is locked in Omni: nothing is applied until it is unlocked there")
	}
}

func (t *textWriter) line(mark, text string) {
	text = visible(text)

	if color := colors[mark]; t.Color && color != "" {
		fmt.Fprintf(&t.out, "  %s%s%s %s\n", color, mark, reset, text)
	} else {
		fmt.Fprintf(&t.out, "  %s %s\n", mark, text)
	}
}

func (t *textWriter) change(c *Change) error {
	t.line(symbol[c.Action], c.Line())

	for _, gone := range c.Cascade {
		t.line(" ", "- "+Name(gone))
	}

	if !t.Lines || c.Action == Adopt {
		return nil
	}

	unified, err := UnifiedWith(c, t.Mask)
	if err != nil {
		return err
	}

	for line := range strings.Lines(unified) {
		body, ended := strings.CutSuffix(line, "\n")
		line = visible(body)

		if color := colors[body[:min(len(body), 1)]]; t.Color && color != "" {
			line = color + line + reset
		}

		if ended {
			line += "\n"
		}

		t.out.WriteString("    " + line)
	}

	return nil
}

// visible makes one line of text fit for a terminal: whoever may write a label or a patch must not move the cursor of a reviewer,
// nor turn the order of the letters around. What would do so is written as an escape: \x1b, \u202e. Tabs stay, and everything else.
func visible(line string) string {
	if !utf8.ValidString(line) || strings.ContainsFunc(line, hidden) {
		var out strings.Builder

		for len(line) > 0 {
			r, size := utf8.DecodeRuneInString(line)

			switch {
			case r == utf8.RuneError && size == 1:
				fmt.Fprintf(&out, `\x%02x`, line[0])
			case r == '\t' || !hidden(r):
				out.WriteString(line[:size])
			default:
				quoted := strconv.QuoteRuneToASCII(r)
				out.WriteString(quoted[1 : len(quoted)-1])
			}

			line = line[size:]
		}

		return out.String()
	}

	return line
}

// hidden reports whether a character does something instead of being seen: control characters, and those of format such as the
// bidirectional ones. The two joiners stay: scripts and emoji need them, and they move nothing.
func hidden(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) && r != '\u200c' && r != '\u200d'
}

// Unified returns the unified diff of the YAML of a change, without file headers, with secrets masked.
// What the server owns (version, timestamps, phase, finalizers) is left out of both sides.
func Unified(c *Change) (string, error) { return UnifiedWith(c, mask.Options{}) }

// UnifiedWith is [Unified] with a say in what is masked.
func UnifiedWith(c *Change, opts mask.Options) (string, error) {
	masked, err := mask.New(c.Old, c.New, opts)
	if err != nil {
		return "", fmt.Errorf("masking the secrets of %s: %w", Name(&metadataOnly{c.Metadata()}), err)
	}

	oldYAML, err := stableYAML(masked.Old)
	if err != nil {
		return "", err
	}

	newYAML, err := stableYAML(masked.New)
	if err != nil {
		return "", err
	}

	unified, err := upstream.Compute(oldYAML, newYAML)
	if err != nil {
		return "", fmt.Errorf("comparing %s: %w", Name(&metadataOnly{c.Metadata()}), err)
	}

	return masked.Diff(unified), nil
}

// stableYAML writes what a plan compares of a resource, and nothing that the server sets.
func stableYAML(r resource.Resource) ([]byte, error) {
	if r == nil {
		return nil, nil
	}

	type metadata struct {
		Namespace   string            `yaml:"namespace"`
		Type        string            `yaml:"type"`
		ID          string            `yaml:"id"`
		Labels      map[string]string `yaml:"labels,omitempty"`
		Annotations map[string]string `yaml:"annotations,omitempty"`
	}

	md := r.Metadata()

	annotations := maps.Clone(md.Annotations().Raw())
	maps.DeleteFunc(annotations, func(key, _ string) bool { return slices.Contains(notes, key) })

	spec, err := render.WithNewer(r, r.Spec())
	if err != nil {
		return nil, err
	}

	var out bytes.Buffer

	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)

	err = encoder.Encode(struct {
		Metadata metadata `yaml:"metadata"`
		Spec     any      `yaml:"spec"`
	}{
		metadata{md.Namespace(), md.Type(), md.ID(), md.Labels().Raw(), annotations},
		spec,
	})
	if err := errors.Join(err, encoder.Close()); err != nil {
		return nil, fmt.Errorf("writing %s as YAML: %w", Name(r), err)
	}

	return out.Bytes(), nil
}
