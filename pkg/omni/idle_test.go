package omni_test

import (
	"context"
	"errors"
	"net"
	gosync "sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

// gate lets nothing out while it is shut.
type gate struct {
	net.Conn

	open *atomic.Bool
}

func (g gate) Write(b []byte) (int, error) {
	if !g.open.Load() {
		return 0, errors.Join(errors.New("shut"), g.Close())
	}

	return g.Conn.Write(b)
}

// An idle connection forgets the attempts to connect that failed: the next call does not wait.
func TestConnIdle(t *testing.T) {
	t.Parallel()

	server, err := embedded.New(embedded.Config{NoControllers: true})
	if err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(t.Context())

	var running gosync.WaitGroup

	running.Go(func() { _ = server.Run(ctx) })
	defer running.Wait()
	defer stop()

	var (
		open  atomic.Bool
		dials atomic.Int32
	)

	conn, err := omni.Dial(omni.ConnConfig{
		Endpoint: server.Endpoint(), ServiceAccountKey: server.ServiceAccountKey(embedded.AccountOperator),
		Idle: 500 * time.Millisecond, Wrap: func(c net.Conn) net.Conn {
			dials.Add(1)

			return gate{c, &open}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the test is over

	// The next pause is longer than 2 s.
	for dials.Load() < 7 {
		if err := conn.Check(ctx); err == nil {
			t.Fatal("the gate is open")
		}

		time.Sleep(10 * time.Millisecond)
	}

	open.Store(true)
	time.Sleep(1500 * time.Millisecond)

	began := time.Now()
	for conn.Check(ctx) != nil {
		time.Sleep(10 * time.Millisecond)
	}

	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %s", took)
	}
}
