package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
	"k8s.io/client-go/util/workqueue"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/server/metrics"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// What the engine tells.
func TestEngine(t *testing.T) {
	m := metrics.New("v1")
	key := sync.Key{Source: "fleet", Target: "a"}

	m.Reconciled(key, sync.ResultSuccess, 50*time.Millisecond)
	m.Reconciled(key, sync.ResultStalled, 2*time.Second)
	m.Reconciled(key, sync.ResultUnread, 0)
	m.Wrote(key, diff.Update, sync.ResultStalled, false)
	m.Wrote(key, diff.Update, sync.ResultSuccess, true)

	queue := workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.DefaultTypedControllerRateLimiter[int](), workqueue.TypedRateLimitingQueueConfig[int]{Name: "x", MetricsProvider: m.Queue()})
	defer queue.ShutDown()

	queue.Add(1)
	queue.Add(2)
	got, _ := queue.Get()
	queue.Done(got)
	queue.AddAfter(got, time.Hour) // it must not come back before the scrape

	lines := scrape(t, handler(m, fleet(0), current()))
	has(t, lines,
		`omni_syncd_reconcile_duration_seconds_bucket{result="success",source="fleet",le="0.01"} 0`,
		`omni_syncd_reconcile_duration_seconds_bucket{result="success",source="fleet",le="0.1"} 1`,
		`omni_syncd_reconcile_duration_seconds_sum{result="stalled",source="fleet"} 2`,
		`omni_syncd_reconcile_errors_total{class="stalled",source="fleet"} 1`,
		`omni_syncd_writes_total{action="update",result="stalled",source="fleet"} 1`,
		`omni_syncd_drift_writes_total{source="fleet"} 1`,
		`omni_syncd_queue_adds_total 2`, `omni_syncd_queue_depth 1`, `omni_syncd_queue_retries_total 1`,
		`omni_syncd_queue_latency_seconds_count 1`, `omni_syncd_queue_work_duration_seconds_count 1`)
	lacks(t, lines, `class="success"`)
	lacks(t, lines, `class="unread"`)
}

// Every call to a real server is counted with its code, and nothing is counted twice.
func TestOmni(t *testing.T) {
	server, err := embedded.New(embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)

	go func() { done <- server.Run(ctx) }()

	defer func() {
		stop()

		if err := <-done; err != nil {
			t.Error(err)
		}
	}()

	m := metrics.New("v1")

	conn, err := omni.Dial(omni.ConnConfig{
		Endpoint: server.Endpoint(), ServiceAccountKey: server.ServiceAccountKey(embedded.AccountOperator), DialOptions: m.DialOptions(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	h := handler(m, fleet(0), current())
	kind := resource.NewMetadata("default", omnires.ClusterType, "", resource.VersionUndefined)

	if _, err := conn.State().Get(ctx, omnires.NewCluster("none").Metadata()); !state.IsNotFoundError(err) {
		t.Fatal(err)
	}

	if _, err := conn.State().List(ctx, kind); err != nil {
		t.Fatal(err)
	}

	watched, end := context.WithCancel(ctx)
	events := make(chan state.Event)

	if err := conn.State().WatchKind(watched, kind, events, state.WithBootstrapContents(true)); err != nil {
		t.Fatal(err)
	}

	<-events // bootstrapped

	lines := scrape(t, h)
	has(t, lines,
		`omni_syncd_omni_requests_total{code="NotFound",method="cosi.resource.State/Get"} 1`,
		`omni_syncd_omni_requests_total{code="OK",method="cosi.resource.State/List"} 1`,
		`omni_syncd_omni_request_duration_seconds_count{method="cosi.resource.State/Get"} 1`,
		`omni_syncd_omni_request_duration_seconds_count{method="cosi.resource.State/Watch"} 1`,
		`omni_syncd_omni_requests_in_flight{method="cosi.resource.State/List"} 0`,
		`omni_syncd_omni_requests_in_flight{method="cosi.resource.State/Watch"} 1`)
	lacks(t, lines, `requests_total{code="Canceled"`)

	end()

	eventually(t, h, `omni_syncd_omni_requests_total{code="Canceled",method="cosi.resource.State/Watch"} 1`)
	has(t, scrape(t, h), `omni_syncd_omni_requests_in_flight{method="cosi.resource.State/Watch"} 0`)
}

// eventually waits for a line: the end of a stream is noticed beside it.
func eventually(t *testing.T, h http.Handler, want string) {
	t.Helper()

	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()

	for range 1000 {
		if slices.Contains(scrape(t, h), want) {
			return
		}

		<-tick.C
	}

	t.Fatalf("no %s", want)
}

// A stream that nobody receives from any more ends with its context.
func TestAbandonedStream(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		<-stream.Context().Done()

		return nil
	}))
	defer server.Stop()

	go server.Serve(listener) //nolint:errcheck // it is stopped

	m := metrics.New("v1")

	conn, err := grpc.NewClient(listener.Addr().String(), append(m.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	ctx, end := context.WithCancel(t.Context())

	if _, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/x.Y/Watch"); err != nil {
		t.Fatal(err)
	}

	h := handler(m, fleet(0), current())
	has(t, scrape(t, h), `omni_syncd_omni_requests_in_flight{method="x.Y/Watch"} 1`)
	end()
	eventually(t, h, `omni_syncd_omni_requests_total{code="Canceled",method="x.Y/Watch"} 1`)
	has(t, scrape(t, h), `omni_syncd_omni_requests_in_flight{method="x.Y/Watch"} 0`)
}

// A call of the API is counted by its procedure and code, a webhook by its status.
func TestRequests(t *testing.T) {
	m := metrics.New("v1")

	mux := http.NewServeMux()
	mux.Handle("/v1/Status", connect.NewUnaryHandler("/v1/Status", func(_ context.Context, req *connect.Request[emptypb.Empty]) (*connect.Response[emptypb.Empty], error) {
		if req.Header().Get("Fail") != "" {
			return nil, connect.NewError(connect.CodePermissionDenied, errors.New("no"))
		}

		return connect.NewResponse(&emptypb.Empty{}), nil
	}, connect.WithInterceptors(m.API())))
	mux.Handle("/v1/Watch", connect.NewServerStreamHandler("/v1/Watch", func(_ context.Context, _ *connect.Request[emptypb.Empty], out *connect.ServerStream[emptypb.Empty]) error {
		_ = out.Send(&emptypb.Empty{})

		return errors.New("enough")
	}, connect.WithInterceptors(m.API())))
	mux.Handle("/hooks/", m.Webhooks(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })))

	server := httptest.NewServer(mux)
	defer server.Close()

	status := connect.NewClient[emptypb.Empty, emptypb.Empty](server.Client(), server.URL+"/v1/Status")
	failing := connect.NewRequest(&emptypb.Empty{})
	failing.Header().Set("Fail", "yes")

	if _, err := status.CallUnary(t.Context(), connect.NewRequest(&emptypb.Empty{})); err != nil {
		t.Fatal(err)
	}

	if _, err := status.CallUnary(t.Context(), failing); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Fatal(err)
	}

	watch, err := connect.NewClient[emptypb.Empty, emptypb.Empty](server.Client(), server.URL+"/v1/Watch").CallServerStream(t.Context(), connect.NewRequest(&emptypb.Empty{}))
	if err != nil {
		t.Fatal(err)
	}

	for watch.Receive() {
	}

	if err := watch.Close(); err != nil {
		t.Fatal(err)
	}

	res, err := server.Client().Post(server.URL+"/hooks/\xff", "", nil)
	if err != nil {
		t.Fatal(err)
	}

	res.Body.Close()

	has(t, scrape(t, handler(m, fleet(0), current())),
		`omni_syncd_api_requests_total{code="ok",procedure="/v1/Status"} 1`,
		`omni_syncd_api_requests_total{code="permission_denied",procedure="/v1/Status"} 1`,
		`omni_syncd_api_requests_total{code="unknown",procedure="/v1/Watch"} 1`,
		`omni_syncd_api_requests_in_flight{procedure="/v1/Watch"} 0`,
		`omni_syncd_api_request_duration_seconds_count{procedure="/v1/Status"} 2`,
		`omni_syncd_webhook_requests_total{code="202"} 1`)
}

// The configuration that the daemon starts with is in force; one that is ignored shows until
// a good one comes, and leaves the time of the last good one.
func TestConfigured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := metrics.New("v1")
		began := time.Now().Unix()
		shows := func(good int, since int64) {
			t.Helper()
			has(t, scrape(t, handler(m, fleet(0), current())), fmt.Sprint("omni_syncd_config_last_reload_successful ", good),
				"omni_syncd_config_last_reload_success_timestamp_seconds "+strconv.FormatFloat(float64(since), 'g', -1, 64))
		}

		shows(1, began)
		time.Sleep(time.Minute)
		m.Configured(errors.New("line 3: a typo"))
		shows(0, began)
		time.Sleep(time.Minute)
		m.Configured(nil)
		shows(1, began+120)
	})
}
