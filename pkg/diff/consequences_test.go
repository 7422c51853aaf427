package diff_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/google/go-cmp/cmp"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/talos/pkg/machinery/config/types/v1alpha1"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// texts returns the consequences of a scenario's only entry.
func (s scenario) texts(tb testing.TB) []string {
	tb.Helper()

	var texts []string
	for _, e := range s.report(tb).Entries {
		for _, c := range e.Consequences {
			texts = append(texts, string(c.Severity)+": "+c.Text)
		}
	}

	return texts
}

// Omni says nothing about the order in which it tells its resources: the words are the same.
func TestConsequences_AnyOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))

	for name, s := range scenarios() {
		if name == "sixty-clusters" {
			continue
		}

		want := s.texts(t)
		change := s.live
		s.live = func(o omniState) omniState {
			if change != nil {
				o = change(o)
			}

			random.Shuffle(len(o), func(i, j int) { o[i], o[j] = o[j], o[i] })

			return o
		}

		for range 5 {
			if d := cmp.Diff(want, s.texts(t)); d != "" {
				t.Errorf("%s (-want +got):\n%s", name, d)
			}
		}
	}
}

// Without a scene nothing is said that would need one, and nothing breaks.
func TestConsequences_WithoutScene(t *testing.T) {
	for name, s := range scenarios() {
		if name == "sixty-clusters" {
			continue
		}

		for _, e := range s.report(t).Entries {
			for _, c := range diff.Consequences(e.Plan, diff.Scene{}) {
				for _, number := range []string{"0 machine", "1 machine", "no machines", "members"} {
					if strings.Contains(c.Text, number) && !strings.Contains(c.Text, "A new cluster") {
						t.Errorf("%s: nobody can know: %s", name, c.Text)
					}
				}
			}
		}
	}
}

// A patch that cannot be read is no reason to quote it.
func TestG9_Consequences(t *testing.T) {
	for _, broken := range []string{"CANARY: [", "machine:\n  token: CANARY\n  nonsense: CANARY\n", "machine:\n  env: CANARY\n", "- op: CANARY\n", "\x00CANARY", "apiVersion: v1\nkind: CANARY-kind\n"} {
		s := scenario{before: one(tmpl{}), after: one(tmpl{kubernetes: "v1.34.4"}), pruneForeign: true, live: func(o omniState) omniState {
			return append(o, patchOf("one", "500-x", broken))
		}}

		texts := strings.Join(s.texts(t), "\n")
		if strings.Contains(texts, "CANARY") || !strings.Contains(texts, "may reboot them") {
			t.Errorf("%q: %s", broken, texts)
		}
	}
}

// The paths that Talos applies without a reboot are spelled as Talos spells them.
func TestWithoutReboot_Exists(t *testing.T) {
	for _, path := range diff.WithoutReboot {
		at := reflect.TypeFor[v1alpha1.Config]()

		for key := range strings.SplitSeq(path, ".") {
			for at.Kind() == reflect.Pointer {
				at = at.Elem()
			}

			i := slices.IndexFunc(reflect.VisibleFields(at), func(f reflect.StructField) bool {
				name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")

				return name == key
			})
			if i < 0 {
				t.Fatalf("Talos has no %s: %s", path, key)
			}

			at = reflect.VisibleFields(at)[i].Type
		}
	}
}

func TestRebootRule(t *testing.T) {
	for talos, want := range map[string]string{
		"v1.9.5": "may reboot", "v1.10.0": "each reboots", "v1.11.3": "each reboots", "v1.12.0": "each reboots", "v1.13.9": "each reboots",
		"v1.14.0": "without a reboot", "v1.15.0": "may reboot",
	} {
		s := scenario{before: one(tmpl{talos: talos}), after: one(tmpl{talos: talos, cluster: patches("a", filesPatch)})}

		if texts := s.texts(t); len(texts) != 1 || !strings.Contains(texts[0], want) {
			t.Errorf("Talos %s: %q, want %s", talos, texts, want)
		}
	}
}

// What etcd survives, by the number of its members.
func TestConsequences_Etcd(t *testing.T) {
	for _, test := range []struct {
		before, after int
		want          string
	}{
		{1, 2, "info: etcd: 1 → 2 members. It tolerates no failure, as before. With two, the loss of either one stops etcd"},
		{1, 3, "info: etcd: 1 → 3 members. It tolerates the failure of 1 machine, before no failure."},
		{3, 4, "info: etcd: 3 → 4 members. It tolerates the failure of 1 machine, as before. An even number is no safer than 3"},
		{3, 5, "info: etcd: 3 → 5 members. It tolerates the failure of 2 machines, before the failure of 1 machine."},
		{5, 4, "disruptive: etcd: 5 → 4 members. It tolerates the failure of 1 machine, before the failure of 2 machines."},
		{5, 3, "disruptive: etcd: 5 → 3 members. It tolerates the failure of 1 machine, before the failure of 2 machines."},
		{3, 2, "disruptive: etcd: 3 → 2 members. It tolerates no failure, before the failure of 1 machine."},
		{2, 1, "info: etcd: 2 → 1 member. It tolerates no failure, as before."},
	} {
		all := []int{1, 2, 3, 6, 7}
		s := scenario{before: one(tmpl{controlPlanes: all[:test.before]}), after: one(tmpl{controlPlanes: all[:test.after]})}

		if texts := s.texts(t); !slices.ContainsFunc(texts, func(text string) bool { return strings.HasPrefix(text, test.want) }) {
			t.Errorf("%d → %d: %q", test.before, test.after, texts)
		}
	}
}

// The annotations that have words are those that the engine reads.
func TestConsequences_Policies(t *testing.T) {
	for annotation, value := range map[string]string{
		sync.AnnotationSuspend: "true", sync.AnnotationSync: "manual", sync.AnnotationPrune: "disabled", sync.AnnotationDeletion: "protected",
	} {
		with := one(tmpl{cluster: fmt.Sprintf("annotations:\n  %s: %q\n", annotation, value)})

		for _, s := range []scenario{{before: one(tmpl{}), after: with}, {before: with, after: one(tmpl{})}} {
			if texts := s.texts(t); len(texts) != 1 || strings.Contains(texts[0], "Only labels") {
				t.Errorf("%s: %q", annotation, texts)
			}
		}
	}
}

// What is on its way out already is not told a second time.
func TestConsequences_TearingDown(t *testing.T) {
	for _, finalizers := range [][]string{{"MachineSetController"}, nil} {
		s := scenario{before: one(tmpl{}), after: one(tmpl{machines: []int{4}}), live: func(o omniState) omniState {
			return o.edit(omni.MachineSetNodeType, m1(5), func(r resource.Resource) {
				r.Metadata().Finalizers().Set(nil)
				tearingDown(finalizers...)(r)
			})
		}}

		if texts := s.texts(t); len(texts) > 0 {
			t.Errorf("told again: %q", texts)
		}
	}
}

func TestWorst(t *testing.T) {
	if diff.Worst(nil) != "" || diff.Worst([]diff.Consequence{{Severity: diff.Info}, {Severity: diff.Destructive}, {Severity: diff.Disruptive}}) != diff.Destructive {
		t.Error("wrong")
	}
}

// A machine's own patches are merged into what it shares with others, and stay its own.
func TestConsequences_OwnPatches(t *testing.T) {
	own := func(rack string) string {
		return "---\nkind: Machine\nname: " + m1(4) + "\n" + patches("rack", "machine:\n  nodeLabels:\n    rack: "+rack+"\n") +
			"---\nkind: Machine\nname: " + m1(5) + "\n" + patches("row", "machine:\n  nodeLabels:\n    row: one\n")
	}
	shared := "machine:\n  nodeLabels:\n    tier: gold\n  sysctls:\n    vm.max_map_count: \"%d\"\n"
	s := scenario{
		before: one(tmpl{cluster: patches("shared", fmt.Sprintf(shared, 1)), more: own("one")}),
		after:  one(tmpl{cluster: patches("shared", fmt.Sprintf(shared, 2)), more: own("two")}),
	}

	want := []string{
		"info: Configuration of node-4 (00000004), machine.nodeLabels.rack and machine.sysctls.vm.max_map_count: applied without a reboot.",
		"info: Configuration of 4 machines of the control plane and the workers, machine.sysctls.vm.max_map_count: applied without a reboot.",
	}
	if d := cmp.Diff(want, s.texts(t)); d != "" {
		t.Error(d)
	}
}

// Omni leaves locked machines alone, and so do the words.
func TestConsequences_Locked(t *testing.T) {
	for name, test := range map[string]struct {
		before, after tmpl
		want          []string
	}{
		"every machine that is there": {
			tmpl{controlPlanes: []int{}, more: locked(4, 5)}, tmpl{controlPlanes: []int{}, talos: "v1.12.1", more: locked(4, 5)},
			[]string{"info: Talos 1.12.0 → 1.12.1: nothing happens now, for every machine is locked. Each of the 2 machines installs it and reboots when it is unlocked."},
		},
		"workers": {
			tmpl{more: locked(4, 5)}, tmpl{talos: "v1.12.1", more: locked(4, 5)},
			[]string{"disruptive: Talos 1.12.0 → 1.12.1 on 3 machines: each installs it and reboots, the control plane first, one machine at a time. 2 locked machines get it when they are unlocked."},
		},
		"a patch for locked machines only": {
			tmpl{more: locked(4, 5)}, tmpl{workers: patches("motd", filesPatch), more: locked(4, 5)},
			[]string{"info: Configuration of 2 machines of the workers: they are locked, and it is applied when they are unlocked, which may reboot them."},
		},
		"a patch that needs no reboot": {
			tmpl{more: locked(4)}, tmpl{workers: patches("sysctls", sysctlPatch), more: locked(4)},
			[]string{"info: Configuration of 1 machine of the workers, machine.sysctls.vm.max_map_count: applied without a reboot. 1 locked machine gets it when it is unlocked."},
		},
		"an extension": {
			tmpl{workers: "systemExtensions: [siderolabs/gvisor]\n", more: locked(4, 5)}, tmpl{workers: "systemExtensions: [siderolabs/gvisor, siderolabs/iscsi-tools]\n", more: locked(4, 5)},
			[]string{"info: System extensions +siderolabs/iscsi-tools on 2 machines of the workers: they are locked, and each gets a new image of its Talos and reboots when it is unlocked."},
		},
		"a kernel argument": {
			tmpl{workers: "kernelArgs: [quiet]\n", more: locked(4, 5)}, tmpl{workers: "kernelArgs: [quiet, debug]\n", more: locked(4, 5)},
			[]string{"info: Kernel arguments +debug on node-4 (00000004) and node-5 (00000005): they are locked, and each gets a new image and reboots when it is unlocked. Omni leaves them as they are on a machine with Talos before 1.12 that does not boot a UKI."},
		},
		"unlocked by the same change": {
			tmpl{more: locked(4)}, tmpl{talos: "v1.12.1"},
			[]string{
				"disruptive: Talos 1.12.0 → 1.12.1 on 5 machines: each installs it and reboots, the control plane first, one machine at a time.",
				"disruptive: node-4 (00000004) is unlocked: upgrades and configuration that were held back are applied now.",
			},
		},
	} {
		if d := cmp.Diff(test.want, scenario{before: one(test.before), after: one(test.after)}.texts(t)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

// More members of etcd are replaced than it may lose at once.
func TestConsequences_Replaced(t *testing.T) {
	for name, test := range map[string]struct {
		before, after []int
		workers       []int
		want          string
	}{
		"all":       {[]int{1, 2, 3}, []int{6, 7, 8}, nil, "etcd: all 3 members are replaced. The new ones join first: etcd has 6 members for a while and needs 4 of them. Then the old ones leave, one at a time, and only while the others have their quorum. After that its data"},
		"most":      {[]int{1, 2, 3}, []int{1, 7, 8}, nil, "etcd: 2 of 3 members are replaced. The new ones join first: etcd has 5 members for a while and needs 3 of them."},
		"the only":  {[]int{1}, []int{6}, nil, "etcd: its only member is replaced. The new one joins first: etcd has 2 members for a while and needs 2 of them. Then the old one leaves,"},
		"and more":  {[]int{1, 2, 3}, []int{4, 5, 6, 7, 8}, []int{}, "etcd: all 3 members are replaced. The new ones join first: etcd has 8 members"},
		"a few":     {[]int{1, 2, 3}, []int{1, 2, 8}, nil, ""},
		"fewer":     {[]int{1, 2, 3}, []int{1}, nil, ""},
		"a worker":  {[]int{1, 2, 3}, []int{1, 4, 8}, []int{5}, "node-4 (00000004) has to leave where it is before it joins: the old ones do not wait for that, and etcd may be down to 2 members meanwhile."},
		"a worker1": {[]int{1}, []int{4}, []int{5}, "etcd: its only member is replaced. Then the old one leaves"},
	} {
		workers := []int{}
		for _, m := range []int{4, 5} {
			if name == "a worker" || name == "a worker1" {
				workers = append(workers, m)
			}
		}

		if test.workers == nil {
			test.workers = workers
		}

		s := scenario{before: one(tmpl{controlPlanes: test.before, machines: workers}), after: one(tmpl{controlPlanes: test.after, machines: test.workers})}
		texts := strings.Join(s.texts(t), "\n")

		if test.want == "" && strings.Contains(texts, "replaced") || !strings.Contains(texts, test.want) {
			t.Errorf("%s: %s", name, texts)
		}
	}
}

// Without a live Omni nobody knows the machines of a class, but there are some.
func TestConsequences_SwitchWithoutOmni(t *testing.T) {
	for class, want := range map[string]string{
		classSize3: "disruptive: The workers: machines by name instead of the class small. Omni refuses that while the set has machines; it takes 3.",
		classAll:   "disruptive: The workers: machines by name instead of the class small. Omni refuses that while the set has machines.",
	} {
		s := scenario{before: one(tmpl{workers: class}), after: one(tmpl{machines: []int{4}})}
		if d := cmp.Diff([]string{want}, s.texts(t)); d != "" {
			t.Error(d)
		}
	}
}

// A report that knows nothing of Omni says so once, and says nothing if there is nothing.
func TestReport_Base(t *testing.T) {
	s := scenario{before: one(tmpl{}), after: one(tmpl{kubernetes: "v1.34.4"}), base: "main"}
	r := s.report(t)
	r.Entries = append(r.Entries, r.Entries...)

	for revision, want := range map[string]string{
		"":   "Compared with where the branch left main; Omni was not asked.\n\ncluster one ",
		"pr": "pr compared with where the branch left main; Omni was not asked.\n\ncluster one ",
	} {
		var text, md strings.Builder

		r.Revision = revision
		if err := errors.Join(diff.WriteReport(&text, r, diff.TextOptions{}), diff.WriteMarkdown(&md, r, diff.MarkdownOptions{})); err != nil {
			t.Fatal(err)
		}

		if !strings.HasPrefix(text.String(), want) || strings.Count(text.String(), "not asked") != 1 || strings.Count(md.String(), "where the branch left `main`; Omni was not asked.") != 1 {
			t.Errorf("%s\n%s", text.String(), md.String())
		}
	}

	var none strings.Builder
	if err := diff.WriteReport(&none, (scenario{before: one(tmpl{}), after: one(tmpl{}), base: "main"}).report(t), diff.TextOptions{}); err != nil || none.Len() > 0 {
		t.Errorf("%v %q", err, none.String())
	}
}

func BenchmarkConsequences_ManyMachines(b *testing.B) {
	var more strings.Builder

	machines := []int{}
	for i := range 900 {
		machines = append(machines, 100+i)
		fmt.Fprintf(&more, "---\nkind: Machine\nname: %s\n%s", m1(100+i), patches("name", fmt.Sprintf("machine:\n  nodeLabels:\n    rack: r%d\n", i)))
	}

	s := scenario{before: one(tmpl{machines: machines, more: more.String()}), after: one(tmpl{machines: machines, more: more.String(), cluster: patches("proxy", envPatch)})}
	r := s.report(b)
	before, _ := rendered(b, s.before)
	scene := diff.Scene{Live: synced(before)}

	for b.Loop() {
		diff.Consequences(r.Entries[0].Plan, scene)
	}
}

// Each of many machines has a patch of its own, below many that they share.
func BenchmarkConsequences_OwnPatches(b *testing.B) {
	var more strings.Builder

	machines := []int{}
	for i := range 900 {
		machines = append(machines, 100+i)
		fmt.Fprintf(&more, "---\nkind: Machine\nname: %s\n%s", m1(100+i), patches("name", fmt.Sprintf("machine:\n  nodeLabels:\n    rack: r%d\n", i)))
	}

	shared := func(value int) string {
		var pairs []string

		for i := range 20 {
			content := "machine:\n  sysctls:\n"
			for j := range 20 {
				content += fmt.Sprintf("    net.a%d.b%d: \"%d\"\n", i, j, value)
			}

			pairs = append(pairs, fmt.Sprintf("p%d", i), content)
		}

		return patches(pairs...)
	}

	s := scenario{before: one(tmpl{machines: machines, cluster: shared(1), more: more.String()}), after: one(tmpl{machines: machines, cluster: shared(2), more: more.String()})}
	r := s.report(b)
	before, _ := rendered(b, s.before)
	scene := diff.Scene{Live: synced(before)}

	for b.Loop() {
		diff.Consequences(r.Entries[0].Plan, scene)
	}
}
