package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/omni-syncd/omni-syncd/pkg/forge/forgetest"
)

// action is what a test needs of action.yml.
type action struct {
	Inputs map[string]struct {
		Default string `yaml:"default"`
	} `yaml:"inputs"`
	Outputs map[string]struct {
		Value string `yaml:"value"`
	} `yaml:"outputs"`
	Runs struct {
		Using string `yaml:"using"`
		Steps []struct {
			ID    string            `yaml:"id"`
			If    string            `yaml:"if"`
			Uses  string            `yaml:"uses"`
			Shell string            `yaml:"shell"`
			Env   map[string]string `yaml:"env"`
			Run   string            `yaml:"run"`
		} `yaml:"steps"`
	} `yaml:"runs"`
}

var pinned = regexp.MustCompile(`^[\w-]+/[\w-]+@[0-9a-f]{40}$`)

func readAction(t *testing.T) *action {
	t.Helper()

	data, err := os.ReadFile(filepath.Join("..", "..", "action.yml"))
	if err != nil {
		t.Fatal(err)
	}

	var a action
	if err := yaml.Unmarshal(data, &a); err != nil {
		t.Fatal(err)
	}

	for _, step := range a.Runs.Steps {
		if strings.Contains(step.Run, "${{") {
			t.Errorf("a step has an expression in its script, where it is code: %s", step.Run)
		}

		if step.Run != "" && (step.Shell != "bash" || !strings.HasPrefix(step.Run, "set -euo pipefail\n")) {
			t.Errorf("a step does not stop at errors: %s", step.Run)
		}

		if step.Uses != "" && !pinned.MatchString(step.Uses) {
			t.Errorf("%s is not pinned to a commit", step.Uses)
		}
	}

	return &a
}

// onGitHub lets the fleet's jobs run as a workflow that uses the action.
func (f *fleet) onGitHub() {
	f.server = forgetest.NewGitHub(f.t)
	f.run = func(inputs map[string]string) ciResult { return f.runAction(readAction(f.t), inputs) }
	f.pushed()

	f.env["GITHUB_EVENT_NAME"] = "pull_request"
}

func (f *fleet) runAction(a *action, inputs map[string]string) ciResult {
	f.t.Helper()

	given := maps.Clone(f.inputs)
	given["binary"] = f.must("sh", "-c", "command -v omni-syncd")
	maps.Copy(given, inputs)

	temp := f.t.TempDir()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		f.t.Fatal(err)
	}

	event, err := json.Marshal(map[string]any{"pull_request": map[string]any{
		"number": forgetest.Number, "head": map[string]any{"sha": f.head, "ref": hostile}, "title": hostile,
	}})
	if f.env["GITHUB_EVENT_NAME"] == "push" {
		event = []byte(`{"ref":"refs/heads/main"}`)
	}

	if err == nil {
		err = os.WriteFile(filepath.Join(temp, "event.json"), event, 0o600)
	}

	if err != nil {
		f.t.Fatal(err)
	}

	runner := map[string]string{
		"CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_ACTION_PATH": root, "RUNNER_TEMP": temp, "GITHUB_WORKSPACE": f.dir,
		"GITHUB_API_URL": f.server.URL, "GITHUB_GRAPHQL_URL": f.server.GraphQL, "GITHUB_SERVER_URL": "https://ghe.example.com",
		"GITHUB_REPOSITORY": forgetest.GitHubProject, "GITHUB_RUN_ID": "12345", "GITHUB_EVENT_PATH": filepath.Join(temp, "event.json"),
		"GITHUB_OUTPUT": filepath.Join(temp, "output"), "GITHUB_STEP_SUMMARY": filepath.Join(temp, "summary"),
		"GITHUB_BASE_REF": "main", "GITHUB_HEAD_REF": hostile, "GITHUB_REF_NAME": hostile,
	}
	if f.env["GITHUB_EVENT_NAME"] == "push" {
		runner["GITHUB_BASE_REF"], runner["GITHUB_HEAD_REF"] = "", ""
	}

	var result ciResult

	for _, step := range a.Runs.Steps {
		if step.If == "inputs.binary == ''" && given["binary"] != "" {
			continue
		}

		if step.Run == "" {
			f.t.Fatalf("the step %q cannot be run here", step.Uses)
		}

		env := map[string]string{}
		for name, value := range step.Env {
			env[name] = f.expression(a, given, value)
		}

		result.code, result.log = f.sh([]string{"bash", "--noprofile", "--norc", "-e", "-o", "pipefail"}, step.Run, runner, f.env, env)
	}

	result.outputs = map[string]string{}

	for line := range strings.Lines(read(f.t, runner["GITHUB_OUTPUT"])) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if _, known := a.Outputs[name]; !known {
			f.t.Errorf("the output %q is not declared", name)
		}

		result.outputs[name] = value
	}

	result.summary = read(f.t, runner["GITHUB_STEP_SUMMARY"])
	f.onlyOrders(result.log, "::error file=", "::warning::")

	return result
}

var expression = regexp.MustCompile(`^\$\{\{ (inputs|github)\.([a-z-]+) \}\}$`)

// expression gives a variable of a step its value. Only what is in the action is known.
func (f *fleet) expression(a *action, given map[string]string, value string) string {
	if value == "${{ github.token }}" {
		return forgetest.Token
	}

	m := expression.FindStringSubmatch(value)
	if m == nil {
		if strings.Contains(value, "${{") {
			f.t.Errorf("the expression %s is not known", value)
		}

		return value
	}

	input, declared := a.Inputs[m[2]]
	if !declared {
		f.t.Errorf("the input %s is not declared", m[2])
	}

	if value, ok := given[m[2]]; ok {
		return value
	}

	return f.expression(a, given, input.Default)
}

// onlyOrders reads a log as a runner of GitHub does, and fails for orders that are not ours.
func (f *fleet) onlyOrders(log string, allowed ...string) {
	f.t.Helper()

	until := ""

	for line := range strings.Lines(log) {
		line = strings.TrimSpace(line)

		switch word, stop := strings.CutPrefix(line, "::stop-commands::"); {
		case until != "":
			if line == "::"+until+"::" {
				until = ""
			}
		case stop:
			until = word
		case strings.HasPrefix(line, "::"), strings.Contains(line, "##["):
			if !slices.ContainsFunc(allowed, func(prefix string) bool { return strings.HasPrefix(line, prefix) }) {
				f.t.Errorf("the log gives an order: %s", line)
			}
		}
	}

	if until != "" {
		f.t.Error("orders stay stopped")
	}
}
