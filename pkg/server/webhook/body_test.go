package webhook

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipe is a listener whose connections are made by dial, so that a bubble of synctest holds both
// ends.
type pipe struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipe() *pipe { return &pipe{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipe) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server

	return client
}

func (p *pipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipe) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipe) Addr() net.Addr { return &net.TCPAddr{} }

// head writes the head of a request, with the signature of a body that may never come.
func head(s sender, m message, length int) []byte {
	var out bytes.Buffer

	fmt.Fprintf(&out, "POST /hooks/fleet HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n", length)
	_ = s.header(m, s.secret).Write(&out) // to memory
	out.WriteString("\r\n")

	return out.Bytes()
}

// trickle writes a byte now and then until nobody reads any more.
func trickle(w io.Writer, pause time.Duration) {
	for {
		if _, err := w.Write([]byte("x")); err != nil {
			return
		}

		time.Sleep(pause)
	}
}

// TestSlowBody: clients that trickle hold their places until BodyTimeout and no longer, no
// memory that they did not fill, and meanwhile others are told that it is busy.
func TestSlowBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := senders()["github"]

		var count pokes

		h := newHandler(t, Hook{Provider: GitHub, SecretFile: secretFile(t, s.secret), Poke: count.poke},
			Limits{Concurrent: 3, BodyTimeout: 10 * time.Second, ConcurrentPerRemote: 3}, nil)

		listener := newPipe()
		server := &http.Server{Handler: h} // without any timeout of its own

		go server.Serve(listener) //nolint:errcheck // ends when it is closed

		began := time.Now()

		type result struct {
			answer string
			after  time.Duration
		}

		results := make(chan result, 3)

		var clients sync.WaitGroup

		for range 3 {
			client := listener.dial()

			if _, err := client.Write(head(s, s.push, 8<<20)); err != nil {
				t.Fatal(err)
			}

			clients.Go(func() { trickle(client, time.Second) })

			go func() {
				answer, _ := io.ReadAll(client)
				results <- result{string(answer), time.Since(began)}
				client.Close()
			}()
		}

		time.Sleep(5 * time.Second)
		synctest.Wait()

		if h.remotes.inside != 3 || h.memory.Load() != 0 {
			t.Errorf("%d are inside, with %d bytes", h.remotes.inside, h.memory.Load())
		}

		w := newRecorder()
		h.ServeHTTP(w, request(s.header(s.push, s.secret), s.push.body))

		if w.Code != 503 || w.Header().Get("Retry-After") != "1" {
			t.Errorf("a fourth gets %d", w.Code)
		}

		for range 3 {
			got := <-results
			if !strings.HasPrefix(got.answer, "HTTP/1.1 408 ") || got.after > 12*time.Second {
				t.Errorf("after %s: %.60q", got.after, got.answer)
			}
		}

		if h.remotes.inside != 0 {
			t.Errorf("%d are inside", h.remotes.inside)
		}

		w = newRecorder()
		h.ServeHTTP(w, request(s.header(s.push, s.secret), s.push.body))

		if w.Code != 202 || count.n.Load() != 1 {
			t.Errorf("afterwards: got %d", w.Code)
		}

		server.Close()
		clients.Wait()
	})
}

// TestRefusedUnread: a refused request holds its connection no longer than it takes to say so, even
// if its body trickles.
func TestRefusedUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := senders()["github"]
		h := newHandler(t, Hook{Provider: GitHub, SecretFile: secretFile(t, s.secret), Poke: func() {}}, Limits{}, nil)

		listener := newPipe()
		server := &http.Server{Handler: h}

		go server.Serve(listener) //nolint:errcheck // ends when it is closed

		client := listener.dial()
		began := time.Now()

		fmt.Fprintf(client, "POST /hooks/fleet HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n")

		var clients sync.WaitGroup

		clients.Go(func() { trickle(client, 100*time.Millisecond) })

		answer, _ := io.ReadAll(client)
		if took := time.Since(began); !strings.HasPrefix(string(answer), "HTTP/1.1 401 ") || took > 3*time.Second {
			t.Errorf("after %s: %.60q", took, answer)
		}

		client.Close()
		server.Close()
		clients.Wait()
	})
}

// untouched is a body that must not be read.
type untouched struct{ t *testing.T }

func (u untouched) Read([]byte) (int, error) {
	u.t.Error("the body is read")

	return 0, io.EOF
}

func (untouched) Close() error { return nil }

// TestCheapRefusals: what the headers tell is told without the body.
func TestCheapRefusals(t *testing.T) {
	hub, lab := senders()["github"], senders()["gitlab token"]

	for _, c := range []struct {
		name   string
		sender sender
		secret string
		change func(*http.Request)
		status int
	}{
		{"method", hub, hub.secret, func(r *http.Request) { r.Method = "PUT" }, 405},
		{"unknown source", hub, hub.secret, func(r *http.Request) { r.URL.Path += "2" }, 404},
		{"announced too large", hub, hub.secret, func(r *http.Request) { r.ContentLength = 8<<20 + 1 }, 413},
		{"content type", hub, hub.secret, func(r *http.Request) { r.Header.Set("Content-Type", "text/xml") }, 415},
		{"compressed", hub, hub.secret, func(r *http.Request) { r.Header.Set("Content-Encoding", "br") }, 415},
		{"malformed signature", hub, hub.secret, func(r *http.Request) { r.Header.Set("X-Hub-Signature-256", "sha256=0") }, 401},
		{"SHA-1 only", hub, hub.secret, func(r *http.Request) {
			r.Header = http.Header{"Content-Type": {"application/json"}, "X-Hub-Signature": {"sha1=0000000000000000000000000000000000000000"}}
		}, 401},
		{"wrong token", lab, otherSecret, nil, 401},
		{"secret gone", hub, hub.secret, nil, 503},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := secretFile(t, testSecret)
			h := newHandler(t, Hook{Provider: c.sender.provider, SecretFile: path, Poke: func() {}}, Limits{}, nil)

			r := request(c.sender.header(c.sender.push, c.secret), c.sender.push.body)
			r.Body = untouched{t}

			if c.change != nil {
				c.change(r)
			}

			if c.status == 503 {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}

			w := newRecorder()
			if h.ServeHTTP(w, r); w.Code != c.status {
				t.Errorf("got %d %s, want %d", w.Code, w.Body, c.status)
			}
		})
	}
}

// TestMemory: large bodies share MaxMemory; ordinary ones get through when it is used up.
func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := senders()["github"]

		var count pokes

		h := newHandler(t, Hook{Provider: GitHub, SecretFile: secretFile(t, s.secret), Poke: count.poke}, Limits{MaxBody: 1 << 20, MaxMemory: 2 << 20, ConcurrentPerRemote: 64}, nil)

		var senders sync.WaitGroup

		statuses := make(chan int, 16)
		writers := make([]*io.PipeWriter, 16)

		for i := range writers {
			in, out := io.Pipe()
			writers[i] = out

			r := request(s.header(s.push, s.secret), "")
			r.Body, r.ContentLength = in, -1

			senders.Go(func() {
				w := newRecorder()
				h.ServeHTTP(w, r)
				in.Close()
				statuses <- w.Code
			})

			senders.Go(func() { _, _ = out.Write(bytes.Repeat([]byte(" "), 300<<10)) }) // fails when it is refused
		}

		synctest.Wait()

		if used := h.memory.Load(); used > 2<<20 || used == 0 {
			t.Errorf("%d bytes are used", used)
		}

		if len(statuses) == 0 {
			t.Error("nobody is refused")
		}

		w := newRecorder()
		h.ServeHTTP(w, request(s.header(s.push, s.secret), s.push.body))

		if w.Code != 202 {
			t.Errorf("an ordinary delivery gets %d", w.Code)
		}

		for _, out := range writers {
			out.Close()
		}

		senders.Wait()
		close(statuses)

		seen := map[int]int{}
		for status := range statuses {
			seen[status]++
		}

		if seen[503] == 0 || seen[401] == 0 || seen[503]+seen[401] != 16 {
			t.Errorf("got %v", seen)
		}

		if h.memory.Load() != 0 || h.remotes.inside != 0 {
			t.Errorf("%d bytes and %d places were not given back", h.memory.Load(), h.remotes.inside)
		}
	})
}

// TestBodyEdges: bodies at the limits, of known and of unknown length.
func TestBodyEdges(t *testing.T) {
	s := senders()["github"]

	for _, size := range []int{firstChunk - 1, firstChunk, firstChunk + 1, 2 * firstChunk, 1<<20 - 1, 1 << 20, 1<<20 + 1} {
		for _, known := range []bool{true, false} {
			h := newHandler(t, Hook{Provider: GitHub, SecretFile: secretFile(t, s.secret), Poke: func() {}}, Limits{MaxBody: 1 << 20}, nil)
			m := message{"push", s.push.body + strings.Repeat(" ", size-len(s.push.body))}

			r := request(s.header(m, s.secret), m.body)
			if !known {
				r.ContentLength = -1
			}

			w := newRecorder()
			h.ServeHTTP(w, r)

			want := 202
			if size > 1<<20 {
				want = 413
			}

			if w.Code != want || h.memory.Load() != 0 {
				t.Errorf("%d bytes, length known %v: got %d %s", size, known, w.Code, w.Body)
			}
		}
	}
}

// TestStuckBody: the same on real connections, where HTTP/2 has deadlines of its own kind.
func TestStuckBody(t *testing.T) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			s := senders()["github"]
			h := newHandler(t, Hook{Provider: GitHub, SecretFile: secretFile(t, s.secret), Poke: func() {}}, Limits{BodyTimeout: 20 * time.Millisecond}, nil)

			server := httptest.NewUnstartedServer(h)
			server.EnableHTTP2 = proto == "HTTP/2.0"
			server.StartTLS()
			defer server.Close()

			in, out := io.Pipe() // nothing is ever written
			defer out.Close()

			r, err := http.NewRequest("POST", server.URL+"/hooks/fleet", in)
			if err != nil {
				t.Fatal(err)
			}

			r.Header = s.header(s.push, s.secret)

			response, err := server.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}

			response.Body.Close()

			if response.Proto != proto || response.StatusCode != 408 {
				t.Errorf("got %s %s", response.Proto, response.Status)
			}
		})
	}
}
