package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
)

const (
	testSecret  = "It's a Secret to Everybody" // which GitHub's documentation uses
	otherSecret = "not the secret of this hook"
	signingKey  = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" // which Standard Webhooks' examples use
)

// sender makes deliveries of one provider, by hand from its documentation.
type sender struct {
	provider Provider
	secret   string // as in the secret file
	sign     func(h http.Header, secret string, body []byte)
	// headers of a push and of the other events
	push, tag, deletion, ping, unrelated message
	form                                 bool
	// unknown: the message is signed, and of this provider, but broken
	broken []message
}

type message struct{ event, body string }

func hmacOf(secret string, parts ...string) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	for _, part := range parts {
		mac.Write([]byte(part))
	}

	return mac.Sum(nil)
}

func hexSigner(name, prefix string) func(http.Header, string, []byte) {
	return func(h http.Header, secret string, body []byte) {
		h.Set(name, prefix+hex.EncodeToString(hmacOf(secret, string(body))))
	}
}

func standardSigner(h http.Header, secret string, body []byte) {
	key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, signingPrefix))
	stamp := strconv.FormatInt(time.Now().Unix(), 10)

	h.Set("Webhook-Id", "f5e5f430-f57b-4e6e-9fac-d9128cd7232f")
	h.Set("Webhook-Timestamp", stamp)
	h.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(hmacOf(string(key), "f5e5f430-f57b-4e6e-9fac-d9128cd7232f.", stamp, ".", string(body))))
}

// senders: every way of signing that is supported.
func senders() map[string]sender {
	hub := sender{
		provider:  GitHub,
		secret:    testSecret,
		sign:      hexSigner("X-Hub-Signature-256", "sha256="),
		push:      message{"push", `{"ref":"refs/heads/main","before":"6113728f27ae82c7b1a177c8d03f9e96e0adf246","after":"59b20b8d5c6ff8d09518454d4dd8b7b30f095ab5","created":false,"deleted":false,"forced":false,"repository":{"full_name":"acme/fleet","default_branch":"main"},"commits":[{"id":"59b20b8d5c6ff8d09518454d4dd8b7b30f095ab5","modified":["clusters/a.yaml"]}]}`},
		tag:       message{"push", `{"ref":"refs/tags/v1.2.0","before":"0000000000000000000000000000000000000000","after":"59b20b8d5c6ff8d09518454d4dd8b7b30f095ab5","created":true,"base_ref":"refs/heads/main","commits":[]}`},
		deletion:  message{"push", `{"ref":"refs/heads/main","before":"6113728f27ae82c7b1a177c8d03f9e96e0adf246","after":"0000000000000000000000000000000000000000","deleted":true,"head_commit":null,"commits":[]}`},
		ping:      message{"ping", `{"zen":"Speak like a human.","hook_id":109948940,"hook":{"type":"Repository","events":["push"]}}`},
		unrelated: message{"issues", `{"action":"opened","issue":{"number":1}}`},
		broken:    []message{{"push", `{"ref":`}, {"push", `[]`}, {"push", `{"ref":7}`}, {"push", `{}`}, {"push", ``}},
	}

	tea := hub
	tea.provider = Gitea
	tea.sign = hexSigner("X-Gitea-Signature", "")
	tea.ping = message{}

	forgejo, gogs, teaHub := tea, tea, tea
	forgejo.sign = hexSigner("X-Forgejo-Signature", "")
	gogs.sign = hexSigner("X-Gogs-Signature", "")
	teaHub.sign = hexSigner("X-Hub-Signature-256", "sha256=")

	lab := sender{
		provider:  GitLab,
		secret:    testSecret,
		sign:      func(h http.Header, secret string, _ []byte) { h.Set("X-Gitlab-Token", secret) },
		push:      message{"Push Hook", `{"object_kind":"push","event_name":"push","before":"95790bf891e76fee5e1747ab589903a6a1f80f22","after":"da1560886d4f094c3e6c9ef40349f7d38b5d27d7","ref":"refs/heads/main","checkout_sha":"da1560886d4f094c3e6c9ef40349f7d38b5d27d7","project":{"path_with_namespace":"acme/fleet"},"commits":[],"total_commits_count":1}`},
		tag:       message{"Tag Push Hook", `{"object_kind":"tag_push","event_name":"tag_push","before":"0000000000000000000000000000000000000000","after":"82b3d5ae55f7080f1e6022629cdb57bfae7cccc7","ref":"refs/tags/v1.2.0"}`},
		deletion:  message{"Push Hook", `{"object_kind":"push","before":"95790bf891e76fee5e1747ab589903a6a1f80f22","after":"0000000000000000000000000000000000000000","ref":"refs/heads/main","checkout_sha":null}`},
		unrelated: message{"Issue Hook", `{"object_kind":"issue"}`},
		broken:    []message{{"Push Hook", `{"ref":`}, {"Push Hook", `{"object_kind":"push","ref":["refs/heads/main"]}`}, {"Push Hook", `{"ref":"refs/heads/main"}`}, {"Push Hook", ``}},
	}

	signed := lab
	signed.secret = signingPrefix + signingKey
	signed.sign = standardSigner

	server := sender{
		provider:  Bitbucket,
		secret:    testSecret,
		sign:      hexSigner("X-Hub-Signature", "sha256="),
		push:      message{"repo:refs_changed", `{"eventKey":"repo:refs_changed","date":"2017-09-19T09:58:11+1000","changes":[{"ref":{"id":"refs/heads/x","displayId":"x","type":"BRANCH"},"refId":"refs/heads/x","type":"UPDATE"},{"ref":{"id":"refs/heads/main","displayId":"main","type":"BRANCH"},"refId":"refs/heads/main","fromHash":"ecddabb624f6f5ba43816f5926e580a5f680a932","toHash":"178864a7d521b6f5e720b386b2c2b0ef8563e0dc","type":"UPDATE"}]}`},
		tag:       message{"repo:refs_changed", `{"eventKey":"repo:refs_changed","changes":[{"ref":{"id":"refs/tags/v1.2.0","displayId":"v1.2.0","type":"TAG"},"type":"ADD"}]}`},
		deletion:  message{"repo:refs_changed", `{"eventKey":"repo:refs_changed","changes":[{"ref":{"id":"refs/heads/main","type":"BRANCH"},"toHash":"0000000000000000000000000000000000000000","type":"DELETE"}]}`},
		ping:      message{"diagnostics:ping", `{"test":true}`},
		unrelated: message{"pr:opened", `{"pullRequest":{"id":1}}`},
		broken:    []message{{"repo:refs_changed", `{"changes":`}, {"repo:refs_changed", `{"changes":[1]}`}, {"repo:refs_changed", `{"changes":{}}`}, {"repo:refs_changed", ``}},
	}

	cloud := server
	cloud.push = message{"repo:push", `{"actor":{"type":"user"},"push":{"changes":[{"created":false,"closed":false,"forced":false,"truncated":false,"old":{"type":"branch","name":"main","target":{"hash":"1e65c05c1d5171631d92438a13901ca7dae9618c"}},"new":{"type":"branch","name":"main","target":{"hash":"709d658dc5b6d6afcd46049c2f332ee3f515a67d"}}}]}}`}
	cloud.tag = message{"repo:push", `{"push":{"changes":[{"created":true,"old":null,"new":{"type":"tag","name":"v1.2.0"}}]}}`}
	cloud.deletion = message{"repo:push", `{"push":{"changes":[{"closed":true,"old":{"type":"branch","name":"main"},"new":null}]}}`}
	cloud.unrelated = message{"repo:fork", `{"fork":{}}`}
	cloud.ping = message{}
	cloud.broken = []message{{"repo:push", `{"push":`}, {"repo:push", `{"push":[]}`}, {"repo:push", `{"push":{"changes":[{"new":"main"}]}}`}, {"repo:push", `{}`}}

	plain := sender{
		provider: Generic,
		secret:   testSecret,
		sign:     hexSigner("X-Signature", "sha256="),
		push:     message{"", `{"ref":"refs/heads/main"}`},
		tag:      message{"", `{"ref":"refs/tags/v1.2.0","by":"a script"}`},
		deletion: message{"", `{"ref":"refs/heads/main","deleted":true}`},
		broken:   []message{{"", `{"ref":`}, {"", `7`}, {"", ` {}`}, {"", `{"ref":{}}`}},
	}

	timed := plain
	timed.sign = func(h http.Header, secret string, body []byte) {
		stamp := strconv.FormatInt(time.Now().Unix(), 10)
		h.Set("X-Signature-Timestamp", stamp)
		h.Set("X-Signature", "sha256="+hex.EncodeToString(hmacOf(secret, stamp, ".", string(body))))
	}

	return map[string]sender{
		"github": hub, "gitlab token": lab, "gitlab signing token": signed, "gitea": tea, "forgejo": forgejo, "gogs": gogs,
		"gitea hub header": teaHub, "bitbucket cloud": cloud, "bitbucket server": server, "generic": plain, "generic with time": timed,
	}
}

var eventHeader = map[Provider]string{GitHub: "X-GitHub-Event", GitLab: "X-Gitlab-Event", Gitea: "X-Gitea-Event", Bitbucket: "X-Event-Key"}

// header returns the headers of a delivery, signed with secret.
func (s sender) header(m message, secret string) http.Header {
	h := http.Header{}
	h.Set("Content-Type", "application/json")

	if name := eventHeader[s.provider]; name != "" {
		h.Set(name, m.event)
	}

	s.sign(h, secret, []byte(m.body))

	return h
}

// pokes counts.
type pokes struct{ n atomic.Int64 }

func (p *pokes) poke() { p.n.Add(1) }

func secretFile(t testing.TB, content string) string {
	t.Helper()

	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}

	return path
}

func newHandler(t testing.TB, hook Hook, limits Limits, log *zap.Logger) *Handler {
	t.Helper()

	h, err := New(Config{Hooks: map[string]Hook{"fleet": hook}, Limits: limits, Logger: log})
	if err != nil {
		t.Fatal(err)
	}

	return h
}

// start serves one hook named fleet and returns its URL and its pokes.
func start(t testing.TB, s sender, ref string, limits Limits) (string, *pokes) {
	t.Helper()

	var count pokes

	server := httptest.NewServer(newHandler(t, Hook{
		Provider: s.provider, SecretFile: secretFile(t, s.secret+"\n"), Ref: ref, Poke: count.poke,
	}, limits, nil))
	t.Cleanup(server.Close)

	return server.URL + "/hooks/fleet", &count
}

// send returns the status and the text of the answer.
func send(t testing.TB, method, url string, h http.Header, body io.Reader) (*http.Response, string) {
	t.Helper()

	r, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}

	r.Header = h

	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()

	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}

	return response, strings.TrimSpace(string(text))
}
