package sync

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/history"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/render"
)

// errAgain asks for another pass at once: something was written, and the next plan
// shows whether that was all.
var errAgain = errors.New("written; plan again")

// errNotReady is why nothing is planned from a partial view (G2).
type errNotReady struct{ error }

// work takes targets from the queue and hands them to reconcile until ctx ends. A
// target is never in the hands of two workers.
func (e *Engine) work(ctx context.Context, reconcile func(*target) error) error {
	for {
		key, shutdown := e.queue.Get()
		if shutdown {
			return nil
		}

		e.pulse.move()

		if ctx.Err() == nil {
			e.process(ctx, key, reconcile)
		}

		e.queue.Done(key)
	}
}

// process reconciles one target once and decides, from the type of the error, when to
// come back to it.
func (e *Engine) process(ctx context.Context, key Key, reconcile func(*target) error) {
	t := e.lookup(key)
	if t == nil {
		return // queued again by the first revision
	}

	if key.Target != "" && t.desired == nil && t.broken == nil && !e.board.has(key) {
		return // it is gone, and only a look at its health was due
	}

	e.judge(t)

	if key.Target != "" && t.from.fleetPending.Load() {
		return // queued again when the fleet resources were tried
	}

	began, omniChanges := time.Now(), e.changes.Load()
	err := t.broken
	if err != nil {
		err = &StalledError{err}
	} else {
		err = reconcile(t)
	}

	if ctx.Err() != nil {
		return // stopped half-way; the next start goes on from what Omni holds
	}

	e.Meter.Reconciled(key, resultOf(err), time.Since(began))

	if !t.guarded {
		e.board.guards(key, "", disturbances{})
	}

	var (
		retry    *RetryError
		stalled  *StalledError
		notReady errNotReady
	)

	switch {
	case errors.Is(err, errAgain):
		e.queue.Add(key)

		return
	case errors.As(err, &notReady):
		e.board.unread(t, err.Error())

		return // queued again when the snapshot is ready
	case errors.As(err, &stalled) && e.changes.Load() != omniChanges:
		e.board.reopen(key) // what it was refused for may have come while it was refused
		e.queue.AddRateLimited(key)

		return
	case errors.As(err, &retry):
		e.queue.AddRateLimited(key)
	case errors.As(err, &stalled):
		// What changes in Omni brings it back, less and less often: much changes there that
		// it was not about. A new revision forgets that.
	default:
		e.queue.Forget(key)
	}

	e.report(t, err)

	// A revision that came meanwhile and changes nothing for the target was noted before this pass noted its own.
	if e.superseded(t) {
		e.queue.Add(key)
	}

	if key.Target == "" && t.from.fleetPending.CompareAndSwap(true, false) {
		e.queueSource(t.src)
	}
}

// stays reports whether Omni still holds the cluster of a target.
func (e *Engine) stays(t *target) bool {
	_, ok := e.Snapshot.Get(omnires.ClusterType, t.Target)

	return ok && t.Target != ""
}

// report writes the outcome of a pass to the status and, if it is news, to the log.
func (e *Engine) report(t *target, err error) {
	log := e.logFor(t)

	var (
		retry   *RetryError
		wait    *WaitError
		stalled *StalledError
	)

	e.board.blame(t.Key, causeOf(t, err))

	switch {
	case err == nil && t.desired == nil:
		e.queueFleet(t)
		e.journal.ended(t, history.Succeeded, "")

		switch removed := e.board.remove(t); {
		case removed && e.movedTo(t.Key) != "":
			log.Info("let go: another source has it")
		case removed && e.stays(t):
			log.Info("let go: it stays in Omni")
		case removed:
			log.Info("deleted: Omni holds nothing of it any more")
		}
	case err == nil:
		e.journal.ended(t, history.Succeeded, "")

		if e.board.succeeded(t) {
			log.Info("synced")
			e.queueFleet(t)
		}
	case errors.As(err, &wait):
		if wait.Blocked {
			e.journal.ended(t, history.Held, wait.Reason)
		}

		level := zap.InfoLevel
		if wait.Cause == CauseStandby {
			level = zap.DebugLevel // whoever stands by sees all that the leader does pass by
		}

		if e.board.waiting(t, wait.Reason, wait.Blocked) {
			log.Log(level, "waiting", zap.String("reason", wait.Reason))
		}
	case errors.As(err, &stalled):
		if e.board.failed(t, err.Error(), true) {
			e.journal.refused(t, err.Error(), e.board.reason(t.Key))
			log.Error("stalled until the next revision or change", zap.Error(err))
		} else {
			e.journal.ended(t, history.Failed, err.Error())
		}
	case errors.As(err, &retry) && retry.Expected:
		e.board.waiting(t, err.Error(), false)
	case errors.As(err, &retry) && retry.Remedy != "":
		e.board.failed(t, err.Error(), true) // nobody should wait for that
		e.wasDenied(t, retry)
	default:
		e.board.failed(t, err.Error(), false)
		log.Warn("failed, will be tried again", zap.Error(err))
	}
}

// logFor returns a logger with the fields that every line about a target has.
func (e *Engine) logFor(t *target) *zap.Logger {
	fields := []zap.Field{zap.String("source", t.Source)}
	if t.Target != "" {
		fields = append(fields, zap.String("cluster", t.Target))
	}

	return e.Logger.With(append(fields, zap.String("revision", t.from.revision))...)
}

// follow queues the targets that change in Omni, until ctx ends.
func (e *Engine) follow(ctx context.Context) error {
	cancel := e.Snapshot.Subscribe(e.notice)
	defer cancel()
	defer e.queue.ShutDown()

	e.notice(omni.Change{}) // it may have become ready before anybody listened
	<-ctx.Done()

	return nil
}

// notice queues whatever a change in Omni may concern. It runs in the Snapshot's watch
// and must not block.
func (e *Engine) notice(change omni.Change) {
	if change == (omni.Change{}) { // the snapshot became ready or stale
		e.disturb()

		for _, src := range e.sources.all() {
			e.queueRemoved(src)
			e.queueSource(src)
		}

		e.board.setReady(e.Snapshot.Err() == nil, e.Snapshot.Away())
		e.serverKnown()

		return
	}

	if change.Type == omni.ServerKind.Type {
		e.serverKnown()
	}

	e.countBegun(change)

	if change.Cluster == "" {
		e.changes.Add(1)
	}

	// Before anything else is queued: a one-shot must not take the cluster that let go of
	// something for the last one with work to do.
	for _, key := range e.blocked.take(change.Type, change.ID) {
		if e.board.has(key) {
			e.board.reopen(key)
			e.queue.Add(key)
		}
	}

	for _, src := range e.sources.all() {
		if key := (Key{src.Name, change.Cluster}); e.board.has(key) {
			e.queue.Add(key)
		} else if key, ok := e.appeared(src, change); ok && e.Shard.Owns(key.Target) {
			e.board.ensure(key)
			e.queue.Add(key)
		}

		// A fleet resource that has to do with a cluster is told for that.
		if change.Cluster != "" && e.inFleet(src, change) && e.Shard.Owns("") {
			e.queue.Add(Key{src.Name, ""})
		}

		// A change that belongs to no cluster (a MachineClass, a version that Omni now
		// offers) may be what a refused target lacked.
		if change.Cluster == "" {
			e.queueStalled(src.Name)
		}

		// Of a cluster of another shard this is all there is to hear: it may be done with a
		// MachineClass.
		if key := (Key{src.Name, ""}); !e.Shard.Owns(change.Cluster) && e.board.get(key).stalled {
			e.board.reopen(key)
			e.queue.AddRateLimited(key)
		}
	}
}

// inFleet reports whether what changed is a fleet resource of a source: by its mark, or, if it is gone, by what Git
// describes.
func (e *Engine) inFleet(src *sourceState, change omni.Change) bool {
	if !render.IsFleetKind(change.Type) || !e.board.has(Key{src.Name, ""}) {
		return false
	}

	if r, ok := e.Snapshot.Get(change.Type, change.ID); ok && diff.SourceOf(r) != "" {
		return diff.IsFleet(r) && diff.SourceOf(r) == src.Name
	}

	d := src.desired.Load()
	fleet := (*render.Target)(nil)

	if d != nil {
		fleet = d.targets.get("")
	}

	return fleet != nil && slices.ContainsFunc(fleet.Resources, func(r resource.Resource) bool {
		return r.Metadata().Type() == change.Type && r.Metadata().ID() == change.ID
	})
}

// appeared returns the target of a cluster or fleet resource that carries the mark of a
// source and that the engine does not know of: a restored database can bring it back.
func (e *Engine) appeared(src *sourceState, change omni.Change) (Key, bool) {
	r, ok := e.Snapshot.Get(change.Type, change.ID)

	switch {
	case !ok || diff.SourceOf(r) != src.Name:
		return Key{}, false
	case diff.IsFleet(r):
		return Key{src.Name, ""}, true
	default:
		return Key{src.Name, change.ID}, change.Type == omnires.ClusterType
	}
}

// queueStalled queues the targets of a source that Omni refused, to be tried again with
// backoff.
func (e *Engine) queueStalled(source string) {
	for _, key := range e.board.stalled(source) {
		e.board.reopen(key)
		e.queue.AddRateLimited(key)
	}
}

// queueFleet queues the fleet resources of a source if Omni refused something about them:
// a MachineClass may go once the cluster t does not use it any more.
func (e *Engine) queueFleet(t *target) {
	if key := (Key{t.Source, ""}); t.Target != "" && e.board.get(key).stalled {
		e.board.reopen(key)
		e.queue.Add(key)
	}
}

// queueSource queues every known target of a source.
func (e *Engine) queueSource(src *sourceState) {
	for _, key := range e.board.keys(src.Name) {
		e.queue.Add(key)
	}
}

// blocked remembers which targets wait for a resource that is not of their own cluster,
// such as a machine that has yet to leave another one.
type blocked struct {
	mu    sync.Mutex
	waits map[ref]map[Key]bool
}

type ref struct {
	typ resource.Type
	id  resource.ID
}

func newBlocked() *blocked { return &blocked{waits: map[ref]map[Key]bool{}} }

func (b *blocked) add(key Key, r resource.Resource) {
	b.mu.Lock()
	defer b.mu.Unlock()

	id := ref{r.Metadata().Type(), r.Metadata().ID()}
	if b.waits[id] == nil {
		b.waits[id] = map[Key]bool{}
	}

	b.waits[id][key] = true
}

// take returns the targets that wait for a resource and forgets them: each waits anew
// if its next plan says so.
func (b *blocked) take(typ resource.Type, id resource.ID) []Key {
	b.mu.Lock()
	defer b.mu.Unlock()

	r := ref{typ, id}
	keys := make([]Key, 0, len(b.waits[r]))

	for key := range b.waits[r] {
		keys = append(keys, key)
	}

	delete(b.waits, r)

	return keys
}
