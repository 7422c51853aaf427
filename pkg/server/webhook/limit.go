package webhook

import (
	"container/list"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// lru is a map that forgets what was not used for longest. It is not safe for concurrent use.
type lru[K comparable, V any] struct {
	size  int
	order *list.List // of entry[K, V], the latest in front
	items map[K]*list.Element
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](size int) *lru[K, V] {
	return &lru[K, V]{size: size, order: list.New(), items: map[K]*list.Element{}}
}

func (l *lru[K, V]) get(key K) (value V, ok bool) {
	item, ok := l.items[key]
	if !ok {
		return value, false
	}

	l.order.MoveToFront(item)

	return item.Value.(entry[K, V]).value, true
}

func (l *lru[K, V]) put(key K, value V) {
	if item, ok := l.items[key]; ok {
		item.Value = entry[K, V]{key, value}
		l.order.MoveToFront(item)

		return
	}

	l.items[key] = l.order.PushFront(entry[K, V]{key, value})

	if oldest := l.order.Back(); l.order.Len() > l.size {
		delete(l.items, oldest.Value.(entry[K, V]).key)
		l.order.Remove(oldest)
	}
}

// memory holds the deliveries of one hook that were taken. Only who knows the secret gets
// something into it, so nobody else can push out what is in it.
type memory struct {
	window time.Duration
	mu     sync.Mutex
	until  *lru[[32]byte, time.Time]
}

func newMemory(size int, window time.Duration) *memory {
	return &memory{window: window, until: newLRU[[32]byte, time.Time](size)}
}

func (m *memory) has(id [32]byte, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()

	until, ok := m.until.get(id)

	return ok && now.Before(until)
}

func (m *memory) add(id [32]byte, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()

	m.until.put(id, now.Add(m.window))
}

// remotes keeps a budget for each remote address.
//
// The table is bounded. Who has more than maxRemotes addresses can make it forget one, and
// gains FailureBurst attempts by it: still nothing against an HMAC.
type remotes struct {
	limits Limits
	mu     sync.Mutex
	known  *lru[string, *remote]
	inside int // bodies being read, of all
}

type remote struct {
	failures *rate.Limiter
	inside   int // guarded by remotes.mu
}

func newRemotes(limits Limits) *remotes {
	return &remotes{limits: limits, known: newLRU[string, *remote](maxRemotes)}
}

// wait returns how long an address that failed too often has to wait, or 0. It takes nothing
// from the budget. Requests that are under way at the same moment all pass; enter bounds how
// many those can be.
func (rs *remotes) wait(name string) time.Duration {
	rs.mu.Lock()
	defer rs.mu.Unlock()

	from, ok := rs.known.get(name)
	if !ok {
		return 0
	}

	missing := 1 - from.failures.TokensAt(time.Now())
	if missing <= 0 {
		return 0
	}

	return max(time.Duration(missing/float64(rs.limits.FailureRate)*float64(time.Second)), 1)
}

func (rs *remotes) charge(name string) {
	rs.mu.Lock()
	defer rs.mu.Unlock()

	// The time is taken here, not when the request began: a limiter that is told an earlier time than
	// before hands out what lies between once more.
	rs.of(name).failures.AllowN(time.Now(), 1)
}

// enter counts a body that is going to be read, until release is called.
func (rs *remotes) enter(name string) (release func(), refused *answer) {
	rs.mu.Lock()
	defer rs.mu.Unlock()

	if rs.inside >= rs.limits.Concurrent {
		return nil, busy(http.StatusServiceUnavailable, "too many deliveries at once", time.Second)
	}

	from := rs.of(name)
	if from.inside >= rs.limits.ConcurrentPerRemote {
		return nil, busy(http.StatusTooManyRequests, "too many deliveries at once from this address", time.Second)
	}

	rs.inside++
	from.inside++

	return func() {
		rs.mu.Lock()
		defer rs.mu.Unlock()

		rs.inside--
		from.inside--
	}, nil
}

func (rs *remotes) of(name string) *remote {
	from, ok := rs.known.get(name)
	if !ok {
		from = &remote{failures: rate.NewLimiter(rs.limits.FailureRate, rs.limits.FailureBurst)}
		rs.known.put(name, from)
	}

	return from
}
