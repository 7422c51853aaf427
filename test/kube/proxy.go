package kube

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// Proxy is the network between one client and a server, which can be cut. It passes
// bytes on and knows nothing of TLS.
type Proxy struct {
	// URL is where the client finds the server through the proxy.
	URL string

	target   string
	listener net.Listener
	handlers sync.WaitGroup

	mu     sync.Mutex
	state  state
	passes chan struct{} // closed while bytes may pass
	pairs  map[*passage]struct{}
}

type state int

const (
	whole state = iota
	cut
	stalled
	ended
)

// passage is one connection through the proxy.
type passage struct {
	client net.Conn
	once   sync.Once
	gone   chan struct{}
}

// end ends the connection with the client; the one with the server follows.
func (p *passage) end(how func(net.Conn)) {
	p.once.Do(func() {
		close(p.gone)
		how(p.client)
	})
}

// finish closes a connection after what was written arrived.
func finish(c net.Conn) { _ = c.Close() }

// reset closes a connection at once: what is on its way is lost, and the peer knows.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}

	_ = c.Close()
}

// Proxy starts a proxy in front of the cluster; it ends with the test.
func (c *Cluster) Proxy(t testing.TB) *Proxy {
	t.Helper()

	return NewProxy(t, c.URL)
}

// NewProxy starts a proxy in front of a server on loopback, an http:// or https:// URL; it
// ends with the test.
func NewProxy(t testing.TB, server string) *Proxy {
	t.Helper()

	scheme, target, _ := strings.Cut(server, "://")

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	open := make(chan struct{})
	close(open)

	p := &Proxy{
		URL: scheme + "://" + listener.Addr().String(), target: target,
		listener: listener, passes: open, pairs: map[*passage]struct{}{},
	}

	p.handlers.Go(p.accept)
	t.Cleanup(func() {
		_ = listener.Close()

		p.become(ended)
		p.handlers.Wait()
	})

	return p
}

// Cut ends all connections, and every new one at once, until Restore.
func (p *Proxy) Cut() { p.become(cut) }

// Stall lets nothing pass any more, and ends nothing: nobody is told. New connections are
// accepted and stall as well. After Restore everything arrives that was sent meanwhile.
func (p *Proxy) Stall() { p.become(stalled) }

// Restore makes the network whole again.
func (p *Proxy) Restore() { p.become(whole) }

func (p *Proxy) become(next state) {
	p.mu.Lock()
	defer p.mu.Unlock()

	if p.state == ended {
		return
	}

	switch {
	case next == stalled && p.state != stalled:
		p.passes = make(chan struct{})
	case next != stalled && p.state == stalled:
		if next != whole {
			p.closeAll() // before anything can pass
		}

		close(p.passes)
	}

	if next == cut || next == ended {
		p.closeAll()
	}

	p.state = next
}

func (p *Proxy) closeAll() {
	for pair := range p.pairs {
		pair.end(reset)
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // it is closed
		}

		pair := &passage{client: client, gone: make(chan struct{})}

		p.mu.Lock()
		refuse := p.state == cut || p.state == ended

		if !refuse {
			p.pairs[pair] = struct{}{}
		}
		p.mu.Unlock()

		if refuse {
			reset(client)

			continue
		}

		p.handlers.Go(func() { p.handle(pair) })
	}
}

// handle passes on what one connection carries.
func (p *Proxy) handle(pair *passage) {
	defer func() {
		pair.end(finish)

		p.mu.Lock()
		defer p.mu.Unlock()

		delete(p.pairs, pair)
	}()

	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}

	var both sync.WaitGroup

	both.Go(func() { p.pass(pair, server, pair.client) })
	both.Go(func() { p.pass(pair, pair.client, server) })

	<-pair.gone
	reset(server)
	both.Wait()
}

// pass copies one direction, while bytes may pass.
func (p *Proxy) pass(pair *passage, to io.Writer, from io.Reader) {
	defer pair.end(finish)

	buffer := make([]byte, 32<<10)

	for {
		n, err := from.Read(buffer)

		if !p.wait(pair) {
			return
		}

		if n > 0 {
			if _, failed := to.Write(buffer[:n]); failed != nil {
				return
			}
		}

		if err != nil {
			return
		}
	}
}

// wait returns when bytes may pass, or false when the connection is gone.
func (p *Proxy) wait(pair *passage) bool {
	for {
		p.mu.Lock()
		passes := p.passes
		p.mu.Unlock()

		select {
		case <-pair.gone:
			return false
		case <-passes:
		}

		// It may have stalled again since.
		p.mu.Lock()
		same := passes == p.passes
		p.mu.Unlock()

		if same {
			return true
		}
	}
}
