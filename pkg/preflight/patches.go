package preflight

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"go.yaml.in/yaml/v4"

	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
)

// checkPatch checks what a config patch holds. Omni does not look at one again whose text stays, so that a patch of before
// its rules may stay.
func (c *check) checkPatch(want *omni.ConfigPatch) {
	have := twin(c, want)
	if have != nil && (label(have, omni.LabelCluster) != c.Target || livestate.EqualSpec(have, want)) {
		return // a conflict, or what is there keeps its text
	}

	data, err := want.TypedSpec().Value.GetUncompressedData()
	if err != nil {
		return
	}
	defer data.Free()

	refused, readable := inPatch(c.Server, data.Data())

	switch {
	case len(refused) > 0:
		message := fmt.Sprintf("Omni %s takes no config patch that holds %s; take that out", c.Server, some(refused))
		if slices.Contains(refused, keyInstallDisk) {
			message += " (the disk that a machine is installed on is `install.disk` of its Machine document)"
		}

		c.report(want, message)
	case !readable && everyDocument.in(c.Server):
		// What the library says would quote the patch, which may hold secrets.
		c.report(want, fmt.Sprintf("Omni %s takes no config patch of which it cannot read every document; each has to be a mapping without a key that is there twice", c.Server))
	}
}

// inPatch returns what the server would refuse of a config patch, each once, and whether all of its documents can be read.
func inPatch(server livestate.Server, data []byte) (refused []string, readable bool) {
	for decoder := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var document map[string]any

		if err := decoder.Decode(&document); err != nil {
			return refused, errors.Is(err, io.EOF)
		}

		for _, rule := range patchRules {
			if what := rule.breaks(document); what != "" && rule.in(server) && !slices.Contains(refused, what) {
				refused = append(refused, what)
			}
		}
	}
}

// breaks returns what a document holds that the rule refuses; "" if there is nothing.
func (r patchRule) breaks(document map[string]any) string {
	if kind, ok := document["kind"].(string); kind != r.kind || ok && kind == "" {
		return ""
	}

	if r.key == "" {
		return "a " + r.kind
	}

	var value any = document

	for key := range strings.SplitSeq(r.key, ".") {
		fields, _ := value.(map[string]any)

		next, ok := fields[key]
		if !ok {
			return ""
		}

		value = next
	}

	what := r.key
	if r.kind != "" {
		what = r.kind + "." + r.key
	}

	if r.element == "" {
		return what
	}

	if list, _ := value.([]any); slices.Contains(list, any(r.element)) {
		return fmt.Sprintf("%s in %s", r.element, what)
	}

	return ""
}
