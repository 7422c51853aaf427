package embedded_test

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/client"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/template/operations"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

// deadline of everything a test waits for; a test that meets it has failed.
const deadline = 30 * time.Second

// step is short, so that a cluster lives fast.
const step = 2 * time.Millisecond

func testContext(t *testing.T) context.Context {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)

	return ctx
}

// start serves an Omni until the test ends.
func start(t *testing.T, config embedded.Config) *embedded.Server {
	t.Helper()

	if config.Step == 0 {
		config.Step = step
	}

	s, err := embedded.New(config)
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)

	go func() { done <- s.Run(ctx) }()

	t.Cleanup(func() {
		cancel()

		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})

	return s
}

// dial connects as one of the accounts, with Omni's own client.
func dial(t *testing.T, s *embedded.Server, account string) *client.Client {
	t.Helper()

	c, err := client.New(s.Endpoint(), client.WithServiceAccount(s.ServiceAccountKey(account)))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { c.Close() }) //nolint:errcheck

	return c
}

func operator(t *testing.T, s *embedded.Server) state.State {
	t.Helper()

	return dial(t, s, embedded.AccountOperator).Omni().State()
}

// code finds the gRPC code in an error of COSI's client, whose errors have no Unwrap.
func code(err error) codes.Code {
	if err == nil {
		return codes.OK
	}

	if c := status.Code(err); c != codes.Unknown {
		return c
	}

	for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
		if strings.Contains(err.Error(), "code = "+c.String()+" ") {
			return c
		}
	}

	return codes.Unknown
}

func wantCode(t *testing.T, err error, want codes.Code) {
	t.Helper()

	if got := code(err); got != want {
		t.Errorf("got %s, want %s: %v", got, want, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()

	if err != nil {
		t.Fatal(err)
	}
}

// waitFor watches a resource until the condition holds, and returns it.
func waitFor[T resource.Resource](t *testing.T, st state.State, md resource.Pointer, condition func(T) bool) T {
	t.Helper()

	res, err := st.WatchFor(testContext(t), md, state.WithCondition(func(r resource.Resource) (bool, error) {
		typed, ok := r.(T)

		return ok && condition(typed), nil
	}))
	if err != nil {
		current, getErr := st.Get(t.Context(), md)
		t.Fatalf("%s did not get there: %v; it is %v (%v)", md, err, current, getErr)
	}

	return res.(T) //nolint:forcetypeassert
}

func waitGone(t *testing.T, st state.State, md resource.Pointer) {
	t.Helper()

	if _, err := st.WatchFor(testContext(t), md, state.WithEventTypes(state.Destroyed)); err != nil {
		current, getErr := st.Get(t.Context(), md)
		t.Fatalf("%s is not gone: %v; it is %v (%v)", md, err, current, getErr)
	}
}

// waitReady waits for a cluster of so many machines. One good status is not enough: a cluster is ready whenever the machines that
// were written so far are.
func waitReady(t *testing.T, st state.State, cluster string, machines uint32) {
	t.Helper()

	waitFor(t, st, omni.NewClusterStatus(cluster).Metadata(), func(r *omni.ClusterStatus) bool {
		ready, _ := readyWith(machines)(r)

		return ready
	})
}

func readyWith(machines uint32) func(resource.Resource) (bool, error) {
	return func(r resource.Resource) (bool, error) {
		status, ok := r.(*omni.ClusterStatus)

		return ok && status.TypedSpec().Value.GetReady() && status.TypedSpec().Value.GetMachines().GetHealthy() == machines, nil
	}
}

func list(t *testing.T, st state.State, typ resource.Type, opts ...state.ListOption) []string {
	t.Helper()

	items, err := st.List(testContext(t), resource.NewMetadata(resources.DefaultNamespace, typ, "", resource.VersionUndefined), opts...)
	must(t, err)

	ids := make([]string, 0, len(items.Items))
	for _, item := range items.Items {
		ids = append(ids, item.Metadata().ID())
	}

	return ids
}

// newCluster makes a valid cluster.
func newCluster(name string) *omni.Cluster {
	res := omni.NewCluster(name)
	res.TypedSpec().Value.TalosVersion = "1.12.0"
	res.TypedSpec().Value.KubernetesVersion = "1.34.0"

	return res
}

func newSet(cluster, id, role string) *omni.MachineSet {
	res := omni.NewMachineSet(id)
	res.Metadata().Labels().Set(omni.LabelCluster, cluster)
	res.Metadata().Labels().Set(role, "")

	return res
}

func newPatch(cluster, id string) *omni.ConfigPatch {
	res := omni.NewConfigPatch(id)
	res.Metadata().Labels().Set(omni.LabelCluster, cluster)

	if err := res.TypedSpec().Value.SetUncompressedData([]byte("machine:\n  network:\n    hostname: x\n")); err != nil {
		panic(err)
	}

	return res
}

// Machines of the template below.
const (
	machineA = "27c16241-96bf-4f17-9579-ea3a6c4a3ca8"
	machineB = "4bd92fba-998d-4ef3-ab43-638b806dd3fe"
)

const clusterTemplate = `kind: Cluster
name: blue
kubernetes:
  version: v1.34.3
talos:
  version: v1.12.8
systemExtensions:
  - siderolabs/iscsi-tools
patches:
  - name: hostname
    inline:
      machine:
        network:
          hostname: blue
---
kind: ControlPlane
machines:
  - ` + machineA + `
---
kind: Workers
machines:
  - ` + machineB + `
`

func syncTemplate(t *testing.T, st state.State, text string) {
	t.Helper()

	root, err := os.OpenRoot(t.TempDir())
	must(t, err)

	defer root.Close() //nolint:errcheck

	must(t, operations.SyncTemplate(testContext(t), strings.NewReader(text), io.Discard, st, operations.SyncOptions{}, root))
}
