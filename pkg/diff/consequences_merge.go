package diff

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/talos/pkg/machinery/config/config"
	"github.com/siderolabs/talos/pkg/machinery/config/types/v1alpha1"
)

// merger merges the patches of machines. What all machines of a set share is merged and encoded
// once, and for a machine with patches of its own only the parts that these are about: a
// cluster may have hundreds of such machines.
type merger struct {
	layers

	shared map[resource.ID]*base
}

// base is what the patches of a cluster and a machine set come to.
type base struct {
	parts     []config.Document
	documents map[string]any
	err       error
}

func newMerger(l layers) *merger { return &merger{layers: l, shared: map[resource.ID]*base{}} }

// config returns what all patches of machines come to, as [encoded] does. It is for reading:
// parts of it are shared.
func (m *merger) config(u unit) (map[string]any, error) {
	b := m.shared[u.set.id]
	if b == nil {
		b = &base{}
		if b.parts, b.err = merged(nil, slices.Concat(m.cluster, m.byMachineSet[u.set.id])); b.err == nil {
			b.documents, b.err = encoded(b.parts)
		}

		m.shared[u.set.id] = b
	}

	own := m.own(u)
	if b.err != nil || len(own) == 0 {
		return b.documents, b.err
	}

	return b.with(own)
}

// with returns what the base and more patches come to.
func (b *base) with(own []*configPatch) (map[string]any, error) {
	alone, err := merged(nil, own)
	if err != nil {
		return nil, err
	}

	about := sections(alone)

	parts, err := merged(about.of(b.parts), own)
	if err != nil {
		return nil, err
	}

	changed, err := encoded(parts)
	if err != nil {
		return nil, err
	}

	whole := maps.Clone(b.documents)
	for id, document := range changed {
		if id != "" {
			whole[id] = document
		}
	}

	whole[""] = about.replace(whole[""], changed[""])

	return whole, nil
}

// touched is what some patches are about: sections of Talos' main document, as machine.env, and
// other documents by their IDs.
type touched map[string]bool

func sections(parts []config.Document) touched {
	about := touched{}

	for _, part := range parts {
		about[documentID(part)] = true

		if main, ok := part.(*v1alpha1.Config); ok {
			eachSection(main, func(path string, section reflect.Value) { about[path] = about[path] || !section.IsZero() })
		}
	}

	return about
}

// of returns copies of documents without all that the patches are not about.
func (t touched) of(parts []config.Document) []config.Document {
	var kept []config.Document

	for _, part := range parts {
		if !t[documentID(part)] {
			continue
		}

		main, ok := part.(*v1alpha1.Config)
		if !ok {
			kept = append(kept, part.Clone())

			continue
		}

		// The copies are of the outer structs only: merged copies what is left of them.
		slim := *main
		if main.MachineConfig != nil {
			machine := *main.MachineConfig
			slim.MachineConfig = &machine
		}

		if main.ClusterConfig != nil {
			cluster := *main.ClusterConfig
			slim.ClusterConfig = &cluster
		}

		eachSection(&slim, func(path string, section reflect.Value) {
			if !t[path] {
				section.SetZero()
			}
		})

		kept = append(kept, &slim)
	}

	return kept
}

// replace returns the main document with the sections that the patches are about from another.
func (t touched) replace(whole, from any) map[string]any {
	to, _ := whole.(map[string]any)
	source, _ := from.(map[string]any)
	result := maps.Clone(source) // what is in no section was merged as a whole

	for _, part := range []string{"machine", "cluster"} {
		was, _ := to[part].(map[string]any)
		is, _ := source[part].(map[string]any)
		both := map[string]any{}

		for key, value := range was {
			if !t[part+"."+key] {
				both[key] = value
			}
		}

		maps.Copy(both, is)

		if len(both) > 0 { // else it is as an empty one is encoded
			result[part] = both
		}
	}

	return result
}

// eachSection calls fn for the fields of the two parts of Talos' main document.
func eachSection(main *v1alpha1.Config, fn func(path string, section reflect.Value)) {
	for part, fields := range map[string]reflect.Value{"machine": reflect.ValueOf(main.MachineConfig), "cluster": reflect.ValueOf(main.ClusterConfig)} {
		if fields.IsNil() {
			continue
		}

		for i := range fields.Elem().NumField() {
			name, _, _ := strings.Cut(fields.Elem().Type().Field(i).Tag.Get("yaml"), ",")
			fn(part+"."+name, fields.Elem().Field(i))
		}
	}
}
