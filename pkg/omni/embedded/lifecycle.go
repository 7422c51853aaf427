package embedded

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/constants"
	"github.com/siderolabs/omni/client/pkg/cosi/labels"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// The finalizers of an idle new cluster: it goes from version 1 to 14.
var clusterFinalizers = []string{
	"ClusterController", "ClusterStatusController", "ClusterDestroyStatusController", "ClusterConfigVersionController",
	"ClusterEndpointController", "ClusterUUIDController", "ClusterSecretsController", "ClusterWorkloadProxyController",
	"ClusterMachineEncryptionController", "BackupDataController", "KubernetesStatusController", "SecretRotationStatusController",
	"TalosUpgradeStatusController",
}

var (
	machineSetFinalizers     = []string{ownerMachineSetStatus, "MachineSetDestroyStatusController"}
	machineSetNodeFinalizers = []string{ownerMachineSetStatus}
	clusterMachineFinalizers = []string{
		"ClusterMachineConfigController", "ClusterMachineTeardownController", ownerClusterMachine, "ClusterMachineEncryptionKeyController",
	}
)

// classFinalizer is one more of a machine set that takes its machines from a class.
const classFinalizer = "MachineSetNodeController"

// Steps of a machine after it joined a cluster and is on: how long until it counts as running, and as healthy.
const (
	stepsToRun     = 3
	stepsToHealth  = 5
	stepsToLeave   = 2 // from a ClusterMachine's teardown to its end
	stepsToUpgrade = 4

	stepsToConfigure = 3 // until a changed configuration is on every machine of a set
)

// reconcile does what can be done now for the cluster.
func (v *view) reconcile(ctx context.Context) error {
	switch {
	case v.cluster == nil:
		return v.sweep(ctx)
	case v.cluster.Metadata().Phase() == resource.PhaseTearingDown:
		if err := v.teardownCluster(ctx); err != nil || len(v.sets) == 0 {
			return err
		}

		return v.clusterStatus(ctx)
	default:
		return errors.Join(
			v.hold(ctx, v.cluster, clusterFinalizers),
			v.byProducts(ctx),
			each(v.sets, func(s *setView) error { return v.reconcileSet(ctx, s) }),
			v.clusterStatus(ctx),
			v.upgrades(ctx),
		)
	}
}

// byProducts are the resources that a cluster brings with it; all have an owner.
func (v *view) byProducts(ctx context.Context) error {
	spec := v.cluster.TypedSpec().Value

	var errs []error

	if _, ok := v.all[ref{omni.ClusterConfigVersionType, v.name}]; !ok {
		res := omni.NewClusterConfigVersion(v.name)
		res.TypedSpec().Value.Version = "v" + spec.GetTalosVersion()
		errs = append(errs, v.create(ctx, ownerClusterConfig, res))
	}

	if _, ok := v.all[ref{omni.ClusterUUIDType, v.name}]; !ok {
		sum := sha256.Sum256([]byte(v.name + v.cluster.Metadata().Created().String()))
		uuid := fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])

		res := omni.NewClusterUUID(v.name)
		res.TypedSpec().Value.Uuid = uuid
		res.Metadata().Labels().Set(omni.LabelClusterUUID, uuid)
		errs = append(errs, v.create(ctx, ownerClusterUUID, res))
	}

	return errors.Join(append(errs,
		v.systemPatch(ctx, spec.GetFeatures().GetDiskEncryption(), ownerEncryptionPatch,
			constants.EncryptionPatchPrefix+"-"+v.name+"-encryption", constants.EncryptionConfigName, encryptionPatch),
		v.systemPatch(ctx, spec.GetFeatures().GetUseEmbeddedDiscoveryService(), ownerDiscoveryPatch,
			"950-discovery-service-"+v.name, "", discoveryPatch),
		v.workloadProxy(ctx, spec.GetFeatures().GetEnableWorkloadProxy()),
	)...)
}

const (
	encryptionPatch = `machine:
  systemDiskEncryption:
    ephemeral:
      provider: luks2
      keys:
        - kms:
            endpoint: grpc://localhost
          slot: 0
`
	discoveryPatch = "cluster:\n  discovery:\n    registries:\n      service:\n        endpoint: http://localhost:8093\n"
	upgradePatch   = "machine:\n  kubelet: {}\n"
)

// systemPatch keeps a patch of Omni's own in the cluster while it is wanted.
func (v *view) systemPatch(ctx context.Context, wanted bool, owner, id, name, data string) error {
	existing, ok := v.all[ref{omni.ConfigPatchType, id}]

	switch {
	case ok && !wanted:
		return v.destroyOwned(ctx, existing)
	case ok || !wanted:
		return nil
	}

	patch := omni.NewConfigPatch(id)
	patch.Metadata().Labels().Set(omni.LabelCluster, v.name)
	patch.Metadata().Labels().Set(omni.LabelSystemPatch, "")

	if name != "" {
		patch.Metadata().Annotations().Set(omni.ConfigPatchName, name)
	}

	if err := patch.TypedSpec().Value.SetUncompressedData([]byte(data)); err != nil {
		return err
	}

	return v.create(ctx, owner, patch)
}

func (v *view) workloadProxy(ctx context.Context, wanted bool) error {
	id := "cluster-" + v.name + "-workload-proxy"
	existing, ok := v.all[ref{omni.KubernetesManifestGroupType, id}]

	switch {
	case ok && !wanted:
		return v.destroyOwned(ctx, existing)
	case ok || !wanted:
		return nil
	}

	group := omni.NewKubernetesManifestGroup(id)
	group.Metadata().Labels().Set(omni.LabelCluster, v.name)
	group.Metadata().Labels().Set(omni.LabelSystemManifest, "")
	group.TypedSpec().Value.Mode = specs.KubernetesManifestGroupSpec_FULL

	return v.create(ctx, ownerWorkloadProxyStatus, group)
}

// reconcileSet brings the machines of a machine set in line with its nodes.
func (v *view) reconcileSet(ctx context.Context, s *setView) error {
	if s.tearingDown() {
		return errors.Join(v.teardownSet(ctx, s), v.setStatus(ctx, s))
	}

	wanted := map[resource.ID]bool{}

	finalizers := machineSetFinalizers
	if omni.GetMachineAllocation(s.MachineSet) != nil {
		finalizers = append(slices.Clone(finalizers), classFinalizer)
	}

	errs := []error{
		v.hold(ctx, s.MachineSet, finalizers),
		v.allocate(ctx, s),
	}

	for _, node := range s.nodes {
		if node.Metadata().Phase() == resource.PhaseTearingDown {
			errs = append(errs, v.release(ctx, node))

			continue
		}

		wanted[node.Metadata().ID()] = true
		errs = append(errs, v.hold(ctx, node, machineSetNodeFinalizers), v.join(ctx, s, node.Metadata().ID()))
	}

	for _, machine := range s.machines {
		if machine.Metadata().Phase() == resource.PhaseTearingDown || !wanted[machine.Metadata().ID()] {
			errs = append(errs, v.leave(ctx, machine))
		} else {
			errs = append(errs, v.hold(ctx, machine, clusterMachineFinalizers), v.machineStatus(ctx, s, machine))
		}
	}

	return errors.Join(append(errs, v.setStatus(ctx, s))...)
}

// allocate gives a machine set of a machine class its nodes: those without an owner that carry the controller's label.
func (v *view) allocate(ctx context.Context, s *setView) error {
	allocation := omni.GetMachineAllocation(s.MachineSet)
	if allocation == nil || locked(v.cluster) {
		return nil
	}

	var running []*omni.MachineSetNode

	for _, node := range s.nodes {
		if node.Metadata().Phase() == resource.PhaseRunning {
			running = append(running, node)
		}
	}

	want := math.MaxInt
	if allocation.GetAllocationType() == specs.MachineSetSpec_MachineAllocation_Static {
		want = int(allocation.GetMachineCount())
	}

	if len(running) > want {
		return each(running[want:], func(node *omni.MachineSetNode) error { return v.teardown(ctx, node) })
	}

	if len(running) == want { // spares the look at all machines
		return nil
	}

	var errs []error

	for _, id := range v.available(allocation.GetName()) {
		if len(running)+len(errs) == want {
			break
		}

		node := omni.NewMachineSetNode(id, s.MachineSet)
		node.Metadata().Labels().Set(omni.LabelManagedByMachineSetNodeController, "")
		errs = append(errs, v.create(ctx, "", node))
	}

	return errors.Join(errs...)
}

// available returns the machines of a class that no cluster has, sorted.
func (v *view) available(class resource.ID) []resource.ID {
	v.mu.RLock()
	defer v.mu.RUnlock()

	res, ok := v.clusters[""][ref{omni.MachineClassType, class}].(*omni.MachineClass)
	if !ok {
		return nil
	}

	queries, err := labels.ParseSelectors(res.TypedSpec().Value.GetMatchLabels())
	if err != nil {
		return nil
	}

	var ids []resource.ID

	for id, machine := range v.machines {
		if !hasLabel(machine, omni.MachineStatusLabelAvailable) || !machine.TypedSpec().Value.GetConnected() || !queries.Matches(*machine.Metadata().Labels()) {
			continue
		}

		if home := v.homes[id]; home != "" {
			if _, taken := v.clusters[home][ref{omni.MachineSetNodeType, id}]; taken {
				continue
			}
		}

		ids = append(ids, id)
	}

	slices.Sort(ids)

	return ids
}

// join makes a node's machine part of the cluster.
func (v *view) join(ctx context.Context, s *setView, id resource.ID) error {
	if v.config.HealthyMachines && v.machine(id) == nil {
		if err := addMachine(ctx, v.st, Machine{ID: id, TalosVersion: v.cluster.TypedSpec().Value.GetTalosVersion()}); err != nil {
			return err
		}
	}

	// A machine that is not there yet has no part in the cluster; its status wakes us when it comes.
	if _, ok := v.all[ref{omni.ClusterMachineType, id}]; ok || !v.config.HealthyMachines && v.machine(id) == nil {
		return nil
	}

	machine := omni.NewClusterMachine(id)
	copyMembership(machine, s)

	return errors.Join(
		v.create(ctx, ownerMachineSetStatus, machine),
		claimMachine(ctx, v.st, id, v.cluster, role(s)),
		v.upgradePatch(ctx, id),
	)
}

func role(s *setView) specs.MachineStatusSpec_Role {
	if s.controlPlane() {
		return specs.MachineStatusSpec_CONTROL_PLANE
	}

	return specs.MachineStatusSpec_WORKER
}

// upgradePatch is what Omni pins a machine's Kubernetes components with.
func (v *view) upgradePatch(ctx context.Context, id resource.ID) error {
	patch := omni.NewConfigPatch("900-cm-" + id + "-kubernetes-upgrade")
	patch.Metadata().Labels().Set(omni.LabelCluster, v.name)
	patch.Metadata().Labels().Set(omni.LabelClusterMachine, id)
	patch.Metadata().Labels().Set(omni.LabelSystemPatch, "")

	if err := patch.TypedSpec().Value.SetUncompressedData([]byte(upgradePatch)); err != nil {
		return err
	}

	return v.create(ctx, ownerKubernetesUpgrade, patch)
}

func copyMembership(res resource.Resource, s *setView) {
	for _, key := range []string{omni.LabelCluster, omni.LabelControlPlaneRole, omni.LabelWorkerRole} {
		if value, ok := s.Metadata().Labels().Get(key); ok {
			res.Metadata().Labels().Set(key, value)
		}
	}

	res.Metadata().Labels().Set(omni.LabelMachineSet, s.id())
}

// runningFor says whether a machine is on and has been part of the cluster for some steps.
func (v *view) runningFor(machine *omni.ClusterMachine, steps int) bool {
	status := v.machine(machine.Metadata().ID())

	return status != nil && status.TypedSpec().Value.GetConnected() && v.after(machine.Metadata().Created(), steps)
}

// changed is when a resource was last written.
func changed(res resource.Resource) time.Time {
	if updated := res.Metadata().Updated(); !updated.IsZero() {
		return updated
	}

	return res.Metadata().Created()
}
