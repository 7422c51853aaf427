package diff_test

import (
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni/installdisk"
)

type option func(resource.Resource)

func with(r resource.Resource, options ...option) resource.Resource {
	for _, o := range options {
		o(r)
	}

	return r
}

func note(key, value string) option {
	return func(r resource.Resource) { r.Metadata().Annotations().Set(key, value) }
}

func label(key, value string) option {
	return func(r resource.Resource) { r.Metadata().Labels().Set(key, value) }
}

func ours(r resource.Resource) {
	r.Metadata().Annotations().Set(diff.MarkSource, self)

	if r.Metadata().Type() == omni.ClusterType {
		r.Metadata().Annotations().Set(diff.MarkGitOps, "omni-syncd")
		r.Metadata().Annotations().Set(diff.MarkOrigin, "{}")
	}
}

// fates says what happens to what left Git as if nothing were in the way, or keeps it.
func fates(keep string) func(resource.Resource) diff.Fate {
	return func(r resource.Resource) diff.Fate {
		to, _ := r.Metadata().Annotations().Get(diff.AnnotationHandover)

		switch {
		case keep != "":
			return diff.Fate{Reason: keep}
		case to != "" && to != self:
			return diff.Fate{Step: diff.StepRelease}
		default:
			return diff.Fate{Step: diff.StepDestroy}
		}
	}
}

// takes lets a target take over what carries the mark of a source.
func takes(source string) func(resource.Resource) bool {
	return func(r resource.Resource) bool { return diff.SourceOf(r) == source }
}

func owned(r resource.Resource) { _ = r.Metadata().SetOwner("SomeController") }

func tearingDown(finalizers ...string) option {
	return func(r resource.Resource) {
		r.Metadata().SetPhase(resource.PhaseTearingDown)

		for _, f := range finalizers {
			r.Metadata().Finalizers().Add(f)
		}
	}
}

// picked is the disk that the machine is installed on.
func picked(disk string, options ...option) resource.Resource {
	r := installdisk.New(machine)
	r.TypedSpec().Value.Disk = disk

	return with(r, options...)
}

// served gives a resource what a server adds to it, none of which is a difference.
func served(r resource.Resource) {
	version, _ := resource.ParseVersion("7")
	r.Metadata().SetVersion(version)

	if r.Metadata().Phase() == resource.PhaseRunning {
		r.Metadata().Finalizers().Add("ClusterController")
	}
}

func cluster(kubernetes string, options ...option) resource.Resource {
	r := omni.NewCluster("one")
	r.TypedSpec().Value.KubernetesVersion = kubernetes
	r.TypedSpec().Value.TalosVersion = "1.12.0"
	r.Metadata().Annotations().Set(omni.ResourceManagedByClusterTemplates, "")

	return with(r, options...)
}

func machineSet(id string, options ...option) resource.Resource {
	r := omni.NewMachineSet(id)
	r.Metadata().Labels().Set(omni.LabelCluster, "one")
	r.TypedSpec().Value.UpdateStrategy = specs.MachineSetSpec_Rolling

	return with(r, options...)
}

func node(set string, options ...option) resource.Resource {
	owner := omni.NewMachineSet(set)
	owner.Metadata().Labels().Set(omni.LabelCluster, "one")

	return with(omni.NewMachineSetNode(machine, owner), options...)
}

func patch(id, data string, options ...option) resource.Resource {
	r := omni.NewConfigPatch(id)
	r.Metadata().Labels().Set(omni.LabelCluster, "one")

	if err := r.TypedSpec().Value.SetUncompressedData([]byte(data)); err != nil {
		panic(err)
	}

	return with(r, options...)
}

func kernelArgs(options ...option) resource.Resource {
	r := omni.NewKernelArgs(machine)
	r.TypedSpec().Value.Args = []string{"console=ttyS0"}
	r.Metadata().Annotations().Set(omni.ResourceManagedByClusterTemplates, "")

	return with(r, options...)
}

// class is a fleet resource.
func class(options ...option) resource.Resource {
	r := omni.NewMachineClass("small")
	r.TypedSpec().Value.MatchLabels = []string{"size = small"}

	return with(r, options...)
}

func fleetMark(r resource.Resource) {
	ours(r)
	r.Metadata().Annotations().Set(diff.MarkFleet, "")
	r.Metadata().Annotations().Set(diff.MarkApplied, "[]")
	r.Metadata().Annotations().Set(diff.MarkGitOps, "omni-syncd")
	r.Metadata().Annotations().Set(diff.MarkOrigin, "{}")
}

// summarize writes a plan as one line per entry, for comparison.
func summarize(p *diff.Plan) []string {
	var lines []string

	for i := range p.Changes {
		c := &p.Changes[i]
		lines = append(lines, string(c.Action)+" "+c.Line())
	}

	for _, f := range p.Foreign {
		lines = append(lines, "foreign "+diff.Name(f))
	}

	for _, left := range p.Left {
		lines = append(lines, map[bool]string{true: "leaving ", false: "kept "}[left.Leaving]+diff.Name(left.Resource))
	}

	for _, w := range p.Waiting {
		lines = append(lines, "waiting "+diff.Name(w.Resource)+": "+w.Reason)
	}

	for _, c := range p.Conflicts {
		lines = append(lines, "conflict "+diff.Name(c.Resource)+": "+c.Reason)
	}

	if p.Locked {
		lines = append(lines, "locked")
	}

	return lines
}
