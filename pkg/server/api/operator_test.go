package api_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// audits returns the results in the audit log, by what was asked for.
func (w *world) audits() (lines []string) {
	for _, entry := range w.logs.FilterMessage("audit").All() {
		fields := entry.ContextMap()
		line := fields["procedure"].(string)

		for _, key := range []string{"source", "cluster", "digest", "result"} {
			if value, ok := fields[key]; ok {
				line += " " + value.(string)
			}
		}

		if fields["uid"] != uint32(os.Getuid()) || fields["pid"] != int32(os.Getpid()) || fields["user"] == "" {
			line += " by somebody else"
		}

		lines = append(lines, line)
	}

	return lines
}

func reconcile(source string, cluster string, wait bool) *connect.Request[v1.ReconcileRequest] {
	req := &v1.ReconcileRequest{Source: source, Wait: wait}
	if cluster != "" {
		req.Cluster = &cluster
	}

	return connect.NewRequest(req)
}

func TestReconcile(t *testing.T) {
	w := start(t, nil)
	w.Apply(t, fleet("a", "m"))

	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()

	res, err := w.operator.Reconcile(ctx, reconcile("", "m", true))
	if err != nil {
		t.Fatal(err)
	}

	expect(t, "a manual cluster", []any{1, synced, true}, []any{len(res.Msg.GetClusters()), res.Msg.GetClusters()[0].GetSync(), res.Msg.GetClusters()[0].GetSettled()})

	if res, err = w.operator.Reconcile(ctx, reconcile(daemon.Source, "", true)); err != nil {
		t.Fatal(err)
	}

	expect(t, "a whole source", 2, len(res.Msg.GetClusters()))

	if _, err = w.operator.Reconcile(ctx, reconcile("", "a", false)); err != nil {
		t.Fatal(err)
	}

	for _, test := range []struct {
		source, cluster string
		code            connect.Code
	}{
		{"", "nobody", connect.CodeNotFound}, {"nobody", "", connect.CodeNotFound}, {"nobody", "a", connect.CodeNotFound},
		{"", "", connect.CodeInvalidArgument}, {"", strings.Repeat("x", 254), connect.CodeInvalidArgument}, {"", "a\x1b[2Jb", connect.CodeInvalidArgument},
	} {
		_, err := w.operator.Reconcile(ctx, reconcile(test.source, test.cluster, true))
		refused(t, test.source+"/"+test.cluster, err, test.code, "")
	}

	expect(t, "audit", []string{
		"Reconcile test m ok", "Reconcile test ok", "Reconcile test a ok",
		"Reconcile nobody not_found", "Reconcile nobody not_found", "Reconcile nobody a not_found",
		"Reconcile invalid_argument", "Reconcile " + strings.Repeat("x", 254) + " invalid_argument", "Reconcile a?[2Jb invalid_argument",
	}, w.audits())
}

// The client's deadline ends the waiting and nothing else; so does the end of the daemon.
func TestReconcileWaits(t *testing.T) {
	o := &stuck{}
	w := &world{}
	w.serve(t, o.config(t))

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()

	_, err := w.operator.Reconcile(ctx, reconcile("", "a", true))
	refused(t, "deadline", err, connect.CodeDeadlineExceeded, "")

	done := make(chan error, 1)

	go func() {
		_, err := w.operator.Reconcile(context.WithoutCancel(t.Context()), reconcile("", "a", true))
		done <- err
	}()

	<-o.asked // the first request
	<-o.asked // the second one
	w.handler.Close()
	refused(t, "the end of the daemon", <-done, connect.CodeUnavailable, "the daemon stops")
}

func TestConfirm(t *testing.T) {
	w := start(t, nil)
	w.Apply(t, fleet("a", "b", "c"))
	status := w.Apply(t, fleet("c"))
	_, digest, _ := strings.Cut(status.Targets[0].Message, "confirm: ")

	confirm := func(source, digest string) error {
		_, err := w.operator.Confirm(t.Context(), connect.NewRequest(&v1.ConfirmRequest{Source: source, Digest: digest}))

		return err
	}

	refused(t, "no source", confirm("", digest), connect.CodeInvalidArgument, "name the source")
	refused(t, "unknown source", confirm("nobody", digest), connect.CodeNotFound, `no source "nobody"`)
	refused(t, "no digest", confirm(daemon.Source, "yes"), connect.CodeInvalidArgument, "12 hexadecimal digits")

	if err := confirm(daemon.Source, digest); err != nil {
		t.Fatal(err)
	}

	w.Until(t, func(s sync.Status) bool { return s.Settled() && len(s.Targets) == 1 })
	expect(t, "left", map[string]v1.SyncState{"c": synced}, w.clusters(t, &v1.ListClustersRequest{}))
	expect(t, "audit", []string{
		"Confirm  " + digest + " invalid_argument", "Confirm nobody " + digest + " not_found", "Confirm test yes invalid_argument", "Confirm test " + digest + " ok",
	}, w.audits())
}
