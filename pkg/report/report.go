// Package report is what can be said about a place in a file, and how a code-review tool
// reads it.
//
// It stands beside the flow
//
//	source → template → render → diff → sync → omni
//
// and knows none of its stages: who found something turns it into a [Finding], and
// [WriteSARIF] writes findings, whoever made them. So a broken template and a plan that
// deletes a cluster arrive in the same list of the same review.
package report

import (
	"cmp"
	"slices"
	"strconv"
)

// Level is how bad a finding is. The words are those of SARIF.
type Level string

// The levels of a finding.
const (
	// Error stops the revision, or a target of it.
	Error Level = "error"
	// Warning is applied, and somebody should have looked at it.
	Warning Level = "warning"
	// Note is worth knowing.
	Note Level = "note"
)

// Finding is one thing to be said about a place in a file.
type Finding struct {
	// Rule names the kind of finding, in lower case with dashes: "invalid-template".
	Rule string
	// Level is how bad it is.
	Level Level
	// Message is one line: what it is, and what to do about it. It holds nothing secret.
	Message string
	// File is slash-separated and relative to the root of the repository; "" for what is
	// about no file.
	File string
	// Line and Column count from 1, in characters; 0 means the file as a whole.
	Line, Column int
	// Target is the cluster that it is about, "" if it is about none.
	Target string
}

// At returns "file:line:column", or as much of it as is known.
func (f *Finding) At() string {
	switch {
	case f.Line == 0 || f.File == "":
		return f.File
	case f.Column == 0:
		return f.File + ":" + strconv.Itoa(f.Line)
	default:
		return f.File + ":" + strconv.Itoa(f.Line) + ":" + strconv.Itoa(f.Column)
	}
}

// Sort puts findings in an order that does not depend on that of the input: by file, place,
// rule, target and message. It returns each once, and may reuse the slice.
func Sort(findings []Finding) []Finding {
	slices.SortFunc(findings, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Rule, b.Rule),
			cmp.Compare(a.Target, b.Target),
			cmp.Compare(a.Message, b.Message),
			cmp.Compare(a.Level, b.Level),
		)
	})

	return slices.Compact(findings)
}
