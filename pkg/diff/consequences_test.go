package diff_test

import (
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
