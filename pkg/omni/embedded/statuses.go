package embedded

import (
	"context"
	"errors"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// machineStatus tells how a machine is doing in its cluster.
func (v *view) machineStatus(ctx context.Context, s *setView, machine *omni.ClusterMachine) error {
	healthy := v.runningFor(machine, stepsToHealth)

	stage := specs.ClusterMachineStatusSpec_INSTALLING
	if v.runningFor(machine, stepsToRun) {
		stage = specs.ClusterMachineStatusSpec_RUNNING
	}

	status := v.machine(machine.Metadata().ID())
	connected := status != nil && status.TypedSpec().Value.GetConnected()

	if status != nil && !connected {
		stage = specs.ClusterMachineStatusSpec_POWERED_OFF
	}

	return modify(ctx, v, ownerClusterMachine, omni.NewClusterMachineStatus(machine.Metadata().ID()), func(res *omni.ClusterMachineStatus) {
		copyMembership(res, s)

		if connected {
			res.Metadata().Labels().Set(omni.MachineStatusLabelConnected, "")
		} else {
			res.Metadata().Labels().Delete(omni.MachineStatusLabelConnected)
		}

		res.TypedSpec().Value.Ready = healthy
		res.TypedSpec().Value.Stage = stage
		res.TypedSpec().Value.ConfigUpToDate = stage == specs.ClusterMachineStatusSpec_RUNNING
		res.TypedSpec().Value.ConfigApplyStatus = specs.ConfigApplyStatus_APPLIED
	})
}

// leavingStatus tells of a machine that leaves its cluster, for as long as it has a status there.
func (v *view) leavingStatus(ctx context.Context, id resource.ID, connected bool) error {
	status, ok := get[*omni.ClusterMachineStatus](v, omni.ClusterMachineStatusType, id)
	if !ok || status.TypedSpec().Value.GetStage() == specs.ClusterMachineStatusSpec_DESTROYING && hasLabel(status, omni.MachineStatusLabelConnected) == connected {
		return nil
	}

	_, err := safe.StateUpdateWithConflicts(ctx, v.st, status.Metadata(), func(res *omni.ClusterMachineStatus) error {
		res.TypedSpec().Value.Ready, res.TypedSpec().Value.Stage = false, specs.ClusterMachineStatusSpec_DESTROYING

		if connected {
			res.Metadata().Labels().Set(omni.MachineStatusLabelConnected, "")
		} else {
			res.Metadata().Labels().Delete(omni.MachineStatusLabelConnected)
		}

		return nil
	}, state.WithUpdateOwner(ownerClusterMachine))

	return ignoreMissing(err)
}

// count counts a machine set's machines, and those that run.
func (v *view) count(s *setView) (machines *specs.Machines, running, leaving uint32) {
	machines = &specs.Machines{}

	for _, node := range s.nodes {
		if node.Metadata().Phase() == resource.PhaseRunning {
			machines.Requested++
		}
	}

	allocation := omni.GetMachineAllocation(s.MachineSet)
	if allocation != nil && allocation.GetAllocationType() == specs.MachineSetSpec_MachineAllocation_Static {
		machines.Requested = allocation.GetMachineCount()
	}

	for _, machine := range s.machines {
		machines.Total++

		if machine.Metadata().Phase() == resource.PhaseTearingDown {
			leaving++

			continue
		}

		if status := v.machine(machine.Metadata().ID()); status != nil && status.TypedSpec().Value.GetConnected() {
			machines.Connected++
		}

		if v.runningFor(machine, stepsToRun) {
			running++
		}

		if v.runningFor(machine, stepsToHealth) {
			machines.Healthy++
		}
	}

	return machines, running, leaving
}

// setStatus tells how a machine set is doing. A machine that ran once and is off now leaves its set Running, and not ready.
func (v *view) setStatus(ctx context.Context, s *setView) error {
	machines, running, leaving := v.count(s)
	phase, problem := specs.MachineSetPhase_Running, ""

	before, known := get[*omni.MachineSetStatus](v, omni.MachineSetStatusType, s.id())
	was, hash, wanted := specs.MachineSetPhase_Unknown, "", v.configHash(s)

	if known {
		was, hash = before.TypedSpec().Value.GetPhase(), before.TypedSpec().Value.GetConfigHash()
	}

	if hash == "" || machines.GetTotal() == 0 {
		hash = wanted // machines join with the configuration that there is
	}

	ran := (was == specs.MachineSetPhase_Running || was == specs.MachineSetPhase_Reconfiguring) &&
		before.TypedSpec().Value.GetMachines().GetTotal() == machines.GetTotal()

	switch {
	case s.tearingDown():
		phase = specs.MachineSetPhase_Destroying

		if len(s.nodes) == 0 && len(s.machines) == 0 { // gone in a moment, and its status with it
			if known {
				return v.destroyOwned(ctx, before)
			}

			return nil
		}
	case leaving > 0:
		phase = specs.MachineSetPhase_ScalingDown
	case machines.GetTotal() < machines.GetRequested() || running < machines.GetTotal() && !ran:
		phase = specs.MachineSetPhase_ScalingUp
	case s.controlPlane() && machines.GetRequested() == 0:
		phase, problem = specs.MachineSetPhase_Failed, "a control plane needs at least one machine"
	case v.talosUpgrading():
		phase = specs.MachineSetPhase_Upgrading
	case hash == wanted:
	case was == specs.MachineSetPhase_Reconfiguring && v.after(changed(before), stepsToConfigure):
		hash = wanted
	default:
		phase = specs.MachineSetPhase_Reconfiguring
	}

	ready := phase == specs.MachineSetPhase_Running && machines.GetHealthy() == machines.GetTotal()

	errs := []error{modify(ctx, v, ownerMachineSetStatus, omni.NewMachineSetStatus(s.id()), func(res *omni.MachineSetStatus) {
		copyMembership(res, s)

		res.TypedSpec().Value.Phase = phase
		res.TypedSpec().Value.Ready = ready
		res.TypedSpec().Value.Error = problem
		res.TypedSpec().Value.Machines = machines
		res.TypedSpec().Value.ConfigHash = hash
		res.TypedSpec().Value.MachineAllocation = omni.GetMachineAllocation(s.MachineSet)
	})}

	if s.controlPlane() && !s.tearingDown() {
		errs = append(errs, v.controlPlaneStatus(ctx, s, ready))
	}

	return errors.Join(errs...)
}

func (v *view) controlPlaneStatus(ctx context.Context, s *setView, ready bool) error {
	condition := &specs.ControlPlaneStatusSpec_Condition{Type: specs.ConditionType_Etcd, Status: specs.ControlPlaneStatusSpec_Condition_NotReady}
	if ready {
		condition.Status = specs.ControlPlaneStatusSpec_Condition_Ready
	}

	return modify(ctx, v, ownerControlPlane, omni.NewControlPlaneStatus(s.id()), func(res *omni.ControlPlaneStatus) {
		copyMembership(res, s)

		res.TypedSpec().Value.Conditions = []*specs.ControlPlaneStatusSpec_Condition{condition}
	})
}

// clusterStatus sums up the machine sets' statuses, as the view has them.
func (v *view) clusterStatus(ctx context.Context) error {
	spec := &specs.ClusterStatusSpec{
		TalosVersion:                v.cluster.TypedSpec().Value.GetTalosVersion(),
		KubernetesVersion:           v.cluster.TypedSpec().Value.GetKubernetesVersion(),
		UseEmbeddedDiscoveryService: v.cluster.TypedSpec().Value.GetFeatures().GetUseEmbeddedDiscoveryService(),
		Machines:                    &specs.Machines{},
	}

	phases := map[specs.MachineSetPhase]bool{}
	ready := true

	for _, s := range v.sets {
		status, ok := get[*omni.MachineSetStatus](v, omni.MachineSetStatusType, s.id())
		if !ok {
			ready = false

			continue
		}

		machines := status.TypedSpec().Value.GetMachines()
		phases[status.TypedSpec().Value.GetPhase()] = true
		ready = ready && status.TypedSpec().Value.GetReady()

		spec.Machines.Total += machines.GetTotal()
		spec.Machines.Healthy += machines.GetHealthy()
		spec.Machines.Connected += machines.GetConnected()
		spec.Machines.Requested += machines.GetRequested()

		if s.controlPlane() {
			spec.Available = machines.GetTotal() > 0
			spec.HasConnectedControlPlanes = machines.GetConnected() > 0
			spec.ControlplaneReady = status.TypedSpec().Value.GetReady()
			spec.KubernetesAPIReady = machines.GetHealthy() > 0
		}
	}

	switch {
	case v.cluster.Metadata().Phase() == resource.PhaseTearingDown:
		spec.Phase = specs.ClusterStatusSpec_DESTROYING
	case phases[specs.MachineSetPhase_ScalingUp]:
		spec.Phase = specs.ClusterStatusSpec_SCALING_UP
	case phases[specs.MachineSetPhase_ScalingDown] || phases[specs.MachineSetPhase_Destroying]:
		spec.Phase = specs.ClusterStatusSpec_SCALING_DOWN
	case phases[specs.MachineSetPhase_Running] || phases[specs.MachineSetPhase_Upgrading] || phases[specs.MachineSetPhase_Reconfiguring]:
		spec.Phase = specs.ClusterStatusSpec_RUNNING
	}

	// Omni asks only the machine sets that exist, so that empty workers alone make a cluster ready for a moment. Ours asks for the
	// control plane, or every test would have to know.
	spec.Ready = ready && spec.Phase == specs.ClusterStatusSpec_RUNNING && spec.GetControlplaneReady()

	return errors.Join(v.bootstrapStatus(ctx, spec.GetControlplaneReady()),
		modify(ctx, v, ownerClusterStatus, omni.NewClusterStatus(v.name), func(res *omni.ClusterStatus) {
			res.TypedSpec().Value = spec

			if locked(v.cluster) {
				res.Metadata().Annotations().Set(omni.ClusterLocked, "")
			} else {
				res.Metadata().Annotations().Delete(omni.ClusterLocked)
			}
		}))
}

// bootstrapStatus says for good that the cluster's etcd was started: no other control plane can be made for it.
func (v *view) bootstrapStatus(ctx context.Context, controlPlaneReady bool) error {
	if _, ok := v.all[ref{omni.ClusterBootstrapStatusType, v.name}]; ok || !controlPlaneReady {
		return nil
	}

	res := omni.NewClusterBootstrapStatus(v.name)
	res.TypedSpec().Value.Bootstrapped = true

	return v.create(ctx, ownerBootstrapStatus, res)
}

// talosUpgrading says whether the machines are on their way to another Talos version.
func (v *view) talosUpgrading() bool {
	status, ok := get[*omni.TalosUpgradeStatus](v, omni.TalosUpgradeStatusType, v.name)

	return ok && status.TypedSpec().Value.GetPhase() == specs.TalosUpgradeStatusSpec_Upgrading
}

// upgrades follows the cluster's versions: an upgrade is Upgrading for some steps and then Done at the target.
// The statuses appear once the control plane is up; the one of Kubernetes begins with an upgrade, to the version it has.
func (v *view) upgrades(ctx context.Context) error {
	if _, ok := v.all[ref{omni.ClusterBootstrapStatusType, v.name}]; !ok {
		return nil
	}

	return errors.Join(v.kubernetesUpgrade(ctx), v.talosUpgrade(ctx))
}

func (v *view) kubernetesUpgrade(ctx context.Context) error {
	target := v.cluster.TypedSpec().Value.GetKubernetesVersion()
	status, ok := get[*omni.KubernetesUpgradeStatus](v, omni.KubernetesUpgradeStatusType, v.name)
	done := false

	if ok {
		spec := status.TypedSpec().Value

		switch {
		case spec.GetPhase() == specs.KubernetesUpgradeStatusSpec_Done && spec.GetLastUpgradeVersion() == target:
			return nil
		case spec.GetPhase() == specs.KubernetesUpgradeStatusSpec_Upgrading && spec.GetCurrentUpgradeVersion() == target:
			if !v.after(changed(status), stepsToUpgrade) {
				return nil
			}

			done = true
		}
	}

	return modify(ctx, v, ownerKubernetesUpgrade, omni.NewKubernetesUpgradeStatus(v.name), func(res *omni.KubernetesUpgradeStatus) {
		spec := res.TypedSpec().Value

		if done {
			spec.Phase, spec.LastUpgradeVersion, spec.CurrentUpgradeVersion = specs.KubernetesUpgradeStatusSpec_Done, target, ""
		} else {
			spec.Phase, spec.CurrentUpgradeVersion = specs.KubernetesUpgradeStatusSpec_Upgrading, target
		}
	})
}

func (v *view) talosUpgrade(ctx context.Context) error {
	target := v.cluster.TypedSpec().Value.GetTalosVersion()
	status, ok := get[*omni.TalosUpgradeStatus](v, omni.TalosUpgradeStatusType, v.name)
	done := !ok

	if ok {
		spec := status.TypedSpec().Value

		switch {
		case spec.GetPhase() == specs.TalosUpgradeStatusSpec_Done && spec.GetLastUpgradeVersion() == target:
			return nil
		case spec.GetPhase() == specs.TalosUpgradeStatusSpec_Upgrading && spec.GetCurrentUpgradeVersion() == target:
			if !v.after(changed(status), stepsToUpgrade) {
				return nil
			}

			done = true
		}
	}

	if done {
		if err := v.upgradeMachines(ctx); err != nil {
			return err
		}
	}

	return modify(ctx, v, ownerTalosUpgrade, omni.NewTalosUpgradeStatus(v.name), func(res *omni.TalosUpgradeStatus) {
		spec := res.TypedSpec().Value

		if done {
			spec.Phase, spec.LastUpgradeVersion, spec.CurrentUpgradeVersion = specs.TalosUpgradeStatusSpec_Done, target, ""
		} else {
			spec.Phase, spec.CurrentUpgradeVersion = specs.TalosUpgradeStatusSpec_Upgrading, target
		}
	})
}

// upgradeMachines gives the machines the cluster's Talos version.
func (v *view) upgradeMachines(ctx context.Context) error {
	return each(v.sets, func(s *setView) error {
		return each(s.machines, func(machine *omni.ClusterMachine) error {
			return claimMachine(ctx, v.st, machine.Metadata().ID(), v.cluster, role(s))
		})
	})
}
