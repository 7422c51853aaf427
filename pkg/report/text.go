package report

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// TextOptions says how findings are shown to people.
type TextOptions struct {
	// Color makes places bold and carets red. It is for terminals.
	Color bool
	// Line returns a line of a file, counted from 1; false if it cannot be shown. If it is set, each finding is followed
	// by its line with a caret below. A line can hold anything, secrets too, so it is for terminals, whose reader has
	// the file, and not for logs.
	Line func(file string, line int) (text string, ok bool)
	// Width is that of the terminal in columns; 100 if it is 0.
	Width int
}

// WriteText writes findings, in the order of [Sort], as "file:line:column: message", the form that editors and terminals make a link
// of. A name or a message of a hostile repository moves no cursor and is no command to a CI service that reads the log.
func WriteText(w io.Writer, findings []Finding, opts TextOptions) error {
	var out strings.Builder

	for _, f := range Sort(append([]Finding(nil), findings...)) {
		out.Reset()

		if at := f.At(); at != "" {
			out.WriteString(paint(harmless(at)+":", "1", opts.Color) + " ")
		}

		if f.Level != Error && f.Level != "" {
			out.WriteString(paint(string(f.Level)+":", "33", opts.Color) + " ")
		}

		out.WriteString(harmless(f.Message) + "\n")

		if opts.Line != nil && f.Line > 0 {
			if text, ok := opts.Line(f.File, f.Line); ok {
				writeExcerpt(&out, text, &f, opts)
			}
		}

		if _, err := io.WriteString(w, out.String()); err != nil {
			return err
		}
	}

	return nil
}

func paint(text, color string, on bool) string {
	if !on {
		return text
	}

	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// harmless is text as it may stand in the log of a CI service, at the beginning of a line or after it. GitHub takes a line
// that begins with :: for a command, and GitHub and Azure take ##[name] and ##vso[name] for one anywhere.
func harmless(text string) string {
	text = marks.ReplaceAllString(Printable(text), "# #$1")
	if strings.HasPrefix(strings.TrimSpace(text), ":") {
		text = "./" + text
	}

	return text
}

var marks = regexp.MustCompile(`##(\w*\[)`)

// Printable replaces what could move the cursor of a terminal, begin a new line in a log or turn the direction of what
// follows.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}

		return unicode.ReplacementChar
	}, text)
}

func writeExcerpt(out *strings.Builder, text string, f *Finding, opts TextOptions) {
	columns := opts.Width
	if columns <= 0 {
		columns = 100
	}

	number := strconv.Itoa(f.Line)
	gutter := strings.Repeat(" ", len(number))
	line, caret := excerpt(text, f.Column, columns-len(number)-5)

	fmt.Fprintf(out, "  %s %s\n", paint(number+" |", "2", opts.Color), line)

	if f.Column > 0 {
		fmt.Fprintf(out, "  %s %s\n", paint(gutter+" |", "2", opts.Color), strings.Repeat(" ", caret)+paint("^", "1;31", opts.Color))
	}
}

const (
	// tabStop is how far a tab goes.
	tabStop = 4
	// minExcerpt is the least number of columns that show anything.
	minExcerpt = 20
)

// cell is a character as it is shown.
type cell struct {
	text  string
	width int // in columns; 0 for what stands on the one before
}

// excerpt returns what is shown of a line in at most so many columns, and how many columns stand before its column-th
// character. Of a long line it is the part around that.
func excerpt(text string, column, columns int) (line string, caret int) {
	columns = max(columns, minExcerpt)
	cells, total := cellsOf(text)
	at := min(max(column-1, 0), len(cells))
	first, last := 0, len(cells)

	if total >= columns { // one column is for a caret behind the end
		room := columns - 3 // and one for the mark at each end

		before := 0
		for first = at; first > 0 && before+cells[first-1].width <= room/3; first-- {
			before += cells[first-1].width
		}

		shown := 0
		for last = first; last < len(cells) && shown+cells[last].width <= room; last++ {
			shown += cells[last].width
		}
	}

	var out strings.Builder

	if first > 0 {
		out.WriteString("…")
		caret++
	}

	stands := false // there is a character that a combining one can stand on

	for i := first; i < last; i++ {
		if stands = stands || cells[i].width > 0; stands {
			out.WriteString(cells[i].text)
		}

		if i < at {
			caret += cells[i].width
		}
	}

	if last < len(cells) {
		out.WriteString("…")
	}

	return out.String(), caret
}

// cellsOf takes a line apart into what is shown of its characters, and counts the columns.
func cellsOf(text string) (cells []cell, total int) {
	for _, r := range text {
		c := cell{string(r), 1}

		switch {
		case r == '\t':
			c.width = tabStop - total%tabStop
			c.text = strings.Repeat(" ", c.width)
		case unicode.In(r, unicode.Mn, unicode.Me):
			c.width = 0 // on the one before
		case !unicode.IsPrint(r):
			c.text = string(unicode.ReplacementChar)
		default:
			if kind := width.LookupRune(r).Kind(); kind == width.EastAsianWide || kind == width.EastAsianFullwidth {
				c.width = 2
			}
		}

		cells = append(cells, c)
		total += c.width
	}

	return cells, total
}
