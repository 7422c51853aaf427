package diff_test

import (
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/template/schema"
)

// appliedKeys is what a cluster remembers of the keys that its template set.
func appliedKeys(keys string) option {
	return func(r resource.Resource) { r.Metadata().Annotations().Set(diff.MarkApplied, keys) }
}

// F3, G14: what a template of a newer release says is written; when it says so no more, the default comes back; and what it never said
// stays as somebody set it in Omni.
func TestG14_KeysOfNewerTemplates(t *testing.T) {
	for _, n := range schema.Switches() {
		flag := livestate.Flag{Message: n.Message, Number: n.Number}
		on := func(r resource.Resource) {
			features(r)

			if !flag.Set(r) {
				t.Fatalf("%s cannot be set", n)
			}
		}

		mark := appliedKeys(`["field/` + n.String() + `"]`)

		for name, test := range map[string]struct {
			live    resource.Resource
			desired option
			set     bool
			action  diff.Action
			want    bool
		}{
			"set for the first time":        {cluster("1.34.3", ours, served, features), on, true, diff.Update, true},
			"set as it is":                  {cluster("1.34.3", ours, served, on, mark), on, true, "", true},
			"set as somebody else set it":   {cluster("1.34.3", ours, served, on), on, true, diff.Mark, true},
			"switched off in Omni":          {cluster("1.34.3", ours, served, features, mark), on, true, diff.Update, true},
			"false in Git, true in Omni":    {cluster("1.34.3", ours, served, on), features, true, diff.Update, false},
			"false in Git and in Omni":      {cluster("1.34.3", ours, served, features, mark), features, true, "", false},
			"left Git":                      {cluster("1.34.3", ours, served, on, mark), features, false, diff.Update, false},
			"never was in Git":              {cluster("1.34.3", ours, served, on), features, false, "", true},
			"never was in Git, and a write": {cluster("1.33.0", ours, served, on), features, false, diff.Update, true},
		} {
			in := diff.Input{Source: self, Target: "one", Desired: resources{cluster("1.34.3", test.desired)}, Live: resources{test.live}}
			if test.set {
				in.Set = []schema.Newer{n}
			}

			plan := diff.Compute(in)

			switch {
			case test.action == "":
				if !plan.Empty() || flag.Get(test.live) != test.want {
					t.Errorf("%s, %s: %s", n, name, plan.Summary())
				}

				continue
			case len(plan.Changes) != 1:
				t.Errorf("%s, %s: %s", n, name, plan.Summary())

				continue
			}

			change := plan.Changes[0]
			t.Logf("%s, %s: %s", n, name, change.Line())

			if flag.Get(change.New) != test.want || change.Action != test.action {
				t.Errorf("%s, %s: %s %s, and the field is %v", n, name, change.Action, change.Line(), flag.Get(change.New))
			}

			// G4: what was written is what is wanted.
			in.Live = resources{change.New}
			if again := diff.Compute(in); !again.Empty() {
				t.Errorf("%s, %s: once more: %s", n, name, again.Summary())
			}
		}
	}
}
