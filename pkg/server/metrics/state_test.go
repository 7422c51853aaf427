package metrics_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/server/metrics"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// The read model as Prometheus sees it.
func TestReadModel(t *testing.T) {
	created := func() diff.Change {
		return diff.Change{Action: diff.Create, New: resource.Resource(omnires.NewCluster("b"))}
	}
	e := fleet(1)
	e.status.Sources = append(e.status.Sources,
		sync.SourceStatus{Name: "lab", Fetched: true, Error: "fetch https://git.example.com/lab.git: no such host", Problems: make(template.Problems, 2)},
		sync.SourceStatus{Name: "late"})
	e.status.Targets = append(e.status.Targets,
		sync.TargetStatus{Key: sync.Key{Source: "lab"}, Sync: sync.Unknown, Cause: sync.CauseInvalid},
		sync.TargetStatus{Key: sync.Key{Source: "lab", Target: "b"}, Sync: sync.OutOfSync, Cause: sync.CauseLocked, Health: sync.Missing, Plan: &diff.Plan{Changes: []diff.Change{created(), created()}}},
		sync.TargetStatus{Key: sync.Key{Source: "lab", Target: "c"}, Sync: sync.Unknown, Health: "Lost"},
		sync.TargetStatus{Key: sync.Key{Source: "lab", Target: "d"}, Sync: sync.OutOfSync, Cause: sync.CauseLeaving, Health: "Lost", Plan: &diff.Plan{Changes: []diff.Change{{Action: diff.Mark}}}})

	s := &snapshot{err: errors.New("waiting"), age: 90 * time.Second, server: "v1.99.0", stats: []omni.KindStats{
		{Kind: omni.Kind{Type: "Clusters.omni.sidero.dev"}, Resources: 3, Bootstraps: 1, Resumes: 4, Failures: 5},
	}}

	m := metrics.New("v1")
	m.Wrote(sync.Key{Source: "lab", Target: "d"}, diff.Mark, sync.ResultSuccess, true)

	lines := scrape(t, handler(m, e, s))
	has(t, lines,
		`omni_syncd_cluster_info{cluster="cluster-00000",health="Healthy",source="fleet",sync="Synced"} 1`,
		`omni_syncd_cluster_info{cluster="b",health="Missing",source="lab",sync="OutOfSync"} 1`,
		`omni_syncd_fleet_info{source="fleet",sync="Synced"} 1`,
		`omni_syncd_clusters{health="Healthy",sync="Synced"} 1`,
		`omni_syncd_clusters{health="Missing",sync="OutOfSync"} 1`,
		`omni_syncd_clusters{health="Degraded",sync="Synced"} 0`,
		`omni_syncd_clusters{health="Lost",sync="Unknown"} 1`,
		`omni_syncd_waiting{cluster="d",reason="leaving",source="lab"} 1`,
		`omni_syncd_clusters_omitted 0`,
		`omni_syncd_pending_changes{action="create",source="lab"} 2`,
		`omni_syncd_waiting{cluster="b",reason="locked",source="lab"} 1`,
		`omni_syncd_waiting{cluster="",reason="invalid",source="lab"} 1`,
		`omni_syncd_pending_changes{action="destroy",source="fleet"} 0`,
		`omni_syncd_source_up{source="fleet"} 1`,
		`omni_syncd_source_up{source="lab"} 0`,
		`omni_syncd_source_up{source="late"} 0`,
		`omni_syncd_source_problems{source="lab"} 2`,
		`omni_syncd_source_last_poll_timestamp_seconds{source="fleet"} 1.7000000005e+09`,
		`omni_syncd_omni_info{tested="false",version="v1.99.0"} 1`,
		`omni_syncd_snapshot_ready 0`,
		`omni_syncd_snapshot_age_seconds 90`,
		`omni_syncd_snapshot_resources{type="Clusters.omni.sidero.dev"} 3`,
		`omni_syncd_snapshot_resumes_total{type="Clusters.omni.sidero.dev"} 4`,
		`omni_syncd_snapshot_watch_failures_total{type="Clusters.omni.sidero.dev"} 5`,
		`omni_syncd_last_activity_timestamp_seconds 1.7e+09`,
	)
	lacks(t, lines, `source_last_poll_timestamp_seconds{source="lab"}`)
	lacks(t, lines, "no such host") // what servers say is no label
	lacks(t, lines, `omni_syncd_waiting{cluster="c"`)
	lacks(t, lines, `action="mark"`) // people do not see marks
	lacks(t, lines, `omni_syncd_waiting{cluster="cluster-00000"`)
}

// However many clusters there are and whatever they call themselves, the number of
// series is bounded, the scrape succeeds and every cluster is counted (G12).
func TestG12_Cardinality(t *testing.T) {
	e := fleet(metrics.MaxClusters + 7)
	for i, name := range []string{"\xff\xfe", strings.Repeat("x", 1<<20), "a\nb"} {
		e.status.Targets[i+1].Target = name // in front, where they would be shown
	}

	lines := scrape(t, handler(metrics.New("v1"), e, current()))
	has(t, lines, "omni_syncd_clusters_omitted 7", fmt.Sprintf(`omni_syncd_clusters{health="Healthy",sync="Synced"} %d`, metrics.MaxClusters+7))

	shown := 0

	for _, line := range lines {
		if strings.HasPrefix(line, "omni_syncd_cluster_info{") {
			shown++
		}
	}

	if shown != metrics.MaxClusters {
		t.Errorf("%d clusters have a series, want %d", shown, metrics.MaxClusters)
	}
}

// A configuration may name other Git servers and sources for years.
func TestG12_ReloadsForYears(t *testing.T) {
	m := metrics.New("v1")
	e := fleet(0)
	h := handler(m, e, current())

	for i := range 2000 {
		key := sync.Key{Source: fmt.Sprint("source-", i), Target: "a"}
		e.status.Sources = []sync.SourceStatus{{Name: key.Source}}

		m.Reconciled(key, sync.ResultRetry, time.Second)
		m.Wrote(key, diff.Create, sync.ResultSuccess, true)
		m.Git(source.Request{Host: fmt.Sprint("git-", i, ".example.com"), Kind: source.RequestLook})
	}

	lines := scrape(t, h)
	has(t, lines,
		`omni_syncd_reconcile_errors_total{class="retry",source="source-1999"} 1`,
		`omni_syncd_writes_total{action="create",result="success",source="source-1999"} 1`,
		`omni_syncd_git_requests_total{host="other",kind="look",result="success"} 1744`)
	lacks(t, lines, `source="source-1998"`)

	if len(lines) > 4000 {
		t.Errorf("%d series are left", len(lines))
	}
}

// What a host is called comes from a person.
func TestLabels(t *testing.T) {
	m := metrics.New("v\xff1\n")

	for _, host := range []string{"", "\xff\xfe\n", strings.Repeat("ä", 300)} {
		m.Git(source.Request{Host: host, Kind: source.RequestFetch, Failed: true, Took: time.Second})
	}

	lines := scrape(t, handler(m, fleet(0), current()))
	has(t, lines,
		`omni_syncd_git_requests_total{host="local",kind="fetch",result="failure"} 1`,
		`omni_syncd_git_requests_total{host="",kind="fetch",result="failure"} 1`,
		`omni_syncd_git_requests_total{host="`+strings.Repeat("ä", 126)+`",kind="fetch",result="failure"} 1`)
}

func BenchmarkScrape(b *testing.B) {
	for _, clusters := range []int{1000, metrics.MaxClusters} {
		b.Run(fmt.Sprint(clusters), func(b *testing.B) {
			h := handler(metrics.New("v1"), fleet(clusters), current())
			b.ReportAllocs()

			for b.Loop() {
				w := get(h, http.MethodGet, "/metrics")
				b.ReportMetric(float64(w.Body.Len()), "bytes/scrape")
			}
		})
	}
}

// Who leads, and which part of the fleet a process works on.
func TestReplica(t *testing.T) {
	e := fleet(1)
	lines := scrape(t, handler(metrics.New("v1"), e, current()))
	has(t, lines, `omni_syncd_leader 0`, `omni_syncd_shard_info{shard="0",shards="1"} 1`)

	e.lead, e.shard = sync.Leadership{Term: 3, Leader: "me"}, sync.Shard{Index: 2, Count: 4}
	lines = scrape(t, handler(metrics.New("v1"), e, current()))
	has(t, lines, `omni_syncd_leader 1`, `omni_syncd_shard_info{shard="2",shards="4"} 1`)
}
