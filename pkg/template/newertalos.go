package template

import (
	"slices"
	"strings"

	"github.com/blang/semver/v4"
)

// firstNewerTalos is the first release of Talos that may know documents that this build does not: the one that its machinery module
// is a pre-release of, or the one after it.
const firstNewerTalos = "1.14"

// hasNewerTalos reports whether the cluster of the template has a Talos that this build does not know whole.
func (t *Template) hasNewerTalos() bool {
	for _, doc := range t.documents().list {
		if scalar(field(doc, "kind")) != kindCluster {
			continue
		}

		have, err := semver.ParseTolerant(strings.TrimPrefix(scalar(field(field(doc, "talos"), "version")), "v"))

		return err == nil && !have.LT(semver.MustParse(firstNewerTalos+".0-0"))
	}

	return false
}

// Notes takes the notes out of a list: they tell what was not understood and is handed on all the same.
func (ps Problems) Notes() (problems, notes Problems) {
	for _, p := range ps {
		if p.Rule == RuleNewer {
			notes = append(notes, p)
		} else {
			problems = append(problems, p)
		}
	}

	return slices.Clip(problems), notes
}
