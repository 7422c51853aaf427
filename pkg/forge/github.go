package forge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// gitHub is the conversation of a pull request: comments of the issue of the same number.
type gitHub struct {
	*caller

	pr      *PullRequest
	repo    string // URL of the repository
	graphQL string
}

var gitHubName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}$`)

func (c *Client) openGitHub(pr *PullRequest) (thread, error) {
	if !gitHubName.MatchString(pr.Project) || strings.Contains("/"+pr.Project+"/", "/../") || strings.Contains("/"+pr.Project+"/", "/./") {
		return nil, fmt.Errorf("the repository %.100q: its name is OWNER/NAME", pr.Project)
	}

	api := strings.TrimRight(pr.API, "/")
	graphQL := cmp.Or(pr.GraphQL, strings.TrimSuffix(api, "/v3")+"/graphql")

	calls, err := c.newCaller(pr.Token, map[string]string{
		"Authorization": "Bearer " + pr.Token, "Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28",
	}, api, graphQL)
	if err != nil {
		return nil, err
	}

	return &gitHub{calls, pr, api + "/repos/" + pr.Project, graphQL}, nil
}

// find looks for the open pull request of a branch at a commit. What the event says about
// both comes from GitHub; a number that a job of the pull request left somewhere could be anyone's.
func (g *gitHub) find(ctx context.Context) error {
	if g.pr.Number > 0 {
		return nil
	}

	var pulls []struct {
		Number int `json:"number"`
		Head   struct {
			SHA  string `json:"sha"`
			Repo struct {
				ID int64 `json:"id"`
			} `json:"repo"`
		} `json:"head"`
	}

	query := url.Values{"state": {"open"}, "head": {g.pr.From.Owner + ":" + g.pr.From.Branch}, "per_page": {fmt.Sprint(perPage)}}
	if _, err := g.call(ctx, "finding the pull request", http.MethodGet, g.repo+"/pulls?"+query.Encode(), nil, &pulls); err != nil {
		return g.explain(err)
	}

	found := 0

	for _, pull := range pulls {
		if pull.Head.Repo.ID == g.pr.From.Repository && strings.EqualFold(pull.Head.SHA, g.pr.Head) {
			found = pull.Number
		}
	}

	if found == 0 {
		return fmt.Errorf("%w: no open pull request is at the commit %.12s any more", ErrNoPullRequest, g.pr.Head)
	}

	g.pr.Number = found

	return nil
}

func (g *gitHub) head(ctx context.Context) (string, error) {
	var pull struct {
		Head struct {
			SHA string `json:"sha"`
		} `json:"head"`
	}

	_, err := g.call(ctx, fmt.Sprintf("reading pull request %d", g.pr.Number), http.MethodGet, fmt.Sprintf("%s/pulls/%d", g.repo, g.pr.Number), nil, &pull)

	return pull.Head.SHA, g.explain(err)
}

// self asks the GraphQL API, which answers to every kind of token; the REST API tells a
// job's token nothing about itself. Servers that know the REST API alone are asked there.
func (g *gitHub) self(ctx context.Context) (string, error) {
	var answer struct {
		Data struct {
			Viewer struct {
				Login string `json:"login"`
			} `json:"viewer"`
		} `json:"data"`
	}

	const what = "asking whose the token is"

	_, err := g.call(ctx, what, http.MethodPost, g.graphQL, map[string]string{"query": "query { viewer { login } }"}, &answer)
	if err == nil && answer.Data.Viewer.Login != "" {
		return answer.Data.Viewer.Login, nil
	}

	if err != nil && !isStatus(err, http.StatusNotFound, http.StatusMethodNotAllowed) {
		return "", g.explain(err)
	}

	var user struct {
		Login string `json:"login"`
	}

	_, err = g.call(ctx, what, http.MethodGet, strings.TrimRight(g.pr.API, "/")+"/user", nil, &user)

	return user.Login, g.explain(err)
}

// gitHubComment is what both directions have in common.
type gitHubComment struct {
	ID   int64  `json:"id"`
	Body string `json:"body"`
	URL  string `json:"html_url"`
	User struct {
		Login string `json:"login"`
	} `json:"user"`
}

func (g *gitHub) page(ctx context.Context, page int) ([]note, bool, error) {
	var comments []gitHubComment

	header, err := g.call(ctx, "reading the comments", http.MethodGet,
		fmt.Sprintf("%s/issues/%d/comments?per_page=%d&page=%d", g.repo, g.pr.Number, perPage, page), nil, &comments)
	if err != nil {
		return nil, false, g.explain(err)
	}

	notes := make([]note, len(comments))
	for i := range comments {
		notes[i] = note{comments[i].ID, comments[i].User.Login, comments[i].Body, comments[i].URL}
	}

	return notes, hasNext(header), nil
}

func (g *gitHub) create(ctx context.Context, body string) (string, error) {
	return g.write(ctx, "writing the comment", http.MethodPost, fmt.Sprintf("%s/issues/%d/comments", g.repo, g.pr.Number), body)
}

func (g *gitHub) update(ctx context.Context, id int64, body string) (string, error) {
	return g.write(ctx, "updating the comment", http.MethodPatch, fmt.Sprintf("%s/issues/comments/%d", g.repo, id), body)
}

func (g *gitHub) write(ctx context.Context, what, method, address, body string) (string, error) {
	var written gitHubComment

	_, err := g.call(ctx, what, method, address, map[string]string{"body": body}, &written)

	return written.URL, g.explain(err)
}

func (g *gitHub) remove(ctx context.Context, id int64) error {
	_, err := g.call(ctx, "deleting the comment", http.MethodDelete, fmt.Sprintf("%s/issues/comments/%d", g.repo, id), nil, nil)
	if isStatus(err, http.StatusNotFound) {
		return nil // somebody else was faster
	}

	return g.explain(err)
}

// explain says what to do about a refusal. GitHub answers 404 for what a token may not see.
func (g *gitHub) explain(err error) error {
	if isStatus(err, http.StatusNotFound) {
		err = &Refused{err}
	}

	if refused := new(Refused); errors.As(err, &refused) && !isStatus(err, http.StatusUnauthorized) {
		return &Refused{fmt.Errorf("%w; give the job `permissions: pull-requests: write`. A pull request from a fork has a token that can only read: "+
			"see \"Forks\" in docs/pull-requests.md", refused.err)}
	}

	return err
}
