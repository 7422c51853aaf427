package omni

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// answerWithin bounds how long Omni may take to send a kind's contents, or to accept a watch.
	answerWithin = 2 * time.Minute

	// verifyAfter is when a kind is read anew after its watch went on from a bookmark: up to twice this. A bookmark may
	// come from a history that a restored database no longer has; Omni accepts it and is silent, or skips events. The
	// spread keeps an Omni that just came back from sending everything to everyone at once.
	verifyAfter = 4 * time.Second

	// echoWithin is how long an own write may take to come back on the watch. After that the watch is taken for dead.
	echoWithin = 5 * time.Second

	// A watch that lasted this long is worth an immediate new attempt. One that did not is retried with growing pauses.
	steadyAfter = 10 * time.Second

	minPause = 100 * time.Millisecond
	maxPause = 30 * time.Second
)

// errSilent ends an attempt that Omni did not answer within answerWithin.
var errSilent = fmt.Errorf("no answer within %s", answerWithin)

// errStopped is what Err says after Run returned.
var errStopped = errors.New("the watches have been stopped")

// watcher holds one kind. Its goroutine alone uses the first group of fields; the Snapshot's lock guards the second.
type watcher struct {
	snapshot *Snapshot
	woken    chan struct{}
	bookmark state.Bookmark // where to go on; nil to begin with the complete contents
	refresh  time.Time      // when to begin anew although nothing is wrong
	steady   time.Time      // when the watch that is up came up

	view
	bootstrapped bool      // read completely at least once
	downSince    time.Time // zero while the watch is up
	err          error     // why it is down; nil if it is just being read
	stats        KindStats // counters only
}

func newWatcher(s *Snapshot, kind Kind) *watcher {
	return &watcher{
		snapshot: s,
		woken:    make(chan struct{}, 1),
		view:     view{kind: kind, index: s.index, own: map[resource.ID]*ownWrite{}},
	}
}

// run watches until ctx ends.
func (w *watcher) run(ctx context.Context) {
	defer w.stop()

	hurried := false // since the watch was last steady

	for failures := 0; w.awaitKind(ctx); failures++ {
		err := w.watch(ctx)
		for err == nil && w.awaitKind(ctx) {
			err = w.watch(ctx) // planned: begin anew at once
		}

		if ctx.Err() != nil {
			return
		}

		if !w.steady.IsZero() && time.Since(w.steady) >= steadyAfter {
			failures, hurried = 0, false
		}

		w.steady = time.Time{}
		pause := pauseAfter(err, failures)

		w.down(err)
		w.snapshot.cfg.Logger.Debug("lost the watch on "+w.kind.Type,
			zap.String("reason", Message(err)), zap.Int("failures", failures+1), zap.Duration("retry", pause))

		back := w.others()
		if hurried || needsHuman(err) {
			back = nil
		}

		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		case <-w.upgraded():
		case <-back:
			failures, hurried = 0, true // once, or watches that break again and again would drive each other
		}
	}
}

// others returns a channel that is closed when another watch that was lost is followed again: Omni is back.
func (w *watcher) others() <-chan struct{} {
	w.snapshot.mu.RLock()
	defer w.snapshot.mu.RUnlock()

	return w.snapshot.back
}

// pauseAfter is the time to wait before the next attempt, after this many failures in a row. What Omni refuses is asked
// for slowly: it takes a human to change that.
func pauseAfter(err error, failures int) time.Duration {
	pause := maxPause

	switch {
	case needsHuman(err):
	case failures == 0:
		return 0
	case failures < 10:
		pause = min(maxPause, minPause<<(failures-1))
	}

	return pause/2 + rand.N(pause/2)
}

// watch runs one stream: from the bookmark if there is one, else from the complete contents. It returns nil when the
// kind is to be read anew, else why the stream ended.
func (w *watcher) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil) // ends the client's goroutine too

	unanswered := time.AfterFunc(answerWithin, func() { cancel(errSilent) })
	defer unanswered.Stop()

	if w.outdated() {
		w.bookmark = nil
	}

	resume := w.bookmark != nil
	start := state.WithBootstrapContents(true)

	if resume {
		start = state.WithKindStartFromBookmark(w.bookmark)
	} else {
		w.down(nil)
	}

	boot := &bootstrap{since: w.mark(), contents: map[resource.ID]resource.Resource{}}
	events := make(chan []state.Event)

	err := w.snapshot.cfg.State.WatchKindAggregated(ctx, resource.NewMetadata(w.kind.Namespace, w.kind.Type, "", resource.VersionUndefined), events, start)

	switch {
	case err != nil && resume && state.IsInvalidWatchBookmarkError(err):
		w.bookmark = nil

		return nil
	case err != nil:
		return w.lost(ctx, err)
	case resume:
		unanswered.Stop()
		boot = nil

		// An earlier time stands, or a watch that breaks again and again would never be verified.
		if verify := time.Now().Add(verifyAfter + rand.N(verifyAfter)); verify.Before(w.refresh) {
			w.refresh = verify
		}

		w.up(true)
	}

	upgraded := w.upgraded()
	if !w.has() {
		return nil
	}

	timer := time.NewTimer(0)
	defer timer.Stop()

	for {
		if boot == nil {
			timer.Reset(time.Until(w.nextLook()))
		} else {
			timer.Stop()
		}

		select {
		case <-ctx.Done():
			return w.lost(ctx, ctx.Err())
		case batch := <-events:
			if boot, err = w.take(batch, boot); err != nil {
				return w.lost(ctx, err)
			}

			if boot == nil {
				unanswered.Stop()
			}
		case <-w.woken:
		case <-upgraded:
			if upgraded = w.upgraded(); !w.has() {
				return nil
			}
		case <-timer.C:
			w.bookmark = nil

			return nil
		}
	}
}

// bootstrap collects the complete contents until Omni says that they are complete.
type bootstrap struct {
	since    uint64 // our own writes after this may be newer
	contents map[resource.ID]resource.Resource
}

// take applies a batch of events and tells the changes. It returns the bootstrap that is still going on, nil if there is
// none, and an error if the stream cannot be followed any longer; what came before it has been applied.
func (w *watcher) take(batch []state.Event, boot *bootstrap) (*bootstrap, error) {
	s := w.snapshot
	wasBoot, first := boot != nil, false

	var (
		changes []Change
		err     error
	)

	s.mu.Lock()
	w.stats.LastEvent = time.Now()

	for _, event := range batch {
		if err = w.check(event); err != nil {
			break
		}

		switch {
		case event.Type == state.Noop:
		case boot != nil && event.Type == state.Bootstrapped:
			changes = append(changes, w.view.bootstrapped(boot.contents, boot.since)...)
			first, w.bootstrapped = !w.bootstrapped, true
			w.stats.Bootstraps++
			boot = nil
		case boot != nil:
			boot.contents[event.Resource.Metadata().ID()] = event.Resource
		case event.Type == state.Destroyed:
			changes = append(changes, w.destroyed(event.Resource.Metadata().ID())...)
		case event.Type != state.Bootstrapped:
			changes = append(changes, w.stored(event.Resource)...)
		}

		if event.Bookmark != nil {
			w.bookmark = event.Bookmark
		}
	}
	another := w.kind.Type == ServerKind.Type && s.learnServer()
	s.mu.Unlock()

	if another {
		s.updateReady(false) // before others hear of it: there may be kinds to read first
	}

	if !first {
		s.notify(changes)
	}

	if wasBoot && boot == nil {
		relist := s.cfg.Relist
		w.refresh = time.Now().Add(relist*3/4 + rand.N(relist/2+1))
		w.up(false)
	}

	return boot, err
}

// check returns an error for an event that says the stream is over, and for one that makes no sense.
func (w *watcher) check(event state.Event) error {
	switch event.Type {
	case state.Errored:
		if event.Error == nil {
			return errors.New("the watch was ended by Omni")
		}

		return event.Error
	case state.Created, state.Updated, state.Destroyed:
		if event.Resource == nil || event.Resource.Metadata().Type() != w.kind.Type {
			return fmt.Errorf("got something else than %s", w.kind.Type)
		}
	case state.Bootstrapped, state.Noop:
	}

	return nil
}

// lost decides whether the bookmark is worth anything after the stream ended with err. Only a transport that broke leaves
// it so. What Omni says about the watch itself (its history was compacted, its buffer overran) does not.
func (w *watcher) lost(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}

	if !transport(err) {
		w.bookmark = nil
	}

	return err
}

func transport(err error) bool {
	if errors.Is(err, io.EOF) { // the server ended the stream in good order, as in a shutdown
		return true
	}

	s, ok := status.FromError(err)

	return ok && (s.Code() == codes.Unavailable || s.Code() == codes.Canceled || s.Code() == codes.Internal)
}

// nextLook is when to begin anew: by the timer, or because an own write has not come back.
func (w *watcher) nextLook() time.Time {
	w.snapshot.mu.RLock()
	defer w.snapshot.mu.RUnlock()

	next := w.refresh

	if at, ok := w.oldest(); ok && at.Add(echoWithin).Before(next) {
		next = at.Add(echoWithin)
	}

	return next
}

// wake lets the watcher look at the clock again.
func (w *watcher) wake() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

// mark separates what we wrote before from what we write after.
func (w *watcher) mark() uint64 {
	w.snapshot.mu.Lock()
	defer w.snapshot.mu.Unlock()

	w.snapshot.seq++

	return w.snapshot.seq
}
