package source

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The backoff: doubled up to the limit, jittered, over with the first success; a
// poke looks at once; any number of pokes are one look.
func TestWatchTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			mu      sync.Mutex
			looks   []time.Duration
			start   = time.Now()
			fail    = true
			poke    = newBell()
			results int
			pokes   int // rung during the next look
		)

		fetch := func(context.Context) (Revision, error) {
			mu.Lock()
			defer mu.Unlock()

			looks = append(looks, time.Since(start))

			for range pokes {
				poke.ring()
			}

			if pokes = 0; fail {
				return Revision{}, errors.New("unreachable")
			}

			return Revision{ID: "x", FS: same}, nil
		}

		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		rest := func(ctx context.Context, failures int) bool {
			return poke.wait(ctx, delay(time.Minute, 5*time.Minute, failures))
		}

		go func() {
			defer close(ended)

			watch(ctx, rest, fetch, func(Revision, error) {
				mu.Lock()
				defer mu.Unlock()

				results++
			})
		}()

		// The lock is held except while time passes.
		after := func(d time.Duration) {
			mu.Unlock()
			<-time.NewTimer(d).C
			synctest.Wait()
			mu.Lock()
		}

		mu.Lock()
		after(30 * time.Minute)

		want := []time.Duration{2 * time.Minute, 4 * time.Minute, 5 * time.Minute, 5 * time.Minute}
		for i, d := range want {
			if gap := looks[i+1] - looks[i]; gap < d-d/10 || gap > d+d/10 {
				t.Errorf("after failure %d it waited %s", i+1, gap)
			}
		}

		if results != len(looks) {
			t.Errorf("%d results of %d failures", results, len(looks))
		}

		fail, looks, results, pokes = false, nil, 0, 10

		poke.ring()
		after(0)

		if len(looks) != 2 || results != 1 {
			t.Errorf("after a poke and ten more during the look: %d looks, %d results", len(looks), results)
		}

		after(10*time.Minute + 30*time.Second)

		if n := len(looks); n < 10 || n > 13 || results != 1 {
			t.Errorf("in ten minutes: %d looks, %d results", n, results)
		}

		mu.Unlock()
		cancel()

		<-ended
	})
}

var same = &tree{content: memory{}}

func TestDelay(t *testing.T) {
	for _, test := range []struct {
		interval, limit time.Duration
		failures        int
		want            time.Duration
	}{
		{time.Minute, 5 * time.Minute, 0, time.Minute},
		{time.Minute, 5 * time.Minute, 1, 2 * time.Minute},
		{time.Minute, 5 * time.Minute, 1_000_000, 5 * time.Minute},
		{time.Hour, 5 * time.Minute, 3, time.Hour},
	} {
		for range 100 {
			if got := delay(test.interval, test.limit, test.failures); got < test.want-test.want/10 || got > test.want+test.want/10 {
				t.Fatalf("%+v: got %s", test, got)
			}
		}
	}
}
