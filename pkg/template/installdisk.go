package template

import (
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

	if _, err := cel.ParseBooleanExpression(s.Text, celenv.DiskLocator()); err != nil {
		// What comes after the first line draws where it is.
		why, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "ERROR: <input>:"), "\n")
		t.Problems = append(t.Problems, Problemf(positionOf(t.Path, value), "%s is no expression that is true or false of a disk: %s", s.Newer, why).Of(RuleInvalid))
	}
}
