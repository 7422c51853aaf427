package auth

import (
	"strconv"
	"strings"
	"unicode"
)

// maxName is how much of a name from outside is kept, in bytes.
const maxName = 256

// shown returns a text that somebody wrote into the wrong place, quoted and with a space in
// front, or nothing if it might be a token.
func shown(text string) string {
	if len(text) > 32 || strings.Contains(text, tokenPrefix) {
		return ""
	}

	return " " + strconv.Quote(text)
}

// printable makes a text from outside fit for a log line: nothing in it moves a cursor or
// starts a new line.
func printable(text string) string {
	return cut(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}

		return '?'
	}, text), maxName)
}

func cut(text string, length int) string {
	if len(text) <= length {
		return text
	}

	return strings.ToValidUTF8(text[:length], "") + "…"
}
