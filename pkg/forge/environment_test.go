package forge_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/omni-syncd/omni-syncd/pkg/forge"
	"github.com/omni-syncd/omni-syncd/pkg/forge/forgetest"
)

func TestFromEnvironment(t *testing.T) {
	github := map[string]string{
		"GITHUB_ACTIONS": "true", "GITHUB_TOKEN": "secret", "GITHUB_REPOSITORY": "platform/fleet", "GITHUB_API_URL": "https://ghe.example.com/api/v3",
		"GITHUB_GRAPHQL_URL": "https://ghe.example.com/api/graphql", "GITHUB_EVENT_NAME": "pull_request",
	}
	gitlab := map[string]string{
		"GITLAB_CI": "true", "GITLAB_TOKEN": "secret", "CI_API_V4_URL": "https://gitlab.example.com/api/v4", "CI_PROJECT_ID": "42",
		"CI_MERGE_REQUEST_IID": "7", "CI_COMMIT_SHA": "abc",
	}
	onGitHub := func(number int, head string, from forge.From) forge.PullRequest {
		return forge.PullRequest{
			Kind: forge.GitHub, API: "https://ghe.example.com/api/v3", GraphQL: "https://ghe.example.com/api/graphql",
			Project: "platform/fleet", Number: number, Head: head, From: from, Token: "secret",
		}
	}
	onGitLab := func(project, head string) forge.PullRequest {
		return forge.PullRequest{Kind: forge.GitLab, API: "https://gitlab.example.com/api/v4", Project: project, Number: 7, Head: head, Token: "secret"}
	}

	for _, test := range []struct {
		name    string
		env     map[string]string
		change  map[string]string // "-" takes a variable away
		event   string
		known   forge.PullRequest
		want    forge.PullRequest
		error   string
		refused bool
		none    bool
	}{
		{name: "pull request", env: github, event: `{"number":7,"pull_request":{"number":7,"head":{"sha":"abc"},"title":"$(id)"}}`, want: onGitHub(7, "abc", forge.From{})},
		{name: "pull request target", env: github, change: map[string]string{"GITHUB_EVENT_NAME": "pull_request_target"}, event: `{"pull_request":{"number":7,"head":{"sha":"abc"}}}`, want: onGitHub(7, "abc", forge.From{})},
		{
			name: "run of a fork's workflow", env: github,
			event: `{"workflow_run":{"event":"pull_request","head_sha":"abc","head_branch":"change","head_repository":{"id":99,"owner":{"login":"forker"}},"pull_requests":[]}}`,
			want:  onGitHub(0, "abc", forge.From{Owner: "forker", Branch: "change", Repository: 99}),
		},
		{name: "run of a push", env: github, event: `{"workflow_run":{"event":"push","head_sha":"abc","head_branch":"main"}}`, none: true, error: "not about a pull request"},
		{name: "push", env: github, change: map[string]string{"GITHUB_EVENT_NAME": "push"}, event: `{"ref":"refs/heads/main"}`, none: true, error: `the event "push"`},
		{name: "merge queue", env: github, change: map[string]string{"GITHUB_EVENT_NAME": "merge_group"}, event: `{"merge_group":{}}`, none: true, error: `the event "merge_group"`},
		{name: "named", env: github, known: forge.PullRequest{Number: 9, Project: "a/b"}, want: forge.PullRequest{
			Kind: forge.GitHub, API: "https://ghe.example.com/api/v3", GraphQL: "https://ghe.example.com/api/graphql", Project: "a/b", Number: 9, Token: "secret",
		}},
		{name: "no token", env: github, change: map[string]string{"GITHUB_TOKEN": "-"}, event: `{}`, error: "GITHUB_TOKEN is not set", refused: true},
		{name: "no event", env: github, error: "GITHUB_EVENT_PATH is not set"},
		{name: "broken event", env: github, event: `{"pull_request":`, error: "not the JSON of GitHub"},
		{name: "no repository", env: github, change: map[string]string{"GITHUB_REPOSITORY": "-"}, event: `{}`, error: "which repository?"},
		{name: "merge request", env: gitlab, want: onGitLab("42", "abc")},
		{name: "merged result", env: gitlab, change: map[string]string{"CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": "def"}, want: onGitLab("42", "def")},
		{name: "job of a fork", env: gitlab, change: map[string]string{"CI_MERGE_REQUEST_PROJECT_ID": "41"}, want: onGitLab("41", "abc")},
		{name: "branch", env: gitlab, change: map[string]string{"CI_MERGE_REQUEST_IID": "-"}, none: true, error: "merge_request_event"},
		{name: "no number", env: gitlab, change: map[string]string{"CI_MERGE_REQUEST_IID": "7/../8"}, error: "no number"},
		{name: "GitLab without a token", env: gitlab, change: map[string]string{"GITLAB_TOKEN": "-"}, error: "CI_JOB_TOKEN cannot write notes", refused: true},
		{name: "another CI", env: map[string]string{}, error: "say --on"},
	} {
		t.Run(test.name, func(t *testing.T) {
			env := map[string]string{}
			for _, source := range []map[string]string{test.env, test.change} {
				for name, value := range source {
					env[name] = strings.TrimPrefix(value, "-")
				}
			}

			if test.event != "" {
				path := filepath.Join(t.TempDir(), "event.json")
				if err := os.WriteFile(path, []byte(test.event), 0o600); err != nil {
					t.Fatal(err)
				}

				env["GITHUB_EVENT_PATH"] = path
			}

			getenv := func(name string) string { return env[name] }
			test.known.Kind = forge.Detect(getenv)

			got, err := forge.FromEnvironment(getenv, test.known)

			if test.error != "" {
				if err == nil || !strings.Contains(err.Error(), test.error) {
					t.Fatalf("the error is %v, want %q in it", err, test.error)
				}

				if errors.Is(err, forge.ErrNoPullRequest) != test.none || errors.As(err, new(*forge.Refused)) != test.refused {
					t.Errorf("the error is of another kind: %#v", err)
				}

				return
			}

			if err != nil {
				t.Fatal(err)
			}

			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// The event of a run that a fork's workflow triggered names no pull request. It is found
// by its branch, commit and repository, which GitHub says, and no other is taken for it.
func TestPullRequestOfAFork(t *testing.T) {
	server := forgetest.NewGitHub(t)
	server.SetHead(head)

	pr := forge.PullRequest{
		Kind: forge.GitHub, API: server.URL, Project: forgetest.GitHubProject, Head: head, Token: forgetest.Token,
		From: forge.From{Owner: "forker", Branch: "change", Repository: 99},
	}

	newClient().mustPost(t, pr, text("one"), forge.Created)

	for _, change := range []func(*forge.PullRequest){
		func(p *forge.PullRequest) { p.From.Repository = 1 },
		func(p *forge.PullRequest) { p.Head = strings.Repeat("0", 40) },
	} {
		other := pr
		change(&other)

		if _, err := newClient().Post(t.Context(), other, text("two")); !errors.Is(err, forge.ErrNoPullRequest) {
			t.Errorf("the error is %v", err)
		}
	}

	want(t, server, forgetest.Account+": [marker] one")
}
