package embedded

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/blang/semver/v4"
	"github.com/cosi-project/runtime/pkg/controller/generic"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// locked says whether a Cluster is locked. A cluster that is being imported is not, whatever its lock says.
func locked(cluster *omni.Cluster) bool {
	_, lock := cluster.Metadata().Annotations().Get(omni.ClusterLocked)
	_, importing := cluster.Metadata().Annotations().Get(omni.ClusterImportIsInProgress)

	return lock && !importing
}

func label(res resource.Resource, key string) string {
	value, _ := res.Metadata().Labels().Get(key)

	return value
}

func hasLabel(res resource.Resource, key string) bool {
	_, ok := res.Metadata().Labels().Get(key)

	return ok
}

// lookup returns the resource or nil if there is none.
func lookup[T generic.ResourceWithRD](ctx context.Context, st state.State, id resource.ID) (T, error) {
	res, err := safe.StateGetByID[T](ctx, st, id)
	if state.IsNotFoundError(err) {
		var none T

		return none, nil
	}

	return res, err
}

// unlocked refuses when the cluster of a member is locked. A cluster that is going away does not hold its members.
func (r rules) unlocked(ctx context.Context, member resource.Resource, doing string) error {
	cluster, err := lookup[*omni.Cluster](ctx, r.st, label(member, omni.LabelCluster))
	if err != nil || cluster == nil {
		return err
	}

	if locked(cluster) && cluster.Metadata().Phase() == resource.PhaseRunning {
		return fmt.Errorf("%s %q is not allowed: cluster %q is locked", doing, member.Metadata().ID(), cluster.Metadata().ID())
	}

	return nil
}

func requireLabels(old, res resource.Resource, keys ...string) error {
	for _, key := range keys {
		value := label(res, key)
		if value == "" {
			return fmt.Errorf("label %q is missing or empty", key)
		}

		if old != nil && label(old, key) != "" && label(old, key) != value {
			return fmt.Errorf("label %q cannot change from %q to %q", key, label(old, key), value)
		}
	}

	return nil
}

// machineSet checks a MachineSet that is created (old is nil) or updated.
func (r rules) machineSet(ctx context.Context, old, res *omni.MachineSet) error {
	if err := requireLabels(orNil(old), res, omni.LabelCluster); err != nil {
		return err
	}

	id, name := res.Metadata().ID(), label(res, omni.LabelCluster)

	cluster, err := lookup[*omni.Cluster](ctx, r.st, name)
	if err != nil {
		return err
	}

	controlPlane := hasLabel(res, omni.LabelControlPlaneRole)

	switch {
	case cluster == nil:
		return fmt.Errorf("cluster %q of machine set %q does not exist", name, id)
	case old == nil && cluster.Metadata().Phase() == resource.PhaseTearingDown:
		return fmt.Errorf("cluster %q of machine set %q is being deleted", name, id)
	case locked(cluster):
		return fmt.Errorf("machine set %q cannot be added or changed: cluster %q is locked", id, name)
	case !controlPlane && !hasLabel(res, omni.LabelWorkerRole):
		return fmt.Errorf("machine set %q has no role label: %q or %q", id, omni.LabelControlPlaneRole, omni.LabelWorkerRole)
	}

	if err = r.bootstrap(ctx, old, res, controlPlane); err != nil {
		return err
	}

	if err = r.allocation(ctx, old, res); err != nil || old != nil {
		return err
	}

	switch cp := omni.ControlPlanesResourceID(name); {
	case !strings.HasPrefix(id, name+"-"):
		return fmt.Errorf("the ID of machine set %q must begin with %q", id, name+"-")
	case controlPlane && id != cp:
		return fmt.Errorf("a cluster has one control plane, and its machine set is %q, not %q", cp, id)
	case !controlPlane && id == cp:
		return fmt.Errorf("machine set %q must be the control plane", id)
	}

	return nil
}

func orNil[T interface {
	comparable
	resource.Resource
}](res T) resource.Resource {
	var none T
	if res == none {
		return nil // a nil pointer in an interface is not nil
	}

	return res
}

func (r rules) bootstrap(ctx context.Context, old, res *omni.MachineSet, controlPlane bool) error {
	spec := res.TypedSpec().Value.GetBootstrapSpec()

	switch {
	case spec != nil && !controlPlane:
		return errors.New("only a control plane can have a bootstrap spec")
	case old == nil && !controlPlane:
		return nil
	}

	status, err := lookup[*omni.ClusterBootstrapStatus](ctx, r.st, label(res, omni.LabelCluster))
	if err != nil {
		return err
	}

	bootstrapped := status != nil && status.TypedSpec().Value.GetBootstrapped()

	switch {
	case old != nil && spec.EqualVT(old.TypedSpec().Value.GetBootstrapSpec()):
		return nil
	case old != nil && spec == nil && bootstrapped && r.release >= v1_10: // it has done its work
		return nil
	case old != nil:
		return errors.New("the bootstrap spec cannot change")
	case bootstrapped:
		return errors.New("the cluster is bootstrapped already: it cannot get another control plane")
	}

	if spec == nil {
		return nil
	}

	uuids, err := safe.StateListAll[*omni.ClusterUUID](ctx, r.st, state.WithLabelQuery(resource.LabelEqual(omni.LabelClusterUUID, spec.GetClusterUuid())))
	if err == nil && uuids.Len() == 0 {
		return fmt.Errorf("there is no cluster with the UUID %q to bootstrap from", spec.GetClusterUuid())
	}

	return err
}

// allocation checks a machine class, and the switch from machines to a class and back.
func (r rules) allocation(ctx context.Context, old, res *omni.MachineSet) error {
	now := omni.GetMachineAllocation(res)

	var before *specs.MachineSetSpec_MachineAllocation
	if old != nil {
		before = omni.GetMachineAllocation(old)
	}

	if now != nil {
		if now.GetMachineCount() != 0 && now.GetAllocationType() != specs.MachineSetSpec_MachineAllocation_Static {
			return errors.New("a machine count needs the static allocation type")
		}

		class, err := lookup[*omni.MachineClass](ctx, r.st, now.GetName())
		if err != nil {
			return err
		}

		// A set that had no class gets one that does not exist, if it has no machines: Omni looks only where one name becomes another.
		if class == nil && (old == nil || before != nil && before.GetName() != now.GetName()) {
			return fmt.Errorf("machine class %q does not exist", now.GetName())
		}
	}

	if old == nil || (before == nil) == (now == nil) {
		return nil
	}

	nodes, err := safe.StateListAll[*omni.MachineSetNode](ctx, r.st, state.WithLabelQuery(resource.LabelEqual(omni.LabelMachineSet, res.Metadata().ID())))
	if err == nil && nodes.Len() > 0 {
		return fmt.Errorf("machine set %q has %d machines: it cannot switch between machines and a machine class", res.Metadata().ID(), nodes.Len())
	}

	return err
}

// machineSetNode checks a MachineSetNode that is created (old is nil) or updated.
func (r rules) machineSetNode(ctx context.Context, old, res *omni.MachineSetNode) error {
	if err := requireLabels(orNil(old), res, omni.LabelCluster, omni.LabelMachineSet); err != nil {
		return err
	}

	id, setID, name := res.Metadata().ID(), label(res, omni.LabelMachineSet), label(res, omni.LabelCluster)

	machineSet, err := lookup[*omni.MachineSet](ctx, r.st, setID)
	if err != nil {
		return err
	}

	if machineSet == nil || machineSet.Metadata().Phase() == resource.PhaseTearingDown {
		return fmt.Errorf("machine set %q of machine %q does not exist or is being deleted", setID, id)
	}

	if old == nil && omni.GetMachineAllocation(machineSet) != nil {
		return fmt.Errorf("machine %q cannot be put into machine set %q: it takes its machines from a machine class", id, setID)
	}

	cluster, err := lookup[*omni.Cluster](ctx, r.st, name)
	if err != nil {
		return err
	}

	switch {
	case cluster == nil || cluster.Metadata().Phase() == resource.PhaseTearingDown:
		return fmt.Errorf("cluster %q of machine %q does not exist or is being deleted", name, id)
	case locked(cluster):
		return fmt.Errorf("machine %q cannot be added or changed: cluster %q is locked", id, name)
	}

	if _, lock := res.Metadata().Annotations().Get(omni.MachineLocked); lock && hasLabel(machineSet, omni.LabelControlPlaneRole) {
		return fmt.Errorf("machine %q is in the control plane and cannot be locked", id)
	}

	if old != nil {
		return nil
	}

	return r.machineTalos(ctx, id, cluster)
}

// machineTalos: joining a cluster must not downgrade a machine, and one without an installation has to get along with what its cluster
// has. A machine that is not there yet is taken.
func (r rules) machineTalos(ctx context.Context, id resource.ID, cluster *omni.Cluster) error {
	machine, err := lookup[*omni.MachineStatus](ctx, r.st, id)
	if err != nil || machine == nil || machine.TypedSpec().Value.GetSchematic().GetInAgentMode() {
		return err
	}

	has, err := semver.ParseTolerant(machine.TypedSpec().Value.GetTalosVersion())
	if err != nil {
		return nil //nolint:nilerr // a machine that has not said its version is taken
	}

	wants, err := semver.ParseTolerant(cluster.TypedSpec().Value.GetTalosVersion())
	if err != nil {
		return err
	}

	if has.Major > wants.Major || has.Minor > wants.Minor {
		return fmt.Errorf("machine %q runs talos %s: in cluster %q it would be downgraded to %s", id, has, cluster.Metadata().ID(), wants)
	}

	installed := omni.GetMachineStatusSystemDisk(machine) != ""
	if r.release >= v1_10 {
		installed = hasLabel(machine, omni.MachineStatusLabelInstalled)
	}

	switch {
	case installed || has.Minor == wants.Minor:
		return nil
	case r.release >= v1_10 && has.Minor >= installByCall:
		return nil // then wants is at least that too
	default:
		return fmt.Errorf("machine %q runs talos %s without an installation: cluster %q has %s", id, has, cluster.Metadata().ID(), wants)
	}
}

// installByCall is the minor version of Talos from which on Omni 1.10 can install any other one.
const installByCall = 13

func (r rules) removableNode(ctx context.Context, res *omni.MachineSetNode) error {
	machineSet, err := lookup[*omni.MachineSet](ctx, r.st, label(res, omni.LabelMachineSet))
	if err != nil || machineSet == nil || machineSet.Metadata().Phase() == resource.PhaseTearingDown {
		return err
	}

	cluster, err := lookup[*omni.Cluster](ctx, r.st, label(res, omni.LabelCluster))
	if err != nil || cluster == nil || cluster.Metadata().Phase() == resource.PhaseTearingDown {
		return err
	}

	if _, lock := res.Metadata().Annotations().Get(omni.MachineLocked); lock {
		return fmt.Errorf("machine %q is locked: it cannot be removed", res.Metadata().ID())
	}

	return r.unlocked(ctx, res, "removing machine")
}

func (r rules) unusedClass(ctx context.Context, res *omni.MachineClass) error {
	sets, err := safe.StateListAll[*omni.MachineSet](ctx, r.st)
	if err != nil {
		return err
	}

	for machineSet := range sets.All() {
		if allocation := omni.GetMachineAllocation(machineSet); allocation != nil && allocation.GetName() == res.Metadata().ID() {
			return fmt.Errorf("machine class %q is in use by machine set %q", res.Metadata().ID(), machineSet.Metadata().ID())
		}
	}

	return nil
}
