package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
	"github.com/omni-syncd/omni-syncd/api/omnisyncd/v1/omnisyncdv1connect"
	"github.com/omni-syncd/omni-syncd/pkg/server/api"
)

// serveStuck serves a status with which nothing happens.
func serveStuck(t testing.TB, s *stuck, edit func(*api.Config)) *world {
	t.Helper()

	w := &world{}
	cfg := s.config(t)

	if edit != nil {
		edit(&cfg)
	}

	w.serve(t, cfg)

	return w
}

// post sends a request as curl would, and returns the status and the answer.
func (w *world) post(t *testing.T, method, procedure, contentType, body string) (int, string) {
	t.Helper()

	req, err := http.NewRequestWithContext(t.Context(), method, "http://api"+procedure, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}

	req.Header.Set("Content-Type", contentType)

	res, err := w.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}

	answer, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		t.Fatal(err)
	}

	return res.StatusCode, string(answer)
}

func TestJSON(t *testing.T) {
	w := serveStuck(t, &stuck{}, nil)

	for _, test := range []struct {
		name, method, procedure, contentType, body string
		status                                     int
		answer                                     string
	}{
		{"list", "POST", omnisyncdv1connect.StatusServiceListClustersProcedure, "application/json", `{"cluster": "a"}`, 200, `"message":"somebody has to do something"`},
		{"charset", "POST", omnisyncdv1connect.StatusServiceListClustersProcedure, "application/json; charset=utf-8", `{"clster": "a"}`, 400, `unknown field`},
		{"not found", "POST", omnisyncdv1connect.StatusServiceGetPlanProcedure, "application/json", `{"cluster": "b"}`, 404, `"code":"not_found"`},
		{"no plan", "POST", omnisyncdv1connect.StatusServiceGetPlanProcedure, "application/json", `{"cluster": "a"}`, 400, `"failed_precondition","message":"there is no plan yet: somebody has`},
		{"misspelt", "POST", omnisyncdv1connect.OperatorServiceReconcileProcedure, "application/json", `{"source": "test", "clster": "a"}`, 400, `unknown field`},
		{"by GET", "GET", omnisyncdv1connect.OperatorServiceReconcileProcedure + "?connect=v1&encoding=json&message=%7B%22source%22%3A%22test%22%7D", "", "", 405, ""},
		{"status by GET", "GET", omnisyncdv1connect.StatusServiceListClustersProcedure, "", "", 405, ""},
		{"no procedure", "POST", "/omnisyncd.v1.OperatorService/Destroy", "application/json", `{}`, 404, ""},
		{"a form", "POST", omnisyncdv1connect.OperatorServiceReconcileProcedure, "application/x-www-form-urlencoded", `source=test`, 415, ""},
		{"oversized", "POST", omnisyncdv1connect.OperatorServiceReconcileProcedure, "application/json", `{"source": "` + strings.Repeat("x", api.MaxRequest) + `"}`, 429, "resource_exhausted"},
		{"huge", "POST", omnisyncdv1connect.OperatorServiceReconcileProcedure, "application/json", `{"source": "` + strings.Repeat("x", 1<<20) + `"}`, 429, "resource_exhausted"},
		{"health", "POST", "/grpc.health.v1.Health/Check", "application/json", `{}`, 200, `"status":"SERVING"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, answer := w.post(t, test.method, test.procedure, test.contentType, test.body)
			if compact := strings.ReplaceAll(strings.ReplaceAll(answer, `": "`, `":"`), `", "`, `","`); status != test.status || !contains(compact, test.answer) {
				t.Errorf("%d %s, want %d … %s …", status, answer, test.status, test.answer)
			}
		})
	}

	if len(w.asked(t)) > 0 {
		t.Error("one of these was carried out")
	}

	// What was not understood is in the audit log, too.
	expect(t, "audit", 6, len(slices.DeleteFunc(w.audits(), func(line string) bool { return !contains(line, "not understood") })))
}

// asked returns the audit lines of what was carried out.
func (w *world) asked(*testing.T) []string {
	return slices.DeleteFunc(w.audits(), func(line string) bool { return !strings.HasSuffix(line, " ok") })
}

// Two sources that have a cluster of one name: one has to be named.
func TestSameName(t *testing.T) {
	s := &stuck{}
	s.add("one", "a", "")
	s.add("two", "a")
	w := serveStuck(t, s, nil)

	_, err := w.operator.Reconcile(t.Context(), reconcile("", "a", false))
	refused(t, "which", err, connect.CodeInvalidArgument, "is in the sources one and two: name one of them")

	if _, err := w.operator.Reconcile(t.Context(), reconcile("two", "a", false)); err != nil {
		t.Error(err)
	}

	res, err := w.operator.Reconcile(t.Context(), connect.NewRequest(&v1.ReconcileRequest{Source: "one", Cluster: new(string)}))
	if err != nil || len(res.Msg.GetClusters()) != 1 {
		t.Errorf("fleet resources: %v, %v", res, err)
	}
}

func TestGRPC(t *testing.T) {
	w := serveStuck(t, &stuck{}, nil)

	conn, err := grpc.NewClient("unix://"+w.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // nothing is lost with it

	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()

	var clusters v1.ListClustersResponse
	if err := conn.Invoke(ctx, omnisyncdv1connect.StatusServiceListClustersProcedure, &v1.ListClustersRequest{}, &clusters); err != nil || len(clusters.GetClusters()) != 1 {
		t.Errorf("%v, %v", &clusters, err)
	}

	err = conn.Invoke(ctx, omnisyncdv1connect.StatusServiceGetPlanProcedure, &v1.GetPlanRequest{Cluster: "b"}, &v1.GetPlanResponse{})
	expect(t, "code", codes.NotFound, status.Code(err))

	err = conn.Invoke(ctx, omnisyncdv1connect.OperatorServiceConfirmProcedure, &v1.ConfirmRequest{Source: strings.Repeat("x", api.MaxRequest)}, &v1.ConfirmResponse{})
	expect(t, "oversized", codes.ResourceExhausted, status.Code(err))

	short, done := context.WithTimeout(ctx, 200*time.Millisecond)
	defer done()

	err = conn.Invoke(short, omnisyncdv1connect.OperatorServiceReconcileProcedure, reconcile("", "a", true).Msg, &v1.ReconcileResponse{})
	expect(t, "deadline", codes.DeadlineExceeded, status.Code(err))

	web := omnisyncdv1connect.NewStatusServiceClient(w.http, "http://api", connect.WithGRPCWeb())
	if res, err := web.ListClusters(ctx, connect.NewRequest(&v1.ListClustersRequest{})); err != nil || len(res.Msg.GetClusters()) != 1 {
		t.Errorf("gRPC-Web: %v, %v", res, err)
	}

	health := grpc_health_v1.NewHealthClient(conn)

	for service, want := range map[string]codes.Code{"": codes.OK, "omnisyncd.v1.StatusService": codes.OK, "omnisyncd.v1.Nothing": codes.NotFound} {
		_, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
		expect(t, "health of "+service, want, status.Code(err))
	}

	reflection, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}

	if err := reflection.Send(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}

	list, err := reflection.Recv()
	if err != nil {
		t.Fatal(err)
	}

	var names []string
	for _, service := range list.GetListServicesResponse().GetService() {
		names = append(names, service.GetName())
	}

	slices.Sort(names)
	expect(t, "services", []string{"grpc.health.v1.Health", "omnisyncd.v1.AccessService", "omnisyncd.v1.OperatorService", "omnisyncd.v1.StatusService"}, names)

	watch, err := health.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}

	first, err := watch.Recv()
	expect(t, "health", grpc_health_v1.HealthCheckResponse_SERVING, first.GetStatus())
	w.handler.Close()

	last, lastErr := watch.Recv()
	expect(t, "health at the end", grpc_health_v1.HealthCheckResponse_NOT_SERVING, last.GetStatus())

	if err := errors.Join(err, lastErr); err != nil {
		t.Error(err)
	}
}

// envelope frames a message of a stream as Connect does.
func envelope(message string) []byte {
	return append([]byte{0, 0, 0, byte(len(message) >> 8), byte(len(message))}, message...)
}

// A watcher that stops reading is cut off, and its place is free again.
func TestStalledWatcher(t *testing.T) {
	s := &stuck{}
	s.many(5_000)
	ended := make(chan error, 10)

	w := serveStuck(t, s, func(cfg *api.Config) {
		cfg.MaxStreams, cfg.WriteTimeout = 1, 500*time.Millisecond
	})

	conn, err := net.Dial("unix", w.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // it is cut off

	body := envelope("{}")

	req, err := http.NewRequest(http.MethodPost, "http://api"+omnisyncdv1connect.StatusServiceWatchStatusProcedure, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}

	req.Header.Set("Content-Type", "application/connect+json")

	if err := req.Write(conn); err != nil {
		t.Fatal(err)
	}

	if _, err := conn.Read(make([]byte, 1)); err != nil { // it is being answered
		t.Fatal(err)
	}

	watch := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()

		stream, err := w.WatchStatus(ctx, connect.NewRequest(&v1.WatchStatusRequest{}))
		if err != nil {
			return err
		}
		defer stream.Close() //nolint:errcheck // one message is enough

		if !stream.Receive() {
			return stream.Err()
		}

		return nil
	}

	refused(t, "a second watcher", watch(), connect.CodeResourceExhausted, "there are 1 streams")

	// The place is asked for again and again, as a client would.
	go func() {
		for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
			if err := watch(); connect.CodeOf(err) != connect.CodeResourceExhausted {
				ended <- err

				return
			}
		}
	}()

	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(timeout):
		t.Error("the stalled watcher holds its place")
	}
}

// A request that does not arrive as a whole is given up, with all protocols.
func TestSlowRequest(t *testing.T) {
	w := serveStuck(t, &stuck{}, func(cfg *api.Config) { cfg.ReadTimeout = 100 * time.Millisecond })

	for _, contentType := range []string{"application/json", "application/grpc-web+proto"} {
		conn, err := net.Dial("unix", w.socket)
		if err != nil {
			t.Fatal(err)
		}

		_, err = io.WriteString(conn, "POST "+omnisyncdv1connect.OperatorServiceReconcileProcedure+" HTTP/1.1\r\nHost: api\r\nContent-Type: "+contentType+"\r\nContent-Length: 100\r\n\r\n{")
		if err != nil {
			t.Fatal(err)
		}

		answer, err := io.ReadAll(conn) // the server closes
		if err != nil || !contains(string(answer), "the request did not arrive within 100ms") && !contains(strings.ToLower(string(answer)), "grpc-status: 4") {
			t.Errorf("%s: %q, %v", contentType, answer, err)
		}

		_ = conn.Close()
	}

	// The same over HTTP/2: the stream is never closed by the client.
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)

	transport := &http.Transport{Protocols: protocols, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", w.socket)
	}}
	defer transport.CloseIdleConnections()

	body, never := io.Pipe()
	defer never.Close() //nolint:errcheck // nothing was written

	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://api"+omnisyncdv1connect.OperatorServiceReconcileProcedure, body)
	if err != nil {
		t.Fatal(err)
	}

	req.Header.Set("Content-Type", "application/json")

	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // only read from

	var answer struct{ Code string }
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || answer.Code != "deadline_exceeded" {
		t.Errorf("%s, %+v, %v", res.Status, answer, err)
	}

	expect(t, "audit", []string{"Reconcile not understood", "Reconcile not understood", "Reconcile not understood"}, w.audits())
}
