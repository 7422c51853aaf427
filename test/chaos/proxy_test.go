package chaos

import (
	"net"
	"sync"
	"time"
)

// proxy is a TCP proxy on loopback that does what networks do.
type proxy struct {
	addr, target string

	mu       sync.Mutex
	listener net.Listener // nil while nobody listens
	conns    map[*proxied]bool
	latency  time.Duration
	hole     bool // new connections lead nowhere
	closed   bool
	group    sync.WaitGroup
}

// proxied is one connection through the proxy.
type proxied struct {
	client, server net.Conn
	done           chan struct{}
	once           sync.Once

	mu       sync.Mutex
	up, down bool // swallow what goes up to Omni or down to the daemon
}

func newProxy(target string) (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}

	p := &proxy{addr: listener.Addr().String(), target: target, conns: map[*proxied]bool{}}
	p.serve(listener)

	return p, nil
}

func (p *proxy) serve(listener net.Listener) {
	p.listener = listener

	p.group.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}

			p.accept(client)
		}
	})
}

func (p *proxy) accept(client net.Conn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		abort(client)

		return
	}

	p.mu.Lock()
	defer p.mu.Unlock()

	c := &proxied{client: client, server: server, done: make(chan struct{}), up: p.hole, down: p.hole}
	p.conns[c] = true

	if p.closed {
		c.reset()
	}

	p.group.Go(func() { p.pump(c, client, server, &c.up) })
	p.group.Go(func() { p.pump(c, server, client, &c.down) })
}

// pump copies one direction, late or not at all if so told.
func (p *proxy) pump(c *proxied, from, to net.Conn, swallow *bool) {
	defer p.forget(c)

	buffer := make([]byte, 32<<10)

	for {
		n, err := from.Read(buffer)

		c.mu.Lock()
		lost := *swallow
		c.mu.Unlock()

		p.mu.Lock()
		latency := p.latency
		p.mu.Unlock()

		if latency > 0 {
			timer := time.NewTimer(latency)

			select {
			case <-timer.C:
			case <-c.done:
				timer.Stop()
			}
		}

		if n > 0 && !lost {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}

		if err != nil {
			return
		}
	}
}

func (p *proxy) forget(c *proxied) {
	c.reset()
	p.mu.Lock()
	defer p.mu.Unlock()

	delete(p.conns, c)
}

func (c *proxied) reset() {
	c.once.Do(func() {
		close(c.done)
		abort(c.client)
		abort(c.server)
	})
}

// abort closes a connection with an RST.
func abort(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0) //nolint:errcheck // then it is closed without
	}

	conn.Close() //nolint:errcheck // that is the point
}

// each does something with every open connection and returns their number.
func (p *proxy) each(do func(*proxied)) int {
	p.mu.Lock()
	defer p.mu.Unlock()

	for c := range p.conns {
		do(c)
	}

	return len(p.conns)
}

// reset breaks every connection.
func (p *proxy) reset() int { return p.each((*proxied).reset) }

// half makes the open connections lose what goes up, down, or both.
func (p *proxy) half(up, down bool) int {
	return p.each(func(c *proxied) {
		c.mu.Lock()
		defer c.mu.Unlock()

		c.up, c.down = c.up || up, c.down || down
	})
}

func (p *proxy) setLatency(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.latency = d
}

func (p *proxy) setHole(hole bool) {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.hole = hole
}

// refuse stops listening and breaks every connection.
func (p *proxy) refuse() {
	p.mu.Lock()
	if p.listener != nil {
		p.listener.Close() //nolint:errcheck // that is the point
		p.listener = nil
	}
	p.mu.Unlock()
	p.reset()
}

// mend ends what keeps new connections from working. The open ones stay as they are.
func (p *proxy) mend() error {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.latency, p.hole = 0, false

	if p.listener != nil || p.closed {
		return nil
	}

	listener, err := net.Listen("tcp", p.addr)
	if err != nil {
		return err
	}

	p.serve(listener)

	return nil
}

// heal ends every fault. Connections that were opened under one are broken, all of them
// with all.
func (p *proxy) heal(all bool) error {
	if err := p.mend(); err != nil {
		return err
	}

	p.each(func(c *proxied) {
		c.mu.Lock()
		dead := c.up || c.down
		c.mu.Unlock()

		if dead || all {
			c.reset()
		}
	})

	return nil
}

// faulty reports whether a new connection would not work.
func (p *proxy) faulty() bool {
	p.mu.Lock()
	defer p.mu.Unlock()

	return p.hole || p.listener == nil
}

func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.refuse()
	p.group.Wait()
}
