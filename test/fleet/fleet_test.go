package fleet_test

import (
	"reflect"
	"testing"

	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/template"
	"github.com/omni-syncd/omni-syncd/test/fleet"
)

// Every fleet is one that upstream's code accepts, and the same one every time.
func TestNew(t *testing.T) {
	for name, test := range map[string]struct {
		cfg       fleet.Config
		resources int // of each cluster; 0: they differ
	}{
		"fifty machines": {fleet.Config{Clusters: 3, Machines: 50}, 156},
		"ten machines":   {fleet.Config{Clusters: 3, Machines: 10}, 36},
		"varied":         {fleet.Config{Clusters: 40, Machines: 12, Varied: true, Seed: 7}, 0},
		"one machine":    {fleet.Config{Clusters: 2, Machines: 1}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := fleet.New(test.cfg)
			if !reflect.DeepEqual(f, fleet.New(test.cfg)) {
				t.Error("the same configuration makes another fleet")
			}

			set, problems := template.Find(f.Files, template.Scope{})
			targets, refused := render.New().Render(t.Context(), set)

			if len(problems)+len(refused) > 0 || len(set.Templates) != test.cfg.Clusters {
				t.Fatalf("%d templates: %v %v", len(set.Templates), problems, refused)
			}

			sizes := map[int]bool{}

			for _, target := range targets {
				if target.Name != "" {
					sizes[len(target.Resources)] = true
				}
			}

			if test.resources > 0 && (len(sizes) != 1 || !sizes[test.resources]) || test.cfg.Varied && len(sizes) < 5 {
				t.Errorf("clusters of %v resources", sizes)
			}
		})
	}
}

// An edit changes one template, or all of them.
func TestEdits(t *testing.T) {
	f := fleet.New(fleet.Config{Clusters: 5, Machines: 3})
	digests := func(f *fleet.Fleet) map[string]string {
		all := map[string]string{}

		set, _ := template.Find(f.Files, template.Scope{})
		for _, t := range set.Templates {
			all[t.Name] = t.Digest
		}

		return all
	}
	changed := func(f2 *fleet.Fleet) (n int) {
		before := digests(f)
		for name, digest := range digests(f2) {
			if before[name] != digest {
				n++
			}
		}

		return n
	}

	if one, all := changed(f.With(2, 1)), changed(f.WithSharedPatch(1)); one != 1 || all != 5 {
		t.Errorf("one edit changes %d, that of the shared patch %d of 5", one, all)
	}
}
