package metrics

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLabel is the most bytes of a label's value: the length of a DNS name.
const maxLabel = 253

// label makes any text one that may be the value of a label: valid UTF-8 without control
// characters, of at most maxLabel bytes.
func label(text string) string {
	if plain(text) {
		return text
	}

	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}

		return r
	}, strings.ToValidUTF8(text, ""))

	for len(text) > maxLabel {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}

	return text
}

// plain reports whether a text may be a label as it is.
func plain(text string) bool {
	return len(text) <= maxLabel && utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}
