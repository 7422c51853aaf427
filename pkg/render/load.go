package render

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/cosi-project/runtime/pkg/resource"
	upstream "github.com/siderolabs/omni/client/pkg/template"
	"go.yaml.in/yaml/v4"

	"github.com/omni-syncd/omni-syncd/pkg/template"
	"github.com/omni-syncd/omni-syncd/pkg/template/schema"
)

// translate runs upstream's code over the text of a template.
func translate(t *template.Template, text []byte) (resources []resource.Resource, notes, problems template.Problems) {
	// One template that trips a fault in upstream's code must not take the others down.
	defer func() {
		if fault := recover(); fault != nil {
			resources, notes, problems = nil, nil, t.Locate(fmt.Errorf("the template code of Omni's client gave up: %v", fault))
		}
	}()

	tmpl, err := load(text)
	if err != nil {
		return nil, nil, diagnose(t, text, err)
	}

	if notes, problems = judge(t, tmpl, false); len(problems) > 0 {
		return nil, nil, problems
	}

	resources, err = tmpl.Translate()
	if err != nil {
		return nil, nil, t.Locate(err)
	}

	return resources, notes, nil
}

// judge returns everything that upstream's code says against what it could load of a template. With lost, that is not all
// of it. What it only does not know, and the Talos of the cluster may, is a note and no reason to refuse the template.
func judge(t *template.Template, tmpl *upstream.Template, lost bool) (notes, problems template.Problems) {
	err := tmpl.Validate()
	if err == nil {
		return nil, nil
	}

	problems, notes = t.LocateRest(err, lost).Notes()
	known := slices.ContainsFunc(problems, func(p template.Problem) bool { return p.Rule == template.RuleDuplicate })

	// Two resources of the same ID come out only when it is translated, which was never meant for what is not valid.
	func() {
		defer func() { _ = recover() }()

		if _, err = tmpl.Translate(); err == nil {
			return
		}

		for _, problem := range t.Locate(err) {
			// Of machine sets and machines it may have been said already.
			if problem.Rule == template.RuleDuplicate && !(known && strings.HasPrefix(problem.Message, "MachineSet")) {
				problems = append(problems, problem)
			}
		}
	}()

	return notes, problems.Sorted()
}

// nowhere is a folder that has been closed: nothing can be read from it. Upstream's code resolves `file:` on the disk
// of this machine. Package template leaves none for it to resolve; this is the second lock on that door.
var nowhere = sync.OnceValues(func() (*os.Root, error) {
	root, err := os.OpenRoot(".")
	if err != nil {
		return nil, fmt.Errorf("closing the disk to templates: %w", err)
	}

	return root, root.Close()
})

func load(text []byte) (*upstream.Template, error) {
	root, err := nowhere()
	if err != nil {
		return nil, err
	}

	return upstream.Load(bytes.NewReader(text), upstream.WithRoot(root))
}

var errEmpty = errors.New("this document is empty: remove it, or the --- before it")

// diagnose finds out what is wrong with each document of a template. Upstream's Load stops at the first that it
// cannot decode; here each is loaded by itself, and what is wrong with those that can be loaded, or can be once they are
// mended, is told, too.
func diagnose(t *template.Template, text []byte, whole error) template.Problems {
	var (
		problems template.Problems
		rest     bytes.Buffer // what could be loaded
		lost     bool
	)

	decoder := yaml.NewDecoder(bytes.NewReader(text))

	for index := 0; ; index++ {
		var doc yaml.Node
		if err := decoder.Decode(&doc); err != nil || len(doc.Content) != 1 {
			lost = lost || err == nil || len(problems) == 0 // the end, or a syntax error: that is in the error of the whole

			break
		}

		if doc.Content[0].ShortTag() == "!!null" {
			problems = append(problems, t.LocateDocument(index, errEmpty)...)

			continue
		}

		raw, err := yaml.Marshal(doc.Content[0])
		if err == nil {
			_, err = load(raw)
		}

		if err != nil {
			problems = append(problems, t.LocateDocument(index, err)...)

			var less bool

			raw, less = mended(doc.Content[0])
			lost = lost || less
		}

		if raw != nil {
			rest.WriteString("---\n")
			rest.Write(raw)
		}
	}

	if len(problems) == 0 && len(t.Problems) == 0 {
		problems = t.Locate(whole)
	}

	if tmpl, err := load(rest.Bytes()); err == nil && rest.Len() > 0 {
		_, more := judge(t, tmpl, lost)
		problems = append(problems, more...)
	}

	return problems.Sorted()
}

// mended returns a document that upstream refuses to decode as one that it decodes, and whether something of it had to be
// left out; nil if that cannot be done.
func mended(doc *yaml.Node) (raw []byte, lost bool) {
	lost = schema.Mend(doc)

	loads := func(n *yaml.Node) []byte {
		raw, err := yaml.Marshal(n)
		if err != nil {
			return nil
		}

		if _, err := load(raw); err != nil {
			return nil
		}

		return raw
	}

	if raw := loads(doc); raw != nil || doc.Kind != yaml.MappingNode {
		return raw, lost || raw == nil
	}

	// A value that has the wrong type: the keys are tried one by one.
	less := *doc
	less.Content = nil

	for i := 0; i+1 < len(doc.Content); i += 2 {
		if doc.Content[i].Value == "kind" {
			less.Content = append(less.Content, doc.Content[i], doc.Content[i+1])
		}
	}

	for i := 0; i+1 < len(doc.Content); i += 2 {
		if doc.Content[i].Value == "kind" {
			continue
		}

		kept := len(less.Content)
		less.Content = append(less.Content, doc.Content[i], doc.Content[i+1])

		if loads(&less) == nil {
			less.Content = less.Content[:kept]
		}
	}

	return loads(&less), true
}
