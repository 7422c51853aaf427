package monitoring

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// dashboard is what these tests look at of Grafana's format.
type dashboard struct {
	Title, UID    string
	SchemaVersion int
	Panels        []panel
	Annotations   struct{ List []annotation }
	Templating    struct{ List []variable }
}

type panel struct {
	ID          int
	Type, Title string
	GridPos     struct{ H, W, X, Y int }
	Datasource  *datasource
	Targets     []query
	Panels      []panel
}

type datasource struct{ Type, UID string }

type query struct {
	RefID, Expr, LegendFormat string
	Datasource                *datasource
	Range, Instant            bool
}

type annotation struct {
	Name, Expr string
	Datasource *datasource
}

type variable struct {
	Name, Type, Definition string
	Datasource             *datasource
}

func board(t *testing.T) dashboard {
	t.Helper()

	var d dashboard
	if err := json.Unmarshal([]byte(readFile(t, dashboardFile)), &d); err != nil {
		t.Fatal(err)
	}

	return d
}

// queries are all expressions of the dashboard, by where they stand.
func (d *dashboard) queries() map[string]string {
	all := map[string]string{}

	for _, p := range d.Panels {
		for _, q := range p.Targets {
			all[p.Title+" "+q.RefID] = q.Expr
		}
	}

	for _, a := range d.Annotations.List {
		if a.Expr != "" {
			all[a.Name] = a.Expr
		}
	}

	return all
}

// selected puts "all" in the place of the dashboard's variables, as Grafana does.
func selected(expr, interval string) string {
	return strings.NewReplacer("$__rate_interval", interval, "$namespace", ".*", "$job", ".*", "$source", ".*", "$cluster", ".*").Replace(expr)
}

// Grafana takes the file as it is: everything has a place and a name of its own, and whoever
// imports it says which Prometheus it is about.
func TestDashboard(t *testing.T) {
	d := board(t)

	if d.SchemaVersion < 39 || d.UID == "" || d.Title == "" {
		t.Errorf("schema %d, uid %q, title %q", d.SchemaVersion, d.UID, d.Title)
	}

	var ids []int

	taken := map[[2]int]string{}

	for _, p := range d.Panels {
		if slices.Contains(ids, p.ID) || p.ID == 0 {
			t.Errorf("%s: the ID %d is taken", p.Title, p.ID)
		}

		ids = append(ids, p.ID)

		if p.Title == "" || p.GridPos.W < 1 || p.GridPos.H < 1 || p.GridPos.X < 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%q stands at %+v", p.Title, p.GridPos)
		}

		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok {
					t.Fatalf("%s covers %s", p.Title, other)
				}

				taken[[2]int{x, y}] = p.Title
			}
		}

		if p.Type == "row" {
			continue
		}

		checkPanel(t, p)
	}

	for _, v := range d.Templating.List {
		if v.Type == "query" && (v.Datasource == nil || v.Datasource.UID != "${datasource}") {
			t.Errorf("the variable %s asks another Prometheus than the dashboard", v.Name)
		}
	}
}

func checkPanel(t *testing.T, p panel) {
	t.Helper()

	if len(p.Targets) == 0 {
		t.Errorf("%s asks for nothing", p.Title)
	}

	var refs []string

	for _, q := range p.Targets {
		if slices.Contains(refs, q.RefID) || q.RefID == "" {
			t.Errorf("%s: the query %q is there twice", p.Title, q.RefID)
		}

		refs = append(refs, q.RefID)

		for _, from := range []*datasource{p.Datasource, q.Datasource} {
			if from == nil || *from != (datasource{"prometheus", "${datasource}"}) {
				t.Errorf("%s asks %+v", p.Title, from)
			}
		}

		if q.Range == q.Instant {
			t.Errorf("%s asks for both a moment and a time, or neither", p.Title)
		}
	}
}

var variableName = regexp.MustCompile(`\$\{?([a-z_]+)`)

// Every variable that is used is there, and the other way round.
func TestVariables(t *testing.T) {
	d, text := board(t), readFile(t, dashboardFile)

	defined := map[string]bool{"__rate_interval": true, "__all": true}
	for _, v := range d.Templating.List {
		defined[v.Name] = true

		if used := strings.Count(text, "$"+v.Name) + strings.Count(text, "${"+v.Name+"}"); used == 0 {
			t.Errorf("$%s is never used", v.Name)
		}
	}

	for _, found := range variableName.FindAllStringSubmatch(text, -1) {
		if !defined[found[1]] && !strings.HasPrefix(found[1], "labels") {
			t.Errorf("$%s is not defined", found[1])
		}
	}
}

// Grafana's own schema knows every field of it, and lacks none.
func TestSchema(t *testing.T) {
	if os.Getenv("OMNI_SYNCD_TEST_TOOLS") != "required" {
		t.Skip("it compiles Grafana's schema for a minute: OMNI_SYNCD_TEST_TOOLS=required")
	}

	path, err := filepath.Abs(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}

	if out, err := exec.CommandContext(t.Context(), "go", "run", "-C", "../../tools/dashboard", ".", path).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// Every query is PromQL.
func TestQueries(t *testing.T) {
	promtool := need(t, "promtool")
	d := board(t)

	var file strings.Builder

	file.WriteString("groups:\n  - name: dashboard\n    rules:\n")

	for _, where := range slices.Sorted(keys(d.queries())) {
		expr := selected(d.queries()[where], "5m")
		fmt.Fprintf(&file, "      # %s\n      - {record: q, expr: %q}\n", where, expr)
	}

	path := filepath.Join(t.TempDir(), "queries.yaml")
	if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}

	if out, err := exec.CommandContext(t.Context(), promtool, "check", "rules", "--lint=none", path).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
