package webhook

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestProviders sends every kind of delivery of every provider to a server on loopback.
func TestProviders(t *testing.T) {
	type try struct {
		name, ref, method, path string
		message                 message
		secret                  string
		change                  func(http.Header)
		body                    string // instead of the message's, after signing
		status                  int
		answer                  string
		pokes                   int64
		twice                   bool
	}

	for name, s := range senders() {
		signatures := []string{"X-Hub-Signature-256", "X-Hub-Signature", "X-Gitea-Signature", "X-Forgejo-Signature", "X-Gogs-Signature", "X-Signature", "Webhook-Signature"}
		unsigned := func(h http.Header) {
			for _, signature := range append(signatures, "X-Gitlab-Token") {
				h.Del(signature)
			}
		}

		missing := string(errMissing)
		wrong := "the signature is wrong"

		if name == "gitlab token" {
			wrong = "the secret is wrong"
		}

		other := message{s.push.event, strings.ReplaceAll(s.push.body, "refs/heads/main", "refs/heads/main2")}
		other.body = strings.ReplaceAll(other.body, `"name":"main"`, `"name":"main2"`)

		tries := []try{
			{name: "valid", message: s.push, status: 202, answer: "accepted", pokes: 1},
			{name: "any branch", message: s.push, ref: "refs/heads/*", status: 202, answer: "accepted", pokes: 1},
			{name: "default branch", message: s.push, ref: "default", status: 202, answer: "accepted", pokes: 1},
			{name: "charset", message: s.push, change: func(h http.Header) { h.Set("Content-Type", "application/json; charset=utf-8") }, status: 202, answer: "accepted", pokes: 1},
			{name: "other ref", message: other, status: 202, answer: "ignored: another ref"},
			{name: "tag when a branch is followed", message: s.tag, status: 202, answer: "ignored: another ref"},
			{name: "tag", message: s.tag, ref: "refs/tags/*", status: 202, answer: "accepted", pokes: 1},
			{name: "one tag", message: s.tag, ref: "refs/tags/v1.2.0", status: 202, answer: "accepted", pokes: 1},
			{name: "branch when tags are followed", message: s.push, ref: "refs/tags/*", status: 202, answer: "ignored: another ref"},
			{name: "branch deleted", message: s.deletion, status: 202, answer: "accepted", pokes: 1},
			{name: "wrong secret", message: s.push, secret: otherSecret, status: 401, answer: wrong},
			{name: "missing signature", message: s.push, change: unsigned, status: 401, answer: missing},
			{name: "method GET", method: "GET", message: s.push, status: 405, answer: "only POST is allowed"},
			{name: "method PUT", method: "PUT", message: s.push, status: 405, answer: "only POST is allowed"},
			{name: "content type", message: s.push, change: func(h http.Header) { h.Set("Content-Type", "text/plain") }, status: 415, answer: "the content type must be application/json"},
			{name: "no content type", message: s.push, change: func(h http.Header) { h.Del("Content-Type") }, status: 415, answer: "the content type must be application/json"},
			{name: "compressed", message: s.push, change: func(h http.Header) { h.Set("Content-Encoding", "gzip") }, status: 415, answer: "the body must not be compressed"},
			{name: "unknown source", path: "/hooks/fleet2", message: s.push, status: 404, answer: "no hook of this name"},
			{name: "oversized", message: message{s.push.event, s.push.body + strings.Repeat(" ", 1<<20)}, status: 413, answer: "the body is larger than 1048576 bytes"},
		}

		// A token says nothing about the body.
		if name != "gitlab token" {
			tries = append(tries, try{name: "altered body", message: s.push, body: s.push.body + " ", status: 401, answer: wrong})
		}

		for _, header := range signatures {
			tries = append(tries, try{name: "two values of " + header, message: s.push, change: func(h http.Header) {
				if h.Get(header) == "" {
					unsigned(h)
				}

				h.Add(header, h.Get(header))
			}, status: 401, answer: missing})
		}

		if name == "generic" {
			tries = append(tries, try{name: "repeat", message: s.push, twice: true, status: 202, answer: "accepted", pokes: 2})
		} else {
			tries = append(tries, try{name: "replay", message: s.push, twice: true, status: 202, answer: "ignored: seen before", pokes: 1})
		}

		if s.ping.body != "" {
			tries = append(tries, try{name: "ping", message: s.ping, status: 200, answer: "pong"})
		}

		if s.unrelated.body != "" {
			tries = append(tries, try{name: "unrelated event", message: s.unrelated, status: 202, answer: "ignored: not an event about a ref"})
		}

		for i, m := range s.broken {
			tries = append(tries, try{name: fmt.Sprint("broken ", i), message: m, status: 400, answer: errPayload.Error()})
		}

		if s.form {
			form := message{s.push.event, "x=1&payload=" + url.QueryEscape(s.push.body) + "&y"}
			asForm := func(h http.Header) { h.Set("Content-Type", formType) }
			tries = append(tries,
				try{name: "form", message: form, change: asForm, status: 202, answer: "accepted", pokes: 1},
				try{name: "form without payload", message: message{s.push.event, "x=1"}, change: asForm, status: 400, answer: errPayload.Error()},
				try{name: "form cut off", message: message{s.push.event, "payload=%7"}, change: asForm, status: 400, answer: errPayload.Error()},
			)
		}

		for _, c := range tries {
			t.Run(name+"/"+c.name, func(t *testing.T) {
				t.Parallel()

				ref := c.ref
				switch ref {
				case "":
					ref = "refs/heads/main"
				case "default":
					ref = ""
				}

				address, count := start(t, s, ref, Limits{MaxBody: 1 << 20})
				if c.path != "" {
					address = strings.Replace(address, "/hooks/fleet", c.path, 1)
				}

				secret := s.secret
				if c.secret != "" {
					secret = c.secret
				}

				header := s.header(c.message, secret)
				if c.change != nil {
					c.change(header)
				}

				method, body := "POST", c.message.body
				if c.method != "" {
					method = c.method
				}

				if c.body != "" {
					body = c.body
				}

				if c.twice {
					send(t, method, address, header, strings.NewReader(body))
				}

				response, answer := send(t, method, address, header, strings.NewReader(body))
				if response.StatusCode != c.status || answer != c.answer {
					t.Errorf("got %d %q, want %d %q", response.StatusCode, answer, c.status, c.answer)
				}

				if got := count.n.Load(); got != c.pokes {
					t.Errorf("got %d pokes, want %d", got, c.pokes)
				}

				if allow := response.Header.Get("Allow"); (allow == "POST") != (c.status == 405) {
					t.Errorf("status %d has Allow %q", c.status, allow)
				}
			})
		}
	}
}

// TestEvents reads what else the providers send.
func TestEvents(t *testing.T) {
	many := `{"changes":[` + strings.Repeat(`{"ref":{"id":"refs/heads/x"}},`, maxRefs) + `{"ref":{"id":"refs/heads/main"}}]}`

	for _, c := range []struct {
		provider    Provider
		event, body string
		ref         string // "": not about a ref; "!": an error
		all         bool
	}{
		{GitHub, "create", `{"ref":"v1","ref_type":"tag"}`, "refs/tags/v1", false},
		{GitHub, "create", `{"ref":"a/b","ref_type":"branch"}`, "refs/heads/a/b", false},
		{GitHub, "create", `{"ref":null,"ref_type":"repository"}`, "!", false},
		{GitHub, "create", `{"ref":"x","ref_type":"wiki"}`, "!", false},
		{GitHub, "delete", `{"ref":"v1","ref_type":"tag"}`, "refs/tags/v1", false},
		{Gitea, "create", `{"sha":"x","ref":"refs/tags/v1","ref_type":"tag"}`, "refs/tags/v1", false},
		{GitHub, "push", `{"ref":"` + strings.Repeat("x", maxRef+1) + `"}`, "!", false},
		{GitLab, "System Hook", `{"event_name":"push","ref":"refs/heads/main"}`, "refs/heads/main", false},
		{GitLab, "System Hook", `{"event_name":"repository_update","changes":[{"ref":"refs/heads/main"}],"refs":["refs/heads/main"]}`, "refs/heads/main", false},
		{GitLab, "System Hook", `{"object_kind":"merge_request","changes":{"title":{}}}`, "", false},
		{GitLab, "System Hook", `{"event_name":"project_create"}`, "", false},
		{Bitbucket, "mirror:repo_synchronized", `{"changes":[{"ref":{"id":"refs/heads/main"}}]}`, "refs/heads/main", false},
		{Bitbucket, "mirror:repo_synchronized", `{"changes":[],"refLimitExceeded":true}`, "", true},
		{Bitbucket, "repo:refs_changed", many, "refs/heads/x", true},
		{Bitbucket, "repo:push", `{"push":{"changes":[{"new":{"type":"named_branch","name":"default"}}]}}`, "!", false},
		{Generic, "", ``, "", true},
		{Generic, "", `{}`, "", true},
		{Generic, "", `{"ref":"refs/pull/7/merge"}`, "refs/pull/7/merge", false},
	} {
		e, err := schemes[c.provider].parse(c.event, []byte(c.body))
		if c.ref == "!" {
			if err == nil {
				t.Errorf("%s %s %.80s: got %v, want an error", c.provider, c.event, c.body, e)
			}

			continue
		}

		ref := ""
		if len(e.refs) > 0 {
			ref = e.refs[0]
		}

		if err != nil || ref != c.ref || e.all != c.all {
			t.Errorf("%s %s %.80s: got %q, all %v, %v", c.provider, c.event, c.body, ref, e.all, err)
		}
	}
}

// TestUnsignedPing: Bitbucket Data Center tests a connection without signing.
func TestUnsignedPing(t *testing.T) {
	s := senders()["bitbucket server"]
	address, count := start(t, s, "", Limits{})

	h := http.Header{"Content-Type": {"application/json; charset=utf-8"}, "X-Event-Key": {"diagnostics:ping"}}
	if response, text := send(t, "POST", address, h, strings.NewReader(s.push.body)); response.StatusCode != 200 || !strings.Contains(text, "not signed") {
		t.Errorf("got %d %s", response.StatusCode, text)
	}

	if count.n.Load() != 0 {
		t.Error("an unsigned ping triggers")
	}
}

// TestGenericEmptyBody is a bare "look now" as a script sends it.
func TestGenericEmptyBody(t *testing.T) {
	address, count := start(t, senders()["generic"], "refs/heads/main", Limits{})

	h := http.Header{"X-Signature": {"sha256=" + hex.EncodeToString(hmacOf(testSecret))}}
	if response, text := send(t, "POST", address, h, http.NoBody); response.StatusCode != 202 || count.n.Load() != 1 {
		t.Errorf("got %d %s, %d pokes", response.StatusCode, text, count.n.Load())
	}
}
