package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/server/metrics"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// everything returns a scrape in which every metric has a value.
func everything(t *testing.T) (m *metrics.Metrics, text string) {
	t.Helper()

	m = metrics.New("v1.2.3")
	key := sync.Key{Source: "fleet", Target: "a"}

	m.Reconciled(key, sync.ResultRetry, time.Second)
	m.Wrote(key, diff.Create, sync.ResultSuccess, false)
	m.Git(source.Request{Host: "git.example.com", Kind: source.RequestLook})
	get(m.Webhooks(http.NotFoundHandler()), http.MethodPost, "/hooks/fleet")

	conn, err := grpc.NewClient("127.0.0.1:1", append(m.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	if err := conn.Invoke(t.Context(), "/cosi.resource.State/Get", &emptypb.Empty{}, &emptypb.Empty{}); err == nil {
		t.Fatal("nobody answers there")
	}

	api := httptest.NewServer(connect.NewUnaryHandler("/v1/Status", func(context.Context, *connect.Request[emptypb.Empty]) (*connect.Response[emptypb.Empty], error) {
		return nil, errors.New("no")
	}, connect.WithInterceptors(m.API())))
	defer api.Close()

	if _, err := connect.NewClient[emptypb.Empty, emptypb.Empty](api.Client(), api.URL).CallUnary(t.Context(), connect.NewRequest(&emptypb.Empty{})); err == nil {
		t.Fatal("the call succeeds")
	}

	e := fleet(1)
	e.status.Targets[1].Sync, e.status.Targets[1].Cause = sync.OutOfSync, sync.CauseLocked

	w := get(handler(m, e, current()), http.MethodGet, "/metrics")
	if w.Code != http.StatusOK {
		t.Fatal(w.Code, w.Body)
	}

	return m, w.Body.String()
}

// Names and help are as Prometheus wants them.
func TestLint(t *testing.T) {
	_, text := everything(t)

	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}

	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// Nothing secret has a way into a label: the labels are these, and what may stand in
// each is a matter of review.
func TestLabelNames(t *testing.T) {
	_, text := everything(t)

	known := strings.Fields("action class cluster code goversion health host kind le method procedure reason result shard shards source sync tested type version")

	for _, row := range rows(text) {
		for _, name := range row.labels {
			if !slices.Contains(known, name) {
				t.Errorf("%s has the label %s, which nobody has thought about: is it bounded, and never secret?", row.name, name)
			}
		}
	}
}

const docs = "../../../docs/metrics.md"

// docs/metrics.md lists every metric as it is. `go test ./pkg/server/metrics -update`
// writes it.
func TestDocs(t *testing.T) {
	m, text := everything(t)

	const begin, end = "<!-- begin: go test ./pkg/server/metrics -update -->\n", "<!-- end -->"

	page, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}

	before, rest, ok := strings.Cut(string(page), begin)
	listed, after, closed := strings.Cut(rest, end)

	if !ok || !closed {
		t.Fatalf("%s has lost its marks", docs)
	}

	var table strings.Builder

	table.WriteString("| metric | type | labels | meaning |\n|---|---|---|---|\n")

	var shown []string

	for _, row := range rows(text) {
		shown = append(shown, row.name)

		labels := "`" + strings.Join(row.labels, "`, `") + "`"
		if len(row.labels) == 0 {
			labels = ""
		}

		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", row.name, row.kind, labels, row.help)
	}

	names := m.Names()
	slices.Sort(names)

	if d := cmp.Diff(slices.Compact(names), shown); d != "" {
		t.Errorf("some metrics have no value in this test (-registered +shown):\n%s", d)
	}

	if *update {
		if err := os.WriteFile(docs, []byte(before+begin+table.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}

		return
	}

	if d := cmp.Diff(table.String(), listed); d != "" {
		t.Errorf("%s is stale, run `go test ./pkg/server/metrics -update` (-is +listed):\n%s", docs, d)
	}
}

type row struct {
	name, help, kind string
	labels           []string
}

var labelName = regexp.MustCompile(`[{,]([a-z]+)="`)

// rows reads the metrics of ours from a scrape, sorted by name.
func rows(text string) []row {
	var all []row

	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		words := strings.SplitN(line, " ", 4)

		switch {
		case strings.HasPrefix(line, "# HELP omni_syncd_"):
			all = append(all, row{name: words[2], help: words[3]})
		case strings.HasPrefix(line, "# TYPE omni_syncd_"):
			all[len(all)-1].kind = words[3]
		case strings.HasPrefix(line, "omni_syncd_"):
			last := &all[len(all)-1]

			for _, found := range labelName.FindAllStringSubmatch(line, -1) {
				if name := found[1]; name != "le" && !slices.Contains(last.labels, name) {
					last.labels = append(last.labels, name)
				}
			}

			slices.Sort(last.labels)
		}
	}

	return all
}
