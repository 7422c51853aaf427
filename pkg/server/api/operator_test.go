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

		for _, key := range []string{"source", "cluster", "name", "result"} {
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
	if !strings.Contains(status.Targets[0].Message, "omni-syncd confirm a") {
		t.Fatalf("nothing waits: %s", status.Targets[0].Message)
	}

	confirm := func(source, name string) error {
		_, err := w.operator.Confirm(t.Context(), connect.NewRequest(&v1.ConfirmRequest{Source: source, Name: name}))

		return err
	}

	refused(t, "no name", confirm("", ""), connect.CodeInvalidArgument, "name a cluster")
	refused(t, "unknown source", confirm("nobody", "a"), connect.CodeNotFound, `no source "nobody"`)
	refused(t, "in Git", confirm(daemon.Source, "c"), connect.CodeNotFound, "nothing waits")

	for _, name := range []string{"a", "b"} {
		if err := confirm("", name); err != nil {
			t.Fatal(err)
		}
	}

	w.Until(t, func(s sync.Status) bool { return s.Settled() && len(s.Targets) == 1 })
	expect(t, "left", map[string]v1.SyncState{"c": synced}, w.clusters(t, &v1.ListClustersRequest{}))
	expect(t, "audit", []string{
		"Confirm   invalid_argument", "Confirm nobody a not_found", "Confirm test c not_found", "Confirm  a ok", "Confirm  b ok",
	}, w.audits())
}
