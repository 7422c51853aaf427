package source

import (
	"context"
	"errors"
	"sync"
	"time"
)

// hub is one poll for all that watch a Git.
type hub struct {
	mu       sync.Mutex
	interval time.Duration
	boxes    map[*box]bool
	stop     context.CancelFunc // of the poll
	ended    chan struct{}      // closed when the poll ended
	now      news               // what was told last; a newcomer gets it
	last     time.Time
	next     time.Time
	looked   time.Time // when the last look that succeeded, and was told, began
}

// news is what looks led to. Both are set when a failure came after a revision that was
// not taken yet.
type news struct {
	rev *Revision
	err error
}

// box holds what its owner did not take yet: a slow one gets the newest, and nobody waits
// for it.
type box struct {
	bell bell

	mu sync.Mutex
	news
}

func (b *box) put(n news) {
	b.mu.Lock()
	defer b.mu.Unlock()

	if n.rev != nil {
		b.news = n // a failure before it is over
	} else {
		b.err = n.err
	}

	b.bell.ring()
}

func (b *box) take() news {
	b.mu.Lock()
	defer b.mu.Unlock()

	n := b.news
	b.news = news{}

	return n
}

// Watch calls fn with the first and every new revision, with Revision{} and the error of
// every look that failed, and with the revision once more when a look succeeds after
// that, until ctx ends; then it returns nil. It returns an error at once if the
// configuration is wrong. If the very first look fails, the last good revision from before
// a restart, kept in StateDir, comes before the failure.
//
// It looks every Interval and when it is poked; after failures less and less often,
// up to every 5 minutes (30 seconds for a repository on this machine). A refused
// revision is no failure in this sense: the server is fine.
//
// Any number of calls may watch at once. They share the looks, and the first one starts
// them. Each calls its fn one at a time. While fn runs looks go on; what came in the
// meantime is told afterwards: the newest revision, and a failure after it.
func (g *Git) Watch(ctx context.Context, fn func(Revision, error)) error {
	if g.err != nil {
		return g.err
	}

	b := g.join()
	defer g.leave(b)

	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.bell:
		}

		n := b.take()

		if n.rev != nil && ctx.Err() == nil {
			fn(*n.rev, nil)
		}

		if n.err != nil && ctx.Err() == nil {
			fn(Revision{}, n.err)
		}
	}
}

func (g *Git) join() *box {
	b := &box{bell: newBell()}
	h := &g.hub

	h.mu.Lock()
	defer h.mu.Unlock()

	if len(h.boxes) > 0 {
		if h.boxes[b] = true; h.now != (news{}) {
			if h.now.rev != nil {
				b.put(news{rev: h.now.rev})
			}

			if h.now.err != nil {
				b.put(news{err: h.now.err})
			}
		}

		return b
	}

	ctx, stop := context.WithCancel(context.Background())
	h.boxes, h.stop, h.ended, h.now = map[*box]bool{b: true}, stop, make(chan struct{}), news{}

	go g.poll(ctx, h.ended)

	return b
}

// leave ends the poll with the last one that watches.
func (g *Git) leave(b *box) {
	h := &g.hub

	h.mu.Lock()

	delete(h.boxes, b)

	ended := h.ended
	if len(h.boxes) > 0 {
		ended = nil
	} else {
		h.stop()
		h.next = time.Time{}
	}

	h.mu.Unlock()

	if ended != nil {
		<-ended
	}
}

func (g *Git) poll(ctx context.Context, ended chan<- struct{}) {
	defer close(ended)

	looked := false

	var began, succeeded time.Time

	fetch := func(ctx context.Context) (Revision, error) {
		began, succeeded = time.Now(), time.Time{}

		rev, err := g.Fetch(ctx)
		if err == nil {
			succeeded = began
		}

		return rev, err
	}

	rest := func(ctx context.Context, failures int) bool {
		g.hub.lookedAt(succeeded) // what it led to was told by now

		return g.rest(ctx, failures)
	}

	watch(ctx, rest, fetch, func(rev Revision, err error) {
		if err != nil && !looked {
			if kept, ok := g.kept(ctx); ok {
				g.hub.tell(ctx, news{rev: &kept})
			}
		}

		looked = true
		n := news{err: err}
		if err == nil {
			n.rev = &rev
		}

		g.hub.tell(ctx, n)
	})
}

// rest waits for the next look.
func (g *Git) rest(ctx context.Context, failures int) bool {
	h := &g.hub

	h.mu.Lock()

	d := delay(h.interval, g.cap, failures)
	if ctx.Err() == nil {
		h.next = time.Now().Add(d)
	}

	h.mu.Unlock()

	return g.poke.wait(ctx, d)
}

func (h *hub) tell(ctx context.Context, n news) {
	h.mu.Lock()
	defer h.mu.Unlock()

	if ctx.Err() != nil {
		return // the boxes are those of another poll
	}

	if n.rev != nil {
		h.now = n
	} else {
		h.now.err = n.err
	}

	for b := range h.boxes {
		b.put(n)
	}
}

// recovered forgets a failure, so that newcomers do not hear of it.
func (h *hub) fetched() {
	h.mu.Lock()
	defer h.mu.Unlock()

	h.last, h.now.err = time.Now(), nil
}

func (h *hub) lookedAt(began time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()

	if began.After(h.looked) {
		h.looked = began
	}
}

// Looked is when the last look of Watch that succeeded began. What was in the repository by
// then, Newest is at least as new as. Zero: there was none yet.
func (g *Git) Looked() time.Time {
	g.hub.mu.Lock()
	defer g.hub.mu.Unlock()

	return g.hub.looked
}

// Hurry makes Watch look at least that often, from the next look on: whoever shares a Git
// with others calls it with the interval of its own. Zero is the default interval.
func (g *Git) Hurry(interval time.Duration) {
	if interval <= 0 {
		interval = g.defaultInterval()
	}

	g.hub.mu.Lock()
	defer g.hub.mu.Unlock()

	g.hub.interval = min(g.hub.interval, interval)
}

// SetInterval makes Watch look that often from the next look on. Zero is the default
// interval.
func (g *Git) SetInterval(interval time.Duration) {
	if interval <= 0 {
		interval = g.defaultInterval()
	}

	g.hub.mu.Lock()
	defer g.hub.mu.Unlock()

	g.hub.interval = interval
}

// Polled tells when the last look that succeeded ended, and when Watch looks next unless
// it is poked. Zero: not yet, or nobody watches. A next time in the past means that a
// look is under way.
func (g *Git) Polled() (last, next time.Time) {
	g.hub.mu.Lock()
	defer g.hub.mu.Unlock()

	return g.hub.last, g.hub.next
}

// Newest is the ID of the last revision that Watch handed out; "" before the first.
func (g *Git) Newest() string {
	g.hub.mu.Lock()
	defer g.hub.mu.Unlock()

	if g.hub.now.rev == nil {
		return ""
	}

	return g.hub.now.rev.ID
}

// isRefusal tells a revision that was refused from a look that failed.
func isRefusal(err error) bool {
	var refused *RefusedError

	return errors.As(err, &refused)
}
