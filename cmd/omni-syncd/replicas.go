package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/cosi-project/runtime/pkg/state"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

	"github.com/omni-syncd/omni-syncd/pkg/config"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/replica"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// What Kubernetes tells a pod of itself, if its manifest says so.
const (
	envPodName = "POD_NAME"
	envPodIP   = "POD_IP"
)

// writeIdle is how long the connection for writes stays without any. One that stood idle may lead nowhere by now; the
// first call on a new one shows.
const writeIdle = 5 * time.Second

// replicas is what this daemon has in common with others that follow the same sources, and how
// it writes. What the configuration does not ask for is nil: then this one is alone, or
// remembers by itself.
type replicas struct {
	lease       *replica.Lease
	fence       *replica.Fence
	suspensions *replica.Suspensions
	endpoints   *replica.Endpoints

	engine *sync.Engine
	// writes is the connection for writes. It carries nothing while another replica leads.
	writes *omni.Conn
	over   chan struct{} // closed when the competition has ended
	stop   context.CancelFunc
	log    *zap.Logger
}

// joinReplicas takes what the configuration asks for. Nothing is asked of Kubernetes yet.
func joinReplicas(cfg *config.Config, shard sync.Shard, log *zap.Logger) (*replicas, error) {
	k, r := &cfg.Kubernetes, &replicas{log: log}
	if k.LeaderElection == nil && k.Suspensions == "" {
		return r, nil
	}

	access, namespace, err := useKubernetes(k)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}

	// A request that times out takes its connection along, so that the next one finds a new
	// way. With HTTP/2 all of them would go on waiting on one that is dead.
	access.NextProtos = []string{"http/1.1"}

	client, err := kubernetes.NewForConfig(access)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}

	if k.Suspensions != "" {
		r.suspensions = replica.NewSuspensions(replica.SuspensionsConfig{Client: client, Namespace: namespace, Name: k.Suspensions, Logger: log})
	}

	election := k.LeaderElection
	if election == nil {
		return r, nil
	}

	name := os.Getenv(envPodName)
	if name == "" {
		name, _ = os.Hostname() // it is for people
	}

	r.lease, err = replica.NewLease(replica.LeaseConfig{
		Client: client.CoordinationV1(), Namespace: namespace, Name: election.Lease, Shard: shard, Replica: name,
		Duration: time.Duration(election.LeaseDuration), RenewDeadline: time.Duration(election.RenewDeadline), RetryPeriod: time.Duration(election.RetryPeriod),
		Before: r.refresh, Logger: log,
	})
	if err != nil {
		return nil, fmt.Errorf("kubernetes.leaderElection: %w", err)
	}

	r.fence = replica.NewFence(r.lease)

	if k.LeaderEndpoints == "" {
		return r, nil
	}

	address, err := netip.ParseAddr(os.Getenv(envPodIP))
	if err != nil {
		return nil, fmt.Errorf("kubernetes.leaderEndpoints: $%s has to be the address of this pod: %w", envPodIP, err)
	}

	r.endpoints = replica.NewEndpoints(replica.EndpointsConfig{
		Client: client.DiscoveryV1(), Namespace: namespace, Service: k.LeaderEndpoints, Address: address, Ports: servicePorts(cfg), Lead: r.lease, Logger: log,
	})

	return r, nil
}

// servicePorts are the ports of the daemon that callers are led to, by the names that they
// have in the Service.
func servicePorts(cfg *config.Config) map[string]int32 {
	ports := map[string]int32{}

	add := func(name, address string) {
		_, port, err := net.SplitHostPort(address)
		if n, bad := strconv.ParseUint(port, 10, 16); err == nil && bad == nil {
			ports[name] = int32(n) //nolint:gosec // 16 bits
		}
	}

	add("api", cfg.API.Listen)

	if cfg.Webhooks != nil {
		add("webhooks", cfg.Webhooks.Listen)
	}

	return ports
}

// writer returns what changes are written to: a connection of its own, since a write that is
// not back in time takes its connection along, and the watches must not go with it.
func (r *replicas) writer(how omni.ConnConfig) (state.State, error) {
	// Short also because after a term the fence lets no attempt to connect succeed: the next
	// term must not begin in the backoff from that.
	how.Idle = writeIdle

	if r.lease != nil {
		// What the kernel holds back must not be delivered when another replica writes.
		how.Wrap, how.KeepaliveTimeout = r.fence.Wrap, r.lease.Duration-r.lease.RenewDeadline
	}

	var err error
	if r.writes, err = omni.Dial(how); err != nil {
		return nil, err
	}

	return r.writes.State(), nil
}

// lead is for the engine; nil if it is alone.
func (r *replicas) lead() sync.Lead {
	if r.lease == nil {
		return nil
	}

	return r.lease
}

// run keeps to what the replicas have in common, until ctx ends.
func (r *replicas) run(ctx context.Context, engine *sync.Engine) error {
	group, ctx := errgroup.WithContext(ctx)
	r.engine = engine

	if r.suspensions != nil {
		group.Go(func() error { return r.suspensions.Run(ctx, engine) })
	}

	if r.lease != nil {
		group.Go(func() error { return r.fence.Run(ctx) })
		group.Go(func() error { return r.competeWhileReady(ctx, engine) })
	}

	if r.endpoints != nil {
		group.Go(func() error { return r.endpoints.Run(ctx) })
	}

	group.Go(func() error {
		<-ctx.Done()

		return nil
	})

	return group.Wait()
}

// refresh is what a new leader has to know of the last one.
func (r *replicas) refresh(ctx context.Context) error {
	if r.suspensions == nil {
		return nil
	}

	return r.suspensions.Refresh(ctx, r.engine)
}

// competeWhileReady competes for the lease while this replica sees Omni: one that does not
// cannot write, and is in the way of another one that does. The lease is not given back then
// but left to expire, since writes may be under way. When ctx ends the competition goes on
// until close: the lease is needed until the last write has come back.
func (r *replicas) competeWhileReady(ctx context.Context, engine *sync.Engine) error {
	becomes := func(ready bool) bool {
		err := engine.WaitStatus(ctx, func(status sync.Status) bool { return status.Ready == ready })

		return err == nil && ctx.Err() == nil // Omni may be in sight when ctx ends
	}

	for becomes(true) {
		competing, stop := context.WithCancel(context.Background())
		over := make(chan struct{})
		r.stop, r.over = stop, over

		go func() {
			defer close(over)

			_ = r.lease.Run(competing) // it ends with its context, and with nothing else
		}()

		if becomes(false) {
			r.log.Warn("Omni cannot be read, so another replica may lead")
			r.retire()
		}
	}

	return nil
}

// retire ends the competition.
func (r *replicas) retire() {
	if r.stop != nil {
		r.stop()
		<-r.over
	}
}

// whileLeading runs a part anew in each term in which this replica leads, and ends it with
// the term. A part that ends by itself is the end of all.
func whileLeading(run part) part {
	return func(ctx context.Context, engine *sync.Engine) error {
		for ctx.Err() == nil {
			now, changed := engine.Leadership()
			term, end := context.WithCancel(ctx)
			done := make(chan error, 1)

			go func() {
				if now.Term != 0 {
					done <- run(term, engine)
				} else {
					<-term.Done()
					done <- nil
				}
			}()

			select {
			case <-ctx.Done():
			case <-changed:
			case err := <-done:
				end()

				return err
			}

			end()

			if err := <-done; err != nil {
				return err
			}
		}

		return nil
	}
}

// close gives the lease back. Nothing is written any more when it is called. What came back
// because its time was over may still be with the kernel: that goes first.
func (r *replicas) close() {
	r.retire()

	if r.fence != nil {
		r.fence.End()
	}

	if r.writes != nil {
		_ = r.writes.Close() // nothing is lost with a connection
	}

	if r.lease != nil {
		r.lease.GiveBack()
	}
}
