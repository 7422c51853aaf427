package metrics_test

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/server/metrics"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

var update = flag.Bool("update", false, "write what is generated")

// engine is a read model that stands still.
type engine struct {
	lead  sync.Leadership
	shard sync.Shard

	status sync.Status
	alive  error
	moved  time.Time
	hang   chan struct{} // Status waits for it, if it is there
}

func (e *engine) Status() (sync.Status, <-chan struct{}) {
	if e.hang != nil {
		<-e.hang
	}

	return e.status, nil
}

func (e *engine) Alive() error     { return e.alive }
func (e *engine) Moved() time.Time { return e.moved }

// snapshot is one that stands still, too.
type snapshot struct {
	err   error
	age   time.Duration
	stats []omni.KindStats

	server omni.Server
}

func (s *snapshot) Err() error              { return s.err }
func (s *snapshot) Age() time.Duration      { return s.age }
func (s *snapshot) Stats() []omni.KindStats { return s.stats }
func (s *snapshot) Server() omni.Server     { return s.server }

// fleet returns a read model with that many clusters of one source.
func fleet(clusters int) *engine {
	e := &engine{moved: time.Unix(1_700_000_000, 0), status: sync.Status{
		Ready:   true,
		Sources: []sync.SourceStatus{{Name: "fleet", Fetched: true, LastPoll: time.Unix(1_700_000_000, 5e8)}},
		Targets: []sync.TargetStatus{{Key: sync.Key{Source: "fleet"}, Sync: sync.Synced}},
	}}

	for i := range clusters {
		e.status.Targets = append(e.status.Targets, sync.TargetStatus{
			Key: sync.Key{Source: "fleet", Target: fmt.Sprintf("cluster-%05d", i)}, Sync: sync.Synced, Health: sync.Healthy, Plan: &diff.Plan{},
		})
	}

	return e
}

func current() *snapshot {
	return &snapshot{server: "v1.9.3", stats: []omni.KindStats{{Kind: omni.Kind{Type: "Clusters.omni.sidero.dev"}, Resources: 3, Bootstraps: 1}}}
}

// get answers a request without a connection.
func get(h http.Handler, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))

	return w
}

// scrape returns the lines of our own metrics.
func scrape(t *testing.T, h http.Handler) []string {
	t.Helper()

	w := get(h, http.MethodGet, "/metrics")
	if w.Code != http.StatusOK {
		t.Fatalf("the answer is %d: %s", w.Code, w.Body)
	}

	var lines []string

	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "omni_syncd_") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}

	return lines
}

// has fails the test for each line that the scrape lacks.
func has(t *testing.T, lines []string, want ...string) {
	t.Helper()

	all := "\n" + strings.Join(lines, "\n") + "\n"

	for _, w := range want {
		if !strings.Contains(all, "\n"+w+"\n") {
			t.Errorf("no %s in%s", w, all)
		}
	}
}

// lacks fails the test if a line has that text.
func lacks(t *testing.T, lines []string, text string) {
	t.Helper()

	for _, line := range lines {
		if strings.Contains(line, text) {
			t.Errorf("%s", line)
		}
	}
}

func (e *engine) Leadership() (sync.Leadership, <-chan struct{}) { return e.lead, nil }

func (e *engine) Part() (sync.Shard, bool) { return e.shard, e.shard.Count > 1 }

func handler(m *metrics.Metrics, e *engine, s *snapshot) http.Handler {
	return m.Handler(metrics.HandlerConfig{Engine: e, Snapshot: s})
}
