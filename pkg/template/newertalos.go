package template

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/blang/semver/v4"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"gopkg.in/yaml.v3"
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

// besidesNewer looks for what is wrong with a patch beside documents that this build does not know: Talos' code stops at the first of
// those, and says nothing of the patch as a whole.
func (p *patch) besidesNewer() []patchFault {
	if p.data != nil {
		if _, err := parse(p.data); err != nil {
			line, column, message := syntaxError(p.data, err)

			return []patchFault{{at: p.shift(line, column), words: "this patch is not valid YAML: " + message}}
		}
	}

	if len(p.docs) > maxPatchDocuments {
		return []patchFault{{at: p.place(p.docs[maxPatchDocuments]), words: fmt.Sprintf("this patch has more than %d documents, and not all can be looked at: make several patches of it", maxPatchDocuments)}}
	}

	var (
		known []*yaml.Node
		text  []byte
	)

	for i, doc := range p.docs {
		if doc.ShortTag() == "!!null" { // nothing, or a comment; it has the line of what follows
			continue
		}

		if document := p.document(i); !isNewer(document) {
			known = append(known, doc)
			text = p.join(text, document)
		}
	}

	if len(known) == 0 {
		return nil
	}

	err := omni.ValidateConfigPatch(text)
	if err == nil {
		return nil
	}

	var faults []patchFault

	for _, c := range flatten(err) {
		// Omni's own rules are for the first document.
		if complaint := strings.Join(append(c.contexts, c.message), ": "); known[0] == p.docs[0] || !isOmnis(complaint) {
			faults = append(faults, p.explain(known, complaint, true)...)
		}
	}

	return faults
}

// join puts a document behind others, on the lines where it is, if the patch is a text.
func (p *patch) join(text, document []byte) []byte {
	switch {
	case len(text) == 0:
		return document
	case p.data == nil:
		return slices.Concat(text, []byte("---\n"), document)
	}

	rest := bytes.TrimLeft(document, "\n")
	lines := len(document) - len(rest) - bytes.Count(text, []byte("\n")) // that are between the two

	if lines > 0 { // else its separator is on its own first line
		text = append(text, "---"...)
	}

	return append(append(text, bytes.Repeat([]byte("\n"), max(lines, 0))...), rest...)
}

func isNewer(document []byte) bool {
	err := omni.ValidateConfigPatch(document)

	return err != nil && unregistered.MatchString(err.Error())
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
