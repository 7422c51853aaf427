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

// Rule is a kind of problem, in lower case with dashes, for tools that group problems by it. The words are stable.
type Rule string

// The kinds of problem. One without a Rule is RuleInvalid.
const (
	RuleInvalid   Rule = "invalid-template"  // anything that none of the others is about
	RuleSyntax    Rule = "yaml-syntax"       // not YAML, or not text in UTF-8
	RuleUnknown   Rule = "unknown-key"       // a key, kind or annotation that there is not
	RuleReference Rule = "file-reference"    // a `file:` that cannot be used
	RulePatch     Rule = "talos-patch"       // a config patch that Talos or Omni would refuse
	RuleNewer     Rule = "newer-talos"       // a config patch's document that this build does not know, and a newer Talos may: a note
	RuleDuplicate Rule = "duplicate"         // two that claim the same thing
	RuleLimit     Rule = "limit"             // larger or deeper than is read
	RuleManifest  Rule = "invalid-manifest"  // a plain manifest that is none
	RuleSource    Rule = "unreadable-source" // a folder, link or file that cannot be read, a path that does not exist
)

// Rules says of every kind of problem what it is, for tools that list them.
var Rules = map[string]string{
	string(RuleInvalid):   "A cluster template that Omni's own template code refuses.",
	string(RuleSyntax):    "A file that is not YAML, or not text in UTF-8.",
	string(RuleUnknown):   "A key, a kind, a value or an annotation that there is not.",
	string(RuleReference): "A file: that names no file of the repository that can be used.",
	string(RulePatch):     "A Talos config patch that Talos or Omni would refuse.",
	string(RuleNewer):     "A document of a Talos config patch that this build does not know, in a cluster of a newer Talos.",
	string(RuleDuplicate): "Two places that describe the same thing.",
	string(RuleLimit):     "Something larger or deeper than is read.",
	string(RuleManifest):  "A manifest of a resource that cannot be one.",
	string(RuleSource):    "A folder, link or file that cannot be read, a path that does not exist, or a directory that is still being written to.",
}

// Problem is one thing that is wrong in the source, told to the person who has to correct it.
// The message is a single line.
type Problem struct {
	Position
	Message string

	// Rule is the kind of problem; "" is RuleInvalid.
	Rule Rule

	// Other is the other place that the message names, as it names it; zero if it names none.
	Other Position
}

// Of returns the problem with a rule.
func (p Problem) Of(rule Rule) Problem {
	p.Rule = rule

	return p
}

// With returns the problem with the other place that its message names.
func (p Problem) With(other Position) Problem {
	p.Other = other

	return p
}

// Moved returns the problem with other names for its files, in its message, too.
func (p Problem) Moved(rename func(file string) string) Problem {
	p.File = rename(p.File)

	if p.Other.File != "" {
		before := p.Other.String()
		p.Other.File = rename(p.Other.File)
		p.Message = strings.ReplaceAll(p.Message, before, p.Other.String())
	}

	return p
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

// Undecodable reports whether something must not even be shown to a decoder: it may be there to
// expand without end, or the decoder would quote content that may be secret.
func (p Problems) Undecodable() bool {
	return slices.ContainsFunc(p, func(problem Problem) bool { return problem.Rule == RuleLimit || problem.Rule == RuleSyntax })
}

// Sorted returns the problems sorted by file, line, column and message, each once. It may reuse the slice.
func (p Problems) Sorted() Problems {
	slices.SortFunc(p, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Message, b.Message),
			cmp.Compare(a.Rule, b.Rule),
		)
	})

	return slices.CompactFunc(p, func(a, b Problem) bool { return a.Position == b.Position && a.Message == b.Message })
}

// positionOf is the position of a node in a file.
func positionOf(file string, n *yaml.Node) Position {
	return Position{File: file, Line: max(n.Line, 1), Column: max(n.Column, 1)}
}

// Problemf makes a problem. Whatever comes with the arguments, the message is one printable line.
func Problemf(at Position, format string, args ...any) Problem {
	return Problem{Position: at, Message: oneLine(fmt.Sprintf(format, args...))}
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
