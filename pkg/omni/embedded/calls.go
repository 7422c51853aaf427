package embedded

import (
	"context"
	"maps"
	"sync"
	"time"
)

// Verbs of the State service, as they appear in Calls, Match and Write. Calls of other services go by their method's name, "Kubeconfig".
const (
	VerbGet                = "Get"
	VerbList               = "List"
	VerbCreate             = "Create"
	VerbUpdate             = "Update"
	VerbTeardown           = "Teardown"
	VerbDestroy            = "Destroy"
	VerbTeardownAndDestroy = "TeardownAndDestroy"
	VerbWatch              = "Watch"
)

// Calls says how many RPCs of each verb arrived, those included that were refused or hit by a fault.
type Calls map[string]int

// Total is the number of RPCs of any verb.
func (c Calls) Total() int {
	total := 0
	for _, n := range c {
		total += n
	}

	return total
}

// Writes is the number of RPCs that ask for a change.
func (c Calls) Writes() int {
	return c[VerbCreate] + c[VerbUpdate] + c[VerbTeardown] + c[VerbDestroy] + c[VerbTeardownAndDestroy]
}

// Since gives what was added since an earlier count.
func (c Calls) Since(earlier Calls) Calls {
	diff := Calls{}

	for verb, n := range c {
		if d := n - earlier[verb]; d != 0 {
			diff[verb] = d
		}
	}

	return diff
}

// counter counts calls and wakes who waits for them.
type counter struct {
	mu      sync.Mutex
	counts  Calls
	active  int           // calls other than watches that have not been answered
	changed chan struct{} // closed and replaced at every change; nil when nobody waits
}

// begin counts a call; the caller must call the function it returns when the call is answered.
func (c *counter) begin(verb string) (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.counts == nil {
		c.counts = Calls{}
	}

	c.counts[verb]++
	c.wake()

	if verb == VerbWatch { // lasts as long as the client does
		return func() {}
	}

	c.active++

	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()

		c.active--
		c.wake()
	}
}

func (c *counter) wake() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

func (c *counter) snapshot() Calls {
	c.mu.Lock()
	defer c.mu.Unlock()

	return maps.Clone(c.counts)
}

// look returns the counts, the calls in progress and a channel that is closed at the next change.
func (c *counter) look() (Calls, int, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.changed == nil {
		c.changed = make(chan struct{})
	}

	return maps.Clone(c.counts), c.active, c.changed
}

// Calls returns the number of RPCs by verb since New. The result is the caller's.
func (s *Server) Calls() Calls {
	if calls := s.calls.snapshot(); calls != nil {
		return calls
	}

	return Calls{}
}

// WaitCalls returns when the condition holds for the calls so far, or with the context's error.
func (s *Server) WaitCalls(ctx context.Context, condition func(Calls) bool) error {
	for {
		calls, _, changed := s.calls.look()
		if condition(calls) {
			return nil
		}

		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// WaitQuiet returns when for the given time no RPC arrived and none but watches was in progress, or with the context's error.
func (s *Server) WaitQuiet(ctx context.Context, quiet time.Duration) error {
	for {
		_, active, changed := s.calls.look()

		var over <-chan time.Time

		timer := time.NewTimer(quiet)
		if active == 0 {
			over = timer.C
		}

		select {
		case <-over:
			return nil
		case <-changed:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()

			return ctx.Err()
		}
	}
}
