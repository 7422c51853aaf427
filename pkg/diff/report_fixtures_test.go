package diff_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/report"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// files are the files of a revision, by path.
type files map[string]string

// scenario is a change of a repository, and what Omni holds beside what was synced before.
type scenario struct {
	before, after files
	// base is the revision that is compared with, where Omni is not asked.
	base string
	// live changes what Omni holds after before was synced.
	live func(omniState) omniState
	// keep says why what left Git stays; noMarks forgets who made it.
	keep         string
	pruneForeign bool
	keepParts    bool
	held         map[string]string
	problems     []report.Finding
}

// omniState is what Omni holds.
type omniState []resource.Resource

func (o omniState) edit(typ resource.Type, id string, change option) omniState {
	for _, r := range o {
		if r.Metadata().Type() == typ && (id == "" || r.Metadata().ID() == id) {
			change(r)
		}
	}

	return o
}

// joined adds the machines that a class gave to a machine set.
func (o omniState) joined(set string, machines ...int) omniState {
	for _, r := range o {
		if r.Metadata().Type() != omni.MachineSetType || r.Metadata().ID() != set {
			continue
		}

		for _, m := range machines {
			n := omni.NewMachineSetNode(m1(m), r)
			n.Metadata().Labels().Set(omni.LabelManagedByMachineSetNodeController, "")
			o = append(o, n)
		}
	}

	return o
}

// Get implements diff.Lookup.
func (o omniState) Get(typ resource.Type, id resource.ID) (resource.Resource, bool) {
	for _, r := range o.List(typ) {
		if r.Metadata().ID() == id {
			return r, true
		}
	}

	return nil, false
}

// List implements diff.Lookup.
func (o omniState) List(typ resource.Type) []resource.Resource {
	all := slices.DeleteFunc(slices.Clone(o), func(r resource.Resource) bool { return r.Metadata().Type() != typ })
	slices.SortFunc(all, func(a, b resource.Resource) int { return strings.Compare(a.Metadata().ID(), b.Metadata().ID()) })

	return all
}

// Cluster implements diff.Lookup.
func (o omniState) Cluster(name string) []resource.Resource {
	return slices.DeleteFunc(slices.Clone(o), func(r resource.Resource) bool {
		cluster, _ := r.Metadata().Labels().Get(omni.LabelCluster)

		return cluster != name && (r.Metadata().Type() != omni.ClusterType || r.Metadata().ID() != name)
	})
}

// m1 returns the ID of a machine.
func m1(n int) string { return fmt.Sprintf("%08d-0000-4000-8000-%012d", n, n) }

// hostnames name the first machines.
func hostnames() map[string]string {
	names := map[string]string{}
	for i := range 9 {
		names[m1(i)] = fmt.Sprintf("node-%d", i)
	}

	return names
}

func rendered(tb testing.TB, source files) ([]*render.Target, template.Problems) {
	tb.Helper()

	tree := fstest.MapFS{}
	for name, text := range source {
		tree[name] = &fstest.MapFile{Data: []byte(text)}
	}

	set, problems := template.Find(tree, template.Scope{})
	targets, more := render.New().Render(tb.Context(), set)

	return targets, append(problems, more...)
}

// synced returns what Omni holds after targets were synced.
func synced(targets []*render.Target) omniState {
	var live omniState

	for _, t := range targets {
		plan := diff.Compute(diff.Input{Source: self, Target: t.Name, Desired: t.Resources})
		for i := range plan.Changes {
			r := plan.Changes[i].New.DeepCopy()
			served(r)
			live = append(live, r)
		}
	}

	return live
}

// of returns what of Omni belongs to a target, as the engine collects it.
func (o omniState) of(name string, desired []resource.Resource) []resource.Resource {
	type key struct{ typ, id string }

	wanted := map[key]bool{}
	for _, r := range desired {
		wanted[key{r.Metadata().Type(), r.Metadata().ID()}] = true
	}

	for _, r := range o {
		if cluster, _ := r.Metadata().Labels().Get(omni.LabelCluster); name != "" && cluster == name && r.Metadata().Type() == omni.MachineSetNodeType {
			wanted[key{omni.KernelArgsType, r.Metadata().ID()}] = true
		}
	}

	return slices.DeleteFunc(slices.Clone(o), func(r resource.Resource) bool {
		cluster, _ := r.Metadata().Labels().Get(omni.LabelCluster)
		if r.Metadata().Type() == omni.ClusterType {
			cluster = r.Metadata().ID()
		}

		belongs := name != "" && cluster == name || name == "" && diff.IsFleet(r)

		return !belongs && !wanted[key{r.Metadata().Type(), r.Metadata().ID()}]
	})
}

// report makes the report of a scenario, by the real flow.
func (s scenario) report(tb testing.TB) *diff.Report {
	tb.Helper()

	old, problems := rendered(tb, s.before)
	if len(problems) > 0 {
		tb.Fatal(problems)
	}

	live := synced(old)
	if s.live != nil {
		live = s.live(live)
	}

	wanted, problems := rendered(tb, s.after)
	r := &diff.Report{Name: self, Revision: "pr@sha1:1234", Problems: s.problems}
	if s.base != "" {
		r.Base, r.Revision = s.base, ""
	}

	for _, p := range problems {
		r.Problems = append(r.Problems, report.Finding{Rule: "invalid-template", Level: report.Error, Message: p.Message, File: p.File, Line: p.Line, Column: p.Column})
	}

	inGit := map[string]bool{}
	scenes := map[*diff.Plan]diff.Scene{}

	add := func(in diff.Input, t *render.Target) {
		path := ""
		if t != nil {
			path = t.Path
		}

		in.Source, in.Fate, in.PruneForeign, in.KeepParts = self, fates(s.keep), s.pruneForeign, s.keepParts
		in.Live = live.of(in.Target, in.Desired)
		plan := diff.Compute(in)
		scenes[plan] = diff.Scene{Live: in.Live, Desired: in.Desired, Hostnames: hostnames(), Whole: live}
		entry := diff.Entry{Plan: plan, Path: path, Held: s.held[in.Target]}

		if t != nil {
			entry.Position = func(md *resource.Metadata) (string, int, int) {
				at := t.Position(md)

				return at.File, at.Line, at.Column
			}
		}

		r.Entries = append(r.Entries, entry)
	}

	for _, t := range wanted {
		inGit[t.Name] = true
		add(diff.Input{Target: t.Name, Desired: t.Resources}, t)
	}

	for _, t := range old {
		if !inGit[t.Name] {
			add(diff.Input{Target: t.Name, Removed: true}, nil)
		}
	}

	for i := range r.Entries {
		scene := scenes[r.Entries[i].Plan]
		for j := range r.Entries {
			scene.Plans = append(scene.Plans, r.Entries[j].Plan)
		}

		r.Entries[i].Consequences = diff.Consequences(r.Entries[i].Plan, scene)
	}

	r.Sort()

	return r
}

// tmpl is a template that tests change by words.
type tmpl struct {
	name, kubernetes, talos string
	// cluster, planes and workers are more lines of the documents.
	cluster, planes, workers string
	controlPlanes, machines  []int
	more                     string
}

func (t tmpl) String() string {
	if t.name == "" {
		t.name = "one"
	}

	if t.kubernetes == "" {
		t.kubernetes = "v1.34.3"
	}

	if t.talos == "" {
		t.talos = "v1.12.0"
	}

	if t.controlPlanes == nil {
		t.controlPlanes = []int{1, 2, 3}
	}

	if t.machines == nil {
		t.machines = []int{4, 5}
	}

	if t.planes == "" || !strings.Contains(t.planes, "machineClass") {
		t.planes = machineList(t.controlPlanes) + t.planes
	}

	if t.workers == "" || !strings.Contains(t.workers, "machineClass") {
		t.workers = machineList(t.machines) + t.workers
	}

	kubernetes := "kubernetes:\n  version: " + t.kubernetes + "\n"
	if strings.HasPrefix(t.cluster, "  manifests") { // belongs to kubernetes
		kubernetes += t.cluster
		t.cluster = ""
	}

	return "kind: Cluster\nname: " + t.name + "\n" + kubernetes + "talos:\n  version: " + t.talos + "\n" + t.cluster +
		"---\nkind: ControlPlane\n" + t.planes + "---\nkind: Workers\n" + t.workers + t.more
}

func machineList(machines []int) string {
	if len(machines) == 0 {
		return "machines: []\n"
	}

	text := "machines:\n"
	for _, m := range machines {
		text += "  - " + m1(m) + "\n"
	}

	return text
}

// one is a repository with one template.
func one(t tmpl) files { return files{"clusters/one.yaml": t.String()} }

// patches is a list of inline patches, name and content by turns.
func patches(pairs ...string) string {
	text := "patches:\n"

	for i := 0; i < len(pairs); i += 2 {
		text += "  - name: " + pairs[i] + "\n    inline:\n"

		for line := range strings.Lines(pairs[i+1]) {
			text += "      " + line
		}

		if !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
	}

	return text
}
