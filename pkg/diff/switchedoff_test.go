package diff_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/google/go-cmp/cmp"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

const disabled = "omni.sidero.dev/disabled"

func off(r resource.Resource) { r.Metadata().Labels().Set(disabled, "") }

// F9: a patch that somebody switched off in Omni counted as Synced without a word.
func TestF9_SwitchedOffIsTold(t *testing.T) {
	const says = "ConfigPatch 200-cluster-one-dns is switched off in Omni (label omni.sidero.dev/disabled): it has no effect until somebody enables it there"

	for name, test := range map[string]struct {
		desired, live resource.Resource
		empty, told   bool
	}{
		"ours":           {patch("200-cluster-one-dns", "a: b"), patch("200-cluster-one-dns", "a: b", ours, off), true, true},
		"changed in Git": {patch("200-cluster-one-dns", "a: c"), patch("200-cluster-one-dns", "a: b", ours, off), false, true},
		"adopted":        {patch("200-cluster-one-dns", "a: b"), patch("200-cluster-one-dns", "a: b", off), false, true},
		"on":             {patch("200-cluster-one-dns", "a: b"), patch("200-cluster-one-dns", "a: b", ours), true, false},
		"off in Git":     {patch("200-cluster-one-dns", "a: b", off), patch("200-cluster-one-dns", "a: b", ours, off), true, false},
		"no patch":       {machineSet("one-workers"), machineSet("one-workers", ours, off), true, false},
	} {
		plan := diff.Compute(diff.Input{Source: self, Target: "one", Desired: resources{test.desired}, Live: resources{test.live}})

		var text bytes.Buffer
		if err := diff.WriteText(&text, plan, diff.TextOptions{}); err != nil {
			t.Fatal(err)
		}

		if plan.Empty() != test.empty || strings.Contains(text.String(), says) != test.told || test.empty && !test.told && text.Len() > 0 {
			t.Errorf("%s: %s\n%s", name, plan.Summary(), text.String())
		}

		for i := range plan.Changes {
			if _, still := plan.Changes[i].New.Metadata().Labels().Get(disabled); !still {
				t.Errorf("%s: it is switched on", name)
			}
		}

		report := &diff.Report{Entries: []diff.Entry{{Plan: plan}}}

		var json bytes.Buffer
		if err := diff.WriteJSON(&json, report); err != nil || strings.Contains(json.String(), `"switchedOff"`) != test.told {
			t.Errorf("%s: %v\n%s", name, err, json.String())
		}

		var markdown bytes.Buffer
		if err := diff.WriteMarkdown(&markdown, report, diff.MarkdownOptions{}); err != nil || strings.Contains(markdown.String(), "is switched off in Omni") != test.told {
			t.Errorf("%s: %v\n%s", name, err, markdown.String())
		}
	}
}

// F9: a patch that was put in front gave those that follow other IDs, and one that somebody had switched off came back
// enabled under its new one.
func TestF9_SwitchedOffStaysSoUnderAnotherID(t *testing.T) {
	set := label(omni.LabelMachineSet, "one-workers")

	for name, test := range map[string]struct {
		desired, live resources
		want          []string // what is created switched off
	}{
		"one is put in front": {
			resources{patch("200-cluster-one-new", "n: 1"), patch("201-cluster-one-dns", "a: b"), patch("202-cluster-one-ntp", "c: d")},
			resources{patch("200-cluster-one-dns", "a: b", ours, off), patch("201-cluster-one-ntp", "c: d", ours)},
			[]string{"201-cluster-one-dns"},
		},
		"and it changes": {
			resources{patch("200-cluster-one-new", "n: 1"), patch("201-cluster-one-dns", "a: c")},
			resources{patch("200-cluster-one-dns", "a: b", ours, off)},
			[]string{"201-cluster-one-dns"},
		},
		"two change places": {
			resources{patch("200-cluster-one-ntp", "c: d"), patch("201-cluster-one-dns", "a: b")},
			resources{patch("200-cluster-one-dns", "a: b", ours, off), patch("201-cluster-one-ntp", "c: d", ours)},
			[]string{"201-cluster-one-dns"},
		},
		"it is renamed": {
			resources{patch("200-cluster-one-names", `{"a": "b"}`)},
			resources{patch("200-cluster-one-dns", "a: b\n", ours, off)},
			[]string{"200-cluster-one-names"},
		},
		"it moves and another one says the same": {
			resources{patch("200-cluster-one-copy", "a: b"), patch("201-cluster-one-dns", "a: b")},
			resources{patch("200-cluster-one-dns", "a: b", ours, off)},
			[]string{"201-cluster-one-dns"},
		},
		"it stays and another one says the same": {
			resources{patch("200-cluster-one-dns", "a: b"), patch("201-cluster-one-copy", "a: b")},
			resources{patch("200-cluster-one-dns", "a: b", ours, off)},
			nil,
		},
		"it leaves": {
			resources{patch("200-cluster-one-ntp", "c: d")},
			resources{patch("200-cluster-one-dns", "a: b", ours, off)},
			nil,
		},
		"names that are there twice": {
			resources{patch("200-cluster-one-x", "n: 1"), patch("201-cluster-one-x", "c: d"), patch("202-cluster-one-x", "e: f")},
			resources{patch("199-cluster-one-x", "a: b", ours, off)},
			nil,
		},
		"of a machine set": {
			resources{patch("401-one-workers-dns", "a: b", set)},
			resources{patch("400-one-workers-dns", "a: b", set, ours, off)},
			[]string{"401-one-workers-dns"},
		},
		"from a machine set to the cluster": {
			resources{patch("201-dns", "a: b")},
			resources{patch("400-dns", "a: b", set, ours, off)},
			nil,
		},
		"of somebody else": {
			resources{patch("201-cluster-one-dns", "a: b")},
			resources{patch("500-ui", "a: b", off)},
			nil,
		},
	} {
		in := diff.Input{Source: self, Target: "one", Desired: test.desired, Live: test.live}
		plan := diff.Compute(in)

		var got []string

		after := resources{}

		for i := range plan.Changes {
			c := &plan.Changes[i]
			if c.New == nil {
				continue
			}

			after = append(after, c.New)

			if _, isOff := c.New.Metadata().Labels().Get(disabled); isOff && c.Action == diff.Create {
				got = append(got, c.New.Metadata().ID())

				if !strings.Contains(c.Line(), "; it stays switched off in Omni, as ") {
					t.Errorf("%s: %s", name, c.Line())
				}
			}
		}

		if d := cmp.Diff(test.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}

		// It is still off, and told, when the old one is gone.
		in.Live = after
		for _, r := range test.live {
			if !slices.ContainsFunc(plan.Changes, func(c diff.Change) bool { return c.Metadata().ID() == r.Metadata().ID() }) {
				in.Live = append(in.Live, r)
			}
		}

		if again := diff.Compute(in); !again.Empty() || test.want != nil && (len(again.SwitchedOff) != 1 || again.SwitchedOff[0].Metadata().ID() != test.want[0]) {
			t.Errorf("%s: then %s, off: %v", name, again.Summary(), again.SwitchedOff)
		}

		for _, r := range test.desired {
			if _, isOff := r.Metadata().Labels().Get(disabled); isOff {
				t.Errorf("%s: the input is changed", name)
			}
		}
	}
}

// F9: a plan said that machines reboot for a patch that is switched off.
func TestF9_SwitchedOffReachesNoMachine(t *testing.T) {
	switchOff := func(o omniState) omniState { return o.edit(omni.ConfigPatchType, "200-cluster-one-motd", off) }
	same := []string{"info: Config patches change, and the configuration of the machines stays the same: nothing restarts."}
	motd := one(tmpl{cluster: patches("motd", filesPatch)})

	for name, after := range map[string]files{
		"changes": one(tmpl{cluster: patches("motd", sysctlPatch)}),
		"moves":   one(tmpl{cluster: patches("new", "machine: {}\n", "motd", filesPatch)}),
		"leaves":  one(tmpl{}),
	} {
		s := scenario{before: motd, after: after, live: switchOff}
		if d := cmp.Diff(same, s.texts(t)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

// F9: what somebody switched off stays off and what is on stays on, by its documents, whatever becomes of the IDs.
func TestF9_SwitchedOffByDocuments(t *testing.T) {
	for name, test := range map[string]struct {
		desired, live resources
		off           map[string]bool // by document; of what the plan writes
	}{
		"two of a name, one in front": {
			resources{patch("200-cluster-one-x", "n: 1"), patch("201-cluster-one-a", "a: off"), patch("202-cluster-one-a", "a: on")},
			resources{patch("200-cluster-one-a", "a: off", ours, off), patch("201-cluster-one-a", "a: on", ours)},
			map[string]bool{"n: 1": false, "a: off": true, "a: on": false},
		},
		"two of a name, the first leaves": {
			resources{patch("200-cluster-one-a", "a: on")},
			resources{patch("200-cluster-one-a", "a: off", ours, off), patch("201-cluster-one-a", "a: on", ours)},
			map[string]bool{"a: on": false},
		},
		"two of a name, one of them new": {
			resources{patch("200-cluster-one-a", "n: 1"), patch("201-cluster-one-a", "a: off")},
			resources{patch("200-cluster-one-a", "a: off", ours, off)},
			map[string]bool{"n: 1": false, "a: off": true},
		},
		"both renamed, with the same documents": {
			resources{patch("200-cluster-one-n", "a: b"), patch("201-cluster-one-o", "a: b")},
			resources{patch("200-cluster-one-off", "a: b", ours, off), patch("201-cluster-one-on", "a: b", ours)},
			map[string]bool{"a: b": false},
		},
		"changed to what another one says that is on": {
			resources{patch("200-cluster-one-a", "a: b"), patch("201-cluster-one-b", "a: b")},
			resources{patch("200-cluster-one-a", "a: off", ours, off), patch("201-cluster-one-b", "a: b", ours)},
			map[string]bool{"a: b": true},
		},
		"a cluster of omnictl, one in front": {
			resources{patch("200-cluster-one-new", "n: 1"), patch("201-cluster-one-dns", "a: off")},
			resources{patch("200-cluster-one-dns", "a: off", off)},
			map[string]bool{"n: 1": false, "a: off": true},
		},
		"idOverrides that begin with a number": {
			resources{patch("9-dns", "a: other")},
			resources{patch("8-dns", "a: off", ours, off)},
			map[string]bool{"a: other": false},
		},
	} {
		plan := diff.Compute(diff.Input{Source: self, Target: "one", Desired: test.desired, Live: test.live})
		got := map[string]bool{}

		for i := range plan.Changes {
			written, ok := plan.Changes[i].New.(*omni.ConfigPatch)
			if !ok {
				continue
			}

			data, err := written.TypedSpec().Value.GetUncompressedData()
			if err != nil {
				t.Fatal(err)
			}

			_, got[string(data.Data())] = written.Metadata().Labels().Get(disabled)
		}

		if d := cmp.Diff(test.off, got); d != "" {
			t.Errorf("%s: off (-want +got):\n%s\n%s", name, d, plan.Summary())
		}
	}
}
