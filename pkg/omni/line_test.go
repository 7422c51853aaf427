//go:build unix

package omni

import (
	"context"
	"encoding/base64"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/omni-syncd/omni-syncd/test/halfopen"
)

// G5, G8: a write whose time is over on a line that leads nowhere is not delivered when the line works again, and the
// next one takes another line. Neither is one that was under way when the connection was closed.
func TestG8_NothingIsDeliveredLater(t *testing.T) {
	t.Parallel()

	for name, closed := range map[string]bool{"its time is over": false, "the connection is closed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			place := &site{lab: newLab()}
			place.up(t)
			t.Cleanup(place.down)

			way, dial := halfopen.New(t, place.address), func() *Conn {
				key, _ := newKey(t, time.Hour)

				conn, err := Dial(ConnConfig{Endpoint: "http://" + place.address, ServiceAccountKey: key})
				if err != nil {
					t.Fatal(err)
				}

				t.Cleanup(func() { _ = conn.Close() })

				return conn
			}

			place.address = way.Address
			conn := dial()

			if err := conn.State().Create(t.Context(), newPatch("before", "a", "x")); err != nil {
				t.Fatal(err)
			}

			big := make([]byte, 30<<10) // within HTTP/2's first window, so that all of it is sent
			for i := range big {
				big[i] = byte(rand.Uint32())
			}

			before, release := way.Sent(), way.Stall()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()

			if closed {
				time.AfterFunc(100*time.Millisecond, func() { _ = conn.Close() })
			}

			if err := conn.State().Create(ctx, newPatch("late", "a", base64.StdEncoding.EncodeToString(big))); !Transient(err) {
				t.Errorf("the write came back with %v", err)
			}

			release()

			select {
			case <-way.Ended:
			case <-time.After(10 * time.Second):
				t.Error("the connection was not ended")
			}

			if sent := way.Sent() - before; sent > int64(len(big)) {
				t.Errorf("%d bytes were delivered afterwards", sent)
			}

			if closed {
				conn = dial()
			}

			if err := conn.State().Create(t.Context(), newPatch("after", "a", "x")); err != nil {
				t.Error(err)
			}

			if _, err := conn.State().Get(t.Context(), newPatch("late", "a", "").Metadata()); !NotFound(err) || way.Opened() != 2 {
				t.Errorf("over %d lines: %v", way.Opened(), err)
			}
		})
	}
}

// What only reads does not take the connection along: watches are on it.
func TestLine_Reads(t *testing.T) {
	t.Parallel()

	place := &site{lab: newLab()}
	place.up(t)
	t.Cleanup(place.down)

	way := halfopen.New(t, place.address)
	key, _ := newKey(t, time.Hour)

	conn, err := Dial(ConnConfig{Endpoint: "http://" + way.Address, ServiceAccountKey: key})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the test is over

	if _, err := conn.State().Get(t.Context(), newCluster("a").Metadata()); !NotFound(err) {
		t.Fatal(err)
	}

	release := way.Stall()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()

	if _, err := conn.State().Get(ctx, newCluster("a").Metadata()); !Transient(err) {
		t.Errorf("got %v", err)
	}

	release()

	if _, err := conn.State().Get(t.Context(), newCluster("a").Metadata()); !NotFound(err) || way.Opened() != 1 {
		t.Errorf("over %d lines: %v", way.Opened(), err)
	}
}
