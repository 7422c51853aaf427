package auth

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// apiServer answers the two reviews of a Kubernetes API server.
type apiServer struct {
	mu      sync.Mutex
	users   map[string]authenticationv1.TokenReviewStatus // by token
	roles   map[string]bool                               // "user verb resource name"
	reviews []authenticationv1.TokenReviewSpec
	asked   []authorizationv1.SubjectAccessReviewSpec
	fail    int // the code of every answer
	text    string
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()

	w.Header().Set("Content-Type", "application/json")

	if s.fail != 0 {
		w.WriteHeader(s.fail)
		_ = json.NewEncoder(w).Encode(metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: int32(s.fail),
			Reason: map[int]metav1.StatusReason{401: "Unauthorized", 403: "Forbidden", 422: "Invalid"}[s.fail], Message: s.text,
		})

		return
	}

	var answer any

	switch r.Method + " " + r.URL.Path {
	case "POST /apis/authentication.k8s.io/v1/tokenreviews":
		var review authenticationv1.TokenReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			panic(err)
		}

		s.reviews = append(s.reviews, review.Spec)
		review.Status, answer = s.users[review.Spec.Token], &review
	case "POST /apis/authorization.k8s.io/v1/subjectaccessreviews":
		var review authorizationv1.SubjectAccessReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			panic(err)
		}

		s.asked = append(s.asked, review.Spec)

		what := review.Spec.ResourceAttributes
		resource := strings.TrimSuffix(what.Group+"/"+what.Resource+"/"+what.Subresource, "/")
		// As RBAC does it: a role without names is for all of them.
		review.Status.Allowed = s.roles[fmt.Sprintf("%s %s %s %s", review.Spec.User, what.Verb, resource, what.Name)] ||
			s.roles[fmt.Sprintf("%s %s %s *", review.Spec.User, what.Verb, resource)]
		review.Status.Denied = s.roles["denied"]
		answer = &review
	default:
		http.NotFound(w, r)

		return
	}

	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(answer)
}

func (s *apiServer) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()

	change()
}

func review(name string, audiences ...string) authenticationv1.TokenReviewStatus {
	return authenticationv1.TokenReviewStatus{
		Authenticated: true, Audiences: audiences,
		User: authenticationv1.UserInfo{Username: name, UID: "uid", Groups: []string{"g"}, Extra: map[string]authenticationv1.ExtraValue{"e": {"x"}}},
	}
}

// reviewed returns who knows the tokens of an API server, through the real client.
func reviewed(t testing.TB, s *apiServer, transport http.RoundTripper) *Kubernetes {
	t.Helper()

	cfg := &rest.Config{Host: "https://kubernetes.example.com", Transport: transport}

	if transport == nil {
		server := httptest.NewServer(s)
		t.Cleanup(server.Close)

		cfg = &rest.Config{Host: server.URL}
	}

	reviews, access, err := Reviewers(cfg)
	if err != nil {
		t.Fatal(err)
	}

	return NewKubernetes(KubernetesConfig{Reviews: reviews, Access: access})
}
