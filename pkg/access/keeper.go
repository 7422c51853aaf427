package access

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	gosync "sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/util/workqueue"

	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// Configs are what is kept for a cluster; nil is none.
type Configs struct{ Kubeconfig, Talosconfig []byte }

// Store is where configs are kept: a [Directory], or Secrets of a Kubernetes cluster. It is
// used by several goroutines, for each cluster by one at a time.
type Store interface {
	// List returns the clusters that something is kept for, also from before a restart.
	List(ctx context.Context) ([]string, error)
	// Put makes what is kept for a cluster this, and writes nothing if it is. It never
	// replaces what the store did not write.
	Put(ctx context.Context, cluster string, configs Configs) error
	// Remove keeps nothing for a cluster any more. It never removes what the store did not
	// write.
	Remove(ctx context.Context, cluster string) error
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
	// lookAgain is how often a cluster is looked at that is not there yet, as a safety net:
	// the engine tells when something changes.
	lookAgain = time.Minute
	// gather is how long changes of the engine are gathered.
	gather = 100 * time.Millisecond
	// storeTimeout bounds a call to the store.
	storeTimeout = 30 * time.Second
)

// Keeper keeps a store filled with the configs of all managed clusters.
//
// They are fetched when a cluster appears, and removed when it goes: when it left Git and
// Omni, or its source left the configuration. They stay while nobody can tell: Omni or the
// source cannot be read, or the daemon stands still. What went meanwhile is removed at the
// next start.
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
	// next is when it is to be fetched again; zero: now.
	next time.Time
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
		clusters, err := k.Store.List(ctx)
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

// look makes what is kept of a cluster what it should be, if it is time for that.
func (k *Keeper) look(ctx context.Context, cluster string) {
	now := k.knownAs(cluster)
	key, err := k.Engine.Managed("", cluster)

	var (
		unmanaged *sync.UnmanagedError
		notYet    *sync.NotYetError
	)

	switch {
	case errors.As(err, &unmanaged):
		err = k.remove(ctx, cluster, now)
	case err != nil:
		// What is kept stays. A cluster that is known to be away comes back as another one.
		if errors.As(err, &notYet) && !notYet.Unread {
			now.next = time.Time{}
		}

		k.queue.AddAfter(cluster, lookAgain)

		return
	default:
		if wait := time.Until(now.next); wait > 0 {
			k.queue.AddAfter(cluster, wait)

			return
		}

		err = k.fill(ctx, key, now)
	}

	switch {
	case err == nil:
		k.failures.Forget(cluster)
		now.trouble = ""
	case ctx.Err() == nil:
		wait := k.failures.When(cluster)
		now.next = time.Now().Add(wait)
		k.queue.AddAfter(cluster, wait)
		k.tell(cluster, now, err)
	}
}

// tell logs an error once.
func (k *Keeper) tell(cluster string, now *kept, err error) {
	if now.trouble == err.Error() {
		return
	}

	now.trouble = err.Error()
	log := k.Logger.Warn

	if _, foreign := errors.AsType[*ForeignError](err); foreign {
		log = k.Logger.Error // it takes a person
	}

	log("the configs of a cluster are not kept as they should be", zap.String("cluster", cluster), zap.Error(err))
}

// fill fetches the configs of a cluster into the store.
func (k *Keeper) fill(ctx context.Context, key sync.Key, now *kept) error {
	var (
		configs Configs
		err     error
	)

	if k.Kubeconfig {
		if configs.Kubeconfig, err = k.Issuer.Kubeconfig(ctx, Request{Source: key.Source, Cluster: key.Target, ServiceAccount: k.ServiceAccount}); err != nil {
			return err
		}
	}

	if k.Talosconfig {
		if configs.Talosconfig, err = k.Issuer.Talosconfig(ctx, key.Source, key.Target); err != nil {
			return err
		}
	}

	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()

	if err := k.Store.Put(ctx, key.Target, configs); err != nil {
		return err
	}

	if !now.filled {
		k.Logger.Info("keeping the configs of a cluster", zap.String("source", key.Source), zap.String("cluster", key.Target))
	}

	// Not all of them at the same moment.
	wait := k.Refresh - rand.N(k.Refresh/10+1)
	now.next, now.filled = time.Now().Add(wait), true
	k.queue.AddAfter(key.Target, wait)

	return nil
}

// remove keeps nothing for a cluster any more. What turns out to be somebody else's is told
// and left.
func (k *Keeper) remove(ctx context.Context, cluster string, now *kept) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()

	err := k.Store.Remove(ctx, cluster)

	if _, foreign := errors.AsType[*ForeignError](err); err != nil && !foreign {
		return err
	}

	if err != nil {
		k.tell(cluster, now, err)
	} else if now.filled {
		k.Logger.Info("removed the configs of a cluster that is not managed any more", zap.String("cluster", cluster))
	}

	k.mu.Lock()
	delete(k.known, cluster)
	k.mu.Unlock()

	return nil
}
