package replica_test

import (
	"context"
	"io"
	"net"
	gosync "sync"
	"testing"
	"time"

	"github.com/omni-syncd/omni-syncd/pkg/replica"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// right is the right to write, given and taken by a test.
type right struct {
	mu      gosync.Mutex
	held    bool
	term    uint64
	changed chan struct{}
}

func (r *right) Until() (time.Time, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()

	return time.Now(), r.held
}

func (r *right) Leadership() (sync.Leadership, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()

	return sync.Leadership{Term: r.term}, r.changed
}

// set changes it; quietly as in a process that slept.
func (r *right) set(held, quietly bool) {
	r.mu.Lock()
	defer r.mu.Unlock()

	if held && !r.held {
		r.term++
	}

	if r.held = held; !quietly {
		close(r.changed)
		r.changed = make(chan struct{})
	}
}

// pipe returns both ends of a TCP connection, the first one behind a fence.
func pipe(t *testing.T, fence *replica.Fence) (client, server net.Conn) {
	t.Helper()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // one connection is enough

	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}

	if server, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}

	client = fence.Wrap(conn)

	t.Cleanup(func() { _, _ = client.Close(), server.Close() })

	return client, server
}

func TestFence(t *testing.T) {
	r := &right{held: true, term: 1, changed: make(chan struct{})}
	fence := replica.NewFence(r)
	client, server := pipe(t, fence)

	if _, err := client.Write([]byte("one")); err != nil {
		t.Fatal(err)
	}

	// The process slept: nobody has noticed yet that the right is gone, and nothing gets out.
	r.set(false, true)

	if n, err := client.Write([]byte("two")); err == nil || n != 0 {
		t.Errorf("%d bytes, %v", n, err)
	}

	// What was sent in time arrives or is lost; what came later never arrives.
	got, err := io.ReadAll(server)
	if s := string(got); s != "one" && s != "" || s == "" && err == nil {
		t.Errorf("%q, %v", got, err)
	}

	// A connection that carries nothing at the moment ends, too.
	r.set(true, true)

	client, server = pipe(t, fence)

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)

	go func() { done <- fence.Run(ctx) }()

	r.set(false, false)

	if _, err := server.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still there")
	}

	if _, err := client.Write([]byte("x")); err == nil {
		t.Error("it can be written to")
	}

	stop()

	if err := <-done; err != nil {
		t.Error(err)
	}
}

// What was held up until this replica leads again does not get out: another one may have led
// in between.
func TestFence_AnotherTerm(t *testing.T) {
	r := &right{held: true, term: 1, changed: make(chan struct{})}
	fence := replica.NewFence(r)
	client, server := pipe(t, fence)
	idle, other := pipe(t, fence)

	r.set(false, true)
	r.set(true, true)

	if n, err := client.Write([]byte("old")); err == nil || n != 0 {
		t.Errorf("%d bytes, %v", n, err)
	}

	if got, err := io.ReadAll(server); len(got) > 0 {
		t.Errorf("%q, %v", got, err)
	}

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)

	go func() { done <- fence.Run(ctx) }()

	if _, err := other.Read(make([]byte, 1)); err == nil {
		t.Error("a connection of the last term is still there")
	}

	_ = idle.Close()

	stop()

	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Before the lease is given back, what the kernel holds is thrown away: the next one writes at
// once.
func TestFence_End(t *testing.T) {
	r := &right{held: true, term: 1, changed: make(chan struct{})}
	fence := replica.NewFence(r)
	client, server := pipe(t, fence)

	// The other side reads nothing, and the kernel takes what it can.
	_ = client.SetWriteDeadline(time.Now().Add(time.Second))

	sent := 0

	for {
		n, err := client.Write(make([]byte, 64<<10))
		if sent += n; err != nil {
			break
		}
	}

	fence.End()

	if got, err := io.Copy(io.Discard, server); err == nil || got == int64(sent) {
		t.Errorf("%d of %d bytes arrived, %v", got, sent, err)
	}

	late, server := pipe(t, fence)
	if n, err := late.Write([]byte("x")); err == nil {
		t.Errorf("%d bytes, %v", n, err)
	}

	if got, _ := io.ReadAll(server); len(got) > 0 {
		t.Errorf("%q", got)
	}
}
