package diff

import (
	"fmt"
	"strconv"
	"strings"
)

func (s *section) icon() string {
	word := string(s.worst)
	if word == "" {
		word = "nothing"
	}

	return `<span title="` + word + `">` + icons[s.worst] + "</span>"
}

// title names the target.
func (s *section) title() string {
	if s.Plan.Target == "" {
		return "fleet of " + clip(s.Plan.Source, maxName)
	}

	return clip(s.Plan.Target, maxName)
}

func number(n int) string {
	if n == 0 {
		return ""
	}

	return strconv.Itoa(n)
}

// maxShort bounds how many consequences one cell of the table names.
const maxShort = 4

func (s *section) short() string {
	var parts []string

	for i := range s.Consequences {
		if c := &s.Consequences[i]; c.Short != "" {
			text := prose(clip(c.Short, maxName))
			if c.Severity == Destructive {
				text = "**" + text + "**"
			}

			parts = append(parts, text)
		}
	}

	if n := len(s.Plan.Foreign); n > 0 {
		parts = append(parts, fmt.Sprintf("%d foreign", n))
	}

	if n := len(s.Plan.SwitchedOff); n > 0 {
		parts = append(parts, fmt.Sprintf("%d switched off", n))
	}

	if n := len(s.Plan.Waiting); n > 0 && len(parts) == 0 {
		parts = append(parts, fmt.Sprintf("%d waiting", n))
	}

	if more := len(parts) - maxShort; more > 0 {
		parts = append(parts[:maxShort], fmt.Sprintf("%d more", more))
	}

	return strings.Join(parts, ", ")
}

// details writes one block that can be opened for each of the worst sections.
func (m *markdown) details(out *strings.Builder, c cut) {
	for i := range min(c.details, len(m.sections)) {
		m.section(out, &m.sections[i], c.diff)
	}

	if left := len(m.sections) - c.details; left > 0 {
		fmt.Fprintf(out, "✂️ The details of %s are left out to fit the comment: %s.\n", count(left, "target"), m.elsewhere())
	}
}

func (m *markdown) section(out *strings.Builder, s *section, diff int) {
	open := ""
	if s.worst == Destructive && len(m.sections) <= 3 {
		open = " open"
	}

	fmt.Fprintf(out, "<details%s><summary>%s %s — %s</summary>\n\n", open, icons[s.worst], tag(s.title()), s.Plan.Summary())

	if s.Path != "" {
		fmt.Fprintf(out, "From %s.\n\n", code(clip(s.Path, 2*maxName)))
	}

	s.warnings(out)
	s.consequences(out)

	if s.diff != "" {
		text, left := wholeLines(s.diff, diff)
		if text != "" {
			out.WriteString(block("diff", text) + "\n")
		}

		if left > 0 {
			fmt.Fprintf(out, "✂️ %s of the diff left out to fit the comment: %s.\n\n", count(left, "line"), m.elsewhere())
		}
	}

	s.others(out)
	out.WriteString("</details>\n\n")
}

// wholeLines returns as many whole lines as fit into so many bytes, and how many do not.
func wholeLines(text string, limit int) (kept string, left int) {
	if len(text) <= limit {
		return text, 0
	}

	end := strings.LastIndexByte(text[:max(limit, 0)], '\n') + 1

	return text[:end], strings.Count(text[end:], "\n")
}

// warnings are why nothing of it, or not all of it, is applied.
func (s *section) warnings(out *strings.Builder) {
	p := s.Plan

	if p.Locked {
		out.WriteString("> ⏸️ The cluster is locked in Omni: nothing is applied until it is unlocked there.\n\n")
	}

	if s.Held != "" {
		fmt.Fprintf(out, "> ⏸️ Nothing of this would be applied: %s\n\n", prose(clip(s.Held, maxSentence)))
	}

	if len(p.Conflicts) > 0 {
		out.WriteString("> ⛔ Nothing of this is applied while there is a conflict:\n")

		for i, c := range p.Conflicts {
			if i == maxList {
				fmt.Fprintf(out, "> - and %d more\n", len(p.Conflicts)-maxList)

				break
			}

			fmt.Fprintf(out, "> - %s is not ours: %s\n", code(clip(Name(c.Resource), maxName)), prose(clip(c.Reason, maxSentence)))
		}

		out.WriteString("\n")
	}
}

func (s *section) consequences(out *strings.Builder) {
	for i := range s.Consequences {
		if i == maxList {
			fmt.Fprintf(out, "- and %d more\n", len(s.Consequences)-maxList)

			break
		}

		c := &s.Consequences[i]
		fmt.Fprintf(out, "- %s %s\n", icons[c.Severity], prose(clip(c.Text, maxSentence)))
	}

	if len(s.Consequences) > 0 {
		out.WriteString("\n")
	}
}

// others are what is there and stays as it is.
func (s *section) others(out *strings.Builder) {
	p := s.Plan

	var lines []string

	for _, w := range p.Waiting {
		lines = append(lines, fmt.Sprintf("- ⏳ %s waits: %s\n", code(clip(Name(w.Resource), maxName)), prose(clip(w.Reason, maxSentence))))
	}

	for _, r := range p.Foreign {
		lines = append(lines, fmt.Sprintf("- 👤 %s is foreign: not in Git, not made by omni-syncd, kept\n", code(clip(Name(r), maxName))))
	}

	for _, r := range p.SwitchedOff {
		lines = append(lines, fmt.Sprintf("- 💤 %s %s\n", code(clip(Name(r), maxName)), prose(switchedOff)))
	}

	for _, left := range p.Left {
		lines = append(lines, fmt.Sprintf("- 📌 %s %s\n", code(clip(Name(left.Resource), maxName)), prose(clip(left.Words(), maxSentence))))
	}

	for i, line := range lines {
		if i == maxList {
			fmt.Fprintf(out, "- and %d more\n", len(lines)-maxList)

			break
		}

		out.WriteString(line)
	}

	if len(lines) > 0 {
		out.WriteString("\n")
	}
}

// fit returns the longest text within the limit: each step is taken only if the one before
// it was not enough, and no further than it has to go.
func (m *markdown) fit() string {
	longest := 0
	for i := range m.sections {
		longest = max(longest, len(m.sections[i].diff))
	}

	all := cut{longest, len(m.sections), len(m.sections)}
	if text := m.render(all); len(text) <= m.Limit {
		return text
	}

	for _, step := range []struct {
		most int
		with func(int) cut
	}{
		{longest, func(n int) cut { return cut{n, all.details, all.rows} }},
		{all.details, func(n int) cut { return cut{0, n, all.rows} }},
		{all.rows, func(n int) cut { return cut{0, 0, n} }},
	} {
		low, high := 0, step.most // low fits or is the least there is
		for low < high {
			middle := (low + high + 1) / 2
			if len(m.render(step.with(middle))) <= m.Limit {
				low = middle
			} else {
				high = middle - 1
			}
		}

		if text := m.render(step.with(low)); len(text) <= m.Limit {
			return text
		}
	}

	return Marker(m.Name) + "\n### " + m.verdict() + "\n\n✂️ The plan is too long for a comment: " + m.elsewhere() + ".\n"
}
