package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	gosync "sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/uuid"
	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/util/retry"
	"k8s.io/klog/v2"

	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// Margin is how much longer than RenewDeadline a lease lasts at least: what a write needs to
// get out of the way after its client gave up, and what clocks may drift meanwhile.
const Margin = time.Second

// LeaseConfig configures a [Lease].
type LeaseConfig struct {
	// Client reaches the Leases of the Kubernetes cluster.
	Client coordination.LeasesGetter
	// Namespace and Name of the Lease. With shards each has one of its own, <Name>-<i>-of-<n>.
	Namespace, Name string
	// Shard is what this replica works on; replicas of another one do not compete with it.
	Shard sync.Shard
	// Replica is the name of this one, for people. A random part is added: a Pod that is
	// made again is another one, also while the old one still runs somewhere out of sight.
	Replica string
	// Duration is how long the others wait since the lease was last renewed before one of
	// them takes it; whole seconds. Default 15 s.
	Duration time.Duration
	// RenewDeadline is how long after the beginning of the last renewal that succeeded this
	// replica may write; at least [Margin] shorter than Duration.
	RenewDeadline time.Duration
	// RetryPeriod is the time between two tries to renew the lease or to take it.
	RetryPeriod time.Duration
	// Before, if not nil, is what has to succeed before this replica leads anew, while it has
	// the lease already and nobody else writes. It is tried again until it does.
	Before func(context.Context) error
	// Logger is told who leads. It may be nil.
	Logger *zap.Logger
}

func (c *LeaseConfig) check() error {
	switch {
	case c.Namespace == "" || c.Name == "":
		return errors.New("a lease needs a name and a namespace")
	case c.Duration%time.Second != 0:
		// The record in Kubernetes has whole seconds, and the others go by that.
		return fmt.Errorf("the lease lasts %s: that has to be whole seconds", c.Duration)
	case c.RenewDeadline+Margin > c.Duration:
		return fmt.Errorf("the deadline to renew the lease is %s: it has to be at least %s shorter than the lease lasts, %s", c.RenewDeadline, Margin, c.Duration)
	default:
		return nil
	}
}

// Lease is the right to write, which one replica has at a time: a Lease of Kubernetes, taken
// and renewed by client-go's leader election. It is a [sync.Lead].
//
// It holds although processes pause and networks fail. Who has it may write until
// RenewDeadline after the moment at which the last renewal that succeeded was *begun*. The
// others wait for Duration from the moment at which they saw that renewal, which is later.
// Time that passes is all that counts, so clocks may be wrong.
type Lease struct {
	LeaseConfig

	identity string
	elector  *leaderelection.LeaderElector
	lock     *lock
	rivals   rivals

	mu      gosync.Mutex
	until   time.Time // zero: not held
	lapse   *time.Timer
	now     sync.Leadership
	terms   uint64
	changed chan struct{}
	trouble string // the last error, which is told once
}

// NewLease returns a lease that nobody asked for yet; see [Lease.Run].
func NewLease(cfg LeaseConfig) (*Lease, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}

	cfg.Logger = cmp.Or(cfg.Logger, zap.NewNop())
	base := cfg.Name

	if !cfg.Shard.Whole() {
		cfg.Name = fmt.Sprintf("%s-%d-of-%d", base, cfg.Shard.Index, cfg.Shard.Count)
	}

	l := &Lease{LeaseConfig: cfg, identity: cmp.Or(cfg.Replica, "omni-syncd") + "_" + uuid.NewString()[:8], changed: make(chan struct{})}
	l.rivals = rivals{client: cfg.Client.Leases(cfg.Namespace), base: base, shards: max(cfg.Shard.Count, 1)}
	l.lock = &lock{lease: l, Interface: &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: cfg.Namespace, Name: cfg.Name},
		Client:     cfg.Client,
		LockConfig: resourcelock.ResourceLockConfig{Identity: l.identity},
		Labels:     l.rivals.labels(),
	}}

	var err error

	// ReleaseOnCancel stays off: client-go would also give the lease back after it was lost,
	// from what it believes to be the holder, and so take it away from the next one if this
	// process was paused meanwhile. See GiveBack.
	l.elector, err = leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: l.lock, LeaseDuration: cfg.Duration, RenewDeadline: cfg.RenewDeadline, RetryPeriod: cfg.RetryPeriod, Name: cfg.Name,
		Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: func(context.Context) {}, OnStoppedLeading: func() {}},
	})

	return l, err
}

// Run competes for the lease until ctx ends, and returns nil. It can run again. The lease is
// kept until it expires, unless [Lease.GiveBack] is called.
func (l *Lease) Run(ctx context.Context) error {
	l.Logger.Info("competing for the lease", zap.String("lease", l.Namespace+"/"+l.Name), zap.String("as", l.identity))

	quiet := klog.NewContext(ctx, logr.Discard()) // the lock tells what there is to tell

	for ctx.Err() == nil {
		l.elector.Run(quiet)
	}

	return nil
}

// Until is when the right to write ends unless it is renewed before; ok is false if this
// replica has it not, or not any more. It never blocks. Both of the system's clocks count:
// one of them stands still while the machine sleeps, and the other one may be set back.
func (l *Lease) Until() (until time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()

	now := time.Now()

	return l.until, now.Before(l.until) && now.Round(0).Before(l.until.Round(0))
}

// Leadership returns who leads, and a channel that is closed when that changes.
func (l *Lease) Leadership() (sync.Leadership, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.now, l.changed
}

// renewed takes note of a renewal that succeeded and was begun then. Taking the lease is the
// first one.
func (l *Lease) renewed(ctx context.Context, began time.Time) {
	_, held := l.Until()

	if !held {
		if err := l.mayLead(ctx); err != nil {
			l.tell(err)
			l.become(sync.Leadership{Leader: l.identity, Reason: err.Error()})

			return
		}
	}

	l.mu.Lock()
	defer l.mu.Unlock()

	held = held && l.now.Term != 0 // it may have lapsed just now
	l.until = began.Add(l.RenewDeadline)

	if l.lapse != nil {
		l.lapse.Stop()
	}

	l.lapse = time.AfterFunc(time.Until(l.until), l.lapsed)
	l.trouble = ""

	if !held {
		l.terms++
		l.set(sync.Leadership{Term: l.terms, Leader: l.identity})
		l.Logger.Info("this replica leads", zap.String("lease", l.Name), zap.String("as", l.identity))
	}
}

// mayLead says why a new term cannot begin although the lease is there.
func (l *Lease) mayLead(ctx context.Context) error {
	if err := l.rivals.gone(ctx); err != nil || l.Before == nil {
		return err
	}

	return l.Before(ctx)
}

// seen takes note of who holds the lease according to Kubernetes. If that is another one
// before this replica's time is over, somebody changed it by hand: then it stops at once.
func (l *Lease) seen(holder string) {
	if holder == l.identity {
		return
	}

	if _, held := l.Until(); held && holder != "" {
		l.mu.Lock()
		l.until = time.Time{}
		l.mu.Unlock()

		l.Logger.Warn("this replica does not lead any more: somebody gave its lease away", zap.String("lease", l.Name))
	}

	l.become(sync.Leadership{Leader: holder})
}

// become takes note of who leads if this replica does not. While it may write it leads.
func (l *Lease) become(now sync.Leadership) {
	_, held := l.Until()

	l.mu.Lock()
	defer l.mu.Unlock()

	if !held && l.now != now {
		if now.Leader != l.now.Leader && now.Leader != "" && now.Leader != l.identity {
			l.Logger.Info("another replica leads", zap.String("lease", l.Name), zap.String("leader", now.Leader))
		}

		l.set(now)
	}
}

// set replaces what is known. The lock is held.
func (l *Lease) set(now sync.Leadership) {
	l.now = now
	close(l.changed)
	l.changed = make(chan struct{})
}

// lapsed ends what was not renewed in time.
func (l *Lease) lapsed() {
	if _, held := l.Until(); held {
		return
	}

	l.mu.Lock()
	defer l.mu.Unlock()

	if l.now.Term == 0 {
		return
	}

	l.set(sync.Leadership{})
	l.Logger.Warn("this replica does not lead any more: the lease was not renewed in time", zap.String("lease", l.Name), zap.String("last error", l.trouble))
}

// tell logs an error once.
func (l *Lease) tell(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if l.trouble != err.Error() {
		l.trouble = err.Error()
		l.Logger.Warn("the lease", zap.String("lease", l.Name), zap.Error(err))
	}
}

// GiveBack gives the lease back, so that the next one need not wait for its end. Run has to
// have ended, and so has everything that writes. It does so only if Kubernetes says that the
// lease is this replica's. Nothing is lost if that fails: it expires.
func (l *Lease) GiveBack() {
	l.mu.Lock()
	l.until = time.Time{}
	l.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), l.RenewDeadline/2)
	defer cancel()

	ours := false

	// More than once: a renewal that was cut off may land in between.
	err := retry.OnError(retry.DefaultBackoff, func(error) bool { return ctx.Err() == nil }, func() error {
		record, _, err := l.lock.Interface.Get(ctx)
		if err != nil {
			return err
		}

		if ours = record.HolderIdentity == l.identity; !ours {
			return nil
		}

		// The update carries the version that was just read.
		record.HolderIdentity, record.LeaseDurationSeconds = "", 1

		return l.lock.Interface.Update(ctx, *record)
	})

	switch {
	case apierrors.IsNotFound(err), err == nil && !ours:
	case err != nil:
		l.Logger.Warn("the lease is not given back, it expires", zap.String("lease", l.Name), zap.Error(err))
	default:
		l.become(sync.Leadership{})
		l.Logger.Info("the lease is given back", zap.String("lease", l.Name))
	}
}

// lock is client-go's lock on the Lease. It notes when a renewal was begun, which client-go
// does not tell, and bounds every call, so that a network that swallows packets is found out
// while there is time to try again. One goroutine uses it.
type lock struct {
	resourcelock.Interface

	lease *Lease
	// other is who else held the Lease when it was last seen, for how long, and gone is when
	// it was not there any more.
	other string
	lasts time.Duration
	gone  time.Time
}

// Get implements resourcelock.Interface.
func (k *lock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, k.lease.RenewDeadline/2)
	defer cancel()

	record, raw, err := k.Interface.Get(ctx)

	switch {
	case err == nil:
		k.lease.seen(record.HolderIdentity)

		k.other, k.lasts, k.gone = record.HolderIdentity, time.Duration(record.LeaseDurationSeconds)*time.Second, time.Time{}
		// client-go takes it for renewed if this differs, and has the time in whole seconds.
		raw = record.RenewTime.AppendFormat(raw, time.RFC3339Nano)
	case apierrors.IsNotFound(err) && k.gone.IsZero():
		k.gone = time.Now()
	}

	return record, raw, k.failed("reading it", err)
}

// Create implements resourcelock.Interface. A Lease that somebody deleted may be held: it is
// not made anew before it would have expired, unless by its holder.
func (k *lock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	if k.other != "" && k.other != k.lease.identity && time.Since(k.gone) < k.lasts {
		return k.failed("making it", fmt.Errorf("it was deleted, and %s may still write: waiting for %s", k.other, k.lasts))
	}

	return k.write(ctx, "making it", record, k.Interface.Create)
}

// Update implements resourcelock.Interface.
func (k *lock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return k.write(ctx, "renewing it", record, k.Interface.Update)
}

func (k *lock) write(ctx context.Context, verb string, record resourcelock.LeaderElectionRecord, write func(context.Context, resourcelock.LeaderElectionRecord) error) error {
	ctx, cancel := context.WithTimeout(ctx, k.lease.RenewDeadline/2)
	defer cancel()

	began := time.Now()

	err := write(ctx, record)
	if err == nil {
		k.other = ""
		k.lease.renewed(ctx, began)
	}

	return k.failed(verb, err)
}

func (k *lock) failed(verb string, err error) error {
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
		k.lease.tell(fmt.Errorf("%s: %w", verb, err))
	}

	return err
}
