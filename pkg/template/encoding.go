package template

import (
	"encoding/binary"
	"unicode/utf16"
	"unicode/utf8"
)

// fromUTF16 returns the text of a file that is in UTF-16, as some editors on Windows save it, and which UTF-16 it is; "" if
// it is not. Left out silently, a template that was saved so would look like a deleted cluster.
func fromUTF16(data []byte) (text []byte, encoding string) {
	var order binary.ByteOrder

	switch {
	case len(data) < 4:
		return nil, ""
	case data[0] == 0xff && data[1] == 0xfe || data[0] != 0 && data[1] == 0 && data[2] != 0 && data[3] == 0:
		order, encoding = binary.LittleEndian, "UTF-16 (little-endian)"
	case data[0] == 0xfe && data[1] == 0xff || data[0] == 0 && data[1] != 0 && data[2] == 0 && data[3] != 0:
		order, encoding = binary.BigEndian, "UTF-16 (big-endian)"
	default:
		return nil, ""
	}

	units := make([]uint16, 0, len(data)/2)
	for ; len(data) > 1; data = data[2:] {
		units = append(units, order.Uint16(data))
	}

	for _, r := range utf16.Decode(units) {
		if r != '\ufeff' {
			text = utf8.AppendRune(text, r)
		}
	}

	return text, encoding
}

// invalidAt returns the line and column of the first byte that is not UTF-8.
func invalidAt(data []byte) (line, column int) {
	s := newSource(data)

	for at := 0; at < len(data); {
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size == 1 {
			return s.position(at)
		}

		at += size
	}

	return 1, 1
}

// Lines returns what gives the lines of a file by number, as [Position] counts them, without their ends, and whether
// there is such a line.
func Lines(data []byte) func(line int) (text string, ok bool) {
	const mark = "\ufeff"
	if len(data) >= len(mark) && string(data[:len(mark)]) == mark {
		data = data[len(mark):] // no character to a parser
	}

	s := newSource(data)

	return func(line int) (string, bool) {
		if line < 1 || line > len(s.lines) {
			return "", false
		}

		return s.line(line), true
	}
}

// line returns a line that there is, without its end.
func (s source) line(line int) string {
	data := s.data

	start, end := s.lines[line-1], len(data)
	if line < len(s.lines) {
		end = s.lines[line]
	}

	for end > start {
		_, size := utf8.DecodeLastRune(data[start:end])
		if lineBreak(data[end-size:end]) == 0 {
			break
		}

		end -= size
	}

	return string(data[start:end])
}
