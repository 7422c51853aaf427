package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	// finalizer is ours: it holds a resource until the test lets go.
	finalizer = "omni-syncd-conformance"
	// owner is ours too: of what a test makes in the name of a controller.
	owner = "ConformanceController"
)

// cluster is a valid one; none of the resources below exist before a row creates them.
func (o *tenant) cluster(name string) *omni.Cluster {
	res := omni.NewCluster(o.id(name))
	res.TypedSpec().Value.TalosVersion = o.talos
	res.TypedSpec().Value.KubernetesVersion = o.kubernetes

	return res
}

func (o *tenant) controlPlane(cluster string) *omni.MachineSet {
	return newSet(o.id(cluster), omni.ControlPlanesResourceID(o.id(cluster)), omni.LabelControlPlaneRole)
}

func (o *tenant) workers(cluster, name string) *omni.MachineSet {
	return newSet(o.id(cluster), o.id(cluster)+"-"+name, omni.LabelWorkerRole)
}

func newSet(cluster, id, role string) *omni.MachineSet {
	res := omni.NewMachineSet(id)
	res.Metadata().Labels().Set(omni.LabelCluster, cluster)
	res.Metadata().Labels().Set(role, "")

	return res
}

func (o *tenant) node(machineSet *omni.MachineSet, machine string) *omni.MachineSetNode {
	return omni.NewMachineSetNode(o.id(machine), machineSet)
}

func (o *tenant) patch(cluster, name string) *omni.ConfigPatch {
	res := omni.NewConfigPatch(o.id(name))
	res.Metadata().Labels().Set(omni.LabelCluster, o.id(cluster))

	return data(res, "machine:\n  sysctls:\n    vm.overcommit_memory: \"1\"\n")
}

func data(res *omni.ConfigPatch, text string) *omni.ConfigPatch {
	if err := res.TypedSpec().Value.SetUncompressedData([]byte(text)); err != nil {
		panic(err) // only compression can fail
	}

	return res
}

// class matches no machine.
func (o *tenant) class(name string) *omni.MachineClass {
	res := omni.NewMachineClass(o.id(name))
	res.TypedSpec().Value.MatchLabels = []string{o.prefix + " = none"}

	return res
}

func (o *tenant) extensions(cluster, name string, names ...string) *omni.ExtensionsConfiguration {
	res := omni.NewExtensionsConfiguration(o.id(name))
	res.Metadata().Labels().Set(omni.LabelCluster, o.id(cluster))
	res.TypedSpec().Value.Extensions = names

	return res
}

func (o *tenant) manifests(cluster, name string) *omni.KubernetesManifestGroup {
	res := omni.NewKubernetesManifestGroup(o.id(name))
	res.Metadata().Labels().Set(omni.LabelCluster, o.id(cluster))
	res.TypedSpec().Value.Mode = specs.KubernetesManifestGroupSpec_FULL

	return res
}

func (o *tenant) kernelArgs(machine string, args ...string) *omni.KernelArgs {
	res := omni.NewKernelArgs(o.id(machine))
	res.TypedSpec().Value.Args = args

	return res
}

// Edits.

func annotate(key, value string) func(resource.Resource) {
	return func(r resource.Resource) { r.Metadata().Annotations().Set(key, value) }
}

func versions(talos, kubernetes string) func(*omni.Cluster) {
	return func(c *omni.Cluster) {
		c.TypedSpec().Value.TalosVersion, c.TypedSpec().Value.KubernetesVersion = talos, kubernetes
	}
}

func features(set func(*specs.ClusterSpec_Features)) func(*omni.Cluster) {
	return func(c *omni.Cluster) {
		if c.TypedSpec().Value.Features == nil {
			c.TypedSpec().Value.Features = &specs.ClusterSpec_Features{}
		}

		set(c.TypedSpec().Value.Features)
	}
}

func backups(interval time.Duration) func(*omni.Cluster) {
	return func(c *omni.Cluster) {
		c.TypedSpec().Value.BackupConfiguration = &specs.EtcdBackupConf{Enabled: true, Interval: durationpb.New(interval)}
	}
}

func allocation(class string) func(*omni.MachineSet) {
	return func(s *omni.MachineSet) {
		s.TypedSpec().Value.MachineAllocation = &specs.MachineSetSpec_MachineAllocation{Name: class, MachineCount: 1}
	}
}

// touch changes nothing that a rule looks at.
func touch[T resource.Resource](r T) { r.Metadata().Annotations().Set("conformance", random(4)) }

// make creates resources that a test builds on.
func (o *tenant) make(all ...resource.Resource) {
	o.t.Helper()

	for _, res := range all {
		must(o.t, o.st.Create(testContext(o.t), res.DeepCopy()))
	}
}

// do makes a call that a test builds on.
func (o *tenant) do(c call) {
	o.t.Helper()

	must(o.t, c(testContext(o.t), o.st))
}

// hold keeps a resource from being destroyed, as a controller would.
func (o *tenant) hold(res resource.Resource) {
	o.t.Helper()

	must(o.t, o.st.AddFinalizer(testContext(o.t), res.Metadata(), finalizer))
}

func (o *tenant) release(res resource.Resource) {
	o.t.Helper()

	must(o.t, o.st.RemoveFinalizer(testContext(o.t), res.Metadata(), finalizer))
}

// await watches a resource until the condition holds, and returns it.
func await[T resource.Resource](o *tenant, like T, condition func(T) bool) T {
	o.t.Helper()

	res, err := o.st.WatchFor(testContext(o.t), like.Metadata(), state.WithEventTypes(state.Created, state.Updated), state.WithCondition(func(r resource.Resource) (bool, error) {
		typed, ok := r.(T)

		return ok && condition(typed), nil
	}))
	if err != nil {
		current, getErr := o.st.Get(o.t.Context(), like.Metadata())
		o.t.Fatalf("%s did not get there: %v; it is %v (%v)", like.Metadata(), err, current, getErr)
	}

	return res.(T) //nolint:forcetypeassert // the condition saw to it
}

func (o *tenant) awaitGone(all ...resource.Resource) {
	o.t.Helper()

	for _, res := range all {
		if err := gone(testContext(o.t), o.st, res.Metadata()); err != nil {
			current, getErr := o.st.Get(o.t.Context(), res.Metadata())
			o.t.Fatalf("%s is not gone: %v; it is %v (%v)", res.Metadata(), err, current, getErr)
		}
	}
}

func gone(ctx context.Context, st state.State, md resource.Pointer) error {
	_, err := st.WatchFor(ctx, md, state.WithEventTypes(state.Destroyed))

	return err
}

// made are the types of what the tests make, in an order in which a teardown of one does not refuse that of another.
func made() []resource.Resource {
	return []resource.Resource{
		omni.NewCluster(""), omni.NewMachineSet(""), omni.NewMachineSetNode("", omni.NewMachineSet("")), omni.NewConfigPatch(""),
		omni.NewExtensionsConfiguration(""), omni.NewKubernetesManifestGroup(""), omni.NewKubernetesHealthCheck(""),
		omni.NewMachineClass(""), omni.NewKernelArgs(""), omni.NewMachineLabels(""), omni.NewInfraMachineConfig(""),
		omni.NewMachineRequestSet(""), omni.NewInstallationMediaConfig(""), omni.NewEtcdManualBackup(""),
		infra.NewProvider(""),
	}
}

// removeAll removes what the test made, however far it came: it lets go of what it holds and takes away its locks.
func (o *tenant) removeAll() {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()

	for _, remove := range []func(context.Context, resource.Resource) error{o.letGo, o.tearDown} {
		for _, like := range made() {
			if err := o.removeType(ctx, like, remove); err != nil && !o.t.Failed() { // after the deadline all fail
				o.t.Errorf("clean up %s: %v", like.Metadata().Type(), err)
			}
		}
	}
}

// removeType does it for each of a type, and if it is torn down by then waits for the end of it.
func (o *tenant) removeType(ctx context.Context, like resource.Resource, remove func(context.Context, resource.Resource) error) error {
	items, err := o.st.List(ctx, like.Metadata())
	if err != nil {
		return err
	}

	mine := slices.DeleteFunc(items.Items, func(r resource.Resource) bool {
		return !strings.HasPrefix(r.Metadata().ID(), o.prefix+"-") || r.Metadata().Owner() != "" && r.Metadata().Owner() != owner
	})

	var errs []error

	for _, res := range mine {
		if err = remove(ctx, res); err != nil && outcomeOf(err) != missing {
			errs = append(errs, fmt.Errorf("%s: %w", res.Metadata().ID(), err))
		}
	}

	return errors.Join(errs...)
}

func (o *tenant) letGo(ctx context.Context, res resource.Resource) error {
	md := res.Metadata()

	if md.Phase() == resource.PhaseRunning {
		for _, lock := range []string{omni.ClusterLocked, omni.MachineLocked} {
			if _, locked := md.Annotations().Get(lock); !locked {
				continue
			}

			if err := change(res, func(r resource.Resource) { r.Metadata().Annotations().Delete(lock) })(ctx, o.st); err != nil {
				return err
			}
		}
	}

	return o.st.RemoveFinalizer(ctx, md, finalizer)
}

func (o *tenant) tearDown(ctx context.Context, res resource.Resource) error {
	md := res.Metadata()

	if md.Owner() != "" { // the server leaves it to the owner
		return o.st.TeardownAndDestroy(ctx, md, state.WithTeardownAndDestroyOwner(md.Owner()))
	}

	if _, err := o.st.Teardown(ctx, md); err != nil {
		return err
	}

	return gone(ctx, o.st, md)
}
