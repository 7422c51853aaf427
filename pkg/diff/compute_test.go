package diff_test

import (
	"flag"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/google/go-cmp/cmp"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/compression"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/protobuf/proto"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	self    = "fleet"
	machine = "11111111-0000-4000-8000-000000000001"
)

// Resources of a small cluster, as a template renders them.

type resources = []resource.Resource

func TestCompute(t *testing.T) {
	const set = "one-workers"

	for _, test := range []struct {
		name    string
		desired resources
		live    resources
		fleet   bool
		removed bool
		keep    string
		parts   bool
		foreign bool
		want    []string
	}{
		{
			name:    "everything is created by rank",
			desired: resources{kernelArgs(), node(set), machineSet(set), patch("200-a", "a: 1"), cluster("1.34.3")},
			want: []string{
				"create Cluster one", "create ConfigPatch 200-a", "create MachineSet one-workers",
				"create MachineSetNode " + machine, "create KernelArgs " + machine,
			},
		},
		{
			name:    "what the server adds is no difference",
			desired: resources{cluster("1.34.3"), machineSet(set), kernelArgs()},
			live:    resources{cluster("1.34.3", ours, served), machineSet(set, ours, served), kernelArgs(ours, served)},
		},
		{
			name:    "an unmarked twin is adopted in one quiet line",
			desired: resources{cluster("1.34.3"), machineSet(set)},
			live:    resources{cluster("1.34.3", served), machineSet(set, served)},
			want: []string{
				"adopt Cluster one  adopted: it exists and is as Git says",
				"adopt MachineSet one-workers  adopted: it exists and is as Git says",
			},
		},
		{
			name:    "a version change is the field that changed",
			desired: resources{cluster("1.35.0")},
			live:    resources{cluster("1.34.3", ours, served)},
			want:    []string{"update Cluster one  spec.kubernetesversion: 1.34.3 → 1.35.0"},
		},
		{
			name:    "creates come before updates, and destroys last and backwards",
			desired: resources{cluster("1.35.0"), machineSet("one-new")},
			live: resources{
				cluster("1.34.3", ours), patch("200-a", "a: 1", ours), machineSet(set, ours), node("one-new", ours),
			},
			want: []string{
				"create MachineSet one-new",
				"update Cluster one  spec.kubernetesversion: 1.34.3 → 1.35.0",
				"destroy MachineSetNode " + machine, "destroy MachineSet one-workers", "destroy ConfigPatch 200-a",
			},
		},
		{
			name:    "a machine set takes its nodes along",
			desired: resources{cluster("1.34.3")},
			live:    resources{cluster("1.34.3", ours), machineSet(set, ours), node(set, ours)},
			want:    []string{"destroy MachineSet one-workers  and 1 more that belong to it"},
		},
		{
			name:    "a patch made in the UI is foreign and kept",
			desired: resources{cluster("1.34.3")},
			live:    resources{cluster("1.34.3", ours), patch("500-ui", "a: 1")},
			want:    []string{"foreign ConfigPatch 500-ui"},
		},
		{
			name:    "by-products of Omni are nobody's business",
			desired: resources{cluster("1.34.3"), machineSet(set)},
			live: resources{
				cluster("1.34.3", ours), machineSet(set, ours), patch("900-cm", "a: 1", owned),
				node(set, label(omni.LabelManagedByMachineSetNodeController, "")), kernelArgs(),
			},
		},
		{
			name:    "a controller's resource is not ours, whatever Git says",
			desired: resources{patch("900-cm", "a: 2")},
			live:    resources{patch("900-cm", "a: 1", owned)},
			want:    []string{"conflict ConfigPatch 900-cm: it is owned by Omni's SomeController"},
		},
		{
			name:    "another source's mark is a conflict, never a fight",
			desired: resources{cluster("1.35.0")},
			live:    resources{cluster("1.34.3", note(diff.MarkSource, "third"))},
			want:    []string{"conflict Cluster one: it is managed by the source third"},
		},
		{
			name:    "another source's resource in our cluster is left alone",
			desired: resources{cluster("1.34.3")},
			live:    resources{cluster("1.34.3", ours), patch("300-x", "a: 1", note(diff.MarkSource, "third"))},
		},
		{
			name:    "a fleet patch with our cluster's label is not the cluster's",
			desired: resources{cluster("1.34.3")},
			live:    resources{cluster("1.34.3", ours), patch("300-x", "a: 1", fleetMark)},
		},
		{
			name:    "a machine of ours that has yet to leave another cluster is waited for",
			desired: resources{node(set)},
			live:    resources{node(set, ours, label(omni.LabelCluster, "two"))},
			want:    []string{"waiting MachineSetNode " + machine + ": it belongs to the cluster two"},
		},
		{
			name:    "a machine of somebody else's cluster is a conflict",
			desired: resources{node(set)},
			live:    resources{node(set, label(omni.LabelCluster, "two"))},
			want:    []string{"conflict MachineSetNode " + machine + ": it belongs to the cluster two"},
		},
		{
			name:    "KernelArgs that leave Git are released, not destroyed",
			desired: resources{cluster("1.34.3")},
			live:    resources{cluster("1.34.3", ours), kernelArgs(ours)},
			want:    []string{"release KernelArgs " + machine + "  released: it left Git and stays in Omni"},
		},
		{
			name:    "the disk of a machine is picked before the machine comes",
			desired: resources{node(set), picked("/dev/vda"), machineSet(set), cluster("1.34.3")},
			want: []string{
				"create Cluster one", "create MachineInstallDiskConfig " + machine, "create MachineSet one-workers", "create MachineSetNode " + machine,
			},
		},
		{
			name:    "the disk that Omni made of a patch is adopted", // when it was upgraded to 1.11
			desired: resources{cluster("1.34.3"), machineSet(set), node(set), picked("/dev/vda", note(omni.ResourceManagedByClusterTemplates, ""))},
			live: resources{
				cluster("1.34.3", ours), machineSet(set, ours), node(set, ours), picked("/dev/vda", served, note(omni.ResourceManagedByClusterTemplates, "")),
			},
			want: []string{"adopt MachineInstallDiskConfig " + machine + "  adopted: it exists and is as Git says"},
		},
		{
			name:    "a machine that stays without a disk in Git gets the one that Omni picks",
			desired: resources{cluster("1.34.3"), machineSet(set), node(set)},
			live:    resources{cluster("1.34.3", ours), machineSet(set, ours), node(set, ours), picked("/dev/vda", ours)},
			want:    []string{"destroy MachineInstallDiskConfig " + machine},
		},
		{
			name:    "KernelArgs of a machine that stays are released, not destroyed",
			desired: resources{cluster("1.34.3"), machineSet(set), node(set)},
			live:    resources{cluster("1.34.3", ours), machineSet(set, ours), node(set, ours), kernelArgs(ours)},
			want:    []string{"release KernelArgs " + machine + "  released: it left Git and stays in Omni"},
		},
		{
			name:    "what somebody picked in Omni stays",
			desired: resources{cluster("1.34.3"), machineSet(set), node(set)},
			live:    resources{cluster("1.34.3", ours), machineSet(set, ours), node(set, ours), picked("/dev/vda", note(omni.ResourceManagedByClusterTemplates, ""))},
		},
		{
			name:    "a machine that leaves keeps its disk",
			desired: resources{cluster("1.34.3"), machineSet(set)},
			live:    resources{cluster("1.34.3", ours), machineSet(set, ours), node(set, ours), picked("/dev/vda", ours)},
			want: []string{
				"release MachineInstallDiskConfig " + machine + "  released: it left Git and stays in Omni", "destroy MachineSetNode " + machine,
			},
		},
		{
			name:    "a machine of a cluster that leaves keeps its disk",
			live:    resources{cluster("1.34.3", ours), machineSet(set, ours), node(set, ours), picked("/dev/vda", ours)},
			removed: true,
			want: []string{
				"release MachineInstallDiskConfig " + machine + "  released: it left Git and stays in Omni", "destroy Cluster one  and 2 more that belong to it",
			},
		},
		{
			name:    "another disk is an update",
			desired: resources{cluster("1.34.3"), picked("/dev/vdb")},
			live:    resources{cluster("1.34.3", ours), picked("/dev/vda", ours, served)},
			want:    []string{"update MachineInstallDiskConfig " + machine + "  spec.disk: /dev/vda → /dev/vdb"},
		},
		{
			name:    "a lock set in the UI stays",
			desired: resources{node(set)},
			live:    resources{node(set, ours, note(omni.MachineLocked, ""))},
		},
		{
			name:    "a lock that Git set and sets no longer goes",
			desired: resources{node(set)},
			live:    resources{node(set, ours, note(omni.MachineLocked, ""), note(diff.MarkLocked, ""))},
			want: []string{
				"update MachineSetNode " + machine + `  metadata.annotations[omni-syncd/locked]: -"", metadata.annotations[omni.sidero.dev/locked]: -""`,
			},
		},
		{
			name:    "a locked cluster is planned and shown as locked, and keeps its lock",
			desired: resources{cluster("1.35.0")},
			live:    resources{cluster("1.34.3", ours, note(omni.ClusterLocked, ""))},
			want:    []string{"update Cluster one  spec.kubernetesversion: 1.34.3 → 1.35.0", "locked"},
		},
		{
			name:    "Omni's own labels and annotations are kept, other people's are not",
			desired: resources{cluster("1.34.3")},
			live:    resources{cluster("1.34.3", ours, label("omni.sidero.dev/x", "1"), note("omni.sidero.dev/y", "2"), label("env", "prod"))},
			want:    []string{"update Cluster one  metadata.labels[env]: -prod"},
		},
		{
			name:    "nothing is written below a cluster that goes away",
			desired: resources{cluster("1.34.3"), machineSet(set)},
			live:    resources{cluster("1.34.3", tearingDown("ClusterStatus")), patch("200-a", "a", ours)},
			want:    []string{"waiting Cluster one: it is being destroyed, held by ClusterStatus"},
		},
		{
			name:    "nodes of a machine set that goes away wait with it",
			desired: resources{cluster("1.34.3"), machineSet(set), node(set)},
			live:    resources{cluster("1.34.3", ours), machineSet(set, ours, tearingDown("x"))},
			want:    []string{"waiting MachineSet one-workers: it is being destroyed, held by x"},
		},
		{
			name:    "a teardown that nothing holds any more is finished, for an Omni that does not do it itself",
			desired: resources{cluster("1.34.3")},
			live:    resources{cluster("1.34.3", ours), patch("200-a", "a", ours, tearingDown())},
			want:    []string{"destroy ConfigPatch 200-a"},
		},
		{
			name: "a removed cluster takes everything along, and its KernelArgs are released first",
			live: resources{
				cluster("1.34.3", ours), machineSet(set, ours), node(set, ours), patch("500-ui", "a"), kernelArgs(ours),
			},
			removed: true,
			want: []string{
				"release KernelArgs " + machine + "  released: it left Git and stays in Omni",
				"destroy Cluster one  and 3 more that belong to it",
			},
		},
		{
			name:    "a removed cluster is kept while prune is off",
			live:    resources{cluster("1.34.3", ours), patch("200-a", "a", ours)},
			removed: true, keep: "prune is off",
			want: []string{"kept Cluster one"}, // the rest shares its fate
		},
		{
			name:    "what is of the machines of a removed cluster is not let go while that is kept",
			live:    resources{cluster("1.34.3", ours), node(set, ours), kernelArgs(ours), picked("/dev/vda", ours)},
			removed: true, keep: "prune is off",
			want: []string{"kept Cluster one"},
		},
		{
			name:    "a removed cluster that is not ours is foreign",
			live:    resources{cluster("1.34.3")},
			removed: true,
			want:    []string{"foreign Cluster one"},
		},
		{
			name:    "what others made is destroyed if the source says so",
			desired: resources{cluster("1.34.3")},
			live:    resources{cluster("1.34.3", ours), patch("500-ui", "a"), patch("900-cm", "a", owned)},
			foreign: true,
			want:    []string{"destroy ConfigPatch 500-ui"},
		},
		{
			name:    "nothing leaves a cluster that keeps its parts",
			desired: resources{cluster("1.35.0")},
			live:    resources{cluster("1.34.3", ours), patch("200-a", "a", ours), machineSet(set, ours)},
			parts:   true,
			want: []string{
				"update Cluster one  spec.kubernetesversion: 1.34.3 → 1.35.0", "kept ConfigPatch 200-a", "kept MachineSet one-workers",
			},
		},
		{
			name: "a cluster that is handed over loses its marks, itself last",
			live: resources{
				cluster("1.34.3", ours, note(diff.AnnotationHandover, "other")), patch("200-a", "a", ours), node(set, ours), patch("500-ui", "a"),
			},
			removed: true,
			want: []string{
				"release MachineSetNode " + machine + "  released: it left Git and stays in Omni",
				"release ConfigPatch 200-a  released: it left Git and stays in Omni",
				"release Cluster one  released: it left Git and stays in Omni",
				"foreign ConfigPatch 500-ui",
			},
		},
		{
			name: "a cluster that another source took over is left alone, also where the marks are still ours",
			live: resources{
				cluster("1.34.3", note(diff.MarkSource, "other")), patch("200-a", "a", ours), node(set, ours),
			},
			removed: true,
		},
		{
			name:    "a source takes over what it may, with what no template describes",
			desired: resources{cluster("1.34.3"), patch("200-a", "a")},
			live: resources{
				cluster("1.34.3", note(diff.MarkSource, "other"), note(diff.MarkGitOps, "omni-syncd")),
				patch("200-a", "a", note(diff.MarkSource, "other")), patch("300-x", "a", note(diff.MarkSource, "third")), patch("400-x", "a", note(diff.MarkSource, "other")),
			},
			want: []string{
				"adopt ConfigPatch 200-a  changes hands: from the source other to fleet",
				"adopt Cluster one  changes hands: from the source other to fleet",
				"destroy ConfigPatch 400-x",
			},
		},
		{
			name:    "nobody takes over what is about to be torn down",
			desired: resources{cluster("1.34.3")},
			live:    resources{cluster("1.34.3", note(diff.MarkSource, "other"), note(string(diff.Destroying), `{"id":"1"}`))},
			want:    []string{"conflict Cluster one: the source other is destroying it"},
		},
		{
			name:    "the mark of what left goes when it is back, and so does the confirmation",
			desired: resources{cluster("1.34.3")},
			live:    resources{cluster("1.34.3", ours, note(string(diff.Leaving), `{"id":"1"}`), note(diff.MarkConfirmed, "1"))},
			want:    []string{"mark Cluster one  marked: only a mark of omni-syncd changes"},
		},
		{
			name:    "a confirmation for a cluster that stays goes once nothing is left to do",
			desired: resources{cluster("1.35.0")},
			live:    resources{cluster("1.34.3", ours, note(diff.MarkConfirmed, "1"))},
			want:    []string{"update Cluster one  spec.kubernetesversion: 1.34.3 → 1.35.0"},
		},
		{
			name:    "and then it goes",
			desired: resources{cluster("1.35.0")},
			live:    resources{cluster("1.35.0", ours, note(diff.MarkConfirmed, "1"))},
			want:    []string{"mark Cluster one  marked: only a mark of omni-syncd changes"},
		},
		{
			name:    "marks that a template brings along mean nothing",
			desired: resources{cluster("1.34.3", note(diff.MarkFleet, ""), note(diff.MarkSource, "other"), note(string(diff.Leaving), "{}"), note(diff.MarkConfirmed, "1"))},
			live:    resources{cluster("1.34.3", ours)},
		},
		{
			name: "a cluster with the mark of a fleet resource goes as a cluster",
			live: resources{cluster("1.34.3", ours, note(diff.MarkFleet, "")), machineSet(set, ours)}, removed: true,
			want: []string{"destroy Cluster one  and 1 more that belong to it"},
		},
		{
			name:    "the same name of a source that reads another repository is somebody else's",
			desired: resources{cluster("1.35.0")},
			live:    resources{cluster("1.34.3", ours, note(diff.MarkOrigin, `{"repository":"github.com/acme/other"}`))},
			want: []string{"conflict Cluster one: it belongs to another source fleet, which reads github.com/acme/other, and this one reads a folder outside of Git; " +
				"give this one another name, or set `origin: github.com/acme/other` if the repository moved"},
		},
		{
			name:    "fleet resources keep what other people put on them",
			fleet:   true,
			desired: resources{class()},
			live:    resources{class(fleetMark, label("team", "infra"), note("why", "cheap"))},
		},
		{
			name:  "a fleet resource that left Git is destroyed with prune",
			fleet: true,
			live:  resources{class(fleetMark)},
			want:  []string{"destroy MachineClass small"},
		},
		{
			name:  "and kept without",
			fleet: true, keep: "prune is off",
			live: resources{class(fleetMark)},
			want: []string{"kept MachineClass small"},
		},
		{
			name:  "a cluster's own resource is never a fleet resource",
			fleet: true,
			live:  resources{patch("200-a", "a", ours)},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := diff.Input{
				Source: self, Target: "one", Desired: test.desired, Live: test.live,
				Removed: test.removed, Fate: fates(test.keep), KeepParts: test.parts, PruneForeign: test.foreign, MayTake: takes("other"),
			}
			if test.fleet {
				in.Target = ""
			}

			// Neither the order of the input nor an earlier run may matter.
			for range 3 {
				rand.Shuffle(len(in.Desired), func(i, j int) { in.Desired[i], in.Desired[j] = in.Desired[j], in.Desired[i] })
				rand.Shuffle(len(in.Live), func(i, j int) { in.Live[i], in.Live[j] = in.Live[j], in.Live[i] })

				if d := cmp.Diff(test.want, summarize(diff.Compute(in))); d != "" {
					t.Fatalf("plan (-want +got):\n%s", d)
				}
			}
		})
	}
}

// G4: what a plan writes makes the next plan empty, whatever the live state was.
func TestG4_AppliedPlanIsEmpty(t *testing.T) {
	desired := resources{
		cluster("1.35.0", label("env", "prod")), patch("200-a", "a: 1"), machineSet("one-workers"),
		node("one-workers", note(omni.MachineLocked, "")), kernelArgs(),
	}
	live := resources{
		cluster("1.34.3", served, note("omni.sidero.dev/x", "1"), label("old", "1")), patch("200-a", "a: 0", ours, served),
		node("one-workers", served), patch("500-ui", "b: 1", served),
	}

	plan := diff.Compute(diff.Input{Source: self, Target: "one", Desired: desired, Live: live})

	for i := range plan.Changes {
		if want := plan.Changes[i].New; want != nil {
			live = slices.DeleteFunc(live, func(r resource.Resource) bool {
				return r.Metadata().Type() == want.Metadata().Type() && r.Metadata().ID() == want.Metadata().ID()
			})
			live = append(live, want)
		}
	}

	again := diff.Compute(diff.Input{Source: self, Target: "one", Desired: desired, Live: live})
	if d := cmp.Diff([]string{"foreign ConfigPatch 500-ui"}, summarize(again)); d != "" {
		t.Errorf("second plan (-want +got):\n%s", d)
	}
}

// G5: an update carries the version that it was planned from.
func TestG5_UpdateCarriesVersion(t *testing.T) {
	plan := diff.Compute(diff.Input{
		Source: self, Target: "one",
		Desired: resources{cluster("1.35.0")}, Live: resources{cluster("1.34.3", ours, served)},
	})

	if got := plan.Changes[0].New.Metadata().Version().String(); got != "7" {
		t.Errorf("version %s, want 7", got)
	}
}

// Computing a plan leaves its input alone: desired resources are shared by all plans of
// a revision, live ones by everybody.
func TestComputeDoesNotWrite(t *testing.T) {
	desired, live := node("one-workers"), node("one-workers", ours, note(omni.MachineLocked, ""), note(diff.MarkLocked, ""))
	before := []string{diff.Name(desired), desired.Metadata().Annotations().Raw()[omni.MachineLocked]}
	notes := len(desired.Metadata().Annotations().Raw()) + len(live.Metadata().Annotations().Raw())

	diff.Compute(diff.Input{Source: self, Target: "one", Desired: resources{desired}, Live: resources{live}})

	after := []string{diff.Name(desired), desired.Metadata().Annotations().Raw()[omni.MachineLocked]}
	if !slices.Equal(before, after) || len(desired.Metadata().Annotations().Raw())+len(live.Metadata().Annotations().Raw()) != notes {
		t.Error("the input was changed")
	}
}

// Regression: upstream compares stored bytes, so a patch that was stored without
// compression differed from itself for ever.
func TestCompressedEqualsPlain(t *testing.T) {
	data := "machine:\n  env:\n" + strings.Repeat("    SOME_VARIABLE: some value\n", 200)

	plainConfig, err := compression.BuildConfig(false, true, false)
	if err != nil {
		t.Fatal(err)
	}

	packedConfig, err := compression.BuildConfig(true, true, false)
	if err != nil {
		t.Fatal(err)
	}

	plain, packed := omni.NewConfigPatch("200-a"), omni.NewConfigPatch("200-a")
	for r, config := range map[*omni.ConfigPatch]specs.CompressionConfig{plain: plainConfig, packed: packedConfig} {
		r.Metadata().Labels().Set(omni.LabelCluster, "one")

		if err := r.TypedSpec().Value.SetUncompressedData([]byte(data), specs.WithConfigCompressionOption(config)); err != nil {
			t.Fatal(err)
		}
	}

	if proto.Equal(packed.TypedSpec().Value, plain.TypedSpec().Value) {
		t.Fatal("the test does not test what it says")
	}

	plan := diff.Compute(diff.Input{Source: self, Target: "one", Desired: resources{plain}, Live: resources{with(packed, ours)}})
	if !plan.Empty() {
		t.Errorf("a difference: %v", summarize(plan))
	}
}
