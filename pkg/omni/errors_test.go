package omni

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/protobuf/client"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

// serveState serves a COSI state over real gRPC in memory and returns a client of it.
func serveState(t testing.TB, srv v1alpha1.StateServer) state.State {
	t.Helper()

	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(grpc.MaxSendMsgSize(maxReceive))
	v1alpha1.RegisterStateServer(server, srv)

	go server.Serve(listener) //nolint:errcheck // ends with Stop

	t.Cleanup(server.Stop)

	conn, err := grpc.NewClient("passthrough:///omni",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReceive)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { conn.Close() })

	return state.WrapCore(client.NewAdapter(v1alpha1.NewStateClient(conn), client.WithDisableWatchRetry()))
}

// failing answers every call with the same status.
type failing struct {
	v1alpha1.UnimplementedStateServer
	err error
}

func (f failing) Get(context.Context, *v1alpha1.GetRequest) (*v1alpha1.GetResponse, error) {
	return nil, f.err
}

func (f failing) Create(context.Context, *v1alpha1.CreateRequest) (*v1alpha1.CreateResponse, error) {
	return nil, f.err
}

func (f failing) Update(context.Context, *v1alpha1.UpdateRequest) (*v1alpha1.UpdateResponse, error) {
	return nil, f.err
}

func (f failing) Destroy(context.Context, *v1alpha1.DestroyRequest) (*v1alpha1.DestroyResponse, error) {
	return nil, f.err
}

func (f failing) Teardown(context.Context, *v1alpha1.TeardownRequest) (*v1alpha1.TeardownResponse, error) {
	return nil, f.err
}

func (f failing) List(*v1alpha1.ListRequest, v1alpha1.State_ListServer) error    { return f.err }
func (f failing) Watch(*v1alpha1.WatchRequest, v1alpha1.State_WatchServer) error { return f.err }

// TestErrorsOverGRPC puts every code on every verb through COSI's own client, as Omni would.
func TestErrorsOverGRPC(t *testing.T) {
	t.Parallel()

	const (
		notFound  = "not found"
		rejected  = "rejected"
		denied    = "denied"
		conflict  = "conflict"
		transient = "transient"
	)

	want := map[codes.Code]string{
		codes.NotFound:           notFound,
		codes.InvalidArgument:    rejected,
		codes.PermissionDenied:   denied,
		codes.Unauthenticated:    denied,
		codes.Unimplemented:      rejected,
		codes.OutOfRange:         rejected,
		codes.AlreadyExists:      conflict,
		codes.FailedPrecondition: conflict,
		codes.Aborted:            conflict,
		codes.Unavailable:        transient,
		codes.DeadlineExceeded:   transient,
		codes.ResourceExhausted:  transient,
		codes.Internal:           transient,
		codes.Unknown:            transient,
		codes.Canceled:           transient,
		codes.DataLoss:           transient,
	}

	verbs := map[string]func(context.Context, state.State, resource.Resource) error{
		"get": func(ctx context.Context, st state.State, r resource.Resource) error {
			_, err := st.Get(ctx, r.Metadata())

			return err
		},
		"list": func(ctx context.Context, st state.State, r resource.Resource) error {
			_, err := st.List(ctx, r.Metadata())

			return err
		},
		"create": func(ctx context.Context, st state.State, r resource.Resource) error { return st.Create(ctx, r) },
		"update": func(ctx context.Context, st state.State, r resource.Resource) error { return st.Update(ctx, r) },
		"destroy": func(ctx context.Context, st state.State, r resource.Resource) error {
			return st.Destroy(ctx, r.Metadata())
		},
		"teardown": func(ctx context.Context, st state.State, r resource.Resource) error {
			_, err := st.Teardown(ctx, r.Metadata())
			return err
		},
		"watch": func(ctx context.Context, st state.State, r resource.Resource) error {
			return st.WatchKindAggregated(ctx, r.Metadata(), make(chan []state.Event))
		},
	}

	for code, kind := range want {
		st := serveState(t, failing{err: status.Error(code, "failed to validate: 1 error occurred:\n\t* the cluster is locked\n\n")})

		for verb, call := range verbs {
			t.Run(fmt.Sprintf("%s/%s", code, verb), func(t *testing.T) {
				t.Parallel()

				err := call(t.Context(), st, newCluster("a"))
				if err == nil {
					t.Fatal("no error")
				}

				// As callers wrap it, too.
				for _, err := range []error{err, fmt.Errorf("update Cluster %q: %w", "a", err)} {
					got := map[string]bool{notFound: NotFound(err), rejected: Rejected(err), denied: Denied(err), conflict: Conflict(err), transient: Transient(err)}

					for class, is := range got {
						if is != (class == kind) {
							t.Errorf("%s: %v for %v (%T), want only %s", class, is, err, err, kind)
						}
					}

					if got, want := Message(err), "failed to validate: the cluster is locked"; !strings.HasSuffix(got, want) {
						t.Errorf("message %q, want %q at its end", got, want)
					}
				}
			})
		}
	}
}

func TestErrorsOfNil(t *testing.T) {
	t.Parallel()

	if NotFound(nil) || Rejected(nil) || Denied(nil) || Remedy(nil) != "" || Conflict(nil) || Transient(nil) || Message(nil) != "" {
		t.Error("nil is an error")
	}
}

func TestMessage(t *testing.T) {
	t.Parallel()

	for _, test := range []struct {
		err  error
		want string
	}{
		{errors.New("plain"), "plain"},
		{status.Error(codes.InvalidArgument, "no such version"), "no such version"},
		{fmt.Errorf("update: %w", status.Error(codes.Unavailable, "away")), "update: away"},
		{errors.New("rpc error: code = Unknown desc = rpc error: code = Internal desc = twice"), "twice"},
		{status.Error(codes.InvalidArgument, "2 errors occurred:\n\t* one\n\t* two\n\n"), "one; two"},
		{
			status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`),
			"dial tcp 127.0.0.1:1: connect: connection refused",
		},
		{errors.New(strings.Repeat("é", 2*maxMessage)), strings.Repeat("é", maxMessage/2) + "…"},
	} {
		if got := Message(test.err); got != test.want {
			t.Errorf("Message(%q) = %q, want %q", test.err, got, test.want)
		}
	}
}

func TestEqualSpec(t *testing.T) {
	t.Parallel()

	long := strings.Repeat("machine: {}\n", 1_000)

	compressed := func(data string) *omni.ConfigPatch {
		r := newPatch("p", "", "")
		if err := r.TypedSpec().Value.SetUncompressedData([]byte(data)); err != nil {
			t.Fatal(err)
		}

		return r
	}

	broken := newPatch("p", "", "")
	//lint:ignore SA1019 the accessors do not write what they cannot read
	broken.TypedSpec().Value.CompressedData = []byte("no zstd")

	group := func(mode int32, compress bool) *omni.KubernetesManifestGroup {
		r := omni.NewKubernetesManifestGroup("g")
		r.TypedSpec().Value.Mode = specs.KubernetesManifestGroupSpec_Mode(mode)
		config := plainConfig
		config.Enabled = compress

		if err := r.TypedSpec().Value.SetUncompressedData([]byte(long), specs.WithConfigCompressionOption(config)); err != nil {
			t.Fatal(err)
		}

		return r
	}

	if newPatch("p", "", long).TypedSpec().Equal(compressed(long).TypedSpec()) {
		t.Fatal("nothing is compressed: this test shows nothing")
	}

	for name, test := range map[string]struct {
		a, b resource.Resource
		want bool
	}{
		"equal":                       {newPatch("p", "", "x"), newPatch("p", "", "x"), true},
		"different":                   {newPatch("p", "", "x"), newPatch("p", "", "y"), false},
		"metadata does not count":     {newPatch("p", "a", "x"), newPatch("q", "b", "x"), true},
		"one compressed":              {newPatch("p", "", long), compressed(long), true},
		"the other compressed":        {compressed(long), newPatch("p", "", long), true},
		"both compressed":             {compressed(long), compressed(long), true},
		"compressed, different":       {compressed(long), newPatch("p", "", long+"x"), false},
		"other fields still count":    {group(0, true), group(1, false), false},
		"manifests, one compressed":   {group(0, true), group(0, false), true},
		"another type":                {newPatch("p", "", ""), newCluster("p"), false},
		"two types that compress":     {newPatch("p", "", long), group(0, true), false},
		"broken equals its own bytes": {broken, broken.DeepCopy(), true},
		"broken equals nothing else":  {broken, newPatch("p", "", "no zstd"), false},
	} {
		if got := EqualSpec(test.a, test.b); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
