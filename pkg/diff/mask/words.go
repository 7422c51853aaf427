package mask

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Diff puts words for the markers in a unified diff of texts made from the copies. A secret that was replaced is
// "(secret, changed)" in its added line.
func (p *Pair) Diff(unified string) string {
	if p.markers == nil {
		return unified
	}

	unified = p.unescape(unified)
	if !p.pattern.MatchString(unified) {
		return unified
	}

	var (
		out   strings.Builder
		group []string // lines that the diff sets against each other
	)

	flush := func() {
		before := p.removed(group)

		for _, line := range group {
			if line[0] == '+' {
				out.WriteString("+" + p.against(line[1:], before))
			} else {
				out.WriteString(p.Words(line))
			}
		}

		group = group[:0]
	}

	for line := range strings.Lines(unified) {
		if line[0] == '-' || line[0] == '+' {
			group = append(group, line)

			continue
		}

		flush()
		out.WriteString(p.Words(line))
	}

	flush()

	return out.String()
}

// unescape brings back markers that an encoder wrote as escapes: in a text with a byte order mark, ours writes every letter so.
func (m *markers) unescape(text string) string {
	if !strings.Contains(text, `\x28`) {
		return text
	}

	return m.escaped.ReplaceAllStringFunc(text, func(marker string) string {
		plain, err := hex.DecodeString(strings.ReplaceAll(marker, `\x`, ""))
		if err != nil {
			return word
		}

		return string(plain)
	})
}

// escape writes every byte of a text as an escape.
func escape(text string) string {
	var out strings.Builder
	for _, b := range []byte(text) {
		fmt.Fprintf(&out, `\x%02X`, b)
	}

	return out.String()
}

// maxAlike bounds how many old lines one new line is compared with.
const maxAlike = 100

// removed files the secrets of the removed lines of a group by the key that the line begins with.
func (m *markers) removed(group []string) map[string][][]int {
	before := map[string][][]int{}

	for _, line := range group {
		if line[0] != '-' {
			continue
		}

		if ids := m.idsIn(line); len(ids) > 0 && len(before[head(line)]) < maxAlike {
			before[head(line)] = append(before[head(line)], ids)
		}
	}

	return before
}

// head is the first word of a line, which is its key.
func head(line string) string {
	line = strings.TrimLeft(line, " -+\t{[\"'#&!")
	if end := strings.IndexAny(line, " :=\"'"); end >= 0 {
		return line[:end]
	}

	return line
}

// against puts words for the markers of a new text, and says which of the secrets took the place of another one: by the
// old lines that it was set against, or else by what else stood at its path.
func (m *markers) against(text string, removed map[string][][]int) string {
	found := m.idsIn(text)
	if len(found) == 0 {
		return text
	}

	before := removed[head(text)]
	were := nearest(found, before)

	return m.replace(text, func(n, id int) string {
		switch {
		case were != nil && id == were[n]:
			return m.plain(n, id)
		case were != nil && m.secrets[id].value == m.secrets[were[n]].value:
			return wordRespelled
		case were == nil && len(before) > 0 && slices.ContainsFunc(before, func(ids []int) bool { return slices.Contains(ids, id) }),
			len(before) == 0 && !m.changed(id):
			return m.plain(n, id)
		case m.secrets[id].unreadable:
			return unreadableChanged
		default:
			return wordChanged
		}
	})
}

// nearest returns the secrets of the old line that has most in common with a new one; nil if none has as many.
func nearest(found []int, before [][]int) []int {
	var (
		nearest []int
		most    = -1
	)

	for _, were := range before {
		if len(were) != len(found) {
			continue
		}

		same := 0

		for n, id := range found {
			if id == were[n] {
				same++
			}
		}

		if same > most {
			nearest, most = were, same
		}
	}

	return nearest
}

func (m *markers) idsIn(text string) []int {
	var ids []int

	m.replace(text, func(_, id int) string { ids = append(ids, id); return "" })

	return ids
}
