package webhook

import (
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestFailureFlood: an address that fails too often is stopped, told when to come back, and the
// others are not.
func TestFailureFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := senders()["github"]

		var count pokes

		h := newHandler(t, Hook{Provider: GitHub, SecretFile: secretFile(t, s.secret), Poke: count.poke}, Limits{FailureRate: 0.5, FailureBurst: 5}, nil)

		from := func(address, secret string) (int, string) {
			s.push.body += " "
			r := request(s.header(s.push, secret), s.push.body)
			r.RemoteAddr = address

			w := newRecorder()
			h.ServeHTTP(w, r)

			return w.Code, w.Header().Get("Retry-After")
		}

		var got []int

		for range 8 {
			status, _ := from("192.0.2.1:1", otherSecret)
			got = append(got, status)
		}

		if want := "[401 401 401 401 401 429 429 429]"; fmt.Sprint(got) != want {
			t.Errorf("got %v, want %s", got, want)
		}

		// Even a good one: whether it is good is not looked at.
		if status, after := from("192.0.2.1:2", s.secret); status != 429 || after != "2" {
			t.Errorf("got %d, Retry-After %q", status, after)
		}

		if status, _ := from("192.0.2.2:1", s.secret); status != 202 {
			t.Errorf("another address gets %d", status)
		}

		time.Sleep(2 * time.Second)

		if status, _ := from("192.0.2.1:3", s.secret); status != 202 {
			t.Errorf("after Retry-After: got %d", status)
		}

		if count.n.Load() != 2 {
			t.Errorf("got %d pokes", count.n.Load())
		}
	})
}

// TestFailureClock: a failure counts from when it is known. Counted from when the request
// began, slow requests would make a limiter hand out the same seconds again and again.
func TestFailureClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := senders()["github"]
		h := newHandler(t, Hook{Provider: GitHub, SecretFile: secretFile(t, s.secret), Poke: func() {}}, Limits{FailureRate: 0.1, FailureBurst: 5}, nil)

		fail := func() int {
			w := newRecorder()
			h.ServeHTTP(w, request(s.header(s.push, otherSecret), s.push.body))

			return w.Code
		}

		in, out := io.Pipe()
		slow := request(s.header(s.push, otherSecret), "")
		slow.Body, slow.ContentLength = in, -1

		done := make(chan int)

		go func() {
			w := newRecorder()
			h.ServeHTTP(w, slow)
			done <- w.Code
		}()

		time.Sleep(9 * time.Second)

		for range 5 {
			if got := fail(); got != 401 {
				t.Errorf("got %d", got)
			}
		}

		out.Close()

		if got := <-done; got != 401 {
			t.Errorf("the slow one: got %d", got)
		}

		time.Sleep(time.Second)

		if got := fail(); got != 429 {
			t.Errorf("a second later: got %d, want 429", got)
		}
	})
}

// TestReplayFlood: a captured delivery, sent again and again, is stopped as a failure.
func TestReplayFlood(t *testing.T) {
	s := senders()["github"]
	h := newHandler(t, Hook{Provider: GitHub, SecretFile: secretFile(t, s.secret), Poke: func() {}}, Limits{FailureBurst: 3}, nil)

	var got []int

	for range 6 {
		w := newRecorder()
		h.ServeHTTP(w, request(s.header(s.push, s.secret), s.push.body))
		got = append(got, w.Code)
	}

	if want := "[202 202 202 202 429 429]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// TestReplayWindow: a delivery may be sent again later.
func TestReplayWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := senders()["github"]

		var count pokes

		h := newHandler(t, Hook{Provider: GitHub, SecretFile: secretFile(t, s.secret), Poke: count.poke}, Limits{}, nil)

		for _, step := range []struct {
			wait  time.Duration
			pokes int64
		}{{0, 1}, {time.Hour - time.Second, 1}, {time.Second, 2}, {time.Minute, 2}} {
			time.Sleep(step.wait)
			h.ServeHTTP(newRecorder(), request(s.header(s.push, s.secret), s.push.body))

			if got := count.n.Load(); got != step.pokes {
				t.Errorf("after %s: got %d pokes, want %d", step.wait, got, step.pokes)
			}
		}
	})
}

// TestSourceFlood: what comes on top of a source's budget is joined into one Poke, later. The
// last event of a flood is never lost.
func TestSourceFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := senders()["github"]

		var at []time.Duration

		began := time.Now()
		h := newHandler(t, Hook{Provider: GitHub, SecretFile: secretFile(t, s.secret), Poke: func() { at = append(at, time.Since(began)) }},
			Limits{SourceRate: 0.1, SourceBurst: 3}, nil)

		deliver := func(n int) {
			for range n {
				s.push.body += " "

				w := newRecorder()
				h.ServeHTTP(w, request(s.header(s.push, s.secret), s.push.body))

				if w.Code != 202 {
					t.Errorf("got %d", w.Code)
				}
			}
		}

		deliver(100)
		time.Sleep(5 * time.Second)
		deliver(100)
		time.Sleep(5 * time.Second) // to 10s
		synctest.Wait()
		deliver(1)
		time.Sleep(time.Minute)
		synctest.Wait()

		if got, want := fmt.Sprint(at), "[0s 0s 0s 10s 20s]"; got != want {
			t.Errorf("pokes at %s, want %s", got, want)
		}
	})
}

// TestConcurrentPerRemote: one address cannot take all places.
func TestConcurrentPerRemote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := senders()["github"]
		h := newHandler(t, Hook{Provider: GitHub, SecretFile: secretFile(t, s.secret), Poke: func() {}}, Limits{ConcurrentPerRemote: 2}, nil)

		in, out := io.Pipe()

		var slow sync.WaitGroup

		for range 2 {
			r := request(s.header(s.push, s.secret), "")
			r.Body, r.ContentLength = in, -1

			slow.Go(func() { h.ServeHTTP(newRecorder(), r) })
		}

		synctest.Wait()

		for address, want := range map[string]int{"192.0.2.1:7": 429, "192.0.2.2:7": 202} {
			r := request(s.header(s.push, s.secret), s.push.body)
			r.RemoteAddr = address

			w := newRecorder()
			if h.ServeHTTP(w, r); w.Code != want {
				t.Errorf("%s gets %d, want %d", address, w.Code, want)
			}
		}

		out.Close()
		slow.Wait()
	})
}

// TestTables: what is remembered is bounded, and the oldest goes first.
func TestTables(t *testing.T) {
	l := newLRU[int, int](3)
	for i := range 5 {
		l.put(i, i)
		l.get(2)
	}

	l.put(2, 7)

	var got []int

	for i := range 5 {
		if v, ok := l.get(i); ok {
			got = append(got, v)
		}
	}

	if fmt.Sprint(got) != "[7 3 4]" || l.order.Len() != 3 || len(l.items) != 3 {
		t.Errorf("got %v", got)
	}

	limits, _ := Limits{}.withDefaults()
	rs := newRemotes(limits)

	for i := range 3 * maxRemotes {
		rs.charge(fmt.Sprint(i))
	}

	if n := len(rs.known.items); n != maxRemotes {
		t.Errorf("%d addresses are remembered", n)
	}
}
