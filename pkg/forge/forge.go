// Package forge keeps one comment of a pull request up to date, on GitHub and what speaks
// its API, and on GitLab.
//
// It stands beside the flow
//
//	source → template → render → diff → sync → omni
//
// and knows none of its stages: a comment is text under a marker. The marker is the first
// line, hidden, and says which comment is to be replaced by which.
//
// Whoever may comment can write a marker, too. So a comment counts as ours only if the
// account that the token belongs to wrote it and it begins with the marker; nothing else is
// ever changed or deleted.
package forge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Kind is what kind of server to talk to.
type Kind string

// The kinds of servers.
const (
	// GitHub is github.com, GitHub Enterprise Server, and others with the same API.
	GitHub Kind = "github"
	// GitLab is gitlab.com or an instance of one's own.
	GitLab Kind = "gitlab"
)

// Bounds of what is read from a server and of how long it is asked (G12).
const (
	// MaxPages is how many pages of 100 comments are looked through.
	MaxPages = 100
	// MaxAnswer is how many bytes one answer may have: 100 comments of full length.
	MaxAnswer = 64 << 20
	// MaxAttempts is how often a comment is tried when the server is out of order.
	MaxAttempts = 4
	// MaxPause is how long one pause between two attempts may be. A server that asks for a longer one has failed.
	MaxPause = time.Minute
	// CallTimeout bounds one call.
	CallTimeout = 30 * time.Second
	// MaxDuplicates is how many superfluous comments one run deletes.
	MaxDuplicates = 10
)

// MaxBody is how many characters a comment may have: GitHub's limit, which is the lower one.
const MaxBody = 65_536

// PullRequest says which pull (or merge) request, and how to get there.
type PullRequest struct {
	Kind Kind
	// API is the base URL of the API: https://api.github.com, https://gitlab.com/api/v4. It has to be https, but for
	// loopback: the token travels with every call.
	API string
	// GraphQL is the URL of GitHub's other API, which alone tells a job's token whom it belongs to. "" is derived from API.
	GraphQL string
	// Project is owner/name on GitHub, the project's number or path on GitLab.
	Project string
	// Number is that of the request; 0 if it has to be found by Head.
	Number int
	// Head is the commit that the comment is about. If the request has moved on, nothing is written: a newer run will.
	// "" is not checked.
	Head string
	// From finds the request when Number is 0: on GitHub, for an event that does not name one.
	From From
	// Token is the secret. It is in no error.
	Token string
}

// From is the branch that a request wants to merge.
type From struct {
	Owner, Branch string
	// Repository is its number: an owner can have several forks.
	Repository int64
}

// Comment is what to write.
type Comment struct {
	// Marker is the first line of the comment, and of no other comment that is ours.
	Marker string
	// Body is the Markdown, beginning with the marker. "" deletes the comment.
	Body string
	// OnlyUpdate writes nothing if there is no comment yet.
	OnlyUpdate bool
}

// Outcome is what was done.
type Outcome string

// The outcomes of [Client.Post].
const (
	Created   Outcome = "created"
	Updated   Outcome = "updated"
	Deleted   Outcome = "deleted"
	Unchanged Outcome = "unchanged"
	// Nothing: there is no comment, and there should be none.
	Nothing Outcome = "nothing to do"
	// Outdated: the request has a newer commit than the one that the comment is about.
	Outdated Outcome = "outdated"
)

// Result says what was done and where it can be seen.
type Result struct {
	Outcome Outcome
	// URL is the comment's, if the server said one.
	URL string
}

// Refused means that the token may not do this: trying again does not help, other rights do.
type Refused struct{ err error }

func (r *Refused) Error() string { return r.err.Error() }

func (r *Refused) Unwrap() error { return r.err }

// Client writes comments.
type Client struct {
	// Transport is used for all calls; nil is http.DefaultTransport.
	Transport http.RoundTripper
	// UserAgent names the program to the server.
	UserAgent string
	// Pause waits between two attempts; nil waits on the clock.
	Pause func(context.Context, time.Duration) error
}

// thread is the comments of one request, as one kind of server keeps them.
type thread interface {
	// find returns the request's number, if the job does not know it.
	find(ctx context.Context) error
	// head is the newest commit of the request.
	head(ctx context.Context) (string, error)
	// self names the account of the token.
	self(ctx context.Context) (string, error)
	// page returns some comments, oldest first, and whether there are more.
	page(ctx context.Context, page int) ([]note, bool, error)
	create(ctx context.Context, body string) (url string, err error)
	update(ctx context.Context, id int64, body string) (url string, err error)
	remove(ctx context.Context, id int64) error
}

// note is one comment.
type note struct {
	id     int64
	author string // as thread.self names it
	body   string
	url    string
}

// Post brings the comment of a request to what it should be. What fails for a while is
// tried again, from the start: a comment whose answer got lost is found, and not made twice.
// Its errors are a [*Refused], or final for this run.
func (c *Client) Post(ctx context.Context, pr PullRequest, comment Comment) (Result, error) {
	if err := comment.check(); err != nil {
		return Result{}, err
	}

	if pr.Kind == GitLab {
		comment.Body = defuse(comment.Body)
	}

	t, err := c.open(&pr)
	if err != nil {
		return Result{}, err
	}

	for attempt := 1; ; attempt++ {
		result, err := post(ctx, t, pr.Head, comment)

		var later *laterError
		if !errors.As(err, &later) {
			return result, err
		}

		pause := later.pause(attempt)

		switch {
		case attempt == MaxAttempts:
			return Result{}, fmt.Errorf("%w (tried %d times)", err, attempt)
		case pause > MaxPause:
			return Result{}, fmt.Errorf("%w; it asks to wait for %s, which is too long: run the job again then", err, pause.Round(time.Second))
		}

		if err := c.pause(ctx, pause); err != nil {
			return Result{}, err
		}
	}
}

func (c *Comment) check() error {
	switch {
	case c.Marker == "" || strings.ContainsAny(c.Marker, "\r\n"):
		return errors.New("the marker of a comment has to be one line")
	case c.Body != "" && !marked(c.Body, c.Marker):
		return errors.New("the comment does not begin with its marker")
	case len([]rune(c.Body)) > MaxBody:
		return fmt.Errorf("the comment has %d characters; GitHub takes %d", len([]rune(c.Body)), MaxBody)
	default:
		return nil
	}
}

func (c *Client) open(pr *PullRequest) (thread, error) {
	if pr.Token == "" {
		return nil, &Refused{errors.New("there is no token to write the comment with")}
	}

	switch pr.Kind {
	case GitHub:
		return c.openGitHub(pr)
	case GitLab:
		return c.openGitLab(pr)
	default:
		return nil, fmt.Errorf("comments on %q are not known; use github or gitlab", pr.Kind)
	}
}

// post is one attempt.
func post(ctx context.Context, t thread, head string, comment Comment) (Result, error) {
	if err := t.find(ctx); err != nil {
		return Result{}, err
	}

	if head != "" {
		now, err := t.head(ctx)
		if err != nil {
			return Result{}, err
		}

		if now != "" && !strings.EqualFold(now, head) {
			return Result{Outcome: Outdated}, nil
		}
	}

	ours, err := find(ctx, t, comment.Marker)
	if err != nil {
		return Result{}, err
	}

	// Two jobs at the same time may have made two. The newest is kept: what it says is the
	// least outdated, should a deletion fail. A plan of yesterday that stays visible would be read.
	for len(ours) > 1 || comment.Body == "" && len(ours) == 1 {
		if err := t.remove(ctx, ours[0].id); err != nil {
			return Result{}, err
		}

		if ours = ours[1:]; len(ours) == 0 {
			return Result{Outcome: Deleted}, nil
		}
	}

	switch {
	case len(ours) == 0 && (comment.Body == "" || comment.OnlyUpdate):
		return Result{Outcome: Nothing}, nil
	case len(ours) == 0:
		url, err := t.create(ctx, comment.Body)

		return Result{Created, url}, err
	case normal(ours[0].body) == normal(comment.Body):
		return Result{Unchanged, ours[0].url}, nil
	default:
		url, err := t.update(ctx, ours[0].id, comment.Body)

		return Result{Updated, url}, err
	}
}

// find returns the comments that are ours, oldest first, at most one more than are deleted in one run.
func find(ctx context.Context, t thread, marker string) ([]note, error) {
	account, err := t.self(ctx)
	if err != nil {
		return nil, err
	}

	if account == "" {
		return nil, errors.New("the server does not say whose the token is; without that, a comment of somebody else could be taken for one of ours")
	}

	var ours []note

	for page := 1; page <= MaxPages; page++ {
		notes, more, err := t.page(ctx, page)
		if err != nil {
			return nil, err
		}

		for _, n := range notes {
			if n.author == account && marked(n.body, marker) {
				ours = append(ours, n)
			}
		}

		if !more {
			return ours[max(0, len(ours)-MaxDuplicates-1):], nil
		}
	}

	return nil, fmt.Errorf("the request has more than %d comments; that is more than are looked through", MaxPages*perPage)
}

// marked reports whether the first line of a comment is the marker.
func marked(body, marker string) bool {
	first, _, _ := strings.Cut(body, "\n")

	return strings.TrimRight(first, " \r") == marker
}

// normal is a body without what servers change by themselves.
func normal(body string) string {
	return strings.TrimSpace(strings.ReplaceAll(body, "\r\n", "\n"))
}

func (c *Client) pause(ctx context.Context, d time.Duration) error {
	if c.Pause != nil {
		return c.Pause(ctx, d)
	}

	timer := time.NewTimer(d)
	defer timer.Stop()

	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
