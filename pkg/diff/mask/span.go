package mask

import (
	"cmp"
	"slices"
	"strings"
)

// span is a secret in a text: from start up to end, in bytes.
type span struct {
	start, end int
	// value is what the secret says, however it is spelled; "" if the text itself is the value.
	value string
	path  string
}

// apply puts a marker for every span. Spans that overlap become one.
func (m *masker) apply(text string, spans []span) string {
	if len(spans) == 0 {
		return text
	}

	slices.SortStableFunc(spans, func(a, b span) int { return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(b.end, a.end)) })

	merged := spans[:1]

	for _, next := range spans[1:] {
		last := &merged[len(merged)-1]

		if next.start >= last.end {
			merged = append(merged, next)
		} else if next.end > last.end {
			last.end, last.value = next.end, ""
		}
	}

	var out strings.Builder

	at := 0

	for _, s := range merged {
		raw := text[s.start:s.end]

		value := s.value
		if value == "" {
			value = raw
		}

		out.WriteString(text[at:s.start])
		out.WriteString(m.marker(m.side, secret{raw: raw, value: value}, s.path))
		at = s.end
	}

	out.WriteString(text[at:])

	return out.String()
}
