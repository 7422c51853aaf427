package webhook

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// TestLog: every delivery has its line, with nothing secret and nothing that could forge a line.
func TestLog(t *testing.T) {
	core, lines := observer.New(zapcore.DebugLevel)
	s := senders()["gitlab token"]
	h := newHandler(t, Hook{Provider: s.provider, SecretFile: secretFile(t, s.secret), Ref: "refs/heads/main", Poke: func() {}}, Limits{}, zap.New(core))

	do := func(change func(*http.Request), m message, secret string) map[string]any {
		t.Helper()

		r := request(s.header(m, secret), m.body)
		r.Header.Set("Idempotency-Key", "d-1\n{\"level\":\"error\"}\x1b[31m"+strings.Repeat("x", 1000))

		if change != nil {
			change(r)
		}

		w := newRecorder()
		h.ServeHTTP(w, r)

		taken := lines.TakeAll()
		if len(taken) != 1 {
			t.Fatalf("got %d lines, want 1", len(taken))
		}

		fields := taken[0].ContextMap()
		fields["level"] = taken[0].Level.String()

		for _, text := range []string{fmt.Sprint(fields), w.Body.String(), fmt.Sprint(w.Header())} {
			if strings.Contains(text, testSecret) || strings.Contains(text, otherSecret) || strings.ContainsAny(strings.TrimSpace(text), "\n\x1b") || len(text) > 1000 {
				t.Errorf("unfit: %q", text)
			}
		}

		return fields
	}

	got := do(nil, s.push, s.secret)
	for key, want := range map[string]any{"level": "info", "source": "fleet", "provider": "gitlab", "event": "Push Hook", "ref": "refs/heads/main", "status": int64(202), "answer": "accepted", "remote": "192.0.2.1"} {
		if got[key] != want {
			t.Errorf("accepted: %s is %v, want %v", key, got[key], want)
		}
	}

	if id, _ := got["delivery"].(string); !strings.HasPrefix(id, `d-1?{"level":"error"}?[31m`) {
		t.Errorf("delivery is %q", id)
	}

	evil := message{s.push.event, `{"object_kind":"push","ref":"refs/heads/x\ny\u001b[0m\u202e"}`}
	if got = do(nil, evil, s.secret); got["ref"] != "refs/heads/x?y?[0m?" || got["level"] != "debug" {
		t.Errorf("ignored: %v", got)
	}

	if got = do(nil, s.push, otherSecret); got["level"] != "warn" || got["status"] != int64(401) {
		t.Errorf("refused: %v", got)
	}

	if got = do(func(r *http.Request) { r.URL.Path = "/hooks/a\nb" }, s.push, s.secret); got["source"] != "a?b" || got["status"] != int64(404) {
		t.Errorf("unknown: %v", got)
	}
}

// TestLogFlood: refusals cannot fill a disk, and what is left out is counted.
func TestLogFlood(t *testing.T) {
	core, lines := observer.New(zapcore.DebugLevel)
	h := newHandler(t, Hook{Provider: GitHub, SecretFile: secretFile(t, testSecret), Poke: func() {}}, Limits{LogRate: 0.001}, zap.New(core))

	for range 1000 {
		h.ServeHTTP(newRecorder(), request(http.Header{}, "x"))
	}

	if lines.Len() != 1 {
		t.Errorf("got %d lines, want 1", lines.Len())
	}

	if left := h.log.left.Load(); left != 999 {
		t.Errorf("%d are left out, want 999", left)
	}
}

// TestAnswersAreFixed: nothing of a request is ever in an answer.
func TestAnswersAreFixed(t *testing.T) {
	const mark = "MARKMARK"

	for name, s := range senders() {
		h := newHandler(t, Hook{Provider: s.provider, SecretFile: secretFile(t, s.secret), Poke: func() {}}, Limits{}, nil)

		for _, m := range append(s.broken, message{s.push.event, strings.ReplaceAll(s.push.body, "main", mark)}, message{mark, `{"` + mark + `":1}`}) {
			for _, secret := range []string{s.secret, mark + testSecret} {
				header := s.header(m, secret)
				header.Set("X-Request-Id", mark)

				r := request(header, m.body)
				r.URL.RawQuery = mark

				w := newRecorder()
				h.ServeHTTP(w, r)

				if all := fmt.Sprint(w.Header()) + w.Body.String(); strings.Contains(all, mark) || strings.Contains(all, testSecret) {
					t.Errorf("%s: %s", name, all)
				}
			}
		}
	}
}
