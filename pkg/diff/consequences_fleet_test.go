package diff_test

import (
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/google/go-cmp/cmp"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// machineLabels is a manifest of the labels of a machine.
func machineLabels(machine int, labels string) string {
	return "metadata:\n  namespace: default\n  type: MachineLabels.omni.sidero.dev\n  id: " + m1(machine) + "\n  labels: {" + labels + "}\nspec: {}\n"
}

// patchManifest is a manifest of a config patch.
func patchManifest(id, labels, data string) string {
	text := "metadata:\n  namespace: default\n  type: ConfigPatches.omni.sidero.dev\n  id: " + id + "\n  labels: {" + labels + "}\nspec:\n  data: |\n"
	for line := range strings.Lines(data) {
		text += "    " + line
	}

	return text
}

// classManifest is a machine class that matches the machines of a pool.
func classManifest(id, pool string) string {
	return "metadata: {namespace: default, type: MachineClasses.omni.sidero.dev, id: " + id + "}\nspec: {matchlabels: [\"pool = " + pool + "\"]}\n"
}

// free adds machines that are in no cluster, with labels of a pool.
func (o omniState) free(pool string, machines ...int) omniState {
	for _, m := range machines {
		o = append(o, status(m, pool, true))
	}

	return o
}

func status(machine int, pool string, available bool) *omni.MachineStatus {
	r := omni.NewMachineStatus(m1(machine))
	r.TypedSpec().Value.Connected = true
	r.Metadata().Labels().Set(omni.MachineStatusLabelConnected, "")

	if pool != "" {
		r.Metadata().Labels().Set("pool", pool)
	}

	if available {
		r.Metadata().Labels().Set(omni.MachineStatusLabelAvailable, "")
	}

	return r
}

const (
	ofBlue     = "machineClass:\n  name: blue\n  size: unlimited\n"
	threeBlue  = "machineClass:\n  name: blue\n  size: 3\n"
	kernelArg  = "machine:\n  install:\n    extraKernelArgs: [mitigations=off]\n  kubelet:\n    extraArgs: {max-pods: \"200\"}\n"
	labelOfOne = "omni.sidero.dev/cluster: one"
)

// fleetScenarios are those of fleet resources that reach clusters.
func fleetScenarios() map[string]scenario {
	blue := func(pool, workers, labels string) files {
		return files{"clusters/one.yaml": tmpl{workers: workers}.String(), "fleet/blue.yaml": classManifest("blue", pool), "fleet/green.yaml": classManifest("green", "green"), "fleet/labels.yaml": labels}
	}

	machines := func(o omniState) omniState {
		return append(o.joined("one-workers", 4).free("green", 5, 6).free("blue", 7), status(4, "blue", false))
	}

	return map[string]scenario{
		"machine-labels": {
			before: blue("blue", ofBlue, machineLabels(5, "pool: green")), after: blue("blue", ofBlue, machineLabels(5, "pool: blue")), live: machines,
		},
		"machine-labels-new": {
			before: blue("blue", threeBlue, ""), after: blue("blue", threeBlue, machineLabels(5, "pool: blue")), live: machines,
		},
		"machine-labels-gone": {
			before: blue("blue", ofBlue, machineLabels(4, "pool: blue")), after: blue("blue", ofBlue, ""), live: machines,
		},
		"machine-labels-of-a-cluster": {
			before: blue("blue", ofBlue, machineLabels(4, "pool: blue")), after: blue("blue", ofBlue, machineLabels(4, "pool: green")), live: machines,
		},
		"machine-labels-that-nobody-uses": {
			before: blue("blue", ofBlue, machineLabels(5, "pool: green")), after: blue("blue", ofBlue, machineLabels(5, "pool: green, rack: r1")), live: machines,
		},
		"machine-labels-without-omni": {
			before: blue("blue", ofBlue, machineLabels(5, "pool: green")), after: blue("blue", ofBlue, machineLabels(5, "pool: blue")), base: "main",
		},
		"class-matches-others":              {before: blue("blue", ofBlue, ""), after: blue("green", ofBlue, ""), live: machines},
		"class-matches-others-without-omni": {before: blue("blue", ofBlue, ""), after: blue("green", ofBlue, ""), base: "main"},
		"patch-manifest":                    {before: one(tmpl{}), after: files{"clusters/one.yaml": tmpl{}.String(), "fleet/patch.yaml": patchManifest("500-args", labelOfOne, kernelArg)}},
		"patch-manifest-moves": {
			before: files{"clusters/one.yaml": tmpl{}.String(), "clusters/two.yaml": tmpl{name: "two", controlPlanes: []int{6}, machines: []int{7}}.String(), "fleet/patch.yaml": patchManifest("500-args", labelOfOne, sysctlPatch)},
			after:  files{"clusters/one.yaml": tmpl{}.String(), "clusters/two.yaml": tmpl{name: "two", controlPlanes: []int{6}, machines: []int{7}}.String(), "fleet/patch.yaml": patchManifest("500-args", "omni.sidero.dev/cluster: two", sysctlPatch)},
		},
		"patch-manifest-elsewhere": {
			before: one(tmpl{}),
			after: files{
				"clusters/one.yaml": tmpl{}.String(), "clusters/two.yaml": tmpl{name: "two", controlPlanes: []int{6}, machines: []int{7}}.String(),
				"fleet/a.yaml": patchManifest("500-none", "omni.sidero.dev/cluster: three", sysctlPatch), "fleet/b.yaml": patchManifest("500-new", "omni.sidero.dev/cluster: two", sysctlPatch),
				"fleet/c.yaml": patchManifest("500-free", "omni.sidero.dev/machine: "+m1(9), sysctlPatch), "fleet/d.yaml": patchManifest("500-machine", "omni.sidero.dev/machine: "+m1(4), filesPatch),
				"fleet/e.yaml": patchManifest("500-label", "team: a", sysctlPatch),
			},
		},
	}
}

// A patch said what it does when it stood in a template, and as a manifest it said nothing.
func TestConsequences_PatchManifest(t *testing.T) {
	machine := "omni.sidero.dev/cluster-machine: " + m1(4)

	for _, test := range []struct {
		name, labels, data string
		template           tmpl
	}{
		{"cluster", labelOfOne, kernelArg, tmpl{cluster: patches("x", kernelArg)}},
		{"control plane", labelOfOne + ", omni.sidero.dev/machine-set: one-control-planes", sysctlPatch, tmpl{planes: patches("x", sysctlPatch)}},
		{"workers", labelOfOne + ", omni.sidero.dev/machine-set: one-workers", filesPatch, tmpl{workers: patches("x", filesPatch)}},
		{"machine of a cluster", labelOfOne + ", " + machine, filesPatch, tmpl{more: "---\nkind: Machine\nname: " + m1(4) + "\n" + patches("x", filesPatch)}},
		{"machine", "omni.sidero.dev/machine: " + m1(4), filesPatch, tmpl{more: "---\nkind: Machine\nname: " + m1(4) + "\n" + patches("x", filesPatch)}},
		{"document", labelOfOne, docPatch, tmpl{cluster: patches("x", docPatch)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			plain := files{"clusters/one.yaml": tmpl{}.String()}
			with := files{"clusters/one.yaml": tmpl{}.String(), "fleet/patch.yaml": patchManifest("500-x", test.labels, test.data)}

			for _, step := range []struct {
				manifest, template scenario
			}{
				{scenario{before: plain, after: with}, scenario{before: plain, after: one(test.template)}},
				{scenario{before: with, after: plain}, scenario{before: one(test.template), after: plain}},
			} {
				var got []string

				for _, text := range step.manifest.texts(t) {
					if words := strings.Replace(text, "Cluster one: ", "", 1); words != text {
						got = append(got, words)
					}
				}

				if d := cmp.Diff(step.template.texts(t), got); d != "" {
					t.Errorf("(-template +manifest):\n%s", d)
				}
			}
		})
	}
}

// What a machine has of its own overrides what a cluster says, and other machines do not have it.
func TestConsequences_PatchOfMachineOverrides(t *testing.T) {
	own := patchManifest("400-own", "omni.sidero.dev/machine: "+m1(4), "machine:\n  sysctls: {vm.max_map_count: \"1\"}\n")
	before := files{"clusters/one.yaml": tmpl{machines: []int{4}}.String(), "fleet/own.yaml": own}
	after := files{"clusters/one.yaml": tmpl{machines: []int{4}}.String(), "fleet/own.yaml": own, "fleet/x.yaml": patchManifest("500-x", "omni.sidero.dev/machine: "+m1(4)+", omni.sidero.dev/cluster: one", "machine:\n  sysctls: {vm.max_map_count: \"1\"}\n")}

	texts := strings.Join(scenario{before: before, after: after}.texts(t), "\n")
	if !strings.Contains(texts, "stays the same") {
		t.Error(texts)
	}
}

// Labels decide which machines a class picks. The plan said "nothing restarts", and Omni installed the
// machine into a cluster that takes all of the class.
func TestConsequences_MachineLabels(t *testing.T) {
	for name, want := range map[string]string{
		"machine-labels":                  "disruptive: Labels of the machine node-5 (00000005): the machine class blue matches it from now on, and green no longer. Omni installs node-5 (00000005) into the cluster one at once",
		"machine-labels-new":              "Omni may install node-5 (00000005) at once: there is room in the workers of one (1 of 3 machines).",
		"machine-labels-gone":             "the machine class blue no longer matches it. It is in the cluster one and stays there.",
		"machine-labels-of-a-cluster":     "the machine class green matches it from now on, and blue no longer. It is in the cluster one and stays there.",
		"machine-labels-that-nobody-uses": "info: Labels of the machine node-5 (00000005): the same machine classes match it as before, so it moves nowhere.",
		"machine-labels-without-omni":     "is not known here",
		"class-matches-others":            "disruptive: The machine class blue matches other machines.",
	} {
		texts := strings.Join(fleetScenarios()[name].texts(t), "\n")
		if !strings.Contains(texts, want) || strings.Contains(texts, "Only labels and annotations") {
			t.Errorf("%s: %s", name, texts)
		}
	}

	// A machine that cannot be taken is not said to be.
	for name, change := range map[string]option{
		"off":      func(r resource.Resource) { r.(*omni.MachineStatus).TypedSpec().Value.Connected = false },
		"reserved": label(omni.LabelNoManualAllocation, ""),
		"taken":    func(r resource.Resource) { r.Metadata().Labels().Delete(omni.MachineStatusLabelAvailable) },
	} {
		s := fleetScenarios()["machine-labels"]
		machines := s.live
		s.live = func(o omniState) omniState { return machines(o).edit(omni.MachineStatusType, m1(5), change) }

		if texts := strings.Join(s.texts(t), "\n"); strings.Contains(texts, "installs") || !strings.Contains(texts, "It cannot be taken now.") {
			t.Errorf("%s: %s", name, texts)
		}
	}
}
