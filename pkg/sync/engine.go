package sync

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cosi-project/runtime/pkg/state"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/keymutex"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// Source is where desired state comes from.
type Source interface {
	// Watch calls back with the first and every new revision, with every failed attempt to
	// get one, and with the same revision once more when that works again, until ctx ends. A
	// failure leaves the last revision in force.
	Watch(ctx context.Context, fn func(source.Revision, error)) error
}

// SourceConfig is one source and how it is applied.
type SourceConfig struct {
	// Name is written into the ownership mark of every resource that comes from it.
	Name string
	// Source delivers the revisions.
	Source Source
	// Scope says where in a revision the templates are.
	Scope template.Scope
	// Origin says what the repository is known by, in place of what the source says; "" if that is right.
	Origin string
	// Prune allows the deletion of clusters and fleet resources that left Git (G11).
	Prune bool
	// DeletionsPaused stops every deletion: of clusters, fleet resources, machine sets and what others made.
	DeletionsPaused bool
	// DeleteAfter is how long what left Git has to be gone before it is destroyed. 0: it goes at once.
	DeleteAfter time.Duration
	// MaxDelete and MaxDeleteResources are how many clusters and fleet resources may go within [Config.DeleteWindow]
	// without a confirmation; if more left, all are kept (G11). The zero value deletes none.
	MaxDelete, MaxDeleteResources int
	// MaxDeleteMachines is how many machines may leave one cluster at once. More wait for DeleteAfter.
	MaxDeleteMachines int
	// Follows, if not nil, reports whether the commit of a revision has another one in its history; known is false if
	// nobody can tell. Nothing is deleted whose last commit is known not to be in it. It is asked again and again, so it
	// must be cheap.
	Follows func(head, commit string) (yes, known bool)
	// PruneForeign destroys what others made in a cluster and no template describes.
	PruneForeign bool
	// Policy holds for all clusters of the source; a template can only tighten it (G13).
	Policy Policy
	// Allow is what the source may do.
	Allow Allow
}

// Config configures an [Engine].
type Config struct {
	// Sources are independent of each other; their names are unique. [Engine.Reconfigure]
	// replaces them.
	Sources []SourceConfig
	// State is where changes are written to.
	State state.State
	// Snapshot is what plans are made from, set up as [SnapshotConfig] says; somebody else runs it.
	Snapshot *omni.Snapshot
	// Lead says whether this engine may write; nil: it always may, there is no other one.
	Lead Lead
	// Shard says which targets are worked on. The zero value: all.
	Shard Shard
	// Workers is how many targets are worked on at the same time. Default 128: a worker
	// mostly waits for Omni, and those that wait in vain must not be all of them (G6).
	Workers int
	// Writes is how many writes of one phase of one target run at the same time. Default 8.
	Writes int
	// Timeout bounds each write. Default 30 s.
	Timeout time.Duration
	// RetryMin and RetryMax bound the backoff of a target that fails. Defaults 500 ms, 1 m.
	RetryMin, RetryMax time.Duration
	// Grace is how long Omni gets to destroy by itself what is torn down and held by
	// nobody, as v1.9 does, before the engine does it. Default 2 s.
	Grace time.Duration
	// TeardownWarnAfter is how long a teardown may take before people are warned; it is
	// never cut off. Default 15 m.
	TeardownWarnAfter time.Duration
	// HealthSettle is for how long nothing about a cluster may have moved before it counts as
	// healthy: Omni's readiness flaps. Default 5 s.
	HealthSettle time.Duration
	// DeleteWindow is how long a deletion counts. Default 1 h.
	DeleteWindow time.Duration
	// Requested says that somebody asks for this run: clusters whose policy is manual are
	// written to.
	Requested bool
	// OneShot says that nothing runs on afterwards: what left Git goes at once if it is in Approved, by the names of
	// [diff.Name], and else stays. Somebody saw the list. Declined says why something of it stays.
	OneShot  bool
	Approved map[string]bool
	Declined map[string]string
	// PlanNewer makes every plan and writes nothing while Omni is newer than what this program was tested with.
	PlanNewer bool
	// DryRun makes every plan and writes nothing: the plans are in the [Status].
	DryRun bool
	// NoPreflight leaves out what Omni would refuse: nobody knows without an Omni.
	NoPreflight bool
	// Suspended is what [Engine.Suspend] left behind before a restart, and KeepSuspended
	// keeps it for the next one: all of it, durable on return. If that is nil, nothing can be
	// suspended by request.
	Suspended     []Suspension
	KeepSuspended func([]Suspension) error
	// Ledger is what the last run wrote down about deletions, and KeepLedger has it written down for the next one: it calls
	// update with what is written there, once or more often, and what that returns is durable on return. If that is nil, a
	// restart begins a new budget.
	Ledger     Ledger
	KeepLedger func(update func(kept Ledger) Ledger) error
	// History, if not nil, keeps what was applied.
	History Recorder
	// Meter, if not nil, counts what is done, and QueueMetrics how the queue does.
	Meter        Meter
	QueueMetrics workqueue.MetricsProvider
	// Logger is told what was applied and what failed; never a value that may be secret.
	Logger *zap.Logger
}

func (c *Config) setDefaults() {
	setDefault(&c.Workers, 128)
	setDefault(&c.Writes, 8)
	setDefault(&c.Timeout, 30*time.Second)
	setDefault(&c.RetryMin, 500*time.Millisecond)
	setDefault(&c.RetryMax, time.Minute)
	setDefault(&c.Grace, 2*time.Second)
	setDefault(&c.TeardownWarnAfter, 15*time.Minute)
	setDefault(&c.HealthSettle, defaultSettle)
	setDefault(&c.DeleteWindow, time.Hour)

	if c.Meter == nil {
		c.Meter = unmetered{}
	}

	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
}

func setDefault[T comparable](value *T, fallback T) {
	if *value == *new(T) {
		*value = fallback
	}
}

// Key names a target: the cluster, or "" for the fleet resources, of a source.
type Key struct{ Source, Target string }

// Engine applies the revisions of its sources to Omni.
type Engine struct {
	Config

	sources *sources
	queue   workqueue.TypedRateLimitingInterface[Key]
	board   *board
	blocked *blocked
	journal *journal
	pulse   pulse
	// flights are counted before it is asked whether a write may be made, so that whoever
	// forbids it knows for whom to wait.
	flights *flights
	// naming lets one target at a time create or destroy under an ID.
	naming keymutex.KeyMutex
	// absences is what is known of what left Git.
	absences *absences
	// disturbed counts what ends every wait of what left Git.
	disturbed atomic.Uint64
	// looks are for Engine.look.
	looks *looks
	// account is what Omni thinks of who writes.
	account account
	// suspending lets one request change the suspensions at a time.
	suspending sync.Mutex
	// changes counts what changed in Omni and belongs to no cluster: what a refused
	// target lacks may be among it.
	changes atomic.Uint64
}

// New returns an engine. It does nothing before [Engine.Run].
func New(cfg Config) *Engine {
	cfg.setDefaults()

	e := &Engine{
		Config:  cfg,
		sources: newSources(),
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[Key](cfg.RetryMin, cfg.RetryMax),
			workqueue.TypedRateLimitingQueueConfig[Key]{Name: "targets", MetricsProvider: cfg.QueueMetrics}),
		board:   newBoard(),
		blocked: newBlocked(),
		journal: newJournal(cfg.History),
		flights: newFlights(),
		looks:   newLooks(),
		naming:  keymutex.NewHashed(4096), // so many that two writes hardly ever share one

		absences: newAbsences(cfg.DeleteWindow),
	}

	e.absences.restore(cfg.Ledger)

	if n := len(cfg.Suspended); n > 0 {
		cfg.Logger.Info("suspended by request before the start, and still", zap.Int("suspensions", n))
	}

	e.suspend(cfg.Suspended)
	e.Reconfigure(cfg.Sources)

	return e
}

// Run is the whole of omni-syncd. It returns when ctx ends, after the writes that were
// under way have come back.
func (e *Engine) Run(ctx context.Context) error {
	defer e.journal.close()

	group, ctx := errgroup.WithContext(ctx)

	group.Go(func() error {
		return e.followSources(ctx, func(ctx context.Context, src *sourceState) error {
			return src.Source.Watch(ctx, func(revision source.Revision, err error) { // source
				if err != nil {
					e.failed(src, err)

					return
				}

				if src.touchedBy(revision) {
					set, problems := src.set().Next(revision.FS, src.Scope) // template
					targets, refused := src.renderer.Render(ctx, set)       // render
					src.read = &reading{set, targets, append(problems, refused...)}
				}

				e.accept(src, revision, src.read) // → queue
			})
		})
	})

	group.Go(func() error { return e.follow(ctx) })     // omni → Snapshot → queue
	group.Go(func() error { return e.followLead(ctx) }) // who may write → queue
	group.Go(func() error { return e.beat(ctx) })       // → queue, see Alive

	for range e.Workers {
		group.Go(func() error {
			return e.work(ctx, func(target *target) error { // queue →
				live, err := e.live(target)
				if err != nil {
					return err
				}

				plan := diff.Compute(e.input(target, live)) // diff

				return e.apply(ctx, target, plan) // sync → omni
			})
		})
	}

	return group.Wait()
}
