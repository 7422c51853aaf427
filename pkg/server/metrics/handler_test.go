package metrics_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	gosync "sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/omni-syncd/omni-syncd/pkg/server/metrics"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// There are three paths, and only reading is allowed.
func TestPaths(t *testing.T) {
	h := handler(metrics.New("v1"), fleet(1), current())

	for request, want := range map[string]int{
		"GET /metrics": 200, "HEAD /metrics": 200, "POST /metrics": 405, "DELETE /metrics": 405,
		"GET /healthz": 200, "HEAD /healthz": 200, "PUT /healthz": 405, "GET /healthz/": 404,
		"GET /readyz": 200, "POST /readyz": 405, "GET /readyz/engine": 404,
		"GET /": 404, "GET /debug/pprof/": 404, "POST /": 404, "OPTIONS /metrics": 405,
	} {
		method, path, _ := strings.Cut(request, " ")
		if got := get(h, method, path).Code; got != want {
			t.Errorf("%s is answered with %d, want %d", request, got, want)
		}
	}
}

// Ready is who can serve.
func TestReadyz(t *testing.T) {
	broken := fleet(0)
	broken.status.Sources = append(broken.status.Sources, sync.SourceStatus{Name: "broken", Fetched: true, Error: "no such host"})

	waiting := fleet(0)
	for i := range 12 {
		waiting.status.Sources = append(waiting.status.Sources, sync.SourceStatus{Name: fmt.Sprintf("s%02d", i)})
	}

	hung := fleet(0)
	hung.alive = errors.New("the reconcile loop hangs")

	for name, test := range map[string]struct {
		engine   *engine
		snapshot *snapshot
		path     string
		code     int
		body     string
	}{
		"ready":        {fleet(1), current(), "/readyz", 200, "ok\n"},
		"verbose":      {fleet(1), current(), "/readyz?verbose", 200, "[+]engine ok\n[+]snapshot ok\n[+]sources ok\nreadyz check passed\n"},
		"one of many":  {broken, current(), "/readyz", 200, "ok\n"},
		"Omni is away": {fleet(1), &snapshot{err: errors.New("waiting for Clusters:\n connection refused")}, "/readyz", 503, "[+]engine ok\n[-]snapshot failed: waiting for Clusters: connection refused\n[+]sources ok\nreadyz check failed\n"},
		"a long story": {fleet(1), &snapshot{err: errors.New(strings.Repeat("x", 5000))}, "/readyz", 503, "[+]engine ok\n[-]snapshot failed: " + strings.Repeat("x", 1000) + "…\n[+]sources ok\nreadyz check failed\n"},
		"not fetched":  {waiting, current(), "/readyz", 503, "[+]engine ok\n[+]snapshot ok\n[-]sources failed: not fetched yet: s00, s01, s02, s03, s04, s05, s06, s07, s08, s09 and 2 more\nreadyz check failed\n"},
		"hung":         {hung, current(), "/readyz", 503, "[-]engine failed: the reconcile loop hangs\n[+]snapshot ok\n[+]sources ok\nreadyz check failed\n"},
	} {
		t.Run(name, func(t *testing.T) {
			w := get(handler(metrics.New("v1"), test.engine, test.snapshot), http.MethodGet, test.path)
			if w.Code != test.code {
				t.Errorf("the answer is %d, want %d", w.Code, test.code)
			}

			if d := cmp.Diff(test.body, w.Body.String()); d != "" {
				t.Error(d)
			}
		})
	}
}

// Healthz is about the daemon, not about what it talks to.
func TestHealthz(t *testing.T) {
	e := fleet(0)
	e.status.Sources[0] = sync.SourceStatus{Name: "fleet"}
	h := handler(metrics.New("v1"), e, &snapshot{err: errors.New("Omni is away")})

	if w := get(h, http.MethodGet, "/healthz"); w.Code != 200 || w.Body.String() != "ok\n" {
		t.Errorf("%d: %s", w.Code, w.Body)
	}

	e.alive = errors.New("the reconcile loop hangs")

	if w := get(h, http.MethodGet, "/healthz"); w.Code != 503 || w.Body.String() != "the reconcile loop hangs\n" {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
}

// A daemon that hangs with its lock still says so at /healthz, answers everything else in
// bounded time, and does not collect a goroutine for every question.
func TestG12_HungDaemon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := fleet(0)
		e.hang = make(chan struct{})
		e.alive = errors.New("the reconcile loop hangs")
		h := handler(metrics.New("v1"), e, current())

		var asked gosync.WaitGroup

		for range 100 {
			for _, path := range []string{"/metrics", "/readyz", "/healthz"} {
				asked.Go(func() {
					if code := get(h, http.MethodGet, path).Code; code != http.StatusServiceUnavailable {
						t.Errorf("%s is answered with %d", path, code)
					}
				})
			}
		}

		asked.Wait() // the clock of the bubble moves: the answers have a time

		if w := get(h, http.MethodGet, "/metrics"); !strings.Contains(w.Body.String(), "Limit of concurrent requests reached") {
			t.Errorf("one more scrape waits: %s", w.Body)
		}

		if w := get(h, http.MethodGet, "/readyz"); !strings.Contains(w.Body.String(), "try again later") {
			t.Errorf("one more probe waits: %s", w.Body)
		}

		close(e.hang)
		synctest.Wait()

		e.alive = nil

		if code := get(h, http.MethodGet, "/readyz").Code; code != 200 {
			t.Errorf("it does not come back: %d", code)
		}
	})
}

// A client that sends a body without end, or takes nothing, does not hold a connection.
func TestG12_SlowClient(t *testing.T) {
	server := httptest.NewServer(handler(metrics.New("v1"), fleet(1), current()))
	defer server.Close()

	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	// The answer comes although the body does not, and the connection is not used again.
	if _, err = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"); err != nil {
		t.Fatal(err)
	}

	answer, err := io.ReadAll(conn)
	if err != nil || !strings.Contains(string(answer), "200 OK") {
		t.Errorf("%v: %s", err, answer)
	}
}

// pipes is a listener whose connections are in memory, so that their deadlines keep to the
// clock of a bubble.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.accept:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// A client that takes no answer loses its connection.
func TestG12_ClientTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := &pipes{make(chan net.Conn), make(chan struct{})}
		server := &http.Server{Handler: handler(metrics.New("v1"), fleet(1), current())}
		served := make(chan error, 1)

		go func() { served <- server.Serve(listener) }()

		client, conn := net.Pipe()
		listener.accept <- conn
		began := time.Now()

		if _, err := io.WriteString(client, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}

		time.Sleep(time.Minute)

		if answer, err := io.ReadAll(client); err != nil || len(answer) > 0 {
			t.Errorf("after %s there is still an answer (%v): %s", time.Since(began), err, answer)
		}

		if err := server.Close(); err != nil {
			t.Error(err)
		}

		<-served
	})
}
