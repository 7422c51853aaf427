package embedded

import (
	"context"
	"errors"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// goesWithCluster are the types, beside machine sets, of which a cluster takes along what has its label, or its name.
var goesWithCluster = set(
	omni.ConfigPatchType, omni.KubernetesManifestGroupType, omni.ExtensionsConfigurationType, omni.KubernetesHealthCheckType,
	omni.RotateTalosCAType, omni.RotateKubernetesCAType,
)

// teardownCluster takes along what belongs to the cluster: workers, then the control plane, then patches and the like (those of
// Omni's UI too), then the cluster.
func (v *view) teardownCluster(ctx context.Context) error {
	if err := each(v.sets, func(s *setView) error {
		if !s.tearingDown() {
			return nil
		}

		return errors.Join(v.teardownSet(ctx, s), v.setStatus(ctx, s))
	}); err != nil {
		return err
	}

	if len(v.sets) > 0 {
		workersLeft := !v.sets[0].controlPlane()

		return each(v.sets, func(s *setView) error {
			if s.controlPlane() && workersLeft {
				return nil
			}

			return v.teardown(ctx, s.MachineSet)
		})
	}

	var (
		errs []error
		left int
	)

	for key, res := range v.all {
		switch {
		case key.typ == omni.ClusterType:
		case res.Metadata().Owner() == "" && goesWithCluster[key.typ]:
			left++

			errs = append(errs, v.teardown(ctx, res), v.release(ctx, res))
		case owners[res.Metadata().Owner()] && key.typ != omni.ClusterStatusType:
			errs = append(errs, v.destroyOwned(ctx, res))
		}
	}

	if left > 0 || errors.Join(errs...) != nil {
		return errors.Join(errs...)
	}

	if err := v.release(ctx, v.cluster); err != nil || heldByOthers(v.cluster) {
		return err
	}

	// The status goes before the cluster that it is about.
	if status, ok := v.all[ref{omni.ClusterStatusType, v.name}]; ok {
		return v.destroyOwned(ctx, status)
	}

	return ignoreMissing(v.st.Destroy(ctx, v.cluster.Metadata()))
}

// takeAlong tears down the patches and extensions that a machine set or a machine has by a label, and says how many are left.
func (v *view) takeAlong(ctx context.Context, key, id string) (left int, err error) {
	var errs []error

	for ref, res := range v.all {
		patches := ref.typ == omni.ConfigPatchType || ref.typ == omni.ExtensionsConfigurationType
		if !patches || res.Metadata().Owner() != "" || label(res, key) != id {
			continue
		}

		left++

		errs = append(errs, v.teardown(ctx, res), v.release(ctx, res))
	}

	return left, errors.Join(errs...)
}

// teardownSet takes a machine set's machines, patches and extensions along and lets it go when they are gone.
func (v *view) teardownSet(ctx context.Context, s *setView) error {
	err := errors.Join(
		each(s.nodes, func(node *omni.MachineSetNode) error { return errors.Join(v.teardown(ctx, node), v.release(ctx, node)) }),
		each(s.machines, func(machine *omni.ClusterMachine) error { return v.leave(ctx, machine) }),
	)

	if len(s.nodes) > 0 || err != nil {
		return err
	}

	left, err := v.takeAlong(ctx, omni.LabelMachineSet, s.id())
	if left > 0 || len(s.machines) > 0 || err != nil {
		return err
	}

	return v.release(ctx, s.MachineSet)
}

// leave takes a machine out of the cluster, with its patches and extensions. It waits for as long as the machine is off.
func (v *view) leave(ctx context.Context, machine *omni.ClusterMachine) error {
	md := machine.Metadata()

	if md.Phase() != resource.PhaseTearingDown {
		_, err := v.st.Teardown(ctx, md, state.WithTeardownOwner(md.Owner()))

		return ignoreMissing(err)
	}

	if left, err := v.takeAlong(ctx, omni.LabelClusterMachine, md.ID()); left > 0 || err != nil {
		return err
	}

	if status := v.machine(md.ID()); status != nil && !status.TypedSpec().Value.GetConnected() {
		return v.leavingStatus(ctx, md.ID(), false) // its status changes when it comes back
	}

	if err := v.leavingStatus(ctx, md.ID(), true); err != nil {
		return err
	}

	if !v.after(changed(machine), stepsToLeave) {
		return nil
	}

	for _, key := range []ref{
		{omni.ClusterMachineStatusType, md.ID()},
		{omni.ConfigPatchType, "900-cm-" + md.ID() + "-kubernetes-upgrade"},
	} {
		if res, ok := v.all[key]; ok {
			if err := v.destroyOwned(ctx, res); err != nil {
				return err
			}
		}
	}

	return errors.Join(
		freeMachine(ctx, v.st, md.ID()),
		v.destroyOwned(ctx, machine),
	)
}

// sweep removes what the controllers made for a cluster that is gone. What users made stays, as in Omni.
func (v *view) sweep(ctx context.Context) error {
	var errs []error

	for _, res := range v.all {
		if owners[res.Metadata().Owner()] {
			errs = append(errs, v.destroyOwned(ctx, res))
		} else if res.Metadata().Phase() == resource.PhaseTearingDown {
			errs = append(errs, v.release(ctx, res))
		}
	}

	return errors.Join(errs...)
}
