package template

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// source is the text of a file with its lines, as YAML counts them.
type source struct {
	data  []byte
	lines []int // offset of each line's first byte
}

func newSource(data []byte) source {
	s := source{data: data, lines: []int{0}}

	for i := 0; i < len(data); {
		if n := lineBreak(data[i:]); n > 0 {
			i += n
			s.lines = append(s.lines, i)
		} else {
			i++
		}
	}

	return s
}

// lineBreak returns the length of the line break that the text begins with, or 0. Beside the usual three, the YAML
// parser counts a line at U+0085, U+2028 and U+2029.
func lineBreak(text []byte) int {
	switch {
	case text[0] == '\n':
		return 1
	case text[0] == '\r':
		if len(text) > 1 && text[1] == '\n' {
			return 2
		}

		return 1
	case text[0] < utf8.RuneSelf:
		return 0
	}

	switch r, size := utf8.DecodeRune(text); r {
	case '\u0085', '\u2028', '\u2029':
		return size
	default:
		return 0
	}
}

// offset returns where a line and column (counted in characters, both from 1) is in the text. It stays inside the text.
func (s source) offset(line, column int) int {
	if line < 1 || line > len(s.lines) {
		return len(s.data)
	}

	at := s.lines[line-1]
	for ; column > 1 && at < len(s.data); column-- {
		_, size := utf8.DecodeRune(s.data[at:])
		at += size
	}

	return at
}

// position is the reverse of offset.
func (s source) position(offset int) (line, column int) {
	line, exact := slices.BinarySearch(s.lines, offset)
	if exact {
		line++
	}

	return line, utf8.RuneCount(s.data[s.lines[line-1]:offset]) + 1
}

// span returns where the text of a scalar begins and ends, if it is written plainly: in one piece, without an anchor
// or a tag in front, and not as a block.
func (s source) span(n *yaml.Node) (start, end int, ok bool) {
	start = s.offset(n.Line, n.Column)
	text := s.data[start:]

	switch {
	case n.Kind != yaml.ScalarNode || n.Anchor != "" || n.Style&(yaml.TaggedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return 0, 0, false
	case n.Style&yaml.DoubleQuotedStyle != 0:
		for i := 1; i < len(text) && text[0] == '"'; i++ {
			switch text[i] {
			case '\\':
				i++
			case '"':
				return start, start + i + 1, true
			}
		}

		return 0, 0, false
	case n.Style&yaml.SingleQuotedStyle != 0:
		for i := 1; i < len(text) && text[0] == '\''; i++ {
			switch {
			case text[i] != '\'':
			case i+1 < len(text) && text[i+1] == '\'':
				i++
			default:
				return start, start + i + 1, true
			}
		}

		return 0, 0, false
	default:
		return start, start + len(n.Value), n.Value != "" && bytes.HasPrefix(text, []byte(n.Value))
	}
}

// colon returns the offset after the colon that follows a key on the same line.
func (s source) colon(keyEnd int) (offset int, ok bool) {
	rest := bytes.TrimLeft(s.data[keyEnd:], " \t")
	if !bytes.HasPrefix(rest, []byte(":")) {
		return 0, false
	}

	return len(s.data) - len(rest) + 1, true
}

// edit replaces a part of the text.
type edit struct {
	start, end int
	text       string
}

// apply makes the edits, which must be sorted and not overlap.
func (s source) apply(edits []edit) []byte {
	var (
		out  bytes.Buffer
		done int
	)

	for _, e := range edits {
		out.Write(s.data[done:e.start])
		out.WriteString(e.text)
		done = e.end
	}

	out.Write(s.data[done:])

	return out.Bytes()
}

// original returns where an offset in the edited text is in the text before the edits, which must be sorted.
// An offset inside of what an edit has put in becomes the beginning of what was there.
func original(edits []edit, offset int) int {
	shift := 0 // how much longer the text has become before the edit at hand

	for _, e := range edits {
		switch start := e.start + shift; {
		case offset < start:
			return offset - shift
		case offset < start+len(e.text):
			return e.start
		}

		shift += len(e.text) - (e.end - e.start)
	}

	return offset - shift
}

const hexDigits = "0123456789abcdef"

// quote writes a string as a double-quoted YAML scalar on one line, in ASCII. Upstream decodes and encodes a document
// twice before it looks at it; of all the ways to write a string this is the one that comes through unchanged,
// whatever is in it: tabs, carriage returns, spaces at the edges, lines of any length.
func quote(text []byte) string {
	var out strings.Builder

	out.Grow(len(text) + len(text)/16 + 2)
	out.WriteByte('"')

	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		text = text[size:]

		switch {
		case r == '"' || r == '\\':
			out.WriteByte('\\')
			out.WriteByte(byte(r))
		case r == '\n':
			out.WriteString(`\n`)
		case r == '\t':
			out.WriteString(`\t`)
		case ' ' <= r && r <= '~':
			out.WriteByte(byte(r))
		default:
			letter, digits := byte('x'), 2
			if r > 0xffff {
				letter, digits = 'U', 8
			} else if r > 0xff {
				letter, digits = 'u', 4
			}

			out.WriteByte('\\')
			out.WriteByte(letter)

			for i := digits - 1; i >= 0; i-- {
				out.WriteByte(hexDigits[r>>(4*i)&0xf])
			}
		}
	}

	out.WriteByte('"')

	return out.String()
}
