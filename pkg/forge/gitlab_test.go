package forge_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/omni-syncd/omni-syncd/pkg/forge"
	"github.com/omni-syncd/omni-syncd/pkg/forge/forgetest"
)

// GitLab carries out lines of a note that begin with a slash.
func TestNoteGivesNoOrders(t *testing.T) {
	server := forgetest.NewGitLab(t)
	pr := forge.PullRequest{Kind: forge.GitLab, API: server.URL, Project: forgetest.GitLabProject, Number: forgetest.Number, Token: forgetest.Token}
	c := newClient()

	c.mustPost(t, pr, text("a\n/merge\n  /approve\nb /close\n/ 2"), forge.Created)
	c.mustPost(t, pr, text("a\n/merge\n  /approve\nb /close\n/ 2"), forge.Unchanged)
	want(t, server, forgetest.Account+": [marker] a\n\u200b/merge\n  \u200b/approve\nb /close\n/ 2")
}

// A project of GitLab may be named by its path, which is one segment of the URL then.
func TestProjectByItsPath(t *testing.T) {
	var uri string

	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		uri = r.RequestURI

		w.WriteHeader(http.StatusForbidden)
	}))
	defer server.Close()

	_, err := newClient().Post(t.Context(), forge.PullRequest{
		Kind: forge.GitLab, API: server.URL + "/api/v4/", Project: "group/sub/name", Number: 7, Head: head, Token: "x",
	}, text("one"))
	if want := "/api/v4/projects/group%2Fsub%2Fname/merge_requests/7"; err == nil || uri != want {
		t.Errorf("asked for %s, want %s (%v)", uri, want, err)
	}
}
