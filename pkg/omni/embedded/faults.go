package embedded

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Match selects calls. An empty field matches everything.
type Match struct {
	Verb string // VerbCreate, "Kubeconfig", ...
	Type resource.Type
	ID   resource.ID
}

func (m Match) matches(call Match) bool {
	return (m.Verb == "" || m.Verb == call.Verb) && (m.Type == "" || m.Type == call.Type) && (m.ID == "" || m.ID == call.ID)
}

// Fault is something that goes wrong with the calls it matches. Several faults may strike the same call: their delays add up
// and the first error wins.
type Fault struct {
	Match

	// Skip lets that many matching calls through first: the n-th call is hit by Skip n-1.
	Skip int
	// Times is how many calls are hit; 0 is every one until the fault is removed.
	Times int

	// Delay is waited before the call is handled. A caller that gives up first ends the wait.
	Delay time.Duration
	// Until holds the call back until it is closed, if not nil.
	Until <-chan struct{}

	// Code is what the call fails with. OK is no error: the fault is only a delay.
	Code codes.Code
	// Message of the error; a generic one if empty.
	Message string
	// Applied lets the call take effect first, so that only its answer is lost.
	Applied bool

	// Hit is called for every call that is hit, before any delay. It must not block.
	Hit func()
}

// Faults injects failures into a Server. All methods may be called at any time from any goroutine.
type Faults struct {
	mu      sync.Mutex
	active  []*activeFault
	watches map[*watchStream]struct{}
}

type activeFault struct {
	Fault

	seen, hits int
}

// Add makes a fault active until it has struck Times times or remove is called.
func (f *Faults) Add(fault Fault) (remove func()) {
	f.mu.Lock()
	defer f.mu.Unlock()

	active := &activeFault{Fault: fault}
	f.active = append(f.active, active)

	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()

		f.active = slices.DeleteFunc(f.active, func(a *activeFault) bool { return a == active })
	}
}

// Clear removes all faults. Watches that were silenced stay silent.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.active = nil
}

// take returns the faults that strike a call, and counts it.
func (f *Faults) take(call Match) []Fault {
	f.mu.Lock()
	defer f.mu.Unlock()

	var striking []Fault

	for _, active := range f.active {
		if !active.matches(call) {
			continue
		}

		active.seen++

		if active.seen > active.Skip && (active.Times == 0 || active.hits < active.Times) {
			active.hits++

			striking = append(striking, active.Fault)
		}
	}

	return striking
}

// strike runs a call under the faults that match it.
func (f *Faults) strike(ctx context.Context, call Match, handle func() error) error {
	var before, after error

	for _, fault := range f.take(call) {
		if fault.Hit != nil {
			fault.Hit()
		}

		if err := fault.wait(ctx); err != nil {
			return err
		}

		switch err := fault.err(); {
		case fault.Applied && after == nil:
			after = err
		case !fault.Applied && before == nil:
			before = err
		}
	}

	if before != nil {
		return before
	}

	if err := handle(); err != nil {
		return err
	}

	return after
}

func (f Fault) wait(ctx context.Context) error {
	if f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()

		select {
		case <-timer.C:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}

	if f.Until != nil {
		select {
		case <-f.Until:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}

	return nil
}

func (f Fault) err() error {
	if f.Message == "" {
		f.Message = "injected fault"
	}

	return status.Error(f.Code, f.Message) // nil for codes.OK
}

// DropWatches ends the open watches that match with codes.Unavailable, as a broken connection does, and returns their number.
func (f *Faults) DropWatches(match Match) int {
	return f.eachWatch(match, func(w *watchStream) { w.cancel(errDropped) })
}

// SilenceWatches makes the open watches that match dead: the streams stay open and nothing arrives any more. It returns their number.
func (f *Faults) SilenceWatches(match Match) int {
	return f.eachWatch(match, (*watchStream).silence)
}

// FailWatches sends an Errored event into the open watches that match, as the compaction of Omni's database does. Nothing
// arrives after it, though the streams stay open. It returns their number.
func (f *Faults) FailWatches(match Match, message string) int {
	return f.eachWatch(match, func(w *watchStream) { w.fail(message) })
}

// Watches returns the number of open watches that match.
func (f *Faults) Watches(match Match) int {
	return f.eachWatch(match, func(*watchStream) {})
}

var errDropped = status.Error(codes.Unavailable, "injected fault: the watch was dropped")

func (f *Faults) eachWatch(match Match, do func(*watchStream)) int {
	f.mu.Lock()

	var found []*watchStream

	for w := range f.watches {
		if match.matches(w.call) {
			found = append(found, w)
		}
	}

	f.mu.Unlock() // do may have to wait for a slow client

	for _, w := range found {
		do(w)
	}

	return len(found)
}

func (f *Faults) addWatch(w *watchStream) (remove func()) {
	f.mu.Lock()
	defer f.mu.Unlock()

	if f.watches == nil {
		f.watches = map[*watchStream]struct{}{}
	}

	f.watches[w] = struct{}{}

	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()

		delete(f.watches, w)
	}
}
