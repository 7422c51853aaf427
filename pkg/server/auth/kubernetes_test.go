package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/client-go/rest"
)

func TestKubernetes(t *testing.T) {
	s := &apiServer{
		users: map[string]authenticationv1.TokenReviewStatus{
			"ann": review("ann", "omni-syncd"), "bob": review("bob", "x", "omni-syncd"), "cy": review("cy", "omni-syncd"), "dan": review("dan", "omni-syncd"),
		},
		roles: map[string]bool{
			"ann get omni-syncd/clusters prod": true, "bob update omni-syncd/clusters *": true, "cy create omni-syncd/clusters/kubeconfig *": true,
			"dan create omni-syncd/clusters *": true, "dan get clusters *": true, "dan get omni-syncd/clusters/kubeconfig *": true, // none of them is asked for
		},
	}
	k := reviewed(t, s, nil)

	for token, want := range map[string][]string{
		"ann": {"viewer prod"},
		"bob": {"viewer prod", "viewer test", "viewer ", "operator prod", "operator test", "operator "},
		"cy":  {"access prod", "access test", "access "},
		"dan": nil,
	} {
		caller, err := k.Authenticate(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}

		if caller.Name != "kubernetes "+token || time.Until(caller.Expires) > maxSession || time.Until(caller.Expires) < maxSession-time.Minute {
			t.Errorf("%s until %s", caller.Name, caller.Expires)
		}

		var got []string

		for _, role := range Roles {
			for _, cluster := range []string{"prod", "test", ""} {
				var denied *DeniedError

				switch err := caller.May(t.Context(), role, cluster); {
				case err == nil:
					got = append(got, fmt.Sprintf("%s %s", role, cluster))
				case !errors.As(err, &denied) || !strings.Contains(err.Error(), "it needs a ClusterRole"):
					t.Error(err)
				}
			}
		}

		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", token, diff)
		}
	}

	if diff := cmp.Diff([]string{"omni-syncd"}, s.reviews[0].Audiences); diff != "" {
		t.Error(diff)
	}

	for _, spec := range s.asked {
		if spec.UID != "uid" || len(spec.Groups) != 1 || spec.Extra["e"][0] != "x" || spec.ResourceAttributes.Namespace != "" {
			t.Errorf("%+v", spec)
		}
	}

	s.set(func() { s.roles["denied"] = true })

	caller, _ := k.Authenticate(t.Context(), "bob")
	if err := caller.May(t.Context(), Viewer, "new"); err == nil {
		t.Error("who is denied may")
	}
}

func TestKubernetesRefuses(t *testing.T) {
	own, _ := newToken(t)
	half := review("x", "omni-syncd")
	half.Authenticated = false

	s := &apiServer{users: map[string]authenticationv1.TokenReviewStatus{
		"half": half, "other": review("x", "https://kubernetes.default.svc"), "silent": review("x"), "nameless": review("", "omni-syncd"),
		"anonymous": review("system:anonymous", "omni-syncd"), own: review("x", "omni-syncd"),
	}}
	k := reviewed(t, s, nil)

	for _, token := range []string{"nobody", "half", "other", "silent", "nameless", "anonymous", own, strings.Repeat("x", MaxToken+1)} {
		if _, err := k.Authenticate(t.Context(), token); !errors.Is(err, ErrUnknown) {
			t.Errorf("%.40s: %v", token, err)
		}

		if _, err := k.recall(t.Context(), token); !errors.Is(err, ErrUnknown) {
			t.Errorf("%.40s: %v", token, err)
		}
	}

	if len(s.reviews) != 6 {
		t.Errorf("%d tokens were sent: one that is meant for the file, or too long, too", len(s.reviews))
	}
}

func TestKubernetesAway(t *testing.T) {
	s := &apiServer{users: map[string]authenticationv1.TokenReviewStatus{"ann": review("ann", "omni-syncd")}}
	k := reviewed(t, s, nil)

	caller, err := k.Authenticate(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}

	const token = "a-token-that-nobody-may-see"

	for code, want := range map[int]string{
		401: "bind it to the ClusterRole system:auth-delegator", 403: "bind it to the ClusterRole system:auth-delegator", 422: "it answers 422 (Invalid)", 500: "it answers 500",
	} {
		s.set(func() { s.fail, s.text = code, "spec.token: Invalid value: "+token })

		_, err := k.Authenticate(t.Context(), token)
		may := caller.May(t.Context(), Viewer, "a")

		for what, err := range map[string]error{"tokenreviews": err, "subjectaccessreviews": may} {
			var unavailable *UnavailableError
			if !errors.As(err, &unavailable) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), what) || strings.Contains(err.Error(), token) {
				t.Errorf("%d: %v", code, err)
			}
		}
	}

	s.set(func() { s.fail = 0; s.roles = map[string]bool{"ann get omni-syncd/clusters a": true} })

	if err := caller.May(t.Context(), Viewer, "a"); err != nil {
		t.Error("up again:", err)
	}

	nowhere := httptest.NewServer(s)
	nowhere.Close()

	reviews, access, err := Reviewers(&rest.Config{Host: nowhere.URL})
	if err != nil {
		t.Fatal(err)
	}

	var unavailable *UnavailableError
	if _, err := NewKubernetes(KubernetesConfig{Reviews: reviews, Access: access}).Authenticate(t.Context(), token); !errors.As(err, &unavailable) || strings.Contains(err.Error(), token) {
		t.Error(err)
	}
}

// What the API server said holds for some seconds, and no longer.
func TestKubernetesTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &apiServer{
			users: map[string]authenticationv1.TokenReviewStatus{"ann": review("ann", "omni-syncd")},
			roles: map[string]bool{"ann get omni-syncd/clusters prod": true},
		}
		k := reviewed(t, s, inProcess{s})

		for range 100 {
			caller, err := k.Authenticate(t.Context(), "ann")
			if err != nil {
				t.Fatal(err)
			}

			if err := caller.May(t.Context(), Viewer, "prod"); err != nil {
				t.Error(err)
			}

			if err := caller.May(t.Context(), Operator, "prod"); err == nil {
				t.Error("a viewer operates")
			}
		}

		if len(s.reviews) != 1 || len(s.asked) != 2 {
			t.Errorf("%d and %d questions", len(s.reviews), len(s.asked))
		}

		caller, _ := k.Authenticate(t.Context(), "ann")

		s.set(func() { s.roles["ann update omni-syncd/clusters prod"] = true })
		time.Sleep(deniedKept)

		if err := caller.May(t.Context(), Operator, "prod"); err != nil {
			t.Error("a new role:", err)
		}

		s.set(func() { clear(s.roles); clear(s.users) })
		time.Sleep(reviewKept - deniedKept - 1)

		if _, err := k.recall(t.Context(), "ann"); err != nil {
			t.Error(err)
		}

		if err := caller.May(t.Context(), Viewer, "prod"); err != nil {
			t.Error(err)
		}

		time.Sleep(deniedKept + 1)

		if err := caller.May(t.Context(), Viewer, "prod"); err == nil {
			t.Error("a role that was taken away")
		}

		if _, err := k.Authenticate(t.Context(), "ann"); !errors.Is(err, ErrUnknown) {
			t.Error("a token that was taken away:", err)
		}
	})
}

// A token with a time of its own is good for no longer than that, in memory, too.
func TestKubernetesTokenEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := time.Now().Add(3 * time.Second).Truncate(time.Second)
		token := ecKey(t, "1").sign(t, "ES256", map[string]any{"exp": ends.Unix()})
		s := &apiServer{users: map[string]authenticationv1.TokenReviewStatus{token: review("ann", "omni-syncd")}}
		k := reviewed(t, s, inProcess{s})

		caller, err := k.Authenticate(t.Context(), token)
		if err != nil || !caller.Expires.Equal(ends) {
			t.Fatalf("%v, %v", caller, err)
		}

		s.set(func() { clear(s.users) })
		time.Sleep(3 * time.Second)

		if _, err := k.Authenticate(t.Context(), token); !errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
	})
}

// Many who want to know the same ask once, and not too much is asked at the same time.
func TestKubernetesTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &apiServer{users: map[string]authenticationv1.TokenReviewStatus{"ann": review("ann", "omni-syncd")}}

		var (
			mu           sync.Mutex
			inside, most int
		)

		k := reviewed(t, s, roundTrip(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			inside++
			most = max(most, inside)
			mu.Unlock()

			defer func() {
				mu.Lock()
				inside--
				mu.Unlock()
			}()

			select {
			case <-time.After(time.Second):
				return inProcess{s}.RoundTrip(r)
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		}))

		// The one who came first goes away; the others get their answer.
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()

		var group sync.WaitGroup

		group.Go(func() {
			var unavailable *UnavailableError
			if _, err := k.Authenticate(ctx, "ann"); !errors.As(err, &unavailable) {
				t.Error(err)
			}
		})

		synctest.Wait()

		for range 50 {
			group.Go(func() {
				if _, err := k.Authenticate(t.Context(), "ann"); err != nil {
					t.Error(err)
				}
			})
		}

		group.Wait()

		if len(s.reviews) != 1 {
			t.Errorf("%d questions", len(s.reviews))
		}

		for i := range 100 {
			group.Go(func() { _, _ = k.Authenticate(t.Context(), fmt.Sprint("guess", i)) })
		}

		group.Wait()

		if most != maxAsked || len(s.reviews) != 101 {
			t.Errorf("%d at the same time, %d in all", most, len(s.reviews))
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
