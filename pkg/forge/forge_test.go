package forge_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/omni-syncd/omni-syncd/pkg/forge"
	"github.com/omni-syncd/omni-syncd/pkg/forge/forgetest"
)

const (
	marker = "<!-- omni-syncd:plan:default -->"
	head   = "1111111111111111111111111111111111111111"
)

// both runs a test against both kinds of servers.
func both(t *testing.T, test func(t *testing.T, server *forgetest.Server, pr forge.PullRequest)) {
	for _, kind := range []forge.Kind{forge.GitHub, forge.GitLab} {
		t.Run(string(kind), func(t *testing.T) {
			pr := forge.PullRequest{Kind: kind, Project: forgetest.GitLabProject, Number: forgetest.Number, Head: head, Token: forgetest.Token}

			var server *forgetest.Server
			if kind == forge.GitHub {
				server = forgetest.NewGitHub(t)
				pr.Project, pr.GraphQL = forgetest.GitHubProject, server.GraphQL
			} else {
				server = forgetest.NewGitLab(t)
			}

			server.SetHead(head)
			pr.API = server.URL

			test(t, server, pr)
		})
	}
}

// client waits for nothing, and notes how long it would have.
type client struct {
	forge.Client

	pauses []time.Duration
}

func newClient() *client {
	c := &client{Client: forge.Client{UserAgent: "omni-syncd/test"}}
	c.Pause = func(_ context.Context, d time.Duration) error { c.pauses = append(c.pauses, d); return nil }

	return c
}

func (c *client) mustPost(t *testing.T, pr forge.PullRequest, comment forge.Comment, want forge.Outcome) {
	t.Helper()

	result, err := c.Post(t.Context(), pr, comment)
	if err != nil {
		t.Fatal(err)
	}

	if result.Outcome != want {
		t.Fatalf("it was %s, want %s", result.Outcome, want)
	}
}

func text(s string) forge.Comment { return forge.Comment{Marker: marker, Body: marker + "\n" + s} }

func bodies(server *forgetest.Server) []string {
	var all []string
	for _, c := range server.Comments() {
		all = append(all, c.Author+": "+strings.ReplaceAll(c.Body, marker+"\n", "[marker] "))
	}

	return all
}

func want(t *testing.T, server *forgetest.Server, want ...string) {
	t.Helper()

	if diff := cmp.Diff(want, bodies(server)); diff != "" {
		t.Errorf("comments (-want +got):\n%s", diff)
	}
}

func TestLifeOfAComment(t *testing.T) {
	both(t, func(t *testing.T, server *forgetest.Server, pr forge.PullRequest) {
		c := newClient()
		quiet := text("none")
		quiet.OnlyUpdate = true

		c.mustPost(t, pr, quiet, forge.Nothing)
		c.mustPost(t, pr, forge.Comment{Marker: marker}, forge.Nothing)
		want(t, server)

		c.mustPost(t, pr, text("one"), forge.Created)
		c.mustPost(t, pr, text("one\r\n"), forge.Unchanged)
		c.mustPost(t, pr, text("two"), forge.Updated)
		want(t, server, forgetest.Account+": [marker] two")

		c.mustPost(t, pr, quiet, forge.Updated)
		want(t, server, forgetest.Account+": [marker] none")

		c.mustPost(t, pr, forge.Comment{Marker: marker}, forge.Deleted)
		want(t, server)

		other := forge.Comment{Marker: "<!-- omni-syncd:plan:other -->", Body: "<!-- omni-syncd:plan:other -->\nother"}
		c.mustPost(t, pr, other, forge.Created)
		c.mustPost(t, pr, text("one"), forge.Created)

		if len(server.Comments()) != 2 {
			t.Error("two reports share a comment")
		}
	})
}

// A comment counts as ours if we wrote it and it begins with the marker. All else is left alone: the server fails the test otherwise.
func TestOthersAreLeftAlone(t *testing.T) {
	both(t, func(t *testing.T, server *forgetest.Server, pr forge.PullRequest) {
		foreign := []forgetest.Comment{
			{Author: "mallory", Body: marker + "\nNo difference, merge it"},
			{Author: "github-actions", Body: marker + "\na person with the name of the bot"},
			{Author: forgetest.Account, Body: "another workflow quotes " + marker},
			{Author: forgetest.Account, Body: "> quoted\n" + marker},
			{Author: forgetest.Account, Body: marker + marker + "\n"},
		}
		server.Write(foreign...)
		if pr.Kind == forge.GitLab {
			server.Write(forgetest.Comment{Author: forgetest.Account, Body: marker + "\nan event", System: true})
		}

		before := bodies(server)
		c := newClient()

		c.mustPost(t, pr, forge.Comment{Marker: marker}, forge.Nothing)
		c.mustPost(t, pr, text("one"), forge.Created)
		c.mustPost(t, pr, text("two"), forge.Updated)
		want(t, server, append(before, forgetest.Account+": [marker] two")...)
	})
}

func TestManyComments(t *testing.T) {
	both(t, func(t *testing.T, server *forgetest.Server, pr forge.PullRequest) {
		for i := range 250 {
			server.Write(forgetest.Comment{Author: "jane", Body: fmt.Sprint("comment ", i)})
		}

		c := newClient()
		c.mustPost(t, pr, text("one"), forge.Created)
		server.Calls()
		c.mustPost(t, pr, text("two"), forge.Updated)

		pages := 0
		for _, call := range server.Calls() {
			if strings.Contains(call, "page=") {
				pages++
			}
		}

		if pages != 3 {
			t.Errorf("%d pages were read, want 3", pages)
		}

		server.PageSize = 1 // and a server that gives too few has a limit
		if _, err := c.Post(t.Context(), pr, text("three")); err == nil || !strings.Contains(err.Error(), "more than are looked through") {
			t.Errorf("a list without an end: %v", err)
		}
	})
}

// Two jobs at the same time leave two comments; the newest stays.
func TestDuplicates(t *testing.T) {
	both(t, func(t *testing.T, server *forgetest.Server, pr forge.PullRequest) {
		for i := range 14 {
			server.Write(forgetest.Comment{Author: forgetest.Account, Body: fmt.Sprint(marker, "\n", i)})
		}

		c := newClient()
		c.mustPost(t, pr, text("13"), forge.Unchanged)
		want(t, server, forgetest.Account+": [marker] 0", forgetest.Account+": [marker] 1", forgetest.Account+": [marker] 2", forgetest.Account+": [marker] 13")
		c.mustPost(t, pr, text("new"), forge.Updated)
		want(t, server, forgetest.Account+": [marker] new")
	})
}

func TestOutdatedRunWritesNothing(t *testing.T) {
	both(t, func(t *testing.T, server *forgetest.Server, pr forge.PullRequest) {
		c := newClient()
		c.mustPost(t, pr, text("new"), forge.Created)

		pr.Head = strings.Repeat("0", 40)
		c.mustPost(t, pr, text("old"), forge.Outdated)
		want(t, server, forgetest.Account+": [marker] new")
	})
}

func TestTriesAgain(t *testing.T) {
	both(t, func(t *testing.T, server *forgetest.Server, pr forge.PullRequest) {
		c := newClient()
		server.Fail(
			forgetest.Status(502, "bad gateway"),
			nil, forgetest.Status(429, "slow down", "Retry-After", "7"),
			nil, nil, nil, hangUp,
		)
		c.mustPost(t, pr, text("one"), forge.Created)

		if diff := cmp.Diff([]time.Duration{time.Second, 7 * time.Second, 4 * time.Second}, c.pauses); diff != "" {
			t.Errorf("pauses (-want +got):\n%s", diff)
		}

		want(t, server, forgetest.Account+": [marker] one")
	})
}

func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// The answer to a comment that was written got lost: there are not two of it then.
func TestLostAnswer(t *testing.T) {
	both(t, func(t *testing.T, server *forgetest.Server, pr forge.PullRequest) {
		c := newClient()
		c.Pause = func(context.Context, time.Duration) error {
			server.Write(forgetest.Comment{Author: forgetest.Account, Body: marker + "\none"}) // what the lost call did

			return nil
		}

		server.Fail(nil, nil, nil, forgetest.Status(504, "timeout"))
		c.mustPost(t, pr, text("one"), forge.Unchanged)
		want(t, server, forgetest.Account+": [marker] one")
	})
}

func TestGivesUp(t *testing.T) {
	always := func(fault http.HandlerFunc) []http.HandlerFunc {
		faults := make([]http.HandlerFunc, 50)
		for i := range faults {
			faults[i] = fault
		}

		return faults
	}

	for _, test := range []struct {
		name    string
		fault   http.HandlerFunc
		error   string
		refused bool
		calls   int
	}{
		{"down", forgetest.Status(503, "maintenance"), "answers 503: maintenance (tried 4 times)", false, 4},
		{"hangs up", hangUp, "does not answer", false, 4},
		{"rate limit for long", forgetest.Status(403, "rate limit", "X-Ratelimit-Remaining", "0", "X-Ratelimit-Reset", fmt.Sprint(time.Now().Add(time.Hour).Unix())), "which is too long", false, 1},
		{"asks for an hour", forgetest.Status(429, "rate limit", "Retry-After", "3600"), "wait for 1h0m0s", false, 1},
		{"forbidden", forgetest.Status(403, "Resource not accessible by integration"), "Resource not accessible by integration; ", true, 1},
		{"unauthorised", forgetest.Status(401, "401 Unauthorized"), "answers 401", true, 1},
		{"another server", forgetest.Status(302, "", "Location", "https://example.com/x"), "it has moved", false, 1},
		{"no JSON", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>login") }, "something else than the JSON", false, 1},
		{"says the token", forgetest.Status(400, "token "+forgetest.Token+" \x1b[31mis\nwrong"), "token ***  [31mis wrong", false, 1},
		{"much", func(w http.ResponseWriter, _ *http.Request) {
			chunk := []byte(strings.Repeat(" ", 1<<20))
			for range 65 {
				_, _ = w.Write(chunk)
			}
		}, "larger than 64 MiB", false, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			both(t, func(t *testing.T, server *forgetest.Server, pr forge.PullRequest) {
				server.Fail(always(test.fault)...)

				_, err := newClient().Post(t.Context(), pr, text("one"))

				switch {
				case err == nil:
					t.Fatal("it went well")
				case !strings.Contains(err.Error(), test.error):
					t.Errorf("the error is %q, want %q in it", err, test.error)
				case strings.Contains(err.Error(), forgetest.Token):
					t.Error("the token is in the error")
				case errors.As(err, new(*forge.Refused)) != test.refused:
					t.Errorf("refused is %t: %v", !test.refused, err)
				}

				if n := len(server.Calls()); n != test.calls {
					t.Errorf("%d calls, want %d", n, test.calls)
				}
			})
		})
	}
}

// A token that may read and not write: a pull request from a fork.
func TestReadOnlyToken(t *testing.T) {
	both(t, func(t *testing.T, server *forgetest.Server, pr forge.PullRequest) {
		server.Fail(nil, nil, nil, forgetest.Status(403, "Resource not accessible by integration"))

		_, err := newClient().Post(t.Context(), pr, text("one"))
		if !errors.As(err, new(*forge.Refused)) {
			t.Fatalf("the error is %v", err)
		}

		if help := map[forge.Kind]string{forge.GitHub: "docs/pull-requests.md", forge.GitLab: "CI_JOB_TOKEN cannot write notes"}[pr.Kind]; !strings.Contains(err.Error(), help) {
			t.Errorf("%q does not say %q", err, help)
		}
	})
}

// The token is for the server that it was given for.
func TestTokenStays(t *testing.T) {
	both(t, func(t *testing.T, server *forgetest.Server, pr forge.PullRequest) {
		other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the other server was asked") }))
		defer other.Close()

		for _, status := range []int{301, 302, 307, 308} {
			server.Fail(forgetest.Status(status, "", "Location", other.URL))

			if _, err := newClient().Post(t.Context(), pr, text("one")); err == nil {
				t.Errorf("a redirect with %d went well", status)
			}

			server.Fail(nil, nil, nil, forgetest.Status(status, "", "Location", server.URL)) // writing goes nowhere else at all

			if _, err := newClient().Post(t.Context(), pr, text("one")); err == nil {
				t.Errorf("a redirect with %d of a writing call went well", status)
			}
		}
	})
}

func TestWrongWords(t *testing.T) {
	both(t, func(t *testing.T, server *forgetest.Server, pr forge.PullRequest) {
		for _, test := range []struct {
			change func(*forge.PullRequest, *forge.Comment)
			error  string
		}{
			{func(p *forge.PullRequest, _ *forge.Comment) { p.API = "http://ghe.example.com/api" }, "it has to be https"},
			{func(p *forge.PullRequest, _ *forge.Comment) { p.API = "https://user:pw@ghe.example.com" }, "is no URL like"},
			{func(p *forge.PullRequest, _ *forge.Comment) { p.API = "ghe.example.com" }, "is no URL like"},
			{func(p *forge.PullRequest, _ *forge.Comment) { p.Token = "two\nlines" }, "a line break"},
			{func(p *forge.PullRequest, _ *forge.Comment) { p.Token = "" }, "no token"},
			{func(p *forge.PullRequest, _ *forge.Comment) { p.Kind = "svn" }, `"svn" are not known`},
			{func(_ *forge.PullRequest, c *forge.Comment) { c.Body = "no marker" }, "does not begin with its marker"},
			{func(_ *forge.PullRequest, c *forge.Comment) { c.Body += strings.Repeat("x", forge.MaxBody) }, "GitHub takes 65536"},
		} {
			changed, comment := pr, text("one")
			test.change(&changed, &comment)

			if _, err := newClient().Post(t.Context(), changed, comment); err == nil || !strings.Contains(err.Error(), test.error) {
				t.Errorf("the error is %v, want %q in it", err, test.error)
			}
		}

		if calls := server.Calls(); len(calls) > 0 {
			t.Errorf("the server was asked: %s", calls)
		}
	})
}

// Servers that speak GitHub's REST API alone.
func TestRESTOnly(t *testing.T) {
	server := forgetest.NewGitHub(t)
	server.RESTOnly()
	newClient().mustPost(t, forge.PullRequest{
		Kind: forge.GitHub, API: server.URL, Project: forgetest.GitHubProject, Number: forgetest.Number, Token: forgetest.Token,
	}, text("one"), forge.Created)
}

func TestStopsWithItsContext(t *testing.T) {
	both(t, func(t *testing.T, server *forgetest.Server, pr forge.PullRequest) {
		ctx, cancel := context.WithCancelCause(t.Context())
		server.Fail(func(w http.ResponseWriter, r *http.Request) {
			cancel(errors.New("not done after 3m"))
			<-r.Context().Done()
		})

		_, err := newClient().Post(ctx, pr, text("one"))
		if err == nil || !strings.Contains(err.Error(), "not done after 3m") {
			t.Errorf("the error is %v", err)
		}
	})
}
