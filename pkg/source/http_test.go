package source

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A redirect is followed for the list of refs, and the fetch goes where it led. The
// credential goes to the server of the URL and to no other, a port being another one.
func TestRedirect(t *testing.T) {
	r := newRepo(t, true)
	r.commit("one", map[string]string{"a": "1"})

	const want = "Bearer S3CRET"

	files := backend(t, r)
	own := &guard{next: files, want: want}
	foreign := &guard{next: files}

	elsewhere := httptest.NewServer(foreign)
	t.Cleanup(elsewhere.Close)

	private := httptest.NewServer(&guard{next: files, want: want})
	t.Cleanup(private.Close)

	refs := "/info/refs?service=" + service
	mux := http.NewServeMux()
	mux.Handle("/fleet/", own)
	mux.HandleFunc("/", http.NotFound)

	for from, to := range map[string]string{
		"/moved":   "/fleet" + refs,
		"/away":    elsewhere.URL + "/fleet" + refs,
		"/private": private.URL + "/fleet" + refs,
		"/twice":   "/moved/info/refs?service=" + service,
		"/loop":    "/loop" + refs,
		"/page":    elsewhere.URL + "/login",
		"/gopher":  "gopher://example.com/fleet" + refs,
		"/user":    "http://jane:S3CRET@" + strings.TrimPrefix(elsewhere.URL, "http://") + "/fleet" + refs,
	} {
		mux.Handle(from+"/info/refs", http.RedirectHandler(to, http.StatusFound))
	}

	// There and back: the way home must not bring the credential to anybody.
	back := httptest.NewServer(nil)
	t.Cleanup(back.Close)
	mux.Handle("/detour/info/refs", http.RedirectHandler(back.URL, http.StatusFound))

	// A server that redirects what is posted.
	mux.HandleFunc("/late/info/refs", func(w http.ResponseWriter, req *http.Request) {
		req.URL.Path = "/fleet/info/refs"
		files.ServeHTTP(w, req)
	})
	mux.Handle("/late/"+service, http.RedirectHandler(elsewhere.URL+"/fleet/"+service, http.StatusTemporaryRedirect))

	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)

	var detour []string

	back.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		detour = append(detour, req.Header.Get("Authorization"))
		http.Redirect(w, req, server.URL+"/fleet"+refs, http.StatusFound)
	})

	for _, test := range []struct {
		path, want   string
		own, foreign []string // Authorizations seen
	}{
		{"/fleet", "", []string{want}, nil},
		{"/moved", "", []string{want}, nil},
		{"/twice", "", []string{want}, nil},
		{"/away", "", nil, []string{""}},
		{"/private", "redirects to another one, which wants credentials and does not get them", nil, nil},
		{"/detour", "", []string{want}, nil},
		{"/loop", "redirects too often", nil, nil},
		{"/page", "there is no such repository on the server", nil, nil},
		{"/gopher", "redirects from", nil, nil},
		{"/user", "with credentials in it, which is refused", nil, nil},
		{"/late", "redirects a fetch, which is refused", nil, nil},
	} {
		t.Run(test.path[1:], func(t *testing.T) {
			own.took()
			foreign.took()

			if test.path == "/page" {
				defer foreign.took()
			}

			login := Login{TokenFile: secretFile(t, "S3CRET")}

			rev, err := newTestGit(t, GitConfig{URL: server.URL + test.path, Login: login}).Fetch(t.Context())
			if test.want == "" && (err != nil || read(t, rev.FS, "a") != "1") {
				t.Error(err)
			}

			if test.want != "" {
				wantError(t, err, test.want, "S3CRET")
			}

			if diff := cmp.Diff(test.own, own.took()); diff != "" {
				t.Errorf("the own server saw: %s", diff)
			}

			if seen := foreign.took(); test.path != "/page" && !cmp.Equal(test.foreign, seen) || strings.Contains(fmt.Sprint(seen), "S3CRET") {
				t.Errorf("the other server saw %q", seen)
			}
		})
	}

	if !cmp.Equal(detour, []string{""}) {
		t.Errorf("the detour saw %q", detour)
	}
}

// This is what is spoken: version 0 of the protocol, in which the list is whole. A server
// that could speak version 2 is not asked to.
func TestProtocol(t *testing.T) {
	r := newRepo(t, true)
	r.commit("one", map[string]string{"a": "1"})

	cfg, err := r.Config()
	if err != nil {
		t.Fatal(err)
	}

	cfg.Raw.Section("protocol").SetOption("version", "2")

	if err = r.Storer.SetConfig(cfg); err != nil {
		t.Fatal(err)
	}

	var wants []string

	files := backend(t, r)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if version := req.Header.Get("Git-Protocol"); version != "" {
			t.Errorf("asked for protocol %s", version)
		}

		if !strings.HasPrefix(req.UserAgent(), "git/") {
			t.Errorf("user agent %q", req.UserAgent())
		}

		if req.Method == http.MethodPost {
			body, err := io.ReadAll(req.Body)
			if err != nil {
				t.Error(err)
			}

			wants = append(wants, string(body))
			req.Body = io.NopCloser(strings.NewReader(string(body)))
		}

		files.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)

	g := newTestGit(t, GitConfig{URL: server.URL + "/fleet"})
	fetch(t, g)
	r.commit("two", map[string]string{"a": "2"})
	fetch(t, g)

	// Azure DevOps insists on multi_ack. With it git answers our one "have" with two lines.
	if len(wants) != 2 || !strings.Contains(wants[0], " multi_ack_detailed") || !strings.Contains(wants[1], "have ") {
		t.Errorf("sent %q", wants)
	}
}

// Looks and fetches use one connection, which costs a handshake, until Close.
func TestOneConnection(t *testing.T) {
	r := newRepo(t, true)
	one := r.commit("one", map[string]string{"a": "1", "big": noise(10_000)})

	for i := range 200 { // a list that is sent in chunks, as nearly all are
		r.setRef(fmt.Sprintf("refs/tags/%d", i), one)
	}

	var opened atomic.Int32

	ended := make(chan struct{}, 10)
	ca := newAuthority(t)
	server := httptest.NewUnstartedServer(backend(t, r))
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{ca.server()}}
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			opened.Add(1)
		case http.StateClosed:
			ended <- struct{}{}
		}
	}

	server.StartTLS()
	t.Cleanup(server.Close)

	g := NewGit(GitConfig{URL: server.URL + "/fleet", TLS: TLS{CAFile: ca.file}})

	for i := range 3 {
		r.commit("more", map[string]string{"a": fmt.Sprint(i), "b": noise(10_000 + i)})
		fetch(t, g)
		fetch(t, g)
	}

	if n := opened.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}

	if err := g.Close(); err != nil {
		t.Fatal(err)
	}

	<-ended
}
