package webhook

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestDocumentedVectors checks signatures that the providers publish.
func TestDocumentedVectors(t *testing.T) {
	key, err := base64.StdEncoding.DecodeString(signingKey)
	if err != nil {
		t.Fatal(err)
	}

	for _, c := range []struct {
		name       string
		provider   Provider
		header     http.Header
		body       string
		secret     secret
		now        int64
		wrongToken bool
	}{
		{
			name: "github", provider: GitHub, body: "Hello, World!", secret: secret{key: []byte(testSecret)},
			header: http.Header{"X-Hub-Signature-256": {"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}},
		},
		{
			name: "bitbucket", provider: Bitbucket, body: "Hello World!", secret: secret{key: []byte(testSecret)},
			header: http.Header{"X-Hub-Signature": {"sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"}},
		},
		{
			name: "standard webhooks", provider: GitLab, body: `{"test": 2432232314}`, secret: secret{key: key, signing: true}, now: 1614265330,
			header: http.Header{
				"Webhook-Id": {"msg_p5jXN8AQM9LWM0D4loKWxJek"}, "Webhook-Timestamp": {"1614265330"},
				"Webhook-Signature": {"v1a,AAAA v1,notasum v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := schemes[c.provider].proof(c.header, time.Unix(c.now, 0))
			if err != nil {
				t.Fatal(err)
			}

			if _, ok := p.check([]secret{c.secret}, []byte(c.body)); !ok {
				t.Error("the documented signature is refused")
			}

			if _, ok := p.check([]secret{c.secret}, []byte(c.body+" ")); ok {
				t.Error("the signature holds for another body")
			}

			if _, ok := p.check([]secret{{key: c.secret.key, signing: !c.secret.signing}}, []byte(c.body)); ok {
				t.Error("a key of the other kind is accepted")
			}
		})
	}
}

// TestTimestamps: a time outside of the tolerance is refused, on both sides, and the
// two forms of a generic signature cannot be taken for one another.
func TestTimestamps(t *testing.T) {
	body := `{"ref":"refs/heads/main"}`

	for _, c := range []struct {
		name   string
		off    time.Duration
		status int
	}{
		{"now", 0, 202}, {"late", TimestampTolerance - time.Minute, 202}, {"too late", TimestampTolerance + time.Minute, 401},
		{"early", time.Minute - TimestampTolerance, 202}, {"too early", -TimestampTolerance - time.Minute, 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			stamp := fmt.Sprint(time.Now().Add(-c.off).Unix())

			address, _ := start(t, senders()["generic"], "", Limits{})
			h := http.Header{"Content-Type": {"application/json"}, "X-Signature-Timestamp": {stamp}}
			h.Set("X-Signature", "sha256="+hex.EncodeToString(hmacOf(testSecret, stamp+"."+body)))

			if response, text := send(t, "POST", address, h, strings.NewReader(body)); response.StatusCode != c.status {
				t.Errorf("generic: got %d %s, want %d", response.StatusCode, text, c.status)
			}

			address, _ = start(t, senders()["gitlab signing token"], "", Limits{})
			push := senders()["gitlab signing token"].push
			key, _ := base64.StdEncoding.DecodeString(signingKey)
			h = http.Header{"Content-Type": {"application/json"}, "Webhook-Id": {"1"}, "Webhook-Timestamp": {stamp}, "X-Gitlab-Event": {push.event}}
			h.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(hmacOf(string(key), "1."+stamp+"."+push.body)))

			if response, text := send(t, "POST", address, h, strings.NewReader(push.body)); response.StatusCode != c.status {
				t.Errorf("gitlab: got %d %s, want %d", response.StatusCode, text, c.status)
			}
		})
	}

	t.Run("time moved into the body", func(t *testing.T) {
		stamp := fmt.Sprint(time.Now().Unix())
		sum := "sha256=" + hex.EncodeToString(hmacOf(testSecret, stamp+"."+body))
		address, count := start(t, senders()["generic"], "", Limits{})

		h := http.Header{"Content-Type": {"application/json"}, "X-Signature": {sum}}
		if response, text := send(t, "POST", address, h, strings.NewReader(stamp+"."+body)); response.StatusCode != 400 || count.n.Load() != 0 {
			t.Errorf("got %d %s and %d pokes", response.StatusCode, text, count.n.Load())
		}
	})
}

// TestGitLabDowngrade: who set up a signing token does not accept it, or anything, in the clear.
func TestGitLabDowngrade(t *testing.T) {
	const key = "a key that happens to be text"

	s := senders()["gitlab signing token"]
	s.secret = signingPrefix + base64.StdEncoding.EncodeToString([]byte(key))

	for _, token := range []string{s.secret, strings.TrimPrefix(s.secret, signingPrefix), key} {
		address, count := start(t, s, "", Limits{})
		h := http.Header{"Content-Type": {"application/json"}, "X-Gitlab-Event": {s.push.event}, "X-Gitlab-Token": {token}}

		if response, text := send(t, "POST", address, h, strings.NewReader(s.push.body)); response.StatusCode != 401 || count.n.Load() != 0 {
			t.Errorf("token %q: got %d %s", token, response.StatusCode, text)
		}
	}

	// Nor is a plain secret taken for a key.
	address, _ := start(t, senders()["gitlab token"], "", Limits{})
	stamp := fmt.Sprint(time.Now().Unix())
	h := http.Header{"Content-Type": {"application/json"}, "X-Gitlab-Event": {s.push.event}, "Webhook-Id": {"1"}, "Webhook-Timestamp": {stamp}}
	h.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(hmacOf(testSecret, "1."+stamp+"."+s.push.body)))

	if response, text := send(t, "POST", address, h, strings.NewReader(s.push.body)); response.StatusCode != 401 {
		t.Errorf("got %d %s", response.StatusCode, text)
	}
}

// TestDocumentedScript signs as the package documentation says a shell script can.
func TestDocumentedScript(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("needs openssl")
	}

	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}

	var script strings.Builder

	for line := range strings.Lines(string(doc)) {
		for _, name := range []string{"body=", "now=", "sum="} {
			if command, ok := strings.CutPrefix(line, "//\t"+name); ok {
				script.WriteString(name + command)
			}
		}
	}

	script.WriteString(`echo "$now $sum $body"`)

	run := exec.Command("sh", "-c", script.String())
	run.Env = append(os.Environ(), "SECRET="+testSecret)

	out, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	words := strings.SplitN(strings.TrimSpace(string(out)), " ", 3)
	if len(words) != 3 {
		t.Fatalf("got %q", out)
	}

	address, count := start(t, senders()["generic"], "refs/heads/main", Limits{})
	h := http.Header{"Content-Type": {"application/json"}, "X-Signature-Timestamp": {words[0]}, "X-Signature": {"sha256=" + words[1]}}

	if response, text := send(t, "POST", address, h, strings.NewReader(words[2])); response.StatusCode != 202 || count.n.Load() != 1 {
		t.Errorf("got %d %s", response.StatusCode, text)
	}
}
