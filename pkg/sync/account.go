package sync

import (
	"sync"

	"go.uber.org/zap"
)

// account is what Omni thinks of the service account that the engine writes with. That it may not do something is no
// fault of a template: it is told once, with the remedy, and everything that was denied is tried again with backoff, and
// as soon as anything else is allowed.
type account struct {
	mu     sync.Mutex
	told   string
	denied map[Key]bool
}

// deny notes that a write of a target was denied, and reports whether that is worth telling: the remedy is another one
// than the last time.
func (a *account) deny(key Key, remedy string) (news bool) {
	a.mu.Lock()
	defer a.mu.Unlock()

	if a.denied == nil {
		a.denied = map[Key]bool{}
	}

	news = a.told != remedy
	a.told, a.denied[key] = remedy, true

	return news
}

// allow notes that a write was allowed, and returns the targets that may be so, too.
func (a *account) allow(key Key) []Key {
	a.mu.Lock()
	defer a.mu.Unlock()

	if len(a.denied) == 0 {
		return nil
	}

	delete(a.denied, key)

	again := make([]Key, 0, len(a.denied))
	for other := range a.denied {
		again = append(again, other)
	}

	clear(a.denied)
	a.told = ""

	return again
}

// wasDenied tells people once what the service account lacks.
func (e *Engine) wasDenied(t *target, err *RetryError) {
	if e.account.deny(t.Key, err.Remedy) {
		e.Logger.Error("Omni does not let this service account write; what it denies is tried again until it does", zap.String("remedy", err.Remedy), zap.Error(err))
	} else {
		e.logFor(t).Debug("denied, will be tried again", zap.Error(err))
	}
}

// wasAllowed has what was denied tried again.
func (e *Engine) wasAllowed(key Key) {
	for _, other := range e.account.allow(key) {
		e.queue.Forget(other)
		e.queue.Add(other)
	}
}
