package sync

import (
	"fmt"
	"time"
)

// Reconcile asks for a target to be tried now: whatever it waits for is looked at again,
// what Omni refused is sent again, and a cluster whose policy is manual is written to
// until it is Synced with its revision. Guards, locks and suspension hold as ever. The
// error says that there is no such target, or that another replica leads ([ErrStandby]).
func (e *Engine) Reconcile(key Key) error {
	if err := e.mustLead(); err != nil {
		return err
	}

	if !e.Shard.Owns(key.Target) {
		return fmt.Errorf("%q belongs to %s: ask a replica of that", key.Target, e.otherShard(key.Target))
	}

	if !e.board.has(key) {
		return fmt.Errorf("the source %s has no cluster %q", key.Source, key.Target)
	}

	e.board.request(key)
	e.queue.Forget(key)
	e.queue.Add(key)

	return nil
}

// Poke has a source look for news now, instead of when its time comes. looked reports, from
// then on, whether it has looked and what it found was taken in. A source that is watched
// has nothing to look for.
func (e *Engine) Poke(source string) (looked func() bool) {
	src := e.sources.get(source)
	if src == nil {
		return func() bool { return true }
	}

	polled, ok := src.Source.(interface {
		Poke()
		Polled() (last, next time.Time)
		Newest() string
	})
	if !ok {
		return func() bool { return true }
	}

	_, before := polled.Polled()
	polled.Poke()

	return func() bool {
		if _, next := polled.Polled(); next.Equal(before) {
			return false
		}

		now := e.board.source(source)

		return now.Error != "" || now.Revision == polled.Newest()
	}
}
