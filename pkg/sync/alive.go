package sync

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// heartbeat goes through the queue like a target. No source has an empty name, so the
// worker that takes it finds nothing to do.
var heartbeat = Key{Target: "heartbeat"}

const (
	// beatEvery is how often it does, so that an idle engine moves, too.
	beatEvery = 5 * time.Second
	// aliveSlack is how much longer than the bound of a write nothing may move.
	aliveSlack = 30 * time.Second
)

// pulse says when the engine last moved.
type pulse struct {
	// moved is when a worker last took something from the queue or a write came back.
	moved atomic.Pointer[time.Time]
	// touching is since when the heartbeat passes through the locks; nil if it does not.
	touching atomic.Pointer[time.Time]
}

func (p *pulse) move() { p.moved.Store(new(time.Now())) }

// beat lets the engine show that it lives: it passes through every lock that the work
// takes and puts a heartbeat into the queue, for some worker to take.
func (e *Engine) beat(ctx context.Context) error {
	e.pulse.move()

	tick := time.NewTicker(beatEvery)
	defer tick.Stop()

	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}

		e.touch()
	}
}

// touch passes through the locks, which are held for memory accesses only, to the queue.
func (e *Engine) touch() {
	e.pulse.touching.Store(new(time.Now()))
	defer e.pulse.touching.Store(nil)

	for _, lock := range []sync.Locker{&e.sources.turn, &e.blocked.mu, &e.journal.mu} {
		func() {
			lock.Lock()
			defer lock.Unlock()
		}()
	}

	e.board.has(heartbeat)
	e.Snapshot.Ready()
	e.queue.Add(heartbeat)
}

// Alive returns nil while the engine works, and else an error that says since when it does
// not: time for somebody to restart it. It never blocks and costs nothing, so a watchdog
// may ask at any rate.
//
// It is about the loop and not about one target (G6) nor about what is outside: a worker
// whose write hangs comes back after Timeout, whatever Omni does, and while others move
// the engine lives. It is dead if for longer than that no worker took anything from the
// queue, where there is a heartbeat every 5 s, and no write came back, or if the heartbeat
// does not get through the locks. An engine that does not run yet is alive.
func (e *Engine) Alive() error { return e.pulse.alive(time.Now(), e.Timeout+aliveSlack) }

// Moved is when the engine last did something, if only a heartbeat; zero before it runs.
func (e *Engine) Moved() time.Time {
	if moved := e.pulse.moved.Load(); moved != nil {
		return *moved
	}

	return time.Time{}
}

func (p *pulse) alive(now time.Time, limit time.Duration) error {
	if since := p.touching.Load(); since != nil && now.Sub(*since) > limit {
		return fmt.Errorf("the reconcile loop hangs: one of its locks is held since %s; restart the daemon", since.UTC().Format(time.RFC3339))
	}

	if since := p.moved.Load(); since != nil && now.Sub(*since) > limit {
		return fmt.Errorf("the reconcile loop hangs: no worker moved since %s; restart the daemon", since.UTC().Format(time.RFC3339))
	}

	return nil
}
