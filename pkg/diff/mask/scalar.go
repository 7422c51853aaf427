package mask

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// The YAML library says where a scalar begins, and not where it ends. But it says how the scalar is written and what it
// is: plain and block scalars know no escapes, so that their letters stand in the text in the same order, with blanks and line
// breaks between them; quoted ones end with their quote.

// located is where the text of a scalar is.
type located struct {
	start, end int
	// body is where the letters of a quoted or plain scalar begin; exact if they stand there as they are.
	body  int
	exact bool
	// lines are where the letters of each line of a literal block begin, and values where these lines begin in the value.
	lines, values []int
}

// inner says where a part of the value stands in the text; false if that cannot be known.
func (l located) inner(start, end int) (int, int, bool) {
	if l.exact {
		return l.body + start, l.body + end, true
	}

	if l.lines == nil {
		return 0, 0, false
	}

	from, ok := l.offset(start)
	if !ok {
		return 0, 0, false
	}

	to, ok := l.offset(end)

	return from, to, ok && from <= to
}

// offset does not read the value: there may be as many secrets in it as it has words.
func (l located) offset(at int) (int, bool) {
	line, found := slices.BinarySearch(l.values, at)
	if !found {
		line--
	}

	if line >= len(l.lines) {
		return 0, false
	}

	return l.lines[line] + at - l.values[line], true
}

// newlines are where the lines of a value begin.
func newlines(value string) []int {
	starts := []int{0}

	for i := range len(value) {
		if value[i] == '\n' {
			starts = append(starts, i+1)
		}
	}

	return starts
}

// cursor goes to lines and columns as YAML counts them. It goes on from where it is if it can: all of a JSON document may stand
// in one line.
type cursor struct {
	text             string
	lines            []int
	line, column, at int
}

func (c *cursor) seek(line, column int) int {
	if line != c.line || column < c.column {
		c.line, c.column, c.at = line, 1, c.lines[line-1]
	}

	for ; c.column < column; c.column++ {
		_, size := utf8.DecodeRuneInString(c.text[c.at:])
		c.at += size
	}

	return c.at
}

// lineStarts are the offsets of lines as YAML counts them: NEL, LS and PS end one, too.
func lineStarts(text string) []int {
	starts := []int{0}
	if strings.HasPrefix(text, "\ufeff") {
		starts[0] = len("\ufeff") // a byte order mark is in no column
	}

	for i := 0; i < len(text); {
		n := lineBreak(text[i:])
		if n == 0 {
			i++

			continue
		}

		i += n
		starts = append(starts, i)
	}

	return starts
}

// lineBreak is the length of the line break that a text begins with; 0 if there is none.
func lineBreak(text string) int {
	switch {
	case strings.HasPrefix(text, "\r\n"):
		return 2
	case strings.HasPrefix(text, "\n"), strings.HasPrefix(text, "\r"):
		return 1
	case strings.HasPrefix(text, "\u0085"):
		return 2
	case strings.HasPrefix(text, "\u2028"), strings.HasPrefix(text, "\u2029"):
		return 3
	default:
		return 0
	}
}

// locate finds a scalar that begins at or after an offset.
func locate(cur *cursor, n *yaml.Node, after int) (located, bool) {
	if n.Value == "" && isNull(n) {
		return located{start: after, end: after}, true // nothing is written there
	}

	if n.Line < 1 || n.Line > len(cur.lines) {
		return located{}, false
	}

	text := cur.text
	at := properties(text, cur.seek(n.Line, n.Column))

	if at < after || at >= len(text) {
		return located{}, false
	}

	switch {
	case n.Style&yaml.DoubleQuotedStyle != 0:
		return quoted(text, at, n.Value, '"')
	case n.Style&yaml.SingleQuotedStyle != 0:
		return quoted(text, at, n.Value, '\'')
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return block(text, at, n)
	default:
		end, ok := follow(text, at, n.Value)

		return located{start: at, end: end, body: at, exact: text[at:max(end, at)] == n.Value}, ok
	}
}

// properties skips the tag and the anchor of a node, and what may stand between them and the node.
func properties(text string, at int) int {
	for at < len(text) && (text[at] == '!' || text[at] == '&') {
		for at < len(text) && !strings.ContainsRune(" \t\r\n", rune(text[at])) {
			at++
		}

		for at < len(text) && strings.ContainsRune(" \t\r\n#", rune(text[at])) {
			if text[at] == '#' {
				at += lineEnd(text[at:])
			} else {
				at++
			}
		}
	}

	return at
}

func quoted(text string, at int, value string, quote byte) (located, bool) {
	if text[at] != quote {
		return located{}, false
	}

	for i := at + 1; i < len(text); i++ {
		switch {
		case text[i] == '\\' && quote == '"':
			i++
		case text[i] != quote:
		case quote == '\'' && strings.HasPrefix(text[i+1:], "'"):
			i++
		default:
			return located{start: at, end: i + 1, body: at + 1, exact: text[at+1:i] == value}, true
		}
	}

	return located{}, false
}

// block locates a block scalar: from its | or > to the end of its last line that is not blank.
func block(text string, at int, n *yaml.Node) (located, bool) {
	if text[at] != '|' && text[at] != '>' {
		return located{}, false
	}

	header := strings.IndexAny(text[at:], "\r\n")
	if header < 0 {
		return located{start: at, end: len(text)}, strings.TrimSpace(n.Value) == ""
	}

	body := at + header + lineBreak(text[at+header:])

	end, ok := follow(text, body, n.Value)
	if !ok {
		return located{}, false
	}

	if strings.TrimSpace(n.Value) == "" {
		end = at + header
	} else if rest := strings.IndexAny(text[end:], "\r\n"); rest >= 0 {
		end += rest // blanks at the end of the last line
	} else {
		end = len(text)
	}

	found := located{start: at, end: end}
	if text[at] == '|' {
		found.lines, found.values = literalLines(text, body, n.Value), newlines(n.Value)
	}

	return found, true
}

// literalLines says where the lines of a literal block begin behind their indentation; nil if they are not found as they should be.
func literalLines(text string, at int, value string) []int {
	var starts []int

	indent := -1

	for line := range strings.SplitSeq(strings.TrimRight(value, "\n"), "\n") {
		end := strings.IndexAny(text[at:], "\r\n")
		if end < 0 {
			end = len(text) - at
		}

		raw := text[at : at+end]

		switch {
		case indent < 0 && line != "":
			if !strings.HasSuffix(raw, line) {
				return nil
			}

			indent = len(raw) - len(line)
		case line == "":
		case len(raw) < indent || raw[indent:] != line:
			return nil
		}

		if line == "" {
			starts = append(starts, at+end)
		} else {
			starts = append(starts, at+indent)
		}

		at += end
		if at < len(text) {
			at += lineBreak(text[at:])
		}
	}

	return starts
}

// follow walks the text along a value, blanks and line breaks left out of both, and returns where the value ends.
func follow(text string, at int, value string) (int, bool) {
	end := at

	for _, want := range value {
		if isBlank(want) {
			continue
		}

		for {
			if at >= len(text) {
				return 0, false
			}

			got, size := utf8.DecodeRuneInString(text[at:])
			at += size

			if got == want {
				break
			}

			if !isBlank(got) {
				return 0, false
			}
		}

		end = at
	}

	return end, true
}

func isBlank(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' }
