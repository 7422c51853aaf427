package template

import (
	"fmt"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/cel"
	"github.com/siderolabs/talos/pkg/machinery/cel/celenv"
	"gopkg.in/yaml.v3"
)

// checkDisk checks how a machine picks the disk that it is installed on, as a client of Omni 1.11 does: by a path or by an
// expression over its disks. From omni main of August 2026, client/pkg/template/internal/models/machine.go.
func (t *Template) checkDisk(s Setting, install, value *yaml.Node) {
	if s.Text == "" { // as if it was not there
		return
	}

	if scalar(field(install, "disk")) != "" {
		t.Problems = append(t.Problems, Problemf(s.Position, "%s cannot stand beside install.disk; take one of them out", s.Newer).Of(RuleInvalid))
	}

	if why := badExpression(s.Text); why != "" {
		t.Problems = append(t.Problems, Problemf(positionOf(t.Path, value), "%s is no expression that is true or false of a disk: %s", s.Newer, why).Of(RuleInvalid))
	}
}

// An expression over a disk is a line. CEL's own bounds are those of a program, and one that stays within them can take minutes (G12).
const (
	maxExpression = 1024 // bytes
	maxNesting    = 24   // brackets
	maxComplaint  = 200  // bytes of what CEL says, which may hold names of any length
)

// badExpression says what is wrong with an expression that is to be true or false of a disk; "" if nothing is.
func badExpression(text string) string {
	switch {
	case len(text) > maxExpression:
		return fmt.Sprintf("it is longer than %d bytes", maxExpression)
	case nesting(text) > maxNesting:
		return fmt.Sprintf("its brackets are nested more than %d deep", maxNesting)
	}

	_, err := cel.ParseBooleanExpression(text, celenv.DiskLocator())
	if err == nil {
		return ""
	}

	// What comes after the first line draws where it is.
	why, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "ERROR: <input>:"), "\n")
	if len(why) > maxComplaint {
		why = strings.ToValidUTF8(why[:maxComplaint], "") + "…"
	}

	return why
}

// nesting is how deep brackets are nested; those in texts count.
func nesting(text string) (deepest int) {
	depth := 0

	for _, r := range text {
		switch r {
		case '(', '[', '{':
			depth++
			deepest = max(deepest, depth)
		case ')', ']', '}':
			depth = max(depth-1, 0)
		}
	}

	return deepest
}
