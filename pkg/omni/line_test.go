//go:build unix

package omni_test

import (
	"context"
	"encoding/base64"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/siderolabs/omni/client/api/omni/specs"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// onLine returns a line to an Omni, and what dials over it.
func onLine(t *testing.T) (line *daemon.Line, dial func() *omni.Conn) {
	t.Helper()

	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	line = daemon.NewLine(t, o)

	return line, func() *omni.Conn {
		conn, err := omni.Dial(omni.ConnConfig{Endpoint: line.Endpoint, ServiceAccountKey: o.ServiceAccountKey(embedded.AccountOperator)})
		if err != nil {
			t.Fatal(err)
		}

		t.Cleanup(func() { _ = conn.Close() })

		return conn
	}
}

func patch(t *testing.T, id, value string) *omnires.ConfigPatch {
	t.Helper()

	r := omnires.NewConfigPatch(id)
	r.Metadata().Labels().Set(omnires.LabelCluster, "a")

	if err := r.TypedSpec().Value.SetUncompressedData([]byte("machine: {env: {X: "+value+"}}"), specs.WithConfigCompressionOption(specs.GetCompressionConfig())); err != nil {
		t.Fatal(err)
	}

	return r
}

// G5, G8: a write whose time is over on a line that leads nowhere is not delivered when the line works again, and the
// next one takes another line. Neither is one that was under way when the connection was closed.
func TestG8_NothingIsDeliveredLater(t *testing.T) {
	t.Parallel()

	for name, closed := range map[string]bool{"its time is over": false, "the connection is closed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			line, dial := onLine(t)
			conn := dial()

			if err := conn.State().Create(t.Context(), patch(t, "before", "x")); err != nil {
				t.Fatal(err)
			}

			big := make([]byte, 30<<10) // within HTTP/2's first window, so that all of it is sent
			for i := range big {
				big[i] = byte(rand.Uint32())
			}

			before, release := line.Sent(), line.Stall()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()

			if closed {
				time.AfterFunc(100*time.Millisecond, func() { _ = conn.Close() })
			}

			if err := conn.State().Create(ctx, patch(t, "late", base64.StdEncoding.EncodeToString(big))); !omni.Transient(err) {
				t.Errorf("the write came back with %v", err)
			}

			release()

			select {
			case <-line.Ended:
			case <-time.After(10 * time.Second):
				t.Error("the connection was not ended")
			}

			if sent := line.Sent() - before; sent > int64(len(big)) {
				t.Errorf("%d bytes were delivered afterwards", sent)
			}

			if closed {
				conn = dial()
			}

			if err := conn.State().Create(t.Context(), patch(t, "after", "x")); err != nil {
				t.Error(err)
			}

			if _, err := conn.State().Get(t.Context(), omnires.NewConfigPatch("late").Metadata()); !omni.NotFound(err) || line.Opened() != 2 {
				t.Errorf("over %d lines: %v", line.Opened(), err)
			}
		})
	}
}

// What only reads does not take the connection along: watches are on it.
func TestLine_Reads(t *testing.T) {
	t.Parallel()

	line, dial := onLine(t)
	conn := dial()

	if err := conn.Check(t.Context()); err != nil {
		t.Fatal(err)
	}

	release := line.Stall()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()

	if _, err := conn.State().Get(ctx, omnires.NewCluster("a").Metadata()); !omni.Transient(err) {
		t.Errorf("got %v", err)
	}

	release()

	if err := conn.Check(t.Context()); err != nil || line.Opened() != 1 {
		t.Errorf("over %d lines: %v", line.Opened(), err)
	}
}
