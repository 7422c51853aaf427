package source

import (
	"strings"
	"unicode"

	"github.com/go-git/go-git/v5/plumbing/object"
)

func person(s object.Signature) string {
	switch {
	case s.Name == "" && s.Email == "":
		return ""
	case s.Email == "":
		return clean(s.Name)
	default:
		return clean(s.Name + " <" + s.Email + ">")
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")

	return clean(line)
}

// clean makes text of strangers fit to be shown on one line of a terminal.
func clean(text string) string {
	const most = 200

	text = strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}

		return r
	}, text))

	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}

	return text
}
