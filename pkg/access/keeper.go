package access

import (
	"cmp"
	"context"
	"errors"
	gosync "sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/util/workqueue"

	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// Configs are what is kept for a cluster; nil is none.
type Configs struct {
	Kubeconfig, Talosconfig []byte
	// Origin is for a [Recaller]; another store has no use for it.
	Origin Origin
}

// Origin says where configs come from.
type Origin struct {
	// Source manages the cluster.
	Source string
	// Request tells apart what was asked for: another user, another time to live, another
	// cluster of the same name.
	Request string
	// Renew is when they are to be fetched anew, and Expires when the token ends, if they
	// hold one.
	Renew, Expires time.Time
}

// Room says which configs of a cluster a store has a place for: one that is empty, or that
// holds what the store wrote.
type Room struct{ Kubeconfig, Talosconfig bool }

// Store is where configs are kept: a [Directory], or Secrets of a Kubernetes cluster. It is
// used by several goroutines, for each cluster by one at a time.
type Store interface {
	// List returns the clusters that something is kept for, also from before a restart.
	List(ctx context.Context) ([]string, error)
	// Check says what Put would have room for, and changes nothing: it is asked before a
	// token is made, which nobody can revoke. What is in the way is a [ForeignError]; with
	// any other error nothing can be kept now.
	Check(ctx context.Context, cluster string) (Room, error)
	// Put makes what is kept for a cluster this, and writes nothing if it is: it is called
	// every minute, and has to be cheap then. It never replaces what the store did not
	// write; that is a [ForeignError], if all else was done.
	Put(ctx context.Context, cluster string, configs Configs) error
	// Remove keeps nothing for a cluster any more. It never removes what the store did not
	// write.
	Remove(ctx context.Context, cluster string) error
}

// Recaller is a [Store] that gives back what it keeps. So a restart, and another replica that
// takes over, make no token while the one that is kept is good.
type Recaller interface {
	// Recall returns what is kept for a cluster, as it was put. It is nothing if the store did
	// not write it, or if somebody changed it since.
	Recall(ctx context.Context, cluster string) (Configs, error)
}

// Configurer issues configs; see [Issuer].
type Configurer interface {
	Kubeconfig(ctx context.Context, req Request) ([]byte, error)
	Talosconfig(ctx context.Context, source, cluster string) ([]byte, error)
}

// Engine knows which clusters are managed and tells when that may have changed; see
// [sync.Engine].
type Engine interface {
	Clusters
	Changes(since uint64) (sync.Changes, <-chan struct{})
	// Made tells a cluster from an earlier one of the same name; see [sync.Engine.Made].
	Made(cluster string) time.Time
}

// KeeperConfig configures a [Keeper].
type KeeperConfig struct {
	Store  Store
	Issuer Configurer
	Engine Engine
	// Kubeconfig and Talosconfig say what is kept; at least one.
	Kubeconfig, Talosconfig bool
	// ServiceAccount, if not nil, is whom the kubeconfigs hold a token for. The policy of
	// the issuer has to allow it. Else they hold a login and no secret.
	ServiceAccount *ServiceAccount
	// Refresh is how often what is kept is fetched anew. Default 1 h. A token is replaced
	// when it has lived half its life, if that is sooner.
	Refresh time.Duration
	// RetryMin and RetryMax bound the backoff of a cluster that fails. Defaults 1 s, 5 m.
	RetryMin, RetryMax time.Duration
	// Workers is how many clusters are fetched at the same time. Default 8.
	Workers int
	// Logger is told what is kept and what failed, never a config. It may be nil.
	Logger *zap.Logger
}

const (
	// lookAgain is how often a cluster is looked at without a notice from the engine: for
	// what somebody removed from the store or moved out of its way, and, as a safety net,
	// for one that is not there yet.
	lookAgain = time.Minute
	// gather is how long changes of the engine are gathered.
	gather = 100 * time.Millisecond
	// storeTimeout bounds a call to the store, as far as that heeds its context: a disk cannot be hurried.
	storeTimeout = 30 * time.Second
)

// Keeper keeps a store filled with the configs of all managed clusters.
//
// They are fetched when a cluster appears, and removed when it goes: when it left Git and
// Omni, or its source left the configuration. They stay while nobody can tell: Omni or the
// source cannot be read, or the daemon stands still. What went meanwhile is removed at the
// next start.
//
// What was fetched stays in memory until it is fetched anew, and is put into the store every
// minute. After a restart a store that is a [Recaller] gives it back. So what somebody removed comes back soon, and neither that nor a store that fails
// costs a token. None is made that there is no room for.
//
// A name stands for one cluster in Omni. If two sources describe it, it is that of the
// source whose mark it carries, so there is never more than one.
type Keeper struct {
	KeeperConfig

	queue    workqueue.TypedDelayingInterface[string]
	failures workqueue.TypedRateLimiter[string]

	mu    gosync.Mutex
	known map[string]*kept
}

// kept is what is remembered of a cluster. Only the worker that has its name changes it.
type kept struct {
	// next is when the store is looked at again; zero: now.
	next time.Time
	// configs are what was fetched, until it is to be fetched again.
	configs Configs
	renew   time.Time
	// made tells the cluster that they are of.
	made time.Time
	// expires is when the token ends, if there is one.
	expires time.Time
	// recalled is set once the store was asked what it keeps, or that does not matter.
	recalled bool
	// filled is set while something is kept.
	filled bool
	// trouble is the last error, which is told once.
	trouble string
}

// NewKeeper returns a keeper. It does nothing before [Keeper.Run].
func NewKeeper(cfg KeeperConfig) (*Keeper, error) {
	cfg.Refresh = cmp.Or(cfg.Refresh, time.Hour)
	cfg.Workers = cmp.Or(cfg.Workers, 8)
	cfg.Logger = cmp.Or(cfg.Logger, zap.NewNop())

	if !cfg.Kubeconfig && !cfg.Talosconfig {
		return nil, errors.New("neither kubeconfigs nor talosconfigs are to be kept")
	}

	if account := cfg.ServiceAccount; account != nil {
		if err := account.check(); err != nil {
			return nil, err
		}

		cfg.Refresh = min(cfg.Refresh, max(account.TTL/2, time.Second))
	}

	cfg.RetryMin, cfg.RetryMax = cmp.Or(cfg.RetryMin, time.Second), min(cmp.Or(cfg.RetryMax, 5*time.Minute), cfg.Refresh)

	return &Keeper{
		KeeperConfig: cfg,
		queue:        workqueue.NewTypedDelayingQueue[string](),
		failures:     workqueue.NewTypedItemExponentialFailureRateLimiter[string](cfg.RetryMin, cfg.RetryMax),
		known:        map[string]*kept{},
	}, nil
}

// Run keeps the store filled until ctx ends, and then returns nil. It can run once.
func (k *Keeper) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)

	group.Go(func() error {
		defer k.queue.ShutDown()

		if k.recall(ctx) {
			k.follow(ctx)
		}

		return nil
	})

	for range k.Workers {
		group.Go(func() error {
			for {
				cluster, over := k.queue.Get()
				if over {
					return nil
				}

				if ctx.Err() == nil {
					k.look(ctx, cluster)
				}

				k.queue.Done(cluster)
			}
		})
	}

	return group.Wait()
}

// recall queues what is in the store, and reports whether ctx still holds: before the store
// has told that, nothing is known to be missing.
func (k *Keeper) recall(ctx context.Context) bool {
	for {
		clusters, err := k.list(ctx)
		if err == nil {
			for _, cluster := range clusters {
				k.knownAs(cluster).filled = true
				k.queue.Add(cluster)
			}

			return true
		}

		k.Logger.Error("what is kept of the clusters' configs cannot be listed; trying again", zap.Error(err))

		select {
		case <-time.After(k.RetryMax):
		case <-ctx.Done():
			return false
		}
	}
}

func (k *Keeper) list(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()

	return k.Store.List(ctx)
}

// follow queues the clusters that may have changed.
func (k *Keeper) follow(ctx context.Context) {
	var (
		since uint64
		ready bool
	)

	for {
		changes, newer := k.Engine.Changes(since)

		for i := range changes.Targets {
			if name := changes.Targets[i].Target; name != "" {
				k.note(name)
			}
		}

		for _, key := range changes.RemovedTargets {
			k.note(key.Target)
		}

		if changes.All || changes.Ready != ready || len(changes.Sources)+len(changes.RemovedSources) > 0 {
			k.noteAll()
		}

		since, ready = changes.Version, changes.Ready

		select {
		case <-newer:
		case <-ctx.Done():
			return
		}

		select {
		case <-time.After(gather):
		case <-ctx.Done():
			return
		}
	}
}

// note queues a cluster.
func (k *Keeper) note(cluster string) {
	if cluster != "" { // fleet resources need no access
		k.knownAs(cluster)
		k.queue.Add(cluster)
	}
}

// knownAs returns what is remembered of a cluster; from now on that is something.
func (k *Keeper) knownAs(cluster string) *kept {
	k.mu.Lock()
	defer k.mu.Unlock()

	if k.known[cluster] == nil {
		k.known[cluster] = &kept{}
	}

	return k.known[cluster]
}

func (k *Keeper) noteAll() {
	k.mu.Lock()
	defer k.mu.Unlock()

	for cluster := range k.known {
		k.queue.Add(cluster)
	}
}
