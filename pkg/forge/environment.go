package forge

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

// ErrNoPullRequest says that a job runs for something else than a pull request: a push, a
// schedule, a merge queue. There is nothing to comment on, and nothing is wrong.
var ErrNoPullRequest = errors.New("this job is not about a pull request")

// maxEvent is how large the file that describes GitHub's event may be.
const maxEvent = 16 << 20

// Detect says whose job this is, from the environment: GitHub Actions (and others that are
// called so), GitLab CI, or "".
func Detect(getenv func(string) string) Kind {
	switch {
	case getenv("GITHUB_ACTIONS") == "true":
		return GitHub
	case getenv("GITLAB_CI") == "true":
		return GitLab
	default:
		return ""
	}
}

// FromEnvironment returns the pull request that a CI job is about. Its error is
// [ErrNoPullRequest], or says which variable is missing. What is given already, in known, is not looked for.
func FromEnvironment(getenv func(string) string, known PullRequest) (PullRequest, error) {
	switch known.Kind {
	case GitHub:
		return fromGitHub(getenv, known)
	case GitLab:
		return fromGitLab(getenv, known)
	case "":
		return known, errors.New("this is neither a job of GitHub Actions nor of GitLab CI: say --on github or --on gitlab")
	default:
		return known, fmt.Errorf("comments on %q are not known; use github or gitlab", known.Kind)
	}
}

func fromGitHub(getenv func(string) string, pr PullRequest) (PullRequest, error) {
	pr.Token = getenv("GITHUB_TOKEN")
	pr.API = getenv("GITHUB_API_URL")
	pr.GraphQL = getenv("GITHUB_GRAPHQL_URL")

	if pr.API == "" {
		pr.API = "https://api.github.com"
	}

	if pr.Project == "" {
		pr.Project = getenv("GITHUB_REPOSITORY")
	}

	switch {
	case pr.Project == "":
		return pr, errors.New("which repository? GITHUB_REPOSITORY is not set; say --project OWNER/NAME")
	case pr.Token == "":
		return pr, &Refused{errors.New("GITHUB_TOKEN is not set: give the step `env: GITHUB_TOKEN: ${{ github.token }}`")}
	case pr.Number > 0:
		return pr, nil
	}

	path := getenv("GITHUB_EVENT_PATH")
	if path == "" {
		return pr, errors.New("which pull request? GITHUB_EVENT_PATH is not set; say --pull-request NUMBER")
	}

	event, err := readEvent(path)
	if err != nil {
		return pr, err
	}

	return event.find(getenv("GITHUB_EVENT_NAME"), pr)
}

// event is what of GitHub's description of an event says which pull request it is about.
type event struct {
	PullRequest *struct {
		Number int `json:"number"`
		Head   struct {
			SHA string `json:"sha"`
		} `json:"head"`
	} `json:"pull_request"`
	WorkflowRun *struct {
		Event      string `json:"event"`
		HeadSHA    string `json:"head_sha"`
		HeadBranch string `json:"head_branch"`
		Head       struct {
			ID    int64 `json:"id"`
			Owner struct {
				Login string `json:"login"`
			} `json:"owner"`
		} `json:"head_repository"`
	} `json:"workflow_run"`
}

func readEvent(path string) (*event, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the event: %w", err)
	}
	defer file.Close() //nolint:errcheck // only read from

	data, err := io.ReadAll(io.LimitReader(file, maxEvent+1))

	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the event: %w", err)
	case len(data) > maxEvent:
		return nil, fmt.Errorf("the event in %s is larger than %d MiB", path, maxEvent>>20)
	}

	var e event
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("the event in %s is not the JSON of GitHub", path)
	}

	return &e, nil
}

// find is where the kinds of events differ. The run of a workflow that another one
// triggered names no pull request if that came from a fork: it is looked up by its branch.
func (e *event) find(name string, pr PullRequest) (PullRequest, error) {
	switch run := e.WorkflowRun; {
	case e.PullRequest != nil && e.PullRequest.Number > 0:
		pr.Number, pr.Head = e.PullRequest.Number, e.PullRequest.Head.SHA

		return pr, nil
	case run != nil && (run.Event == "pull_request" || run.Event == "pull_request_target") && run.HeadSHA != "" && run.HeadBranch != "":
		pr.Head = run.HeadSHA
		pr.From = From{run.Head.Owner.Login, run.HeadBranch, run.Head.ID}

		return pr, nil
	default:
		return pr, fmt.Errorf("%w but about the event %.40q; no comment is written", ErrNoPullRequest, name)
	}
}

func fromGitLab(getenv func(string) string, pr PullRequest) (PullRequest, error) {
	pr.Token = getenv("GITLAB_TOKEN")
	pr.API = getenv("CI_API_V4_URL")

	if pr.API == "" {
		pr.API = "https://gitlab.com/api/v4"
	}

	// The job of a fork runs in the fork; the request is in the project that it wants to go to.
	for _, name := range []string{"CI_MERGE_REQUEST_PROJECT_ID", "CI_PROJECT_ID"} {
		if pr.Project == "" {
			pr.Project = getenv(name)
		}
	}

	if pr.Number == 0 {
		iid := getenv("CI_MERGE_REQUEST_IID")
		if iid == "" {
			return pr, fmt.Errorf("%w; no comment is written. A job that should write one needs the rule `if: $CI_PIPELINE_SOURCE == \"merge_request_event\"`", ErrNoPullRequest)
		}

		number, err := strconv.Atoi(iid)
		if err != nil || number <= 0 {
			return pr, fmt.Errorf("CI_MERGE_REQUEST_IID is %.40q and no number", iid)
		}

		// In a pipeline of the merged result CI_COMMIT_SHA is a commit that is in no branch.
		pr.Number, pr.Head = number, getenv("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA")
		if pr.Head == "" {
			pr.Head = getenv("CI_COMMIT_SHA")
		}
	}

	switch {
	case pr.Project == "":
		return pr, errors.New("which project? CI_PROJECT_ID is not set; say --project GROUP/NAME")
	case pr.Token == "":
		return pr, &Refused{errors.New("GITLAB_TOKEN is not set: make a project access token with the scope `api` and the role Reporter, and set it as a " +
			"masked variable of that name. CI_JOB_TOKEN cannot write notes. Jobs of a fork and of unprotected branches do not get protected variables")}
	default:
		return pr, nil
	}
}
