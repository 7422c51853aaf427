package embedded

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// view is one cluster as the controllers saw it when a reconcile began. What it holds is shared: never changed.
type view struct {
	*controllers

	name    string
	now     time.Time
	wake    time.Duration // when to look again; 0 is when something changes
	cluster *omni.Cluster // nil if there is none
	all     map[ref]resource.Resource
	sets    []*setView // control plane last: that is the order of a teardown
}

// setView is a machine set with its machines.
type setView struct {
	*omni.MachineSet

	nodes    []*omni.MachineSetNode // what users and machine classes want
	machines []*omni.ClusterMachine // what there is
}

func (s *setView) id() resource.ID { return s.Metadata().ID() }

func (s *setView) tearingDown() bool { return s.Metadata().Phase() == resource.PhaseTearingDown }

func (s *setView) controlPlane() bool { return hasLabel(s.MachineSet, omni.LabelControlPlaneRole) }

func (c *controllers) view(name string) *view {
	v := &view{controllers: c, name: name, now: time.Now(), all: map[ref]resource.Resource{}}

	c.mu.RLock()

	for key, res := range c.clusters[name] {
		v.all[key] = res
	}

	c.mu.RUnlock()

	v.cluster, _ = v.all[ref{omni.ClusterType, name}].(*omni.Cluster)
	sets := map[resource.ID]*setView{}

	for _, res := range v.all {
		if machineSet, ok := res.(*omni.MachineSet); ok {
			sets[machineSet.Metadata().ID()] = &setView{MachineSet: machineSet}
		}
	}

	for _, res := range v.all {
		s := sets[label(res, omni.LabelMachineSet)]
		if s == nil {
			continue
		}

		switch res := res.(type) {
		case *omni.MachineSetNode:
			s.nodes = append(s.nodes, res)
		case *omni.ClusterMachine:
			s.machines = append(s.machines, res)
		}
	}

	for _, s := range sets {
		slices.SortFunc(s.nodes, byID)
		slices.SortFunc(s.machines, byID)
		v.sets = append(v.sets, s)
	}

	slices.SortFunc(v.sets, func(a, b *setView) int {
		if a.controlPlane() != b.controlPlane() {
			if a.controlPlane() {
				return 1
			}

			return -1
		}

		return byID(a.MachineSet, b.MachineSet)
	})

	return v
}

func byID[T resource.Resource](a, b T) int {
	return strings.Compare(a.Metadata().ID(), b.Metadata().ID())
}

func (v *view) wakeIn(d time.Duration) {
	if v.wake == 0 || d < v.wake {
		v.wake = d
	}
}

// after says whether a resource is at least so many steps old, and if not has the cluster looked at again then.
func (v *view) after(since time.Time, steps int) bool {
	left := time.Duration(steps)*v.config.Step - v.now.Sub(since)
	if left > 0 {
		v.wakeIn(left)

		return false
	}

	return true
}

func (v *view) tornDown() []resource.Resource {
	var result []resource.Resource

	for _, res := range v.all {
		if res.Metadata().Phase() == resource.PhaseTearingDown {
			result = append(result, res)
		}
	}

	return result
}

func get[T resource.Resource](v *view, typ resource.Type, id resource.ID) (T, bool) {
	res, ok := v.all[ref{typ, id}].(T)

	return res, ok
}

func (v *view) machine(id resource.ID) *omni.MachineStatus {
	v.mu.RLock()
	defer v.mu.RUnlock()

	return v.machines[id]
}

// modify creates or updates a resource of a controller's. What the view has as it should be costs nothing.
func modify[T resource.Resource](ctx context.Context, v *view, owner string, empty T, change func(T)) error {
	if current, ok := get[T](v, empty.Metadata().Type(), empty.Metadata().ID()); ok {
		changed := current.DeepCopy().(T) //nolint:forcetypeassert // a copy has the same type

		if change(changed); resource.Equal(current, changed) {
			return nil
		}
	}

	return v.st.Modify(ctx, empty, func(res resource.Resource) error {
		change(res.(T)) //nolint:forcetypeassert // a type has one Go type

		return nil
	}, state.WithUpdateOwner(owner), state.WithExpectedPhaseAny())
}

// create makes a resource unless it exists.
func (v *view) create(ctx context.Context, owner string, res resource.Resource) error {
	err := v.st.Create(ctx, res, state.WithCreateOwner(owner))
	if state.IsConflictError(err) {
		return nil
	}

	return err
}

// hold adds the first of the finalizers that is missing: one write a step, as many controllers would make them.
func (v *view) hold(ctx context.Context, res resource.Resource, finalizers []string) error {
	missing := slices.DeleteFunc(slices.Clone(finalizers), res.Metadata().Finalizers().Has)
	if len(missing) == 0 || res.Metadata().Phase() == resource.PhaseTearingDown {
		return nil
	}

	if len(missing) > 1 {
		v.wakeIn(v.config.Step)
	}

	last := res.Metadata().Updated()
	if len(missing) < len(finalizers) && !v.after(last, 1) {
		return nil
	}

	return ignoreMissing(v.st.AddFinalizer(ctx, res.Metadata(), missing[0]))
}

// ours says whether the controllers take a finalizer off again. Those of a test, set through State, hold a resource until the test
// lets go. So does that of a class on a machine set which has left its class: the one controller in Omni that would take it off does
// not look at such a set any more.
func ours(res resource.Resource, finalizer resource.Finalizer) bool {
	if machineSet, ok := res.(*omni.MachineSet); ok && finalizer == classFinalizer {
		return omni.GetMachineAllocation(machineSet) != nil
	}

	return slices.Contains(clusterFinalizers, finalizer) ||
		slices.Contains(machineSetFinalizers, finalizer) ||
		slices.Contains(clusterMachineFinalizers, finalizer)
}

// heldByOthers says whether someone else than the controllers holds a resource.
func heldByOthers(res resource.Resource) bool {
	return slices.ContainsFunc(*res.Metadata().Finalizers(), func(f resource.Finalizer) bool { return !ours(res, f) })
}

// release takes the controllers' finalizers off a resource.
func (v *view) release(ctx context.Context, res resource.Resource) error {
	finalizers := slices.DeleteFunc(slices.Clone(*res.Metadata().Finalizers()), func(f resource.Finalizer) bool { return !ours(res, f) })
	if len(finalizers) == 0 {
		return nil
	}

	return ignoreMissing(v.st.RemoveFinalizer(ctx, res.Metadata(), finalizers...))
}

// teardown tears down what is not torn down yet; owned resources are destroyed at once.
func (v *view) teardown(ctx context.Context, res resource.Resource) error {
	md := res.Metadata()

	if md.Owner() != "" {
		return v.destroyOwned(ctx, res)
	}

	if md.Phase() == resource.PhaseTearingDown {
		return nil
	}

	_, err := v.st.Teardown(ctx, md)

	return ignoreMissing(err)
}

// destroyOwned destroys a controller's resource, or tears it down while someone else holds it.
func (v *view) destroyOwned(ctx context.Context, res resource.Resource) error {
	md := res.Metadata()

	if err := v.release(ctx, res); err != nil {
		return err
	}

	if md.Phase() != resource.PhaseTearingDown {
		if _, err := v.st.Teardown(ctx, md, state.WithTeardownOwner(md.Owner())); err != nil {
			return ignoreMissing(err)
		}
	}

	if heldByOthers(res) {
		return nil
	}

	return ignoreMissing(v.st.Destroy(ctx, md, state.WithDestroyOwner(md.Owner())))
}

func each[T any](items []T, do func(T) error) error {
	var errs []error
	for _, item := range items {
		errs = append(errs, do(item))
	}

	return errors.Join(errs...)
}
