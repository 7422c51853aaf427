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
	"net"
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
	"github.com/omni-syncd/omni-syncd/test/authority"
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
		return plain(c.operator.Confirm, ctx, &v1.ConfirmRequest{Source: daemonSource, Digest: "0123456789ab"})
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

// anyError stands for whatever TLS 1.3 leaves of a refusal: it comes after the client has
// begun to talk.
const anyError = "*"

// TestWaysNotIn are ways on which nobody gets as far as a token.
func TestWaysNotIn(t *testing.T) {
	w := start(t, nil)
	w.Apply(t, fleet("a"))

	dir := t.TempDir()
	ca := newAuthority(t, dir)
	tokens, file := tokensOf(t, dir)
	tlsOnly := w.listen(t, server.Config{Listen: "127.0.0.1:0", CertFile: ca.CertFile, KeyFile: ca.KeyFile, HTTP2: true}, file)
	mutual := w.listen(t, server.Config{Listen: "127.0.0.1:0", CertFile: ca.CertFile, KeyFile: ca.KeyFile, ClientCAFile: ca.CAFile, HTTP2: true}, file)

	for _, test := range []struct {
		name, url string
		tls       *tls.Config
		token     bool
		want      string // a part of the error; "" for none
	}{
		{"the server's authority is unknown", "https://" + tlsOnly, &tls.Config{}, true, "certificate signed by unknown authority"},
		{"clear text", "http://" + tlsOnly, nil, true, "400 Bad Request"},
		{"TLS 1.1", "https://" + tlsOnly, &tls.Config{RootCAs: ca.Pool, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, true, "protocol version"},
		{"no client certificate", "https://" + mutual, &tls.Config{RootCAs: ca.Pool}, true, anyError},
		{"a client certificate of somebody else", "https://" + mutual, &tls.Config{RootCAs: ca.Pool, Certificates: []tls.Certificate{newAuthority(t, t.TempDir()).Client}}, true, anyError},
		{"a client certificate, no token", "https://" + mutual, &tls.Config{RootCAs: ca.Pool, Certificates: []tls.Certificate{ca.Client}}, false, "unauthenticated"},
		{"both", "https://" + mutual, &tls.Config{RootCAs: ca.Pool, Certificates: []tls.Certificate{ca.Client}}, true, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			header := ""
			if test.token {
				header = "Bearer " + tokens["operator"]
			}

			transport := &http.Transport{TLSClientConfig: test.tls, ForceAttemptHTTP2: true}
			defer transport.CloseIdleConnections()

			_, err := newAsker(&http.Client{Transport: withHeader{transport, header}}, test.url).status.ListSources(t.Context(), connect.NewRequest(&v1.ListSourcesRequest{}))
			if (err == nil) != (test.want == "") || err != nil && test.want != anyError && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// overHTTP2 returns a client of the socket that speaks HTTP/2, as gRPC does.
func (w *world) overHTTP2(t *testing.T) *http.Client {
	t.Helper()

	transport := &http.Transport{Protocols: new(http.Protocols), DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", w.socket)
	}}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)

	return &http.Client{Transport: transport}
}

// Who connects and says nothing is cut off.
func TestHalfOpen(t *testing.T) {
	t.Parallel()

	w := start(t, nil)
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	_, file := tokensOf(t, dir)
	address := w.listen(t, server.Config{Listen: "127.0.0.1:0", CertFile: ca.CertFile, KeyFile: ca.KeyFile, HTTP2: true}, file)

	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // it is closed by the server

	// The first bytes of a handshake, and no more.
	if _, err = conn.Write([]byte{22, 3, 1}); err != nil {
		t.Fatal(err)
	}

	if err = conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		t.Fatal(err)
	}

	if _, err = io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
}

// withHeader sends an Authorization header.
type withHeader struct {
	http.RoundTripper

	value string
}

func (h withHeader) RoundTrip(r *http.Request) (*http.Response, error) {
	if h.value != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", h.value)
	}

	return h.RoundTripper.RoundTrip(r)
}

// listen serves the API at an address until the test ends.
func (w *world) listen(t *testing.T, cfg server.Config, tokenFile string) (address string) {
	t.Helper()

	tokens, err := auth.NewTokens(auth.TokensConfig{File: tokenFile})
	if err != nil {
		t.Fatal(err)
	}

	// The failures of one address are bounded, and here all callers are one.
	cfg.Handler = auth.Require(auth.Config{Authenticators: []auth.Authenticator{tokens}, FailureBurst: 1000}, w.handler)

	s, err := server.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)

	go func() { done <- s.Run(ctx) }()

	t.Cleanup(func() {
		stop()

		if err := <-done; err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})

	return s.Addr()
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

func newAuthority(t *testing.T, dir string) *authority.Authority {
	t.Helper()

	a, err := authority.New(dir)
	if err != nil {
		t.Fatal(err)
	}

	return a
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
