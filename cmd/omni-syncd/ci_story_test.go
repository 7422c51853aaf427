package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/omni-syncd/omni-syncd/pkg/forge/forgetest"
)

// everyCI runs a test as each service would run the job. GitLab takes the shell that the
// image has: with bash, too, if asked for.
func everyCI(t *testing.T, bash bool, test func(t *testing.T, f *fleet)) {
	services := map[string]func(*fleet){
		"github": func(f *fleet) { f.onGitHub() },
		"gitlab": func(f *fleet) { f.onGitLab("sh", "-e") },
	}
	if bash {
		services["gitlab-bash"] = func(f *fleet) { f.onGitLab("bash", "-e", "-o", "pipefail") }
	}

	for name, start := range services {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			f := newFleet(t)
			start(f)
			test(t, f)

			if matches, _ := filepath.Glob(filepath.Join(f.dir, "*owned*")); len(matches) > 0 {
				t.Errorf("a name was carried out: %s", matches)
			}
		})
	}
}

// runs runs the job and wants it to end so.
func (f *fleet) runs(code int, inputs map[string]string) ciResult {
	f.t.Helper()

	result := f.run(inputs)
	if result.code != code {
		f.t.Fatalf("exit code %d, want %d; log:\n%s", result.code, code, result.log)
	}

	return result
}

// shows wants the pull request to show n comments, the last of which has these texts, and returns that.
func (f *fleet) shows(n int, texts ...string) forgetest.Comment {
	f.t.Helper()

	comments := f.server.Comments()
	if len(comments) != n {
		f.t.Fatalf("there are %d comments, want %d", len(comments), n)
	}

	if n == 0 {
		return forgetest.Comment{}
	}

	last := comments[n-1]
	for _, text := range texts {
		if !strings.Contains(last.Body, text) {
			f.t.Errorf("the comment has no %q:\n%s", text, last.Body)
		}
	}

	return last
}

var upgraded = strings.Replace(fleetTemplate, "v1.34.3", "v1.35.0", 1)

// The life of a pull request: one comment, which follows what is pushed.
func TestPullRequest(t *testing.T) {
	everyCI(t, true, func(t *testing.T, f *fleet) {
		f.server.Write(forgetest.Comment{Author: "mallory", Body: "<!-- omni-syncd:plan:default -->\n### ⚪ No difference, merge it"})

		f.commit("Upgrade", map[string]string{"clusters/one.yaml": upgraded})
		result := f.runs(0, nil)
		first := f.shows(2, "<!-- omni-syncd:plan:default -->", "1.35.0", "one")

		if !strings.Contains(result.log, "1.34.3 → 1.35.0") {
			t.Errorf("the log has no plan:\n%s", result.log)
		}

		f.checkReports(result)

		f.commit("And a label", map[string]string{"clusters/one.yaml": strings.Replace(upgraded, "env: test", "env: staging", 1)})
		f.runs(1, map[string]string{"fail-on": "difference"})

		if second := f.shows(2, "1.35.0", "staging"); second.ID != first.ID {
			t.Error("there is another comment, not the same one")
		}

		f.commit("Revert", map[string]string{"clusters/one.yaml": fleetTemplate})
		f.runs(0, map[string]string{"fail-on": "difference"})
		f.shows(2, "No difference")

		f.server.Calls()
		f.runs(0, nil)

		for _, call := range f.server.Calls() {
			if !strings.HasPrefix(call, "GET ") && !strings.HasSuffix(call, "/graphql") {
				t.Errorf("nothing changed, and still: %s", call)
			}
		}
	})
}

func (f *fleet) checkReports(result ciResult) {
	f.t.Helper()

	for _, name := range []string{"text", "markdown", "json", "sarif"} {
		report := read(f.t, result.outputs[name])
		if report == "" {
			f.t.Errorf("there is no report as %s", name)
		}

		if (name == "json" || name == "sarif") && !json.Valid([]byte(report)) {
			f.t.Errorf("the report as %s is no JSON", name)
		}
	}

	if f.env["GITHUB_EVENT_NAME"] == "" {
		return
	}

	if result.outputs["result"] != "difference" || result.outputs["has-difference"] != "true" {
		f.t.Errorf("outputs: %v", result.outputs)
	}

	if result.summary != read(f.t, result.outputs["markdown"])+"\n" {
		f.t.Errorf("the summary is:\n%s", result.summary)
	}
}

// A pull request that changes nothing gets no comment, unless it is asked for.
func TestPullRequestWithoutDifference(t *testing.T) {
	everyCI(t, false, func(t *testing.T, f *fleet) {
		f.runs(0, nil)
		f.shows(0)
		f.runs(0, map[string]string{"comment": "never"})
		f.shows(0)
		f.runs(0, map[string]string{"comment": "always"})
		f.shows(1, "No difference")
	})
}

// A fork has no credentials of Omni: the plan is the step between two commits.
func TestPullRequestOfAForkWithoutOmni(t *testing.T) {
	everyCI(t, false, func(t *testing.T, f *fleet) {
		delete(f.env, envEndpoint)
		delete(f.env, envKey)
		f.commit("Upgrade", map[string]string{"clusters/one.yaml": upgraded})

		f.server.Fail(nil, nil, nil, forgetest.Status(403, "Resource not accessible by integration"))

		if log := f.runs(0, map[string]string{"base": "auto"}).log; !strings.Contains(log, "1.34.3 → 1.35.0") || !strings.Contains(log, "may not write a comment") {
			t.Errorf("the log is:\n%s", log)
		}

		f.shows(0)

		// A fork's job on GitLab has no token at all.
		if token, ok := f.env["GITLAB_TOKEN"]; ok {
			delete(f.env, "GITLAB_TOKEN")

			if log := f.runs(0, map[string]string{"base": "auto"}).log; !strings.Contains(log, "CI_JOB_TOKEN cannot write notes") {
				t.Errorf("the log is:\n%s", log)
			}

			f.env["GITLAB_TOKEN"] = token
		}

		f.runs(0, map[string]string{"base": "auto"})
		f.shows(1, "1.35.0")
	})
}

func TestPullRequestOnlyWhatChanged(t *testing.T) {
	everyCI(t, false, func(t *testing.T, f *fleet) {
		// Somebody changes main meanwhile: the pull request has no part in that.
		f.commit("Elsewhere", map[string]string{"clusters/two.yaml": strings.NewReplacer("name: one", "name: two", "000001", "000002", "test", "other").Replace(fleetTemplate)})
		f.git("push", "--quiet", "origin", "HEAD:main")
		f.commit("Upgrade", map[string]string{"clusters/one.yaml": upgraded})

		f.runs(0, map[string]string{"changed-only": "true"})

		if body := f.shows(1, "1.35.0").Body; strings.Contains(body, "other") {
			t.Errorf("the plan has more than the pull request:\n%s", body)
		}

		f.runs(0, map[string]string{"changed-only": "false"})
		f.shows(1, "1.35.0", "other")
	})
}

// What is broken is red, and the comment says so: no plan of an earlier commit stays.
func TestPullRequestWithErrors(t *testing.T) {
	everyCI(t, false, func(t *testing.T, f *fleet) {
		f.commit("Upgrade", map[string]string{"clusters/one.yaml": upgraded})
		f.runs(0, nil)
		f.shows(1, "1.35.0")

		f.commit("Typo", map[string]string{"clusters/one.yaml": strings.Replace(upgraded, "talos:", "talso:", 1)})
		result := f.runs(2, nil)
		f.shows(1, "talso")

		if f.env["GITHUB_EVENT_NAME"] != "" && (result.outputs["result"] != "error" || !strings.Contains(result.log, "::error file=clusters/one.yaml,line=")) {
			t.Errorf("outputs %v; log:\n%s", result.outputs, result.log)
		}

		f.runs(0, map[string]string{"fail-on": "never"})

		f.commit("Repair", map[string]string{"clusters/one.yaml": upgraded})
		f.env[envEndpoint] = nobody(t)
		f.runs(2, nil)
		f.shows(1, "There is no plan", "could not be made")

		for _, wrong := range []map[string]string{{"comment": "sometimes"}, {"fail-on": "rain"}, {"changed-only": "1"}, {"prune": "yes"}} {
			f.runs(2, wrong)
		}
	})
}

// The comment is not the check, but who waits for it must know that it is missing.
func TestPullRequestWhenTheServerIsDown(t *testing.T) {
	everyCI(t, false, func(t *testing.T, f *fleet) {
		f.commit("Upgrade", map[string]string{"clusters/one.yaml": upgraded})

		down, slow := forgetest.Status(503, "maintenance", "Retry-After", "0"), forgetest.Status(429, "slow down", "Retry-After", "0")
		f.server.Fail(down, slow, down, slow)

		if log := f.runs(2, nil).log; !strings.Contains(log, "tried 4 times") || !strings.Contains(log, "could not be written") {
			t.Errorf("the log is:\n%s", log)
		}

		f.server.Fail(down, slow)
		f.runs(0, nil)
		f.shows(1, "1.35.0")
	})
}

// Nothing that somebody may choose gives orders to the shell or to the runner.
func TestPullRequestOfAnAttacker(t *testing.T) {
	everyCI(t, false, func(t *testing.T, f *fleet) {
		f.commit(hostile, map[string]string{
			"clusters/one.yaml":            strings.Replace(upgraded, "env: test", "env: test\n  a: \"::add-mask::one\"\n  b: \"x\\n::error::owned\\n##[error]owned\"", 1),
			"clusters/$(touch owned).yaml": "kind: Cluster\nname: \"::warning::\"\n",
			"clusters/--help":              "no template",
		})

		f.run(map[string]string{"report-name": hostile})
		f.run(map[string]string{"source": "--help", "path": hostile, "base": hostile})
		f.runs(2, map[string]string{"source": "$(touch owned)"})
	})
}

// A link in a pull request leads to nothing of the machine that makes the plan.
func TestPullRequestWithLinks(t *testing.T) {
	everyCI(t, false, func(t *testing.T, f *fleet) {
		const canary = "canary-of-the-runner"

		outside := t.TempDir()
		if err := os.WriteFile(filepath.Join(outside, "secret.yaml"), []byte("machine:\n  sysctls:\n    canary: "+canary+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}

		link := func(target, name string) {
			if err := errors.Join(os.RemoveAll(filepath.Join(f.dir, name)), os.Symlink(target, filepath.Join(f.dir, name))); err != nil {
				t.Fatal(err)
			}
		}

		link(filepath.Join(outside, "secret.yaml"), "clusters/patch.yaml")
		link("/proc/self/environ", "clusters/environ.yaml")
		f.commit("Links", map[string]string{"clusters/one.yaml": strings.Replace(upgraded, "talos:", "patches:\n  - file: patch.yaml\n  - file: environ.yaml\ntalos:", 1)})
		f.notLeaking(f.runs(2, nil), canary)

		// The folder itself is a link to one that has what a plan would show.
		if err := os.WriteFile(filepath.Join(outside, "one.yaml"), []byte(strings.Replace(upgraded, "env: test", "env: "+canary, 1)), 0o600); err != nil {
			t.Fatal(err)
		}

		link(outside, "clusters")
		f.git("add", "--all")
		f.git("commit", "--quiet", "--message", "A link")
		f.pushed()
		f.notLeaking(f.runs(2, nil), canary)
		f.shows(1, "There is no plan")
	})
}

func (f *fleet) notLeaking(result ciResult, canary string) {
	f.t.Helper()

	texts := result.log + result.summary
	for _, c := range f.server.Comments() {
		texts += c.Body
	}

	for _, secret := range []string{canary, forgetest.Token} {
		if strings.Contains(texts, secret) {
			f.t.Errorf("%s leaked:\n%s", secret, texts)
		}
	}
}

// A push to a branch is no pull request: the plan is made, and nobody gets a comment.
func TestPlanOfAPush(t *testing.T) {
	f := newFleet(t)
	f.onGitHub()
	f.env["GITHUB_EVENT_NAME"] = "push"
	f.commit("Upgrade", map[string]string{"clusters/one.yaml": upgraded})

	result := f.runs(0, map[string]string{"changed-only": "true"})
	f.shows(0)

	if !strings.Contains(result.summary, "1.35.0") || !strings.Contains(result.log, `about the event "push"`) {
		t.Errorf("summary:\n%s\nlog:\n%s", result.summary, result.log)
	}

	f.runs(2, map[string]string{"base": "auto"})
}

// With the daemon's configuration the plan is the daemon's, of what is checked out here.
func TestPlanWithTheConfiguration(t *testing.T) {
	everyCI(t, false, func(t *testing.T, f *fleet) {
		if err := os.WriteFile(filepath.Join(f.dir, "omni-syncd.yaml"), []byte(`sources:
  - name: fleet
    git:
      url: https://git.example.com/platform/fleet.git
    path: clusters
    prune: true
`), 0o644); err != nil {
			t.Fatal(err)
		}

		f.git("rm", "--quiet", "clusters/two.yaml")
		f.git("commit", "--quiet", "--message", "Remove a cluster")
		f.pushed()
		f.inputs = map[string]string{"config": "omni-syncd.yaml", "checkout": "fleet=."}

		f.runs(0, nil)
		f.shows(1, "two", "destroy")
	})
}

// The three ways to run it are one script.
func TestComponentIsTheScript(t *testing.T) {
	script := read(t, filepath.Join("..", "..", "deploy", "ci", "plan.sh"))
	if got := readComponent(t).script; len(got) != 1 || got[0] != script {
		t.Error("the script in deploy/gitlab/templates/plan.yml is not deploy/ci/plan.sh, indented by six blanks")
	}
}
