package api_test

import (
	"context"
	"strings"
	"testing"
	"testing/fstest"

	"connectrpc.com/connect"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
	"github.com/omni-syncd/omni-syncd/pkg/server/api"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

func contains(text, part string) bool { return strings.Contains(text, part) }

const (
	synced    = v1.SyncState_SYNC_STATE_SYNCED
	outOfSync = v1.SyncState_SYNC_STATE_OUT_OF_SYNC
)

func TestStatus(t *testing.T) {
	w := start(t, nil)
	files := fleet("a", "b", "m")
	files[broken] = &fstest.MapFile{Data: []byte("kind: Cluster\nname: c\nkubernetes: {version: v1 : 2}\n")}
	revision := w.Feed(files)
	w.Until(t, func(s sync.Status) bool { return s.Settled() && s.Sources[0].Revision == revision })

	sources, err := w.ListSources(t.Context(), connect.NewRequest(&v1.ListSourcesRequest{}))
	if err != nil {
		t.Fatal(err)
	}

	src := sources.Msg.GetSources()[0]
	expect(t, "source", []any{daemon.Source, true, revision, 1}, []any{src.GetName(), src.GetFetched(), src.GetRevision(), len(src.GetProblems())})

	if problem := src.GetProblems()[0]; !contains(problem, "bad\uFFFD.yaml: ") {
		t.Errorf("problem: %q", problem)
	}

	name := func(s string) *string { return &s }

	expect(t, "all", map[string]v1.SyncState{"a": synced, "b": synced, "m": outOfSync}, w.clusters(t, &v1.ListClustersRequest{}))
	expect(t, "of the source", 3, len(w.clusters(t, &v1.ListClustersRequest{Source: daemon.Source})))
	expect(t, "one", map[string]v1.SyncState{"m": outOfSync}, w.clusters(t, &v1.ListClustersRequest{Cluster: name("m")}))

	for what, req := range map[string]*v1.ListClustersRequest{
		"unknown cluster": {Cluster: name("nobody")}, "unknown source": {Source: "nobody"}, "no fleet resources": {Source: daemon.Source, Cluster: name("")},
	} {
		_, err := w.ListClusters(t.Context(), connect.NewRequest(req))
		refused(t, what, err, connect.CodeNotFound, "there ")
	}

	_, err = w.ListClusters(t.Context(), connect.NewRequest(&v1.ListClustersRequest{Cluster: name("a\nb")}))
	refused(t, "odd name", err, connect.CodeInvalidArgument, `"a?b" is no name`)

	plan, err := w.GetPlan(t.Context(), connect.NewRequest(&v1.GetPlanRequest{Cluster: "m"}))
	if err != nil {
		t.Fatal(err)
	}

	expect(t, "plan", "cluster m (m.yaml): 3 to create\n  + Cluster m\n", strings.Join(strings.SplitAfter(plan.Msg.GetText(), "\n")[:2], ""))
	expect(t, "counts", int32(3), plan.Msg.GetCluster().GetPlan().GetCreate())

	_, err = w.GetPlan(t.Context(), connect.NewRequest(&v1.GetPlanRequest{Cluster: "nobody"}))
	refused(t, "plan of nobody", err, connect.CodeNotFound, `no cluster "nobody"`)
	_, err = w.GetPlan(t.Context(), connect.NewRequest(&v1.GetPlanRequest{}))
	refused(t, "plan of what", err, connect.CodeInvalidArgument, "name a cluster")
}

// A plan shows what changes, and no secret.
func TestPlanWithoutSecrets(t *testing.T) {
	w := start(t, nil)
	files := fleet("m")
	files["m.yaml"].Data = append(files["m.yaml"].Data, []byte("patches:\n  - name: token\n    inline: {machine: {env: {TOKEN: canary-value}, sysctls: {vm.swappiness: shown-value}}}\n")...)
	w.Apply(t, files)

	plan, err := w.GetPlan(t.Context(), connect.NewRequest(&v1.GetPlanRequest{Cluster: "m"}))
	if err != nil {
		t.Fatal(err)
	}

	if text := plan.Msg.GetText(); !contains(text, "ConfigPatch") || contains(plan.Msg.String(), "canary") {
		t.Errorf("plan:\n%s", plan.Msg)
	}

	var diffs strings.Builder
	for _, c := range plan.Msg.GetChanges() {
		diffs.WriteString(c.GetAction() + " " + c.GetKind() + "\n" + c.GetDiff())
	}

	for _, want := range []string{"create Cluster\n", "create ConfigPatch\n", "shown-value", "(secret)"} {
		if !contains(diffs.String(), want) {
			t.Errorf("no %q in\n%s", want, diffs.String())
		}
	}

	if len(plan.Msg.GetConsequences()) == 0 {
		t.Error("a new cluster has no consequences")
	}
}

func TestHistory(t *testing.T) {
	w := start(t, nil)
	w.Apply(t, fleet("a", "b"))
	w.Apply(t, fleet("b"))

	// An entry is written some milliseconds after it happened.
	var entries []*v1.HistoryEntry

	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()

	for len(entries) < 2 {
		res, err := w.ListHistory(ctx, connect.NewRequest(&v1.ListHistoryRequest{Cluster: "a"}))
		if err != nil && connect.CodeOf(err) != connect.CodeNotFound {
			t.Fatal(err)
		} else if err == nil {
			entries = res.Msg.GetEntries()
		}
	}

	expect(t, "of a cluster that is gone", []any{"destroy", "create", v1.Outcome_OUTCOME_SUCCEEDED},
		[]any{entries[0].GetOperations()[0].GetAction(), entries[1].GetOperations()[0].GetAction(), entries[0].GetOutcome()})

	res, err := w.ListHistory(t.Context(), connect.NewRequest(&v1.ListHistoryRequest{Source: daemon.Source, Cluster: "a", Limit: 1}))
	if err != nil || len(res.Msg.GetEntries()) != 1 {
		t.Errorf("%v, %v", res, err)
	}

	for limit, want := range map[int32]connect.Code{-1: connect.CodeInvalidArgument, 1001: connect.CodeInvalidArgument, 1000: 0} {
		_, err := w.ListHistory(t.Context(), connect.NewRequest(&v1.ListHistoryRequest{Cluster: "a", Limit: limit}))
		if want != 0 {
			refused(t, "limit", err, want, "is not between 1 and 1000")
		} else if err != nil {
			t.Error(err)
		}
	}

	_, err = w.ListHistory(t.Context(), connect.NewRequest(&v1.ListHistoryRequest{Cluster: "nobody"}))
	refused(t, "of nobody", err, connect.CodeNotFound, `no cluster "nobody"`)

	none := start(t, func(cfg *api.Config) { cfg.History = nil })
	_, err = none.ListHistory(t.Context(), connect.NewRequest(&v1.ListHistoryRequest{Cluster: "a"}))
	refused(t, "without one", err, connect.CodeFailedPrecondition, "set `stateDir`")
}

func TestWatch(t *testing.T) {
	w := start(t, nil)
	w.Apply(t, fleet("a", "b"))

	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()

	stream, err := w.WatchStatus(ctx, connect.NewRequest(&v1.WatchStatusRequest{}))
	if err != nil || !stream.Receive() {
		t.Fatal(err, stream.Err())
	}

	first := stream.Msg()
	expect(t, "first", []any{true, true, 1, 2}, []any{first.GetAll(), first.GetReady(), len(first.GetSources()), len(first.GetClusters())})

	files := fleet("a")
	files["a.yaml"] = template("a", "1.35.0", "")
	w.Apply(t, files)

	var revision, gone string

	for version := first.GetVersion(); revision != "test@2" || gone != "b"; {
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}

		msg := stream.Msg()
		if msg.GetVersion() <= version || msg.GetAll() {
			t.Errorf("version %d after %d, all: %v", msg.GetVersion(), version, msg.GetAll())
		}

		version = msg.GetVersion()

		for _, c := range msg.GetClusters() {
			if c.GetName() == "a" && c.GetSync() == synced {
				revision = c.GetRevision()
			}
		}

		for _, c := range msg.GetRemovedClusters() {
			gone = c.GetName()
		}
	}

	w.handler.Close()

	for stream.Receive() { // what changed until then
	}

	refused(t, "the end of the daemon", stream.Err(), connect.CodeUnavailable, "the daemon stops")
}

// Whatever a repository or Omni says can be told: it is UTF-8 and bounded.
func TestOddText(t *testing.T) {
	s := &stuck{}
	s.add(daemonSource, "a")
	s.all.Targets[0].Message = "\xff" + strings.Repeat("é", 5000)
	w := serveStuck(t, s, nil)

	res, err := w.ListClusters(t.Context(), connect.NewRequest(&v1.ListClustersRequest{}))
	if err != nil {
		t.Fatal(err)
	}

	if got := res.Msg.GetClusters()[0].GetMessage(); !strings.HasPrefix(got, "\uFFFDéé") || !strings.HasSuffix(got, "éé…") || len(got) > 8<<10+3 {
		t.Errorf("%d bytes: %.10s", len(got), got)
	}
}
