package diff

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// prose makes text from outside mean nothing but itself in the Markdown of GitHub and
// GitLab, outside of code: no markup, no HTML, no link, no table cell, nobody is pinged and no issue is
// referred to.
//
// An escape alone does not do: who is mentioned and what is linked is looked for in the text
// after the Markdown was read. So a character of no width separates what would be found.
func prose(text string) string {
	text = OneLine(text)
	text = linkLike.ReplaceAllStringFunc(text, func(match string) string {
		return match[:len(match)-1] + "\x00" + match[len(match)-1:]
	})

	var out strings.Builder

	for _, r := range text {
		switch {
		case r == 0:
			out.WriteRune(zeroWidth)
		case strings.ContainsRune(references, r):
			out.WriteString(entity(r))
			out.WriteRune(zeroWidth)
		case unicode.IsPunct(r) && r < unicode.MaxASCII, unicode.IsSymbol(r) && r < unicode.MaxASCII:
			out.WriteString(escaped(r))
		default:
			out.WriteRune(r)
		}
	}

	return out.String()
}

// references begin a mention or the name of something: on GitHub the first two, on GitLab all.
const references = "@#!$%~&"

// zeroWidth is ZERO WIDTH SPACE.
const zeroWidth = '\u200B'

// linkLike ends behind the first character of what must not follow: a scheme, www, an issue
// by its short name, an emoji.
var linkLike = regexp.MustCompile(`(?i)(?::/|www\.|\bGH-\d|:[a-z0-9_+-])`)

func entity(r rune) string { return fmt.Sprintf("&#%d;", r) }

// escaped writes a character so that it is text in Markdown and in HTML. What matters only
// at the beginning of a line stays as it is: nothing from outside stands there.
func escaped(r rune) string {
	switch {
	case strings.ContainsRune(",.:;-=+'()/?", r):
		return string(r)
	case strings.ContainsRune(`<>"^`, r):
		return entity(r)
	default:
		return `\` + string(r)
	}
}

// code writes text as a code span that it cannot leave, outside of a table: there, a bar ends
// a cell also in code. Nothing is looked for in code: nobody is pinged.
func code(text string) string {
	text = OneLine(text)
	if strings.TrimSpace(text) == "" {
		return "` `"
	}

	fence := strings.Repeat("`", longestRun(text, '`')+1)
	pad := ""

	if strings.HasPrefix(text, "`") || strings.HasSuffix(text, "`") || strings.HasPrefix(text, " ") || strings.HasSuffix(text, " ") {
		pad = " "
	}

	return fence + pad + text + pad + fence
}

// tag writes text as code in HTML, for a summary, which is no Markdown.
func tag(text string) string {
	return "<code>" + strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#39;", "`", "&#96;", "@", "&#64;", "*", "&#42;", "_", "&#95;",
		"[", "&#91;", "]", "&#93;", "\\", "&#92;", "|", "&#124;", "~", "&#126;", "#", "&#35;", "!", "&#33;", "$", "&#36;", ":", "&#58;").Replace(OneLine(text)) + "</code>"
}

// block writes text as a fenced block of code that it cannot leave.
func block(language, text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t':
			return r
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), r == '\u2028', r == '\u2029':
			return '\uFFFD'
		default:
			return r
		}
	}, strings.ToValidUTF8(text, "\uFFFD"))

	fence := strings.Repeat("`", max(longestRun(text, '`')+1, 3))

	return fence + language + "\n" + strings.TrimSuffix(text, "\n") + "\n" + fence + "\n"
}

func longestRun(text string, of rune) int {
	longest, run := 0, 0

	for _, r := range text {
		if r == of {
			run++
		} else {
			run = 0
		}

		longest = max(longest, run)
	}

	return longest
}

// clip cuts text to so many characters.
func clip(text string, characters int) string {
	runes := []rune(text)
	if len(runes) <= characters {
		return text
	}

	return string(runes[:characters]) + "…"
}
