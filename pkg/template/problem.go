package template

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"
)

// Position is a place in a file of the revision. Line and Column count from 1, in characters, as editors do.
// Line 0 means the file as a whole; an empty File means the source as a whole.
type Position struct {
	File         string
	Line, Column int
}

// String returns "file:line:column", or as much of it as is known.
func (p Position) String() string {
	if p.Line == 0 {
		return printable(p.File)
	}

	return printable(p.File) + ":" + strconv.Itoa(p.Line) + ":" + strconv.Itoa(p.Column)
}

// Problem is one thing that is wrong in the source, told to the person who has to correct it.
// The message is a single line.
type Problem struct {
	Position
	Message string
}

// Error returns "file:line:column: message".
func (p Problem) Error() string {
	if at := p.Position.String(); at != "" {
		return at + ": " + p.Message
	}

	return p.Message
}

// Problems is a list of problems. Find and Render return it sorted by file, line and column, without duplicates.
type Problems []Problem

// Error returns one line per problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.Error()
	}

	return strings.Join(lines, "\n")
}

// Sorted returns the problems sorted by file, line, column and message, each once. It may reuse the slice.
func (p Problems) Sorted() Problems {
	slices.SortFunc(p, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Message, b.Message),
		)
	})

	return slices.Compact(p)
}

// positionOf is the position of a node in a file.
func positionOf(file string, n *yaml.Node) Position {
	return Position{File: file, Line: max(n.Line, 1), Column: max(n.Column, 1)}
}

// Problemf makes a problem. Whatever comes with the arguments, the message is one printable line.
func Problemf(at Position, format string, args ...any) Problem {
	return Problem{at, oneLine(fmt.Sprintf(format, args...))}
}

// oneLine joins the lines of a message: a problem is one line, whatever the library that wrote it thought.
func oneLine(message string) string {
	return printable(strings.Join(strings.Fields(message), " "))
}

// printable replaces what could move the cursor of a terminal or begin a new line in a log. Names in a repository can
// hold anything.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}

		return unicode.ReplacementChar
	}, text)
}
