package sync

import (
	"sync"
	"time"
)

// flights are the writes under way, by target.
type flights struct {
	mu    sync.Mutex
	count map[Key]int
	// landed is closed and made anew when a write comes back.
	landed chan struct{}
}

func newFlights() *flights { return &flights{count: map[Key]int{}, landed: make(chan struct{})} }

// begin counts a write; end is to be called when it came back.
func (f *flights) begin(key Key) (end func()) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.count[key]++

	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()

		if f.count[key]--; f.count[key] == 0 {
			delete(f.count, key)
		}

		close(f.landed)
		f.landed = make(chan struct{})
	}
}

// wait waits until no write is under way for any target that concerns, and reports whether
// that came in time.
func (f *flights) wait(concerns func(Key) bool, limit time.Duration) bool {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()

	for {
		busy, landed := f.busy(concerns)
		if !busy {
			return true
		}

		select {
		case <-landed:
		case <-timeout.C:
			return false
		}
	}
}

func (f *flights) busy(concerns func(Key) bool) (bool, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()

	for key := range f.count {
		if concerns(key) {
			return true, f.landed
		}
	}

	return false, nil
}
