package omni_test

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	api "github.com/siderolabs/omni/client/api/omni/management"
	"github.com/siderolabs/omni/client/pkg/client/management"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

// connect connects to an embedded Omni that has the cluster blue.
func connect(t *testing.T, account string) (*omni.Conn, *embedded.Server) {
	t.Helper()

	server, err := embedded.New(embedded.Config{NoControllers: true})
	if err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)

	go func() { done <- server.Run(ctx) }()

	t.Cleanup(func() {
		stop()

		if err := <-done; err != nil {
			t.Error(err)
		}
	})

	conn, err := omni.Dial(omni.ConnConfig{Endpoint: server.Endpoint(), ServiceAccountKey: server.ServiceAccountKey(account)})
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { conn.Close() }) //nolint:errcheck // nothing is lost with a connection

	blue := omnires.NewCluster("blue")
	blue.TypedSpec().Value.KubernetesVersion, blue.TypedSpec().Value.TalosVersion = "1.34.3", "1.12.0"

	if err := server.State().Create(ctx, blue); err != nil {
		t.Fatal(err)
	}

	return conn, server
}

func TestConfigs(t *testing.T) {
	t.Parallel()

	conn, _ := connect(t, embedded.AccountReader)

	// Nobody gets around Omni, whatever is asked for.
	for _, opts := range [][]management.KubeconfigOption{
		nil, {management.WithGrantType("authcode")}, {management.WithBreakGlassKubeconfig(true)},
	} {
		got, err := conn.Kubeconfig(t.Context(), "blue", opts...)
		if err != nil {
			t.Fatal(err)
		}

		want, err := conn.Management().WithCluster("blue").Kubeconfig(t.Context(), append(opts, management.WithBreakGlassKubeconfig(false))...)
		if err != nil {
			t.Fatal(err)
		}

		if d := cmp.Diff(string(want), string(got)); d != "" {
			t.Error(d)
		}
	}

	got, err := conn.Talosconfig(t.Context(), "blue")
	if err != nil {
		t.Fatal(err)
	}

	want, err := conn.Management().WithCluster("blue").Talosconfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Error(d)
	}
}

func TestConfigs_Errors(t *testing.T) {
	t.Parallel()

	conn, server := connect(t, embedded.AccountReader)

	_, err := conn.Kubeconfig(t.Context(), "blue", management.WithServiceAccount(time.Hour, "ci"))
	wantError(t, err, omni.Denied(err), "no kubeconfig of the cluster blue", "Operator")

	_, err = conn.Kubeconfig(t.Context(), "blue", management.WithGrantType("x"))
	wantError(t, err, omni.Rejected(err), "grant type")

	_, err = conn.Kubeconfig(t.Context(), "")
	wantError(t, err, true, "name it")

	_, err = conn.Talosconfig(t.Context(), "")
	wantError(t, err, true, "name it")

	server.Faults().Add(embedded.Fault{Match: embedded.Match{Verb: "Talosconfig"}, Code: codes.Unavailable})

	_, err = conn.Talosconfig(t.Context(), "blue")
	wantError(t, err, omni.Transient(err), "no talosconfig of the cluster blue")
}

func wantError(t *testing.T, err error, kind bool, words ...string) {
	t.Helper()

	if err == nil || !kind || strings.Contains(err.Error(), "rpc error") {
		t.Fatalf("the error is %v", err)
	}

	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
}

// odd answers with what no Omni does.
type odd struct {
	api.UnimplementedManagementServiceServer

	answer []byte
}

func (o *odd) Kubeconfig(context.Context, *api.KubeconfigRequest) (*api.KubeconfigResponse, error) {
	return &api.KubeconfigResponse{Kubeconfig: o.answer}, nil
}

func (o *odd) Talosconfig(context.Context, *api.TalosconfigRequest) (*api.TalosconfigResponse, error) {
	return &api.TalosconfigResponse{Talosconfig: o.answer}, nil
}

func TestConfigs_OddAnswers(t *testing.T) {
	t.Parallel()

	_, embeddedOmni := connect(t, embedded.AccountReader)

	for want, answer := range map[string][]byte{"the answer is empty": nil, "more than 1048576": bytes.Repeat([]byte("SECRET"), omni.MaxConfig)} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}

		server := grpc.NewServer()
		api.RegisterManagementServiceServer(server, &odd{answer: answer})

		go server.Serve(listener) //nolint:errcheck // ends with Stop
		t.Cleanup(server.Stop)

		conn, err := omni.Dial(omni.ConnConfig{
			Endpoint: "http://" + listener.Addr().String(), ServiceAccountKey: embeddedOmni.ServiceAccountKey(embedded.AccountReader),
		})
		if err != nil {
			t.Fatal(err)
		}

		t.Cleanup(func() { conn.Close() }) //nolint:errcheck // nothing is lost with a connection

		for _, ask := range []func() ([]byte, error){
			func() ([]byte, error) { return conn.Kubeconfig(t.Context(), "blue") },
			func() ([]byte, error) { return conn.Talosconfig(t.Context(), "blue") },
		} {
			data, err := ask()
			wantError(t, err, data == nil && !strings.Contains(err.Error(), "SECRET"), want, "blue")
		}
	}
}
