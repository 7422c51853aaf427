package forge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// gitLab is the notes of a merge request.
type gitLab struct {
	*caller

	api     string
	request string // URL of the merge request
}

func (c *Client) openGitLab(pr *PullRequest) (thread, error) {
	if pr.Project == "" || pr.Number <= 0 {
		return nil, errors.New("the merge request is not known: its project and number are missing")
	}

	api := strings.TrimRight(pr.API, "/")

	calls, err := c.newCaller(pr.Token, map[string]string{"Private-Token": pr.Token}, api)
	if err != nil {
		return nil, err
	}

	return &gitLab{calls, api, fmt.Sprintf("%s/projects/%s/merge_requests/%d", api, url.PathEscape(pr.Project), pr.Number)}, nil
}

// find has nothing to do: a job of a merge request is told its number.
func (g *gitLab) find(context.Context) error { return nil }

func (g *gitLab) head(ctx context.Context) (string, error) {
	var request struct {
		SHA string `json:"sha"`
	}

	_, err := g.call(ctx, "reading the merge request", http.MethodGet, g.request, nil, &request)

	return request.SHA, g.explain(err)
}

func (g *gitLab) self(ctx context.Context) (string, error) {
	var user struct {
		ID int64 `json:"id"`
	}

	if _, err := g.call(ctx, "asking whose the token is", http.MethodGet, g.api+"/user", nil, &user); err != nil || user.ID == 0 {
		return "", g.explain(err)
	}

	return strconv.FormatInt(user.ID, 10), nil
}

func (g *gitLab) page(ctx context.Context, page int) ([]note, bool, error) {
	var answer []struct {
		ID     int64  `json:"id"`
		Body   string `json:"body"`
		System bool   `json:"system"`
		Author struct {
			ID int64 `json:"id"`
		} `json:"author"`
	}

	header, err := g.call(ctx, "reading the notes", http.MethodGet,
		fmt.Sprintf("%s/notes?sort=asc&order_by=created_at&per_page=%d&page=%d", g.request, perPage, page), nil, &answer)
	if err != nil {
		return nil, false, g.explain(err)
	}

	var notes []note

	for i := range answer {
		if !answer[i].System {
			notes = append(notes, note{id: answer[i].ID, author: strconv.FormatInt(answer[i].Author.ID, 10), body: answer[i].Body})
		}
	}

	return notes, hasNext(header), nil
}

func (g *gitLab) create(ctx context.Context, body string) (string, error) {
	return "", g.write(ctx, "writing the note", http.MethodPost, g.request+"/notes", body)
}

func (g *gitLab) update(ctx context.Context, id int64, body string) (string, error) {
	return "", g.write(ctx, "updating the note", http.MethodPut, fmt.Sprintf("%s/notes/%d", g.request, id), body)
}

func (g *gitLab) write(ctx context.Context, what, method, address, body string) error {
	_, err := g.call(ctx, what, method, address, map[string]string{"body": body}, nil)

	return g.explain(err)
}

// command finds the beginning of what GitLab would carry out: a line like /merge, also in
// the middle of a note, by the rights of who writes it.
var command = regexp.MustCompile(`(?m)^([ \t]*)/([A-Za-z_])`)

// defuse makes text of what would be a command. Plans have no such line; a file that was
// not made by diff could.
func defuse(body string) string { return command.ReplaceAllString(body, "$1\u200B/$2") }

func (g *gitLab) remove(ctx context.Context, id int64) error {
	_, err := g.call(ctx, "deleting the note", http.MethodDelete, fmt.Sprintf("%s/notes/%d", g.request, id), nil, nil)
	if isStatus(err, http.StatusNotFound) {
		return nil // somebody else was faster
	}

	return g.explain(err)
}

// explain says what to do about a refusal. GitLab answers 404 for what a token may not see.
func (g *gitLab) explain(err error) error {
	if isStatus(err, http.StatusNotFound) {
		err = &Refused{err}
	}

	if refused := new(Refused); errors.As(err, &refused) {
		return &Refused{fmt.Errorf("%w; GITLAB_TOKEN has to be a project access token with the scope `api` and the role Reporter or more "+
			"(CI_JOB_TOKEN cannot write notes)", refused.err)}
	}

	return err
}
