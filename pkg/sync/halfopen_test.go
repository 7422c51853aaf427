//go:build unix

package sync_test

import (
	"context"
	"encoding/base64"
	"math/rand/v2"
	"strings"
	gosync "sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// beforeCreate does something when a patch is about to be created, once.
type beforeCreate struct {
	state.State

	do func()
}

func (s beforeCreate) Create(ctx context.Context, r resource.Resource, opts ...state.CreateOption) error {
	if r.Metadata().Type() == omnires.ConfigPatchType {
		s.do()
	}

	return s.State.Create(ctx, r, opts...)
}

// G8, G5: the line stops right before a patch is sent, and the cluster is locked while the patch is on its line. When the
// line works again, the patch does not arrive.
func TestG8_HalfOpenLine(t *testing.T) {
	var (
		writes  writeLog
		stalled = make(chan func(), 1)
	)

	o := daemon.StartOmni(t, embedded.Config{NoControllers: true, OnWrite: writes.add})

	line := daemon.NewLine(t, o)

	conn, err := omni.Dial(omni.ConnConfig{Endpoint: line.Endpoint, ServiceAccountKey: o.ServiceAccountKey(embedded.AccountOperator)})
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = conn.Close() })

	d := daemon.Start(t, o, func(c *sync.Config, _ *omni.SnapshotConfig) {
		c.Timeout = time.Second
		c.State = beforeCreate{conn.State(), gosync.OnceFunc(func() { stalled <- line.Stall() })}
	})
	d.Apply(t, fstest.MapFS{"a.yaml": patched("a", machine(1))})

	big := make([]byte, 30<<10) // within HTTP/2's first window, so that all of it is sent
	for i := range big {
		big[i] = byte(rand.Uint32())
	}

	wrote := len(writes.all())
	d.Feed(fstest.MapFS{"a.yaml": patched("a", machine(1), [2]string{"400-x", base64.StdEncoding.EncodeToString(big)})})

	release := <-stalled
	lock(t, o, "a")
	within(t, d, "the lock", func(s sync.Status) bool { return strings.Contains(message(s, "a"), "locked in Omni") })
	release()
	await(t, "the end of the connection", line.Ended)

	for _, w := range writes.all()[wrote:] {
		if strings.HasPrefix(w, "Create") {
			t.Errorf("%s reached a locked cluster", w)
		}
	}
}
