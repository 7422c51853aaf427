package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Whatever a server does or leaves undone, a fetch ends in time and leaves nothing behind.
func TestStalled(t *testing.T) {
	r := newRepo(t, true)
	r.commit("one", map[string]string{"a": noise(100_000)})

	files := backend(t, r)
	stop := make(chan struct{})

	// after answers as git does, up to that many bytes of the answers to a method.
	after := func(method string, bytes int64, end func(w http.ResponseWriter, req *http.Request)) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.Method == method {
				inner := w
				w = &limitedWriter{ResponseWriter: w, left: bytes, end: func() { end(inner, req) }}
			}

			files.ServeHTTP(w, req)
		})
	}
	wait := func(w http.ResponseWriter, req *http.Request) {
		http.NewResponseController(w).Flush() //nolint:errcheck // then it arrives later

		select {
		case <-stop:
		case <-req.Context().Done():
		}
	}
	trickle := func(w http.ResponseWriter, req *http.Request) {
		io.WriteString(w, "fff0") //nolint:errcheck // seen with the next write

		for req.Context().Err() == nil {
			if _, err := io.WriteString(w, "x"); err != nil {
				return
			}

			http.NewResponseController(w).Flush() //nolint:errcheck // seen with the next write

			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}
	cut := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

	for _, test := range []struct {
		name    string
		handler http.Handler
		want    string
		slow    bool
	}{
		{"says nothing", http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
			select {
			case <-stop:
			case <-req.Context().Done():
			}
		}), "not done after", true},
		{"list stalls", after(http.MethodGet, 20, wait), "not done after", true},
		{"list trickles", after(http.MethodGet, 34, trickle), "not done after", true},
		{"pack stalls", after(http.MethodPost, 5000, wait), "not done after", true},
		{"pack trickles", after(http.MethodPost, 5000, trickle), "", true},
		{"list is cut", after(http.MethodGet, 20, cut), "the server cut the connection", false},
		{"answer is cut", after(http.MethodPost, 3, cut), "the server cut the connection", false},
		{"pack is cut", after(http.MethodPost, 5000, cut), "receive objects: the server cut the connection", false},
		{"list without end", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", advertType)
			io.WriteString(w, "001e# service=git-upload-pack\n0000") //nolint:errcheck // seen below

			line := strings.Repeat("a", 40) + " refs/heads/" + strings.Repeat("b", 10)
			fmt.Fprintf(w, "%04x%s\x00 shallow\n", len(line)+4+10, line)

			line = fmt.Sprintf("%04x%s\n", len(line)+4+1, line)

			for {
				if _, err := io.WriteString(w, line); err != nil {
					return
				}
			}
		}), "the server's list of refs is larger than 32.0 MiB", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(test.handler)
			defer server.Close()
			defer server.CloseClientConnections()

			g := newTestGit(t, GitConfig{URL: server.URL + "/fleet", Timeout: time.Minute})
			if test.slow {
				g.cfg.Timeout = 300 * time.Millisecond
			}

			start := time.Now()
			_, err := g.Fetch(t.Context())
			wantError(t, err, test.want)

			if test.slow && !errors.Is(err, context.DeadlineExceeded) && test.want != "" {
				t.Errorf("got %v", err)
			}

			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}

	close(stop)
}

// limitedWriter calls end when it was given more than it takes.
type limitedWriter struct {
	http.ResponseWriter

	left int64
	end  func()
}

func (w *limitedWriter) Write(p []byte) (int, error) {
	if int64(len(p)) <= w.left {
		w.left -= int64(len(p))

		return w.ResponseWriter.Write(p)
	}

	if _, err := w.ResponseWriter.Write(p[:w.left]); err != nil {
		return 0, err
	}

	http.NewResponseController(w.ResponseWriter).Flush() //nolint:errcheck // then it arrives later
	w.end()

	return 0, errors.New("ended")
}

// A host that takes connections and says nothing, for what is not http.
func TestStalledConnection(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { listener.Close() })

	var accepted atomic.Int32

	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}

			accepted.Add(1)
			t.Cleanup(func() { conn.Close() })
		}
	}()

	key, _, _ := newKey(t, "")
	address := listener.Addr().String()
	login := Login{SSHKeyFile: key, KnownHostsFile: secretFile(t, "# none\n")}

	for _, cfg := range []GitConfig{
		{URL: "ssh://git@" + address + "/x", Login: login},
		{URL: "https://" + address + "/x"},
		{URL: "http://" + address + "/x"},
		{URL: "ssh://git@git.example.com/x", Login: login, Proxy: "http://" + address},
		{URL: "ssh://git@git.example.com/x", Login: login, Proxy: "https://" + address},
		{URL: "ssh://git@git.example.com/x", Login: login, Proxy: "socks5://" + address},
		{URL: "https://git.example.com/x", Proxy: "http://" + address},
		{URL: "https://git.example.com/x", Proxy: "socks5://" + address},
	} {
		cfg.Timeout = 200 * time.Millisecond

		start := time.Now()
		_, err := newTestGit(t, cfg).Fetch(t.Context())
		wantError(t, err, "not done after 200ms")

		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s by %s took %s", cfg.URL, cfg.Proxy, took)
		}
	}

	if n := accepted.Load(); n != 8 {
		t.Errorf("%d connections", n)
	}
}
