package webhook

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// discard is a ResponseWriter that costs nothing.
type discard struct{ header http.Header }

func (d discard) Header() http.Header           { return d.header }
func (discard) Write(p []byte) (int, error)     { return len(p), nil }
func (discard) WriteHeader(int)                 {}
func (discard) SetReadDeadline(time.Time) error { return nil }

// BenchmarkDelivery is what a delivery costs, by how far it gets. One that is
// refused before its body is read costs the same whatever size it announces.
func BenchmarkDelivery(b *testing.B) {
	s := senders()["github"]
	limits := Limits{FailureRate: 1e9, FailureBurst: 1e9, SourceRate: 1e9, SourceBurst: 1e9}
	large := message{"push", s.push.body + strings.Repeat(" ", 4<<20)}

	for _, c := range []struct {
		name    string
		request func() *http.Request
	}{
		{"refused/unknown source", func() *http.Request {
			r := request(s.header(large, s.secret), large.body)
			r.URL.Path = "/hooks/other"

			return r
		}},
		{"refused/no signature, 4 MiB", func() *http.Request {
			return request(http.Header{"Content-Type": {"application/json"}}, large.body)
		}},
		{"refused/too large", func() *http.Request {
			r := request(s.header(s.push, s.secret), "")
			r.ContentLength = 1 << 40

			return r
		}},
		{"refused/wrong signature", func() *http.Request { return request(s.header(s.push, otherSecret), s.push.body) }},
		{"refused/wrong signature, 4 MiB", func() *http.Request { return request(s.header(large, otherSecret), large.body) }},
		{"accepted", func() *http.Request { return request(s.header(s.push, s.secret), s.push.body) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			h := newHandler(b, Hook{Provider: GitHub, SecretFile: secretFile(b, s.secret), Poke: func() {}}, limits, nil)
			h.hooks["fleet"].seen.window = 0 // every one is new

			r := c.request()
			text := large.body

			if strings.HasPrefix(c.name, "accepted") || c.name == "refused/wrong signature" {
				text = s.push.body
			}

			b.ReportAllocs()

			for b.Loop() {
				r.Body = reader{strings.NewReader(text)}
				h.ServeHTTP(discard{http.Header{}}, r)
			}
		})
	}
}

type reader struct{ *strings.Reader }

func (reader) Close() error { return nil }

// TestRefusedIsCheap bounds what a request costs that is refused before its body is read.
func TestRefusedIsCheap(t *testing.T) {
	s := senders()["github"]
	h := newHandler(t, Hook{Provider: GitHub, SecretFile: secretFile(t, s.secret), Poke: func() {}}, Limits{}, nil)

	for name, path := range map[string]string{"no signature": "/hooks/fleet", "unknown source": "/hooks/other"} {
		r := httptest.NewRequest("POST", path, nil)
		r.Header.Set("Content-Type", "application/json")
		r.ContentLength = 8 << 20

		n := testing.AllocsPerRun(200, func() { h.ServeHTTP(discard{http.Header{}}, r) })
		if n > 25 {
			t.Errorf("%s: %v allocations, want at most 25", name, n)
		}
	}
}
