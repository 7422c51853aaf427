package replica

import (
	"context"
	"errors"
	"net"
	gosync "sync"

	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// errFenced is what a write to a connection fails with.
var errFenced = errors.New("this replica does not lead, so nothing is sent")

// Fence keeps a connection from carrying anything while this replica does not lead. It asks
// right before the bytes are handed to the kernel. So a request that was made while the lease
// was held, and was held up since because the process was paused, does not get out. Neither
// does it in the next term: a connection lasts for one, since another replica may have led in
// between.
//
// What the kernel has and could not deliver by then is thrown away with the connection as
// soon as the process runs. If it is paused just then, the limit on unacknowledged data does
// that, which gRPC sets to its keepalive timeout: keep that within the margin of the lease.
type Fence struct {
	lead sync.Lead

	mu    gosync.Mutex
	conns map[*fenced]bool
	ended bool
}

// NewFence returns a fence that is open while lead is with this replica.
func NewFence(lead sync.Lead) *Fence {
	return &Fence{lead: lead, conns: map[*fenced]bool{}}
}

// Wrap puts the fence around a connection. TLS goes on top of it.
func (f *Fence) Wrap(conn net.Conn) net.Conn {
	now, _ := f.lead.Leadership()
	c := &fenced{Conn: conn, fence: f, term: now.Term}

	f.mu.Lock()
	defer f.mu.Unlock()

	f.conns[c] = true

	if f.ended {
		c.abort()
	}

	return c
}

// Run ends all connections when the lead is lost, and throws away what they have not
// delivered, until ctx ends.
func (f *Fence) Run(ctx context.Context) error {
	for {
		_, changed := f.lead.Leadership()
		f.cut()

		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

func (f *Fence) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()

	for c := range f.conns {
		if !c.may() {
			c.abort()
			delete(f.conns, c)
		}
	}
}

// End ends all connections, and throws away what they have not delivered: it is for before
// the lease is given back. A new one carries nothing.
func (f *Fence) End() {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.ended = true

	for c := range f.conns {
		c.abort()
	}

	clear(f.conns)
}

type fenced struct {
	net.Conn

	fence *Fence
	term  uint64 // in which it was made
}

// may reports whether the connection may carry something.
func (c *fenced) may() bool {
	// In this order: the next term may begin in between.
	_, ok := c.fence.lead.Until()
	now, _ := c.fence.lead.Leadership()

	return ok && now.Term == c.term && c.term != 0
}

// Write implements net.Conn.
func (c *fenced) Write(b []byte) (int, error) {
	if !c.may() {
		c.abort()

		return 0, errFenced
	}

	return c.Conn.Write(b)
}

// Close implements net.Conn.
func (c *fenced) Close() error {
	c.fence.mu.Lock()
	delete(c.fence.conns, c)
	c.fence.mu.Unlock()

	return c.Conn.Close()
}

// abort closes without delivering what is under way.
func (c *fenced) abort() {
	if tcp, ok := c.Conn.(interface{ SetLinger(sec int) error }); ok {
		_ = tcp.SetLinger(0) // it is closed all the same
	}

	_ = c.Conn.Close() // there is nothing to save
}
