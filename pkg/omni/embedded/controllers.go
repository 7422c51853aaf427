package embedded

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/registry"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/util/workqueue"

	"github.com/omni-syncd/omni-syncd/pkg/omni/installdisk"
)

// Owners of what the controllers write, by Omni's names.
const (
	ownerClusterStatus       = "ClusterStatusController"
	ownerClusterConfig       = "ClusterConfigVersionController"
	ownerBootstrapStatus     = "ClusterBootstrapStatusController"
	ownerClusterUUID         = "ClusterUUIDController"
	ownerMachineSetStatus    = "MachineSetStatusController"
	ownerControlPlane        = "ControlPlaneStatusController"
	ownerMachineStatus       = "MachineStatusController"
	ownerClusterMachine      = "ClusterMachineStatusController"
	ownerKubernetesUpgrade   = "KubernetesUpgradeStatusController"
	ownerTalosUpgrade        = "TalosUpgradeStatusController"
	ownerDiscoveryPatch      = "DiscoveryServiceConfigPatchController"
	ownerEncryptionPatch     = "ClusterMachineEncryptionController"
	ownerWorkloadProxyStatus = "ClusterWorkloadProxyController"
)

// owners of what goes with a cluster that is gone. What a client wrote in another's name is not theirs.
var owners = set(
	ownerClusterStatus, ownerClusterConfig, ownerBootstrapStatus, ownerClusterUUID, ownerMachineSetStatus, ownerControlPlane,
	ownerClusterMachine, ownerKubernetesUpgrade, ownerTalosUpgrade, ownerDiscoveryPatch, ownerEncryptionPatch, ownerWorkloadProxyStatus,
)

// controllerWorkers reconcile clusters at the same time, each cluster in one of them.
const controllerWorkers = 4

// statusTypes are what the controllers write about clusters, and read back.
var statusTypes = []resource.Type{
	omni.ClusterStatusType, omni.ClusterConfigVersionType, omni.ClusterBootstrapStatusType, omni.ClusterUUIDType,
	omni.MachineSetStatusType, omni.ControlPlaneStatusType, omni.ClusterMachineType, omni.ClusterMachineStatusType,
	omni.KubernetesUpgradeStatusType, omni.TalosUpgradeStatusType, omni.MachineStatusType,
}

// ref is a resource in the controllers' view; a type has one namespace.
type ref struct {
	typ resource.Type
	id  resource.ID
}

// controllers are all of Omni's controllers in one: a view of the resources by cluster, fed by watches, and a queue of the clusters
// that changed. A reconcile looks at the whole cluster and does what can be done now; it can run at any time, any number of times.
// The view lags behind the state a little. That is harmless: what was done already fails or changes nothing, and the event comes.
type controllers struct {
	st     state.State
	config Config
	logger *zap.Logger
	queue  workqueue.TypedDelayingInterface[string]

	mu       sync.RWMutex
	clusters map[string]map[ref]resource.Resource // by cluster name; "" holds what is in no cluster
	loose    map[ref]resource.Resource            // what is in no cluster and torn down
	machines map[resource.ID]*omni.MachineStatus
	homes    map[resource.ID]string  // machine → the cluster that last named it
	classes  map[string]map[ref]bool // cluster → its machine sets that take machines from a class
	labels   map[resource.ID]*omni.MachineLabels
	relabel  map[resource.ID]bool // machines that may have to get other labels
}

// runControllers runs until the context ends, and begins anew when a watch breaks.
func runControllers(ctx context.Context, s *Server) error {
	for ctx.Err() == nil {
		c := &controllers{
			st: s.st, config: s.config, logger: s.logger,
			queue:    workqueue.NewTypedDelayingQueue[string](),
			clusters: map[string]map[ref]resource.Resource{},
			loose:    map[ref]resource.Resource{},
			machines: map[resource.ID]*omni.MachineStatus{},
			homes:    map[resource.ID]string{},
			classes:  map[string]map[ref]bool{},
			labels:   map[resource.ID]*omni.MachineLabels{},
			relabel:  map[resource.ID]bool{},
		}

		if err := c.run(ctx); err != nil && ctx.Err() == nil {
			s.logger.Warn("controllers begin anew", zap.Error(err))
		}
	}

	return nil
}

func (c *controllers) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	events := make(chan []state.Event)

	for kind := range watchedKinds() {
		seen := events

		if c.config.Lag != nil {
			seen = make(chan []state.Event)

			group.Go(func() error { return c.delay(ctx, kind.typ, seen, events) })
		}

		if err := c.st.WatchKindAggregated(ctx, kind.metadata(), seen, state.WithBootstrapContents(true)); err != nil {
			c.queue.ShutDown()

			return fmt.Errorf("watch %s: %w", kind.typ, err)
		}
	}

	group.Go(func() error {
		defer c.queue.ShutDown()

		for {
			select {
			case batch := <-events:
				if err := c.observe(batch); err != nil {
					return err
				}
			case <-ctx.Done():
				return nil
			}
		}
	})

	for range controllerWorkers {
		group.Go(func() error {
			for {
				name, shutdown := c.queue.Get()
				if shutdown {
					return nil
				}

				c.work(ctx, name)
				c.queue.Done(name)
			}
		})
	}

	return group.Wait()
}

func watchedKinds() map[kind]bool {
	wanted := set(statusTypes...)
	for typ := range userTypes {
		wanted[typ] = true
	}

	kinds := map[kind]bool{{resources.DefaultNamespace, installdisk.Type}: true}

	for _, res := range registry.Resources {
		if definition := res.ResourceDefinition(); wanted[definition.Type] {
			kinds[kind{definition.DefaultNamespace, definition.Type}] = true
		}
	}

	return kinds
}

// observe takes events into the view and queues the clusters they are about.
func (c *controllers) observe(batch []state.Event) error {
	c.mu.Lock()
	defer c.mu.Unlock()

	for _, event := range batch {
		switch event.Type {
		case state.Created, state.Updated:
			c.put(event.Resource)
		case state.Destroyed:
			c.drop(event.Resource)
		case state.Errored:
			return fmt.Errorf("watch: %w", event.Error)
		case state.Bootstrapped, state.Noop:
		}
	}

	return nil
}

func (c *controllers) put(res resource.Resource) {
	id := res.Metadata().ID()

	if machine, ok := res.(*omni.MachineStatus); ok {
		before := c.machines[id]
		c.machines[id] = machine

		c.queueHome(id)

		if c.labels[id] != nil {
			c.queueLabels(id)
		}

		if hasLabel(machine, omni.MachineStatusLabelAvailable) && (before == nil || !maps.Equal(before.Metadata().Labels().Raw(), machine.Metadata().Labels().Raw())) {
			c.queueClasses()
		}

		return
	}

	name := clusterOf(res.Metadata())
	key := ref{res.Metadata().Type(), id}

	if c.clusters[name] == nil {
		c.clusters[name] = map[ref]resource.Resource{}
	}

	c.clusters[name][key] = res

	switch res := res.(type) {
	case *omni.MachineSetNode, *omni.ClusterMachine:
		c.homes[id] = name
	case *omni.MachineSet:
		if omni.GetMachineAllocation(res) != nil {
			if c.classes[name] == nil {
				c.classes[name] = map[ref]bool{}
			}

			c.classes[name][key] = true
		}
	case *omni.MachineClass:
		c.queueClasses()
	case *omni.MachineLabels:
		c.labels[id] = res
		c.queueLabels(id)
	}

	if name == "" && res.Metadata().Phase() == resource.PhaseTearingDown {
		c.loose[key] = res
	}

	if name != "" || c.loose[key] != nil {
		c.queue.Add(name)
	}
}

// queueHome queues the cluster that a machine is in, if any.
func (c *controllers) queueHome(machine resource.ID) {
	if home := c.homes[machine]; home != "" {
		c.queue.Add(home)
	}
}

func (c *controllers) drop(res resource.Resource) {
	if _, ok := res.(*omni.MachineStatus); ok {
		delete(c.machines, res.Metadata().ID())
		c.queueHome(res.Metadata().ID())

		return
	}

	name := clusterOf(res.Metadata())
	key := ref{res.Metadata().Type(), res.Metadata().ID()}

	delete(c.clusters[name], key)
	delete(c.classes[name], key)

	if key.typ == omni.MachineLabelsType {
		delete(c.labels, key.id)
		c.queueLabels(key.id)
	}

	if name == "" {
		delete(c.loose, key)
	}

	if name != "" {
		c.queue.Add(name)
	}

	if len(c.clusters[name]) == 0 {
		delete(c.clusters, name)
		delete(c.classes, name)
	}
}

// queueClasses queues every cluster that may want a machine.
func (c *controllers) queueClasses() {
	for name, sets := range c.classes {
		if len(sets) > 0 {
			c.queue.Add(name)
		}
	}
}

// work reconciles one cluster, or with "" what is in none, and queues it again if it has something to do later.
func (c *controllers) work(ctx context.Context, name string) {
	if ctx.Err() != nil {
		return
	}

	if name == "" {
		if err := errors.Join(c.relabelMachines(ctx), c.destroyTornDown(ctx, c.tornDownLoose())); err != nil && ctx.Err() == nil {
			c.logger.Warn("reconcile what is in no cluster", zap.Error(err))
		}

		return
	}

	v := c.view(name)

	err := errors.Join(v.reconcile(ctx), c.destroyTornDown(ctx, v.tornDown()))
	if err != nil && ctx.Err() == nil {
		if !state.IsConflictError(err) && !state.IsNotFoundError(err) { // those only say that the view is old
			c.logger.Warn("reconcile", zap.String("cluster", name), zap.Error(err))
		}

		v.wakeIn(c.config.Step)
	}

	if v.wake > 0 {
		c.queue.AddAfter(name, v.wake)
	}
}

func (c *controllers) tornDownLoose() []resource.Resource {
	c.mu.RLock()
	defer c.mu.RUnlock()

	return slices.Collect(maps.Values(c.loose))
}

// destroyTornDown destroys what users, or a cascade, tore down and nothing holds any more.
func (c *controllers) destroyTornDown(ctx context.Context, tornDown []resource.Resource) error {
	var errs []error

	for _, res := range tornDown {
		if md := res.Metadata(); md.Owner() == "" && md.Finalizers().Empty() && md.Type() != omni.ClusterType {
			errs = append(errs, ignoreMissing(c.st.Destroy(ctx, md)))
		}
	}

	return errors.Join(errs...)
}

func ignoreMissing(err error) error {
	if state.IsNotFoundError(err) {
		return nil
	}

	return err
}
