package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/omni-syncd/omni-syncd/pkg/forge/forgetest"
)

// component is what a test needs of the GitLab component.
type component struct {
	inputs map[string]struct {
		Default string `yaml:"default"`
	}
	variables map[string]string
	script    []string
}

func readComponent(t *testing.T) *component {
	t.Helper()

	file, err := os.Open(filepath.Join("..", "..", "deploy", "gitlab", "templates", "plan.yml"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // only read from

	var (
		c      component
		header struct {
			Spec struct {
				Inputs map[string]struct {
					Default string `yaml:"default"`
				} `yaml:"inputs"`
			} `yaml:"spec"`
		}
		jobs map[string]struct {
			Variables map[string]string `yaml:"variables"`
			Script    []string          `yaml:"script"`
		}
	)

	decoder := yaml.NewDecoder(file)
	if err := decoder.Decode(&header); err != nil {
		t.Fatal(err)
	}

	if err := decoder.Decode(&jobs); err != nil {
		t.Fatal(err)
	}

	c.inputs = header.Spec.Inputs

	for _, job := range jobs {
		c.variables, c.script = job.Variables, job.Script
	}

	return &c
}

var gitLabInput = regexp.MustCompile(`\$\[\[ inputs\.([a-z-]+) \]\]`)

// onGitLab lets the fleet's jobs run as a pipeline of merge requests that includes the component.
func (f *fleet) onGitLab(shell ...string) {
	f.server = forgetest.NewGitLab(f.t)
	f.run = func(inputs map[string]string) ciResult { return f.runComponent(shell, readComponent(f.t), inputs) }
	f.pushed()

	f.env["GITLAB_TOKEN"] = forgetest.Token
}

func (f *fleet) runComponent(shell []string, c *component, inputs map[string]string) ciResult {
	f.t.Helper()

	given := maps.Clone(f.inputs)
	maps.Copy(given, inputs)

	runner := map[string]string{
		"CI": "true", "GITLAB_CI": "true", "CI_API_V4_URL": f.server.URL, "CI_PROJECT_ID": forgetest.GitLabProject, "CI_JOB_TOKEN": "of no use",
		"CI_MERGE_REQUEST_IID": fmt.Sprint(forgetest.Number), "CI_COMMIT_SHA": f.head, "CI_JOB_URL": "https://gitlab.example.com/job/1",
		"CI_MERGE_REQUEST_DIFF_BASE_SHA": f.git("merge-base", "HEAD", "origin/main"), "CI_MERGE_REQUEST_TITLE": hostile, "CI_COMMIT_REF_NAME": hostile,
	}

	env := map[string]string{}
	for name, value := range c.variables {
		env[name] = gitLabInput.ReplaceAllStringFunc(value, func(use string) string {
			input := gitLabInput.FindStringSubmatch(use)[1]

			declared, ok := c.inputs[input]
			if !ok {
				f.t.Errorf("the input %s is not declared", input)
			}

			if value, ok := given[input]; ok {
				return value
			}

			return declared.Default
		})
	}

	var result ciResult

	result.code, result.log = f.sh(shell, strings.Join(c.script, "\n"), runner, f.env, env)
	result.outputs = map[string]string{}

	for _, name := range []string{"text", "markdown", "json", "sarif"} {
		file := map[string]string{"text": "plan.txt", "markdown": "plan.md"}[name]
		if file == "" {
			file = "plan." + name
		}

		if path := filepath.Join(f.dir, "omni-syncd-plan", file); exists(path) {
			result.outputs[name] = path
		}
	}

	return result
}
