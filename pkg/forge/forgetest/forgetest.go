// Package forgetest is a GitHub and a GitLab on loopback, as far as comments of a pull
// request go: for tests of package forge and of what is built on it. They check every call
// as strictly as the real ones do, and where those would let something happen that must
// not, they take note of it.
package forgetest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Token is what the servers take, Account the name of whom it belongs to and AccountID its number.
const (
	Token     = "forge-token-canary-0123456789"
	Account   = "github-actions[bot]"
	AccountID = 4711
)

// Number is that of the pull request, Project the name and number of the project.
const (
	Number          = 7
	GitHubProject   = "platform/fleet"
	GitLabProject   = "42"
	forkRepository  = 99
	otherRepository = 98
)

// Comment is one comment.
type Comment struct {
	ID     int64
	Author string
	Body   string
	// System is a note that GitLab wrote about an event.
	System bool
}

// Server is a GitHub or a GitLab.
type Server struct {
	// URL is the base URL of the API, and GraphQL that of GitHub's other one.
	URL, GraphQL string
	// PageSize is how many comments one page has; the 100 that are asked for if 0.
	PageSize int

	t    testing.TB
	http *httptest.Server

	mu       sync.Mutex
	head     string
	comments []Comment
	next     int64
	calls    []string
	faults   []http.HandlerFunc
	restOnly bool
}

// NewGitHub starts a GitHub Enterprise Server.
func NewGitHub(t testing.TB) *Server {
	s := &Server{t: t, next: 1000}
	mux := http.NewServeMux()
	repo := "/api/v3/repos/" + GitHubProject

	mux.HandleFunc("POST /api/graphql", s.viewer)
	mux.HandleFunc("GET /api/v3/user", s.user)
	mux.HandleFunc("GET "+repo+"/pulls", s.pulls)
	mux.HandleFunc(fmt.Sprintf("GET %s/pulls/%d", repo, Number), func(w http.ResponseWriter, _ *http.Request) {
		reply(w, 200, map[string]any{"number": Number, "head": map[string]any{"sha": s.head}})
	})
	mux.HandleFunc(fmt.Sprintf("GET %s/issues/%d/comments", repo, Number), s.list)
	mux.HandleFunc(fmt.Sprintf("POST %s/issues/%d/comments", repo, Number), s.create)
	mux.HandleFunc("PATCH "+repo+"/issues/comments/{id}", s.update)
	mux.HandleFunc("DELETE "+repo+"/issues/comments/{id}", s.remove)

	s.start(mux, map[string]string{
		"Authorization": "Bearer " + Token, "Accept": "application/vnd.github+json", "X-Github-Api-Version": "2022-11-28",
	})
	s.URL, s.GraphQL = s.http.URL+"/api/v3", s.http.URL+"/api/graphql"

	return s
}

// NewGitLab starts a GitLab.
func NewGitLab(t testing.TB) *Server {
	s := &Server{t: t, next: 1000}
	mux := http.NewServeMux()
	request := fmt.Sprintf("/api/v4/projects/%s/merge_requests/%d", GitLabProject, Number)

	mux.HandleFunc("GET /api/v4/user", func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, map[string]any{"id": AccountID}) })
	mux.HandleFunc("GET "+request, func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, map[string]any{"sha": s.head}) })
	mux.HandleFunc("GET "+request+"/notes", s.list)
	mux.HandleFunc("POST "+request+"/notes", s.create)
	mux.HandleFunc("PUT "+request+"/notes/{id}", s.update)
	mux.HandleFunc("DELETE "+request+"/notes/{id}", s.remove)

	s.start(mux, map[string]string{"Private-Token": Token})
	s.URL = s.http.URL + "/api/v4"

	return s
}

// start serves the calls: what has not the headers that it has to have is refused, and
// what is unknown fails the test.
func (s *Server) start(mux *http.ServeMux, headers map[string]string) {
	s.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()

		s.calls = append(s.calls, r.Method+" "+r.URL.RequestURI())

		if strings.Contains(r.URL.String(), Token) {
			s.t.Errorf("%s %s: the token is in the URL", r.Method, r.URL)
		}

		if !strings.HasPrefix(r.UserAgent(), "omni-syncd/") {
			s.t.Errorf("%s %s: the user agent is %q", r.Method, r.URL, r.UserAgent())
		}

		if len(s.faults) > 0 {
			fault := s.faults[0]
			s.faults = s.faults[1:]

			if fault != nil {
				fault(w, r)

				return
			}
		}

		for name, want := range headers {
			if got := r.Header.Get(name); got != want {
				if !strings.Contains(name, "Token") && name != "Authorization" {
					s.t.Errorf("%s %s: %s is %q, want %q", r.Method, r.URL, name, got, want)
				}

				reply(w, 401, map[string]any{"message": "Bad credentials " + got})

				return
			}
		}

		if (r.Method == "POST" || r.Method == "PATCH" || r.Method == "PUT") && r.Header.Get("Content-Type") != "application/json" {
			s.t.Errorf("%s %s: the type of the body is %q", r.Method, r.URL, r.Header.Get("Content-Type"))
		}

		if _, pattern := mux.Handler(r); pattern == "" {
			s.t.Errorf("%s %s: there is no such call", r.Method, r.URL)
		}

		mux.ServeHTTP(w, r)
	}))
	s.t.Cleanup(s.http.Close)
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// viewer answers the one question that is asked there.
func (s *Server) viewer(w http.ResponseWriter, r *http.Request) {
	var query struct {
		Query string `json:"query"`
	}

	if err := json.NewDecoder(r.Body).Decode(&query); err != nil || strings.Join(strings.Fields(query.Query), "") != "query{viewer{login}}" {
		s.t.Errorf("the GraphQL query is %q (%v)", query.Query, err)
	}

	if s.restOnly {
		reply(w, 404, map[string]any{"message": "Not Found"})

		return
	}

	reply(w, 200, map[string]any{"data": map[string]any{"viewer": map[string]any{"login": Account}}})
}

// user is closed to the token of a job, as on GitHub.
func (s *Server) user(w http.ResponseWriter, _ *http.Request) {
	if s.restOnly {
		reply(w, 200, map[string]any{"login": Account})

		return
	}

	reply(w, 403, map[string]any{"message": "Resource not accessible by integration"})
}

// pulls are two requests of the same branch name and commit, from two forks of one owner.
func (s *Server) pulls(w http.ResponseWriter, r *http.Request) {
	if got := r.URL.Query(); got.Get("head") != "forker:change" || got.Get("state") != "open" {
		s.t.Errorf("the pull requests are looked for with %s", r.URL.RawQuery)
	}

	pull := func(number int, repository int64) map[string]any {
		return map[string]any{"number": number, "head": map[string]any{"sha": s.head, "repo": map[string]any{"id": repository}}}
	}

	reply(w, 200, []any{pull(Number, forkRepository), pull(Number+1, otherRepository)})
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	page, _ := strconv.Atoi(r.URL.Query().Get("page"))
	size, _ := strconv.Atoi(r.URL.Query().Get("per_page"))

	if page < 1 || size != 100 {
		s.t.Errorf("%s: page and per_page are wrong", r.URL)
	}

	if s.PageSize > 0 {
		size = s.PageSize
	}

	from, to := min((page-1)*size, len(s.comments)), min(page*size, len(s.comments))
	if to < len(s.comments) {
		w.Header().Set("Link", fmt.Sprintf(`<%s?page=1>; rel="first", <%s?page=%d>; rel="next"`, r.URL.Path, r.URL.Path, page+1))
	}

	answer := []any{}
	for _, c := range s.comments[from:to] {
		answer = append(answer, s.shown(c))
	}

	reply(w, 200, answer)
}

func (s *Server) shown(c Comment) map[string]any {
	id := int64(1)
	if c.Author == Account {
		id = AccountID
	}

	return map[string]any{
		"id": c.ID, "body": c.Body, "html_url": fmt.Sprintf("https://example.com/pull/%d#issuecomment-%d", Number, c.ID), "system": c.System,
		"user": map[string]any{"login": c.Author}, "author": map[string]any{"id": id},
	}
}

func (s *Server) create(w http.ResponseWriter, r *http.Request) {
	s.next++
	s.comments = append(s.comments, Comment{ID: s.next, Author: Account, Body: s.body(r)})
	reply(w, 201, s.shown(s.comments[len(s.comments)-1]))
}

func (s *Server) body(r *http.Request) string {
	data, _ := io.ReadAll(r.Body)

	var sent map[string]string
	if err := json.Unmarshal(data, &sent); err != nil || len(sent) != 1 || sent["body"] == "" || len([]rune(sent["body"])) > 65_536 {
		s.t.Errorf("%s %s: the body is wrong: %v, %d bytes", r.Method, r.URL, err, len(data))
	}

	return sent["body"]
}

// own returns the comment that a call is about. The real servers let a token with enough
// rights write into the comments of others.
func (s *Server) own(w http.ResponseWriter, r *http.Request) int {
	i := slices.IndexFunc(s.comments, func(c Comment) bool { return strconv.FormatInt(c.ID, 10) == r.PathValue("id") })
	if i < 0 {
		reply(w, 404, map[string]any{"message": "Not Found"})

		return i
	}

	if s.comments[i].Author != Account || s.comments[i].System {
		s.t.Errorf("%s %s: this comment was written by %s", r.Method, r.URL, s.comments[i].Author)
	}

	return i
}

func (s *Server) update(w http.ResponseWriter, r *http.Request) {
	if i := s.own(w, r); i >= 0 {
		s.comments[i].Body = s.body(r)
		reply(w, 200, s.shown(s.comments[i]))
	}
}

func (s *Server) remove(w http.ResponseWriter, r *http.Request) {
	if i := s.own(w, r); i >= 0 {
		s.comments = slices.Delete(s.comments, i, i+1)
		w.WriteHeader(http.StatusNoContent)
	}
}

// SetHead sets the newest commit of the pull request.
func (s *Server) SetHead(commit string) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.head = commit
}

// RESTOnly makes a GitHub forget GraphQL, as others that speak its API do.
func (s *Server) RESTOnly() {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.restOnly = true
}

// Write adds comments as their authors would, with IDs of their own.
func (s *Server) Write(comments ...Comment) {
	s.mu.Lock()
	defer s.mu.Unlock()

	for _, c := range comments {
		s.next++
		c.ID = s.next
		s.comments = append(s.comments, c)
	}
}

// Comments returns what the pull request shows.
func (s *Server) Comments() []Comment {
	s.mu.Lock()
	defer s.mu.Unlock()

	return slices.Clone(s.comments)
}

// Calls returns the calls since it was asked last, as METHOD PATH?QUERY.
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()

	calls := s.calls
	s.calls = nil

	return calls
}

// Fail lets the next calls go wrong, one each; nil lets a call through.
func (s *Server) Fail(faults ...http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.faults = faults
}

// Status is a fault: an answer of this status, with headers in pairs.
func Status(status int, message string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for pair := range slices.Chunk(headers, 2) {
			w.Header().Set(pair[0], pair[1])
		}

		reply(w, status, map[string]any{"message": message})
	}
}
