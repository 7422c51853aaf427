package replica

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apply "k8s.io/client-go/applyconfigurations/discovery/v1"
	discovery "k8s.io/client-go/kubernetes/typed/discovery/v1"

	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// EndpointsConfig configures [Endpoints].
type EndpointsConfig struct {
	// Client reaches the EndpointSlices of the Kubernetes cluster.
	Client discovery.EndpointSlicesGetter
	// Namespace and Service name the Service, which has no selector. The EndpointSlice has
	// the same name.
	Namespace, Service string
	// Address is where this replica can be reached, and Ports are the ports of the Service,
	// by name.
	Address netip.Addr
	Ports   map[string]int32
	// Lead says when this replica leads.
	Lead sync.Lead
	// Logger is told what failed. It may be nil.
	Logger *zap.Logger
}

const (
	// assertEvery is how often the leader says that it is one: what an old one wrote late, or
	// somebody changed, does not last.
	assertEvery   = 10 * time.Second
	assertRetry   = time.Second
	assertTimeout = 5 * time.Second
)

// Endpoints leads who asks a Service to the replica that leads: the others can neither take
// requests that change something nor do anything about a webhook.
type Endpoints struct{ EndpointsConfig }

// NewEndpoints returns what keeps the EndpointSlice.
func NewEndpoints(cfg EndpointsConfig) *Endpoints {
	cfg.Logger = cmp.Or(cfg.Logger, zap.NewNop())

	return &Endpoints{cfg}
}

// Run keeps the EndpointSlice pointing here while this replica leads, until ctx ends, and
// then returns nil. If it still leads then, it leaves the EndpointSlice empty: the address may
// soon be somebody else's, and who leads next puts its own there. The lease has to be held
// until Run returns.
func (e *Endpoints) Run(ctx context.Context) error {
	trouble := ""

	for {
		now, changed := e.Lead.Leadership()

		var again <-chan time.Time

		if now.Term != 0 {
			wait, said := assertEvery, ""

			if err := e.write(ctx, e.here()); err != nil && ctx.Err() == nil {
				if wait, said = assertRetry, err.Error(); said != trouble {
					e.Logger.Warn("those who ask the Service may not be led here", zap.String("service", e.Service), zap.Error(err))
				}
			}

			trouble, again = said, time.After(wait)
		}

		select {
		case <-ctx.Done():
			e.leave()

			return nil
		case <-changed:
		case <-again:
		}
	}
}

// leave takes this replica out if it leads.
func (e *Endpoints) leave() {
	if _, ok := e.Lead.Until(); !ok {
		return
	}

	if err := e.write(context.Background()); err != nil {
		e.Logger.Warn("those who ask the Service are led here until another replica leads", zap.String("service", e.Service), zap.Error(err))
	}
}

// here is this replica.
func (e *Endpoints) here() *apply.EndpointApplyConfiguration {
	return apply.Endpoint().WithAddresses(e.Address.Unmap().String()).WithConditions(apply.EndpointConditions().WithReady(true))
}

// write makes the EndpointSlice lead there and nowhere else.
func (e *Endpoints) write(ctx context.Context, to ...*apply.EndpointApplyConfiguration) error {
	ctx, cancel := context.WithTimeout(ctx, assertTimeout)
	defer cancel()

	family := discoveryv1.AddressTypeIPv4
	if e.Address.Unmap().Is6() {
		family = discoveryv1.AddressTypeIPv6
	}

	slice := apply.EndpointSlice(e.Service, e.Namespace).
		WithLabels(map[string]string{discoveryv1.LabelServiceName: e.Service, discoveryv1.LabelManagedBy: "omni-syncd"}).
		WithAddressType(family).
		WithEndpoints(to...)

	// In an order: to the apiserver another one is a change, which it tells to every node.
	for _, name := range slices.Sorted(maps.Keys(e.Ports)) {
		slice.WithPorts(apply.EndpointPort().WithName(name).WithPort(e.Ports[name]))
	}

	// By force: it was the last leader's, which is the same program.
	if _, err := e.Client.EndpointSlices(e.Namespace).Apply(ctx, slice, metav1.ApplyOptions{FieldManager: "omni-syncd", Force: true}); err != nil {
		return fmt.Errorf("writing the EndpointSlice %s/%s: %w", e.Namespace, e.Service, err)
	}

	return nil
}
