package api_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"text/tabwriter"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
	"github.com/omni-syncd/omni-syncd/api/omnisyncd/v1/omnisyncdv1connect"
	"github.com/omni-syncd/omni-syncd/pkg/server"
	"github.com/omni-syncd/omni-syncd/pkg/server/auth"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// caller is one column of the matrix: somebody who asks.
type caller struct {
	name   string
	grants string // of the token file, as YAML; "" for none at all
	// header is what is sent; "TOKEN" in it is the caller's.
	header string
	// expires is the token's end.
	expires string
}

var callers = []caller{
	{name: "no token"},
	{name: "wrong token", header: "Bearer osd_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
	{name: "no bearer", header: "Basic TOKEN", grants: "[{role: operator}, {role: access}]"},
	{name: "expired", header: "Bearer TOKEN", grants: "[{role: operator}, {role: access}]", expires: "2020-01-01T00:00:00Z"},
	{name: "viewer of b", header: "Bearer TOKEN", grants: "[{role: viewer, clusters: [b]}]"},
	{name: "viewer of a*", header: "Bearer TOKEN", grants: `[{role: viewer, clusters: ["a*"]}]`},
	{name: "viewer of *", header: "Bearer TOKEN", grants: `[{role: viewer, clusters: ["*"]}]`},
	{name: "viewer", header: "Bearer TOKEN", grants: "[{role: viewer}]"},
	{name: "operator of b", header: "Bearer TOKEN", grants: "[{role: operator, clusters: [b]}]"},
	{name: "operator of a*", header: "Bearer TOKEN", grants: `[{role: operator, clusters: ["a*"]}]`},
	{name: "operator", header: "Bearer TOKEN", grants: "[{role: operator}]"},
	{name: "access to b", header: "Bearer TOKEN", grants: "[{role: access, clusters: [b]}]"},
	{name: "access to a*", header: "Bearer TOKEN", grants: `[{role: access, clusters: ["a*"]}]`},
	{name: "access", header: "Bearer TOKEN", grants: "[{role: access}]"},
}

// asker makes requests as somebody.
type asker struct {
	http connect.HTTPClient
	url  string

	status   omnisyncdv1connect.StatusServiceClient
	operator omnisyncdv1connect.OperatorServiceClient
	access   omnisyncdv1connect.AccessServiceClient
}

func newAsker(http connect.HTTPClient, url string) *asker {
	return &asker{
		http, url, omnisyncdv1connect.NewStatusServiceClient(http, url), omnisyncdv1connect.NewOperatorServiceClient(http, url),
		omnisyncdv1connect.NewAccessServiceClient(http, url),
	}
}

// matrixRow is one row of the matrix: something that is asked for. It returns what the answer
// shows of how much the caller sees.
type matrixRow struct {
	name string
	ask  func(ctx context.Context, c *asker) (string, error)
}

func plain[Req, Res any](call func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error), ctx context.Context, req *Req) (string, error) {
	_, err := call(ctx, connect.NewRequest(req))

	return "", err
}

var a, fleetResources = "a", ""

var matrixRows = []matrixRow{
	{"StatusService.ListSources", func(ctx context.Context, c *asker) (string, error) {
		res, err := c.status.ListSources(ctx, connect.NewRequest(&v1.ListSourcesRequest{}))
		if err != nil {
			return "", err
		}

		return fmt.Sprintf("%d", len(res.Msg.GetSources())), nil
	}},
	{"StatusService.ListClusters", func(ctx context.Context, c *asker) (string, error) {
		res, err := c.status.ListClusters(ctx, connect.NewRequest(&v1.ListClustersRequest{}))
		if err != nil {
			return "", err
		}

		return fmt.Sprintf("%d", len(res.Msg.GetClusters())), nil
	}},
	{"StatusService.ListClusters a", func(ctx context.Context, c *asker) (string, error) {
		return plain(c.status.ListClusters, ctx, &v1.ListClustersRequest{Cluster: &a})
	}},
	{"StatusService.WatchStatus", func(ctx context.Context, c *asker) (string, error) {
		stream, err := c.status.WatchStatus(ctx, connect.NewRequest(&v1.WatchStatusRequest{}))
		if err != nil {
			return "", err
		}
		defer stream.Close() //nolint:errcheck // the first message is enough

		if !stream.Receive() {
			return "", cmp.Or(stream.Err(), io.ErrUnexpectedEOF)
		}

		return fmt.Sprintf("%d", len(stream.Msg().GetClusters())), nil
	}},
	{"StatusService.GetPlan a", func(ctx context.Context, c *asker) (string, error) {
		return plain(c.status.GetPlan, ctx, &v1.GetPlanRequest{Cluster: a})
	}},
	{"StatusService.GetPlan fleet", func(ctx context.Context, c *asker) (string, error) {
		return plain(c.status.GetPlan, ctx, &v1.GetPlanRequest{Source: daemonSource})
	}},
	{"StatusService.GetPlan nobody", func(ctx context.Context, c *asker) (string, error) {
		return plain(c.status.GetPlan, ctx, &v1.GetPlanRequest{Cluster: "nobody"})
	}},
	{"StatusService.ListHistory a", func(ctx context.Context, c *asker) (string, error) {
		return plain(c.status.ListHistory, ctx, &v1.ListHistoryRequest{Cluster: a})
	}},
	{"OperatorService.Reconcile a", func(ctx context.Context, c *asker) (string, error) {
		return plain(c.operator.Reconcile, ctx, &v1.ReconcileRequest{Cluster: &a})
	}},
	{"OperatorService.Reconcile source", func(ctx context.Context, c *asker) (string, error) {
		return plain(c.operator.Reconcile, ctx, &v1.ReconcileRequest{Source: daemonSource})
	}},
	{"OperatorService.Confirm", func(ctx context.Context, c *asker) (string, error) {
		got, err := plain(c.operator.Confirm, ctx, &v1.ConfirmRequest{Source: daemonSource, Name: "a"})
		if err != nil && strings.Contains(err.Error(), sync.ErrNothingToConfirm.Error()) {
			err = nil // it was let in
		}

		return got, err
	}},
	{"OperatorService.Suspend a", func(ctx context.Context, c *asker) (string, error) {
		return plain(c.operator.Suspend, ctx, &v1.SuspendRequest{Cluster: &a})
	}},
	{"OperatorService.Resume a", func(ctx context.Context, c *asker) (string, error) {
		return plain(c.operator.Resume, ctx, &v1.ResumeRequest{Cluster: &a})
	}},
	{"OperatorService.Suspend fleet", func(ctx context.Context, c *asker) (string, error) {
		return plain(c.operator.Suspend, ctx, &v1.SuspendRequest{Source: daemonSource, Cluster: &fleetResources})
	}},
	{"OperatorService.Resume fleet", func(ctx context.Context, c *asker) (string, error) {
		return plain(c.operator.Resume, ctx, &v1.ResumeRequest{Source: daemonSource, Cluster: &fleetResources})
	}},
	{"OperatorService.Suspend source", func(ctx context.Context, c *asker) (string, error) {
		return plain(c.operator.Suspend, ctx, &v1.SuspendRequest{Source: daemonSource})
	}},
	{"OperatorService.Resume source", func(ctx context.Context, c *asker) (string, error) {
		return plain(c.operator.Resume, ctx, &v1.ResumeRequest{Source: daemonSource})
	}},
	{"AccessService.GetKubeconfig a", func(ctx context.Context, c *asker) (string, error) {
		return plain(c.access.GetKubeconfig, ctx, &v1.GetKubeconfigRequest{Cluster: a})
	}},
	{"AccessService.GetKubeconfig a token", func(ctx context.Context, c *asker) (string, error) {
		return plain(c.access.GetKubeconfig, ctx, &v1.GetKubeconfigRequest{Cluster: a, ServiceAccount: account("ci", "readers")})
	}},
	{"AccessService.GetKubeconfig a root", func(ctx context.Context, c *asker) (string, error) {
		return plain(c.access.GetKubeconfig, ctx, &v1.GetKubeconfigRequest{Cluster: a, ServiceAccount: account("ci", "system:masters")})
	}},
	{"AccessService.GetKubeconfig nobody", func(ctx context.Context, c *asker) (string, error) {
		return plain(c.access.GetKubeconfig, ctx, &v1.GetKubeconfigRequest{Cluster: "nobody"})
	}},
	{"AccessService.GetTalosconfig a", func(ctx context.Context, c *asker) (string, error) {
		return plain(c.access.GetTalosconfig, ctx, &v1.GetTalosconfigRequest{Cluster: a})
	}},
	{"grpc.health.v1.Health.Check", func(ctx context.Context, c *asker) (string, error) {
		client := connect.NewClient[grpc_health_v1.HealthCheckRequest, grpc_health_v1.HealthCheckResponse](c.http, c.url+"/grpc.health.v1.Health/Check")

		return plain(client.CallUnary, ctx, &grpc_health_v1.HealthCheckRequest{})
	}},
	{"grpc.reflection", func(ctx context.Context, c *asker) (string, error) {
		stream := grpcreflect.NewClient(c.http, c.url, connect.WithGRPC()).NewStream(ctx)
		defer stream.Close() //nolint:errcheck // one answer is enough

		_, err := stream.ListServices()

		return "", err
	}},
}

func account(user, group string) *v1.ServiceAccount {
	return &v1.ServiceAccount{User: user, Groups: []string{group}, Ttl: durationpb.New(time.Hour)}
}

// outcome is a cell of the matrix.
func outcome(t *testing.T, p matrixRow, c *asker) string {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()

	sees, err := p.ask(ctx, c)

	switch {
	case err == nil && sees != "":
		return "sees " + sees
	case err == nil:
		return "yes"
	}

	words := map[connect.Code]string{connect.CodeUnauthenticated: "401", connect.CodePermissionDenied: "-", connect.CodeNotFound: "404"}

	word, ok := words[connect.CodeOf(err)]
	if !ok {
		t.Errorf("%s: %v", p.name, err)
	}

	// Programs are told why, too.
	if coded := new(connect.Error); word != "401" && (!errors.As(err, &coded) || len(coded.Details()) == 0) {
		t.Errorf("%s: %v has no details", p.name, err)
	}

	return word
}

// TestMatrix asks for everything as everybody. What each gets is in testdata/matrix.txt,
// and stands in docs/access.md.
func TestMatrix(t *testing.T) {
	everyProcedure(t)

	w := start(t, nil)

	files := fleet("a", "b")
	files["class.yaml"] = &fstest.MapFile{Data: []byte("metadata: {namespace: default, type: MachineClasses.omni.sidero.dev, id: class}\nspec: {matchlabels: [x]}\n")}
	w.Apply(t, files)

	dir := t.TempDir()
	ca := newAuthority(t, dir)
	tokens, file := tokensOf(t, dir)
	s := w.listen(t, server.Config{Listen: "127.0.0.1:0", CertFile: ca.CertFile, KeyFile: ca.KeyFile, HTTP2: true}, file)

	columns := []string{"socket"}
	askers := map[string]*asker{"socket": newAsker(w.overHTTP2(t), "http://api")}

	for _, c := range callers {
		columns = append(columns, c.name)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool}, ForceAttemptHTTP2: true}
		t.Cleanup(transport.CloseIdleConnections)

		askers[c.name] = newAsker(&http.Client{Transport: withHeader{transport, strings.ReplaceAll(c.header, "TOKEN", tokens[c.name])}}, "https://"+s)
	}

	var out strings.Builder

	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\t"+strings.Join(columns, "\t"))

	cells := make([][]string, len(matrixRows))

	// One after the other: who suspends resumes.
	for _, name := range columns {
		for i, p := range matrixRows {
			cells[i] = append(cells[i], outcome(t, p, askers[name]))
		}
	}

	for i, p := range matrixRows {
		fmt.Fprintln(table, p.name+"\t"+strings.Join(cells[i], "\t"))
	}

	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}

	golden(t, "testdata/matrix.txt", out.String())

	docs, err := os.ReadFile("../../../docs/access.md")
	if err != nil {
		t.Fatal(err)
	}

	if !strings.Contains(string(docs), out.String()) {
		t.Error("docs/access.md does not hold testdata/matrix.txt")
	}

	auditHoldsNoToken(t, w, tokens)
}

// everyProcedure fails if the matrix lacks a procedure of the API.
func everyProcedure(t *testing.T) {
	t.Helper()

	for _, file := range []protoreflect.FileDescriptor{v1.File_omnisyncd_v1_status_proto, v1.File_omnisyncd_v1_operator_proto, v1.File_omnisyncd_v1_access_proto} {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)

			for j := range service.Methods().Len() {
				name := string(service.Name()) + "." + string(service.Methods().Get(j).Name())
				if !slices.ContainsFunc(matrixRows, func(p matrixRow) bool { return p.name == name || strings.HasPrefix(p.name, name+" ") }) {
					t.Errorf("the matrix has no row for %s", name)
				}
			}
		}
	}
}

// auditHoldsNoToken fails if a token, or a kubeconfig, is in the log.
func auditHoldsNoToken(t *testing.T, w *world, tokens map[string]string) {
	t.Helper()

	var log bytes.Buffer
	for _, line := range w.logs.All() {
		fmt.Fprintln(&log, line.Message, line.ContextMap())
	}

	if !strings.Contains(log.String(), "user:token operator-of-a") {
		t.Errorf("nobody is in the audit log:\n%s", log.String())
	}

	for secret := range maps.Values(tokens) {
		if strings.Contains(log.String(), secret) || strings.Contains(log.String(), secret[4:20]) {
			t.Error("a token is in the log")
		}
	}

	if strings.Contains(log.String(), "eyJ") { // how every JWT begins
		t.Error("the token of a kubeconfig is in the log")
	}
}

// tokensOf makes a token for every caller that has one, and the file.
func tokensOf(t *testing.T, dir string) (tokens map[string]string, file string) {
	t.Helper()

	tokens = map[string]string{}
	text := "tokens:\n"

	for _, c := range callers {
		if c.grants == "" {
			continue
		}

		token, hash, err := auth.NewToken()
		if err != nil {
			t.Fatal(err)
		}

		tokens[c.name] = token
		text += fmt.Sprintf("  - {name: %s, hash: %q, expires: %s, grants: %s}\n",
			strings.NewReplacer(" ", "-", "*", "").Replace(c.name), hash, cmp.Or(c.expires, "2999-01-01T00:00:00Z"), c.grants)
	}

	file = filepath.Join(dir, "tokens.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}

	return tokens, file
}

func golden(t *testing.T, name, got string) {
	t.Helper()

	if *update {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(got), 0o644)); err != nil {
			t.Fatal(err)
		}
	}

	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}

	expect(t, name+" (run with -update)", string(want), got)
}
