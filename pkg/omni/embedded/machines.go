package embedded

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/resource/kvutils"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// Machine is a machine that has connected to this Omni.
type Machine struct {
	ID string
	// Labels of its image, beside those that Omni derives from the hardware (arch amd64, platform metal, 4 cores, ...). MachineLabels
	// come on top of them.
	Labels map[string]string
	// TalosVersion it runs; the oldest on offer if empty, so that every cluster takes it.
	TalosVersion string
	// Uninstalled is a machine that booted from an image and has no Talos on its disk, until it joins a cluster.
	Uninstalled bool
	// Off is a machine that is known and powered off.
	Off bool
}

// AddMachine makes a machine known. It fails if it is known already.
func (s *Server) AddMachine(ctx context.Context, machine Machine) error {
	return addMachine(ctx, s.st, machine)
}

// SetMachinePower switches a machine on or off. One that is off stops being healthy, and holds the teardown of what it belongs to.
func (s *Server) SetMachinePower(ctx context.Context, id string, on bool) error {
	_, err := safe.StateUpdateWithConflicts(ctx, s.st, omni.NewMachineStatus(id).Metadata(), func(res *omni.MachineStatus) error {
		setPower(res, on)

		return nil
	}, state.WithUpdateOwner(ownerMachineStatus))
	if err != nil {
		return fmt.Errorf("switch machine %q: %w", id, err)
	}

	return nil
}

func addMachine(ctx context.Context, st state.State, machine Machine) error {
	if machine.TalosVersion == "" {
		machine.TalosVersion = talosVersions[0]
	}

	res := omni.NewMachineStatus(machine.ID)
	res.TypedSpec().Value.TalosVersion = "v" + machine.TalosVersion
	res.TypedSpec().Value.InitialTalosVersion = "v" + machine.TalosVersion
	res.TypedSpec().Value.Network = &specs.MachineStatusSpec_NetworkStatus{Hostname: machine.ID}
	res.TypedSpec().Value.PlatformMetadata = &specs.MachineStatusSpec_PlatformMetadata{Platform: "metal"}
	res.TypedSpec().Value.Hardware = &specs.MachineStatusSpec_HardwareStatus{
		Arch:          "amd64",
		Processors:    []*specs.MachineStatusSpec_HardwareStatus_Processor{{CoreCount: 4, ThreadCount: 8, Manufacturer: "QEMU"}},
		MemoryModules: []*specs.MachineStatusSpec_HardwareStatus_MemoryModule{{SizeMb: 8192}},
		Blockdevices:  []*specs.MachineStatusSpec_HardwareStatus_BlockDevice{{LinuxName: "/dev/vda", Size: 64 << 30, SystemDisk: !machine.Uninstalled}},
	}

	omni.ReconcileMachineStatusLabels(res)
	res.Metadata().Labels().Set(omni.MachineStatusLabelAvailable, "")

	res.TypedSpec().Value.ImageLabels = machine.Labels
	setUserLabels(res, nil)

	setPower(res, !machine.Off)

	if err := st.Create(ctx, res, state.WithCreateOwner(ownerMachineStatus)); err != nil {
		return fmt.Errorf("add machine %q: %w", machine.ID, err)
	}

	// What the machine booted with stays as a patch: no owner, no cluster label.
	patch := omni.NewConfigPatch("000-initial-machine-config-" + machine.ID)
	patch.Metadata().Labels().Set(omni.LabelMachine, machine.ID)
	patch.Metadata().Annotations().Set(omni.ConfigPatchName, "Initial machine config")

	if err := patch.TypedSpec().Value.SetUncompressedData([]byte("machine:\n  install:\n    disk: /dev/vda\n")); err != nil {
		return err
	}

	if err := st.Create(ctx, patch); err != nil && !state.IsConflictError(err) {
		return fmt.Errorf("add machine %q: %w", machine.ID, err)
	}

	return nil
}

func setPower(res *omni.MachineStatus, on bool) {
	spec, labels := res.TypedSpec().Value, res.Metadata().Labels()

	spec.Connected = on

	if on {
		spec.PowerState = specs.MachineStatusSpec_POWER_STATE_ON

		labels.Delete(omni.MachineStatusLabelDisconnected)
		labels.Set(omni.MachineStatusLabelConnected, "")
	} else {
		spec.PowerState = specs.MachineStatusSpec_POWER_STATE_OFF

		labels.Delete(omni.MachineStatusLabelConnected)
		labels.Set(omni.MachineStatusLabelDisconnected, "")
	}
}

// claimMachine notes in a machine's status which cluster has it, and that it runs the cluster's Talos now.
func claimMachine(ctx context.Context, st state.State, id resource.ID, cluster *omni.Cluster, role specs.MachineStatusSpec_Role) error {
	return changeMachine(ctx, st, id, func(res *omni.MachineStatus) {
		res.TypedSpec().Value.Cluster, res.TypedSpec().Value.Role = cluster.Metadata().ID(), role
		res.TypedSpec().Value.TalosVersion = "v" + cluster.TypedSpec().Value.GetTalosVersion()

		if disks := res.TypedSpec().Value.GetHardware().GetBlockdevices(); len(disks) > 0 {
			disks[0].SystemDisk = true
		}

		omni.ReconcileMachineStatusLabels(res)
		res.Metadata().Labels().Set(omni.LabelCluster, cluster.Metadata().ID())
		res.Metadata().Labels().Delete(omni.MachineStatusLabelAvailable)
	})
}

// freeMachine makes a machine available again. It keeps the Talos it got.
func freeMachine(ctx context.Context, st state.State, id resource.ID) error {
	return changeMachine(ctx, st, id, func(res *omni.MachineStatus) {
		res.TypedSpec().Value.Cluster, res.TypedSpec().Value.Role = "", specs.MachineStatusSpec_NONE

		res.Metadata().Labels().Delete(omni.LabelCluster)
		res.Metadata().Labels().Set(omni.MachineStatusLabelAvailable, "")
	})
}

// changeMachine leaves a machine alone that never connected.
func changeMachine(ctx context.Context, st state.State, id resource.ID, change func(*omni.MachineStatus)) error {
	_, err := safe.StateUpdateWithConflicts(ctx, st, omni.NewMachineStatus(id).Metadata(), func(res *omni.MachineStatus) error {
		change(res)

		return nil
	}, state.WithUpdateOwner(ownerMachineStatus))

	return ignoreMissing(err)
}

// queueLabels has a machine's labels looked at.
func (c *controllers) queueLabels(machine resource.ID) {
	c.relabel[machine] = true
	c.queue.Add("")
}

// relabelMachines gives machines the labels that users want.
func (c *controllers) relabelMachines(ctx context.Context) error {
	c.mu.Lock()

	due := map[resource.ID]*omni.MachineLabels{}

	for id := range c.relabel {
		if status := c.machines[id]; status != nil && setUserLabels(status.DeepCopy().(*omni.MachineStatus), c.labels[id]) {
			due[id] = c.labels[id]
		}
	}

	clear(c.relabel)
	c.mu.Unlock()

	var errs []error

	for id, wanted := range due {
		errs = append(errs, changeMachine(ctx, c.st, id, func(res *omni.MachineStatus) { setUserLabels(res, wanted) }))
	}

	return errors.Join(errs...)
}

// setUserLabels gives a machine the labels of its image and, over them, those that users want, which may be nil. Those of Omni stay. It
// reports whether that is a change.
func setUserLabels(res *omni.MachineStatus, wanted *omni.MachineLabels) bool {
	after := map[string]string{}

	for key, value := range res.Metadata().Labels().Raw() {
		if strings.HasPrefix(key, omni.SystemLabelPrefix) {
			after[key] = value
		}
	}

	maps.Copy(after, res.TypedSpec().Value.GetImageLabels())

	if wanted != nil {
		for key, value := range wanted.Metadata().Labels().Raw() {
			if !strings.HasPrefix(key, omni.SystemLabelPrefix) {
				after[key] = value
			}
		}
	}

	if maps.Equal(res.Metadata().Labels().Raw(), after) {
		return false
	}

	*res.Metadata().Labels() = resource.Labels{}
	res.Metadata().Labels().Do(func(labels kvutils.TempKV) {
		for key, value := range after {
			labels.Set(key, value)
		}
	})

	return true
}
