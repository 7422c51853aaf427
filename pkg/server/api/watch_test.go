package api_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"connectrpc.com/connect"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
	"github.com/omni-syncd/omni-syncd/pkg/server"
	"github.com/omni-syncd/omni-syncd/pkg/server/api"
	"github.com/omni-syncd/omni-syncd/pkg/server/auth"
)

// remote is somebody who comes over the network with a token, whose grants can be changed.
type remote struct {
	*asker

	file, hash string
}

// connect gives somebody a token.
func (w *world) connect(t *testing.T, grants string) *remote {
	t.Helper()

	token, hash, err := auth.NewToken()
	if err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	r := &remote{file: filepath.Join(dir, "tokens.yaml"), hash: hash}
	r.grant(t, grants)

	ca := newAuthority(t, dir)
	address := w.listen(t, server.Config{Listen: "127.0.0.1:0", CertFile: ca.CertFile, KeyFile: ca.KeyFile, HTTP2: true}, r.file)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)

	r.asker = newAsker(&http.Client{Transport: withHeader{transport, "Bearer " + token}}, "https://"+address)

	return r
}

// grant changes what the token is good for; "" takes it back.
func (r *remote) grant(t *testing.T, grants string) {
	t.Helper()

	text := "tokens: []\n"
	if grants != "" {
		text = fmt.Sprintf("tokens: [{name: x, hash: %q, grants: %s}]\n", r.hash, grants)
	}

	if err := os.WriteFile(r.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// picture is what somebody who watches knows.
type picture map[string]bool

func (p picture) take(msg *v1.WatchStatusResponse) {
	if msg.GetAll() {
		clear(p)
	}

	for _, c := range msg.GetClusters() {
		p[c.GetName()] = true
	}

	for _, c := range msg.GetRemovedClusters() {
		delete(p, c.GetName())
	}
}

// watch begins to watch, and returns what reads on until the picture shows some clusters.
func (r *remote) watch(t *testing.T, ctx context.Context) (until func(clusters ...string), stream *connect.ServerStreamForClient[v1.WatchStatusResponse]) {
	t.Helper()

	stream, err := r.status.WatchStatus(ctx, connect.NewRequest(&v1.WatchStatusRequest{}))
	if err != nil {
		t.Fatal(err)
	}

	shown := picture{}

	return func(clusters ...string) {
		t.Helper()

		for {
			if got := slices.Sorted(maps.Keys(shown)); slices.Equal(got, clusters) {
				return
			}

			if !stream.Receive() {
				t.Fatalf("the stream ended with %v, want %v: %v", shown, clusters, stream.Err())
			}

			shown.take(stream.Msg())
		}
	}, stream
}

// A watch once went on for as long as somebody liked after the token was taken back, and
// showed what the token was no longer good for.
func TestWatch_FollowsTheGrants(t *testing.T) {
	w := start(t, nil)
	w.Apply(t, fleet("a", "b"))

	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()

	r := w.connect(t, "[{role: viewer, clusters: [a]}]")
	until, stream := r.watch(t, ctx)

	until("a")
	r.grant(t, "[{role: viewer, clusters: [b, c]}]")
	until("b") // although nothing happens
	w.Apply(t, fleet("a", "b", "c"))
	until("b", "c")
	r.grant(t, "[{role: operator}]")
	until("a", "b", "c")
	r.grant(t, "")

	for stream.Receive() {
	}

	if got := connect.CodeOf(stream.Err()); got != connect.CodeUnauthenticated {
		t.Errorf("the stream of a token that was taken back ended with %v", stream.Err())
	}
}

// What a caller must not see is no reason to tell that anything happened.
func TestWatch_TellsNothingOfOthers(t *testing.T) {
	w := start(t, nil)
	w.Apply(t, fleet("a", "b"))

	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()

	until, stream := w.connect(t, "[{role: viewer, clusters: [b]}]").watch(t, ctx)

	until("b")

	files := fleet("a", "b")
	files["a.yaml"] = template("a", "1.35.0", "")
	w.Apply(t, files)
	files["b.yaml"] = template("b", "1.35.0", "")
	w.Apply(t, files)

	for stream.Receive() {
		msg := stream.Msg()
		if len(msg.GetClusters())+len(msg.GetSources()) == 0 {
			t.Errorf("an empty message: %v", msg)
		}

		for _, c := range msg.GetClusters() {
			if c.GetName() != "b" {
				t.Errorf("told of %s", c.GetName())
			}

			if c.GetSync() == v1.SyncState_SYNC_STATE_SYNCED && c.GetRevision() == w.revision(t) {
				return
			}
		}
	}

	t.Fatal(stream.Err())
}

func (w *world) revision(t *testing.T) string {
	t.Helper()

	all, _ := w.Status()

	return all.Sources[0].Revision
}

// One caller once could take all the places for streams.
func TestStreams_OneCallerLeavesSomeToOthers(t *testing.T) {
	w := start(t, nil)
	w.Apply(t, fleet("a"))

	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()

	r := w.connect(t, "[{role: viewer}]")

	for range api.MaxCallerStreams {
		until, _ := r.watch(t, ctx)
		until("a")
	}

	stream, err := r.status.WatchStatus(ctx, connect.NewRequest(&v1.WatchStatusRequest{}))
	if err != nil {
		t.Fatal(err)
	}

	for stream.Receive() {
	}

	refused(t, "one more", stream.Err(), connect.CodeResourceExhausted, "you have 8 streams and waiting calls already")

	name := "a"
	if _, err := w.operator.Reconcile(ctx, connect.NewRequest(&v1.ReconcileRequest{Cluster: &name, Wait: true})); err != nil {
		t.Errorf("the owner at the socket: %v", err)
	}
}
