package embedded_test

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/client"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/template/operations"
	"golang.org/x/sync/errgroup"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

func benchServer(b *testing.B, config embedded.Config) (*embedded.Server, state.State) {
	b.Helper()

	s, err := embedded.New(config)
	if err != nil {
		b.Fatal(err)
	}

	go s.Run(b.Context()) //nolint:errcheck

	c, err := client.New(s.Endpoint(), client.WithServiceAccount(s.ServiceAccountKey(embedded.AccountOperator)))
	if err != nil {
		b.Fatal(err)
	}

	b.Cleanup(func() { c.Close() }) //nolint:errcheck

	return s, c.Omni().State()
}

// BenchmarkCreate is one write: the signature, the checks, the round trip.
func BenchmarkCreate(b *testing.B) {
	_, st := benchServer(b, embedded.Config{NoControllers: true})

	i := 0
	for b.Loop() {
		i++

		if err := st.Create(b.Context(), newPatch("blue", fmt.Sprint(i))); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBootstrap is the aggregated bootstrap of 40,000 patches, half of what fits into a message.
func BenchmarkBootstrap(b *testing.B) {
	s, st := benchServer(b, embedded.Config{NoControllers: true})

	for i := range 40_000 {
		if err := s.State().Create(b.Context(), newPatch("blue", fmt.Sprint(i))); err != nil {
			b.Fatal(err)
		}
	}

	for b.Loop() {
		events := make(chan []state.Event)
		if err := st.WatchKindAggregated(b.Context(), patchKind, events, state.WithBootstrapContents(true)); err != nil {
			b.Fatal(err)
		}

		<-events
	}
}

// BenchmarkLife takes 100 clusters of 10 machines from nothing to ready, with the controllers at their default pace.
func BenchmarkLife(b *testing.B) {
	for b.Loop() {
		s, st := benchServer(b, embedded.Config{HealthyMachines: true})

		var group errgroup.Group

		for c := range 100 {
			text := strings.ReplaceAll(clusterTemplate, "name: blue", fmt.Sprintf("name: c%d", c))
			text = strings.ReplaceAll(text, machineA, fmt.Sprintf("27c16241-96bf-4f17-9579-%012d", c*100))

			var workers strings.Builder
			for w := range 9 {
				fmt.Fprintf(&workers, "%s27c16241-96bf-4f17-9579-%012d", map[bool]string{true: "", false: "\n  - "}[w == 0], c*100+w+1)
			}

			text = strings.ReplaceAll(text, machineB, workers.String())

			group.Go(func() error {
				root, err := os.OpenRoot(b.TempDir())
				if err != nil {
					return err
				}

				defer root.Close() //nolint:errcheck

				if err = operations.SyncTemplate(b.Context(), strings.NewReader(text), io.Discard, st, operations.SyncOptions{}, root); err != nil {
					return err
				}

				_, err = s.State().WatchFor(b.Context(), omni.NewClusterStatus(fmt.Sprintf("c%d", c)).Metadata(), state.WithCondition(readyWith(10)))

				return err
			})
		}

		if err := group.Wait(); err != nil {
			b.Fatal(err)
		}
	}
}
