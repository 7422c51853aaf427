package auth

import (
	"container/list"
	"sync"
	"time"
)

// bounded is a map for what may be forgotten: it holds at most size entries, and forgets
// what was not used for longest, or is too old. It is safe for concurrent use.
type bounded[K comparable, V any] struct {
	mu    sync.Mutex
	size  int
	order *list.List // of entry[K, V], the latest in front
	items map[K]*list.Element
}

type entry[K comparable, V any] struct {
	key   K
	value V
	until time.Time // zero: as long as there is room
}

func newBounded[K comparable, V any](size int) *bounded[K, V] {
	return &bounded[K, V]{size: size, order: list.New(), items: map[K]*list.Element{}}
}

func (b *bounded[K, V]) get(key K) (value V, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()

	return b.find(key)
}

// put keeps a value for a while.
func (b *bounded[K, V]) put(key K, value V, keep time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()

	b.store(entry[K, V]{key, value, time.Now().Add(keep)})
}

// getOrPut returns the value of a key, which fresh makes if there is none.
func (b *bounded[K, V]) getOrPut(key K, fresh func() V) V {
	b.mu.Lock()
	defer b.mu.Unlock()

	if value, ok := b.find(key); ok {
		return value
	}

	value := fresh()
	b.store(entry[K, V]{key: key, value: value})

	return value
}

func (b *bounded[K, V]) find(key K) (value V, ok bool) {
	item, ok := b.items[key]
	if !ok {
		return value, false
	}

	found := item.Value.(entry[K, V])

	if !found.until.IsZero() && !time.Now().Before(found.until) {
		b.order.Remove(item)
		delete(b.items, key)

		return value, false
	}

	b.order.MoveToFront(item)

	return found.value, true
}

func (b *bounded[K, V]) store(e entry[K, V]) {
	if item, ok := b.items[e.key]; ok {
		item.Value = e
		b.order.MoveToFront(item)

		return
	}

	b.items[e.key] = b.order.PushFront(e)

	if oldest := b.order.Back(); b.order.Len() > b.size {
		delete(b.items, oldest.Value.(entry[K, V]).key)
		b.order.Remove(oldest)
	}
}
