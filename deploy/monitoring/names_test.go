package monitoring

import (
	"iter"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const metricsPage = "../../docs/metrics.md"

func keys[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }

var documented = regexp.MustCompile("(?m)^\\| `(omni_syncd_[a-z_]+)` \\| (\\w+) \\| (.*?) \\|")

// listed reads the labels of all metrics from docs/metrics.md, which is generated.
func listed(t *testing.T) map[string][]string {
	t.Helper()

	all := map[string][]string{}

	for _, found := range documented.FindAllStringSubmatch(readFile(t, metricsPage), -1) {
		name, kind := found[1], found[2]
		labels := strings.FieldsFunc(found[3], func(r rune) bool { return r == '`' || r == ',' || r == ' ' })

		if kind == "histogram" {
			all[name+"_sum"], all[name+"_count"] = labels, labels
			all[name+"_bucket"] = append([]string{"le"}, labels...)
		} else {
			all[name] = labels
		}
	}

	if len(all) < 20 {
		t.Fatalf("%s lists %d metrics", metricsPage, len(all))
	}

	return all
}

var (
	selector = regexp.MustCompile(`\b(omni_syncd_[a-z_]+)(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"`)
	grouping = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	named    = regexp.MustCompile(`count_values [^"]*"(\w+)"|label_values\([^,]*, (\w+)\)`)
	legend   = regexp.MustCompile(`\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}`)
)

// ofTargets are the labels that Prometheus gives to a target.
var ofTargets = []string{"namespace", "job", "instance"}

// missing returns what an expression asks for that does not exist: metrics and labels.
func missing(expr string, known map[string][]string) (wrong []string) {
	labels := slices.Clone(ofTargets)

	for _, found := range selector.FindAllStringSubmatch(expr, -1) {
		its, ok := known[found[1]]
		if !ok {
			wrong = append(wrong, "there is no metric "+found[1])
		}

		its = append(slices.Clone(ofTargets), its...)
		labels = append(labels, its...)

		for _, m := range matcher.FindAllStringSubmatch(found[2], -1) {
			if !slices.Contains(its, m[1]) {
				wrong = append(wrong, found[1]+" has no label "+m[1])
			}
		}
	}

	if strings.Contains(expr, "ALERTS{") {
		labels = append(labels, "alertname", "source", "cluster")
	}

	var asked []string

	for _, found := range grouping.FindAllStringSubmatch(expr, -1) {
		asked = append(asked, strings.FieldsFunc(found[1], func(r rune) bool { return r == ',' || r == ' ' })...)
	}

	for _, found := range named.FindAllStringSubmatch(expr, -1) {
		asked = append(asked, found[1]+found[2])
	}

	for _, label := range asked {
		if !slices.Contains(labels, label) {
			wrong = append(wrong, "nothing in it has the label "+label)
		}
	}

	return wrong
}

func checkNames(t *testing.T, where, expr string, known map[string][]string) {
	t.Helper()

	for _, wrong := range missing(expr, known) {
		t.Errorf("%s: %s", where, wrong)
	}
}

// What alerts and dashboard ask for exists: renaming a metric breaks this.
func TestNames(t *testing.T) {
	known := listed(t)

	for _, rule := range rules(t) {
		checkNames(t, rule.Alert, rule.Expr, known)

		for _, text := range rule.Annotations {
			for _, found := range legend.FindAllStringSubmatch(text, -1) {
				if name := found[1]; name != "end" && name != "else" && !strings.Contains(rule.Expr, name) && !slices.Contains(ofTargets, name) {
					t.Errorf("%s speaks of %s, which it does not know", rule.Alert, name)
				}
			}
		}
	}

	d := board(t)
	for where, expr := range d.queries() {
		checkNames(t, where, expr, known)
	}

	for _, v := range d.Templating.List {
		checkNames(t, "$"+v.Name, v.Definition, known)
	}

	for _, p := range d.Panels {
		for _, q := range p.Targets {
			for _, found := range legend.FindAllStringSubmatch(q.LegendFormat, -1) {
				if name := found[1]; !strings.Contains(q.Expr, name) && !slices.Contains(ofTargets, name) {
					t.Errorf("%s: the legend speaks of %s", p.Title, name)
				}
			}
		}
	}
}

// The test of names finds what is wrong.
func TestNamesAreChecked(t *testing.T) {
	known := map[string][]string{"omni_syncd_x": {"source"}}

	for expr, good := range map[string]bool{
		`sum by (source) (rate(omni_syncd_x{source="a", job=~"b"}[5m]))`: true,
		`omni_syncd_y`:                              false,
		`omni_syncd_x{host="a"}`:                    false,
		`sum by (host) (omni_syncd_x)`:              false,
		`omni_syncd_x * on (job) group_left (x) up`: false,
		`label_values(omni_syncd_x, host)`:          false,
	} {
		if wrong := missing(expr, known); (len(wrong) == 0) != good {
			t.Errorf("%s: %v", expr, wrong)
		}
	}
}

// Every metric is shown or watched by somebody.
func TestNothingIsForgotten(t *testing.T) {
	text := readFile(t, alertsFile) + readFile(t, dashboardFile)

	// What only matters while somebody looks for something; docs/metrics.md explains it.
	beside := strings.Fields(`omni_syncd_api_requests_in_flight omni_syncd_clusters_omitted omni_syncd_config_last_reload_success_timestamp_seconds
		omni_syncd_omni_info omni_syncd_omni_requests_in_flight omni_syncd_queue_adds_total omni_syncd_queue_retries_total omni_syncd_queue_unfinished_work_seconds
		omni_syncd_queue_work_duration_seconds omni_syncd_snapshot_bootstraps_total omni_syncd_snapshot_resumes_total omni_syncd_suspended`)

	for name := range listed(t) {
		name = regexp.MustCompile(`_(sum|count|bucket)$`).ReplaceAllString(name, "")
		if !strings.Contains(text, name) && !slices.Contains(beside, name) {
			t.Errorf("%s is neither in an alert nor on the dashboard", name)
		}
	}
}
