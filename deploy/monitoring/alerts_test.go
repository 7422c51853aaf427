package monitoring

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"gopkg.in/yaml.v3"
)

const (
	alertsFile    = "../helm/omni-syncd/files/alerts.yaml"
	dashboardFile = "../helm/omni-syncd/files/dashboard.json"
)

// need returns where a tool is that the product does without: a test that lacks one is skipped
// on a developer's machine, and fails where .ci/run has installed it.
func need(t *testing.T, tool string) string {
	t.Helper()

	path, err := exec.LookPath(tool)

	switch {
	case err == nil:
	case os.Getenv("OMNI_SYNCD_TEST_TOOLS") == "required":
		t.Fatal(err)
	default:
		t.Skip(err)
	}

	return path
}

// rule is one alert.
type rule struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

// rules reads the alerts.
func rules(t *testing.T) []rule {
	t.Helper()

	var file struct {
		Groups []struct {
			Name  string
			Rules []rule
		}
	}

	if err := yaml.Unmarshal([]byte(readFile(t, alertsFile)), &file); err != nil {
		t.Fatal(err)
	}

	var all []rule
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}

	return all
}

// The alerts are rules, and fire when they should and only then.
func TestAlerts(t *testing.T) {
	promtool := need(t, "promtool")

	path, err := filepath.Abs(alertsFile)
	if err != nil {
		t.Fatal(err)
	}

	if out, err := exec.CommandContext(t.Context(), promtool, "check", "rules", "--lint=all", "--lint-fatal", path).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	file := filepath.Join(t.TempDir(), "scenes.yaml")
	if err := os.WriteFile(file, []byte(document(path, scenes())), 0o600); err != nil {
		t.Fatal(err)
	}

	if out, err := exec.CommandContext(t.Context(), promtool, "test", "rules", file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// Whoever is woken is told what happened, how bad it is and what to do.
func TestAnnotations(t *testing.T) {
	for _, rule := range rules(t) {
		switch rule.Labels["severity"] {
		case "critical", "warning", "info":
		default:
			t.Errorf("%s: severity %q", rule.Alert, rule.Labels["severity"])
		}

		for _, name := range []string{"summary", "description", "runbook_url"} {
			if rule.Annotations[name] == "" {
				t.Errorf("%s has no %s", rule.Alert, name)
			}
		}

		if rule.For == "" {
			t.Errorf("%s fires at once: one scrape that is late would wake somebody", rule.Alert)
		}
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()

	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	return string(data)
}
