package api_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
	"github.com/omni-syncd/omni-syncd/api/omnisyncd/v1/omnisyncdv1connect"
	"github.com/omni-syncd/omni-syncd/pkg/access"
	"github.com/omni-syncd/omni-syncd/pkg/history"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/server"
	"github.com/omni-syncd/omni-syncd/pkg/server/api"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
	"github.com/omni-syncd/omni-syncd/test/secrets"
)

// timeout bounds every wait of a test.
const timeout = time.Minute

// world is a daemon with its API at a socket.
type world struct {
	omnisyncdv1connect.StatusServiceClient

	*daemon.Daemon

	operator omnisyncdv1connect.OperatorServiceClient
	http     *http.Client
	socket   string
	logs     *observer.ObservedLogs
	handler  *api.Handler
	config   api.Config
}

// start starts a daemon against an embedded Omni, with a history.
func start(tb testing.TB, edit func(*api.Config)) *world {
	tb.Helper()

	store := history.Open(history.Config{Path: filepath.Join(tb.TempDir(), "history.db")})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})

	go func() {
		defer close(done)

		store.Run(ctx)
	}()

	tb.Cleanup(func() {
		stop()
		<-done
	})

	o := daemon.StartOmni(tb, embedded.Config{NoControllers: true})
	w := &world{Daemon: daemon.Start(tb, o, func(cfg *sync.Config, _ *omni.SnapshotConfig) {
		cfg.History = store
		cfg.KeepSuspended = func([]sync.Suspension) error { return nil }
	})}
	cfg := api.Config{Engine: w.Daemon, History: store, Access: access.NewIssuer(access.IssuerConfig{
		Omni: o.Conn, Clusters: w.Daemon, ServiceAccounts: &access.ServiceAccountPolicy{MaxTTL: time.Hour, Users: []string{"ci"}, Groups: []string{"readers"}},
	})}

	if edit != nil {
		edit(&cfg)
	}

	w.serve(tb, cfg)

	return w
}

// serve serves an API at a socket until the test ends.
func (w *world) serve(tb testing.TB, cfg api.Config) {
	tb.Helper()

	var core zapcore.Core

	core, w.logs = observer.New(zapcore.DebugLevel)
	cfg.Logger = zap.New(core)
	w.handler, w.config = api.New(cfg), cfg

	dir, err := os.MkdirTemp("", "api") // short: the path of a socket is
	if err != nil {
		tb.Fatal(err)
	}

	tb.Cleanup(func() { _ = os.RemoveAll(dir) })

	w.socket = filepath.Join(dir, "api.sock")

	s, err := server.Listen(server.Config{Socket: w.socket, Handler: w.handler, Logger: cfg.Logger})
	if err != nil {
		tb.Fatal(err)
	}

	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)

	go func() { done <- s.Run(ctx) }()

	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", w.socket)
	}}

	w.http = &http.Client{Transport: transport}
	w.StatusServiceClient = omnisyncdv1connect.NewStatusServiceClient(w.http, "http://api")
	w.operator = omnisyncdv1connect.NewOperatorServiceClient(w.http, "http://api")

	tb.Cleanup(func() {
		transport.CloseIdleConnections()
		w.handler.Close()
		stop()

		if err := <-done; err != nil {
			tb.Error(err)
		}

		for _, line := range w.logs.All() {
			if found := secrets.Find(fmt.Append(nil, line.Message, line.ContextMap())); found != "" {
				tb.Errorf("a secret is in the log: %s…", found)
			}
		}
	})
}

// template returns the template of a cluster with one machine.
func template(name, kubernetes, annotations string) *fstest.MapFile {
	return &fstest.MapFile{Data: fmt.Appendf(nil,
		"kind: Cluster\nname: %s\nannotations: {%s}\nkubernetes: {version: v%s}\ntalos: {version: v1.12.0}\n---\nkind: ControlPlane\nmachines: [5f3a1c00-0000-4000-8000-%012d]\n",
		name, annotations, kubernetes, int(name[0]))}
}

const manual = "omni-syncd/sync: manual"

// fleet returns the templates of clusters; those whose names begin with m are manual.
func fleet(names ...string) fstest.MapFS {
	files := fstest.MapFS{}

	for _, name := range names {
		annotations := ""
		if name[0] == 'm' {
			annotations = manual
		}

		files[name+".yaml"] = template(name, "1.34.3", annotations)
	}

	return files
}

// broken is a template that cannot be rendered, in a file whose name is not UTF-8.
const broken = "bad\xff.yaml"

// clusters lists what a request asks for.
func (w *world) clusters(t *testing.T, req *v1.ListClustersRequest) map[string]v1.SyncState {
	t.Helper()

	res, err := w.ListClusters(t.Context(), connect.NewRequest(req))
	if err != nil {
		t.Fatal(err)
	}

	got := map[string]v1.SyncState{}
	for _, c := range res.Msg.GetClusters() {
		got[c.GetName()] = c.GetSync()
	}

	return got
}

// refused fails unless an error has a code and a message.
func refused(t *testing.T, what string, err error, code connect.Code, message string) {
	t.Helper()

	if connect.CodeOf(err) != code || err == nil || !contains(err.Error(), message) {
		t.Errorf("%s: %v, want %s: … %s …", what, err, code, message)
	}
}

func expect(t *testing.T, what string, want, got any) {
	t.Helper()

	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}
