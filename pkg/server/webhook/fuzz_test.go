package webhook

import (
	"net/http"
	"slices"
	"testing"
	"time"
)

// names are the headers that any scheme reads.
var names = []string{
	"X-Hub-Signature-256", "X-Hub-Signature", "X-Gitea-Signature", "X-Forgejo-Signature", "X-Gogs-Signature", "X-Signature",
	"X-Signature-Timestamp", "X-Gitlab-Token", "Webhook-Id", "Webhook-Timestamp", "Webhook-Signature", "Idempotency-Key",
}

// FuzzProof: no header makes a proof that holds without the secret, nor one that is not bounded.
func FuzzProof(f *testing.F) {
	f.Add("sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17", "1614265330", "id", "Hello, World!")
	f.Add("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= v1,x  v2,", "0", "", "")
	f.Add("sha1=x", "-1", "\x00", "{")
	f.Add(testSecret[1:], "+1614265330", "a.b", "")

	// Not one that the seeds, or anybody, has a signature for.
	secrets := []secret{{key: []byte("\x01 a secret that is in no header \x02")}, {key: []byte("\x03 a signing key in no header\x04"), signing: true}}

	f.Fuzz(func(t *testing.T, signature, stamp, id, body string) {
		for provider, s := range schemes {
			h := http.Header{}

			for _, name := range names {
				switch name {
				case "Webhook-Id", "Idempotency-Key":
					h.Set(name, id)
				case "Webhook-Timestamp", "X-Signature-Timestamp":
					h.Set(name, stamp)
				default:
					h.Set(name, signature)
				}
			}

			p, err := s.proof(h, time.Unix(1614265330, 0))
			if err != nil {
				continue
			}

			if len(p.sums) > maxSums || len(p.prefix) > maxID+12 || len(p.id) > maxID || len(p.token) > maxSecret {
				t.Fatalf("%s: unbounded: %+v", provider, p)
			}

			if _, ok := p.check(secrets, []byte(body)); ok {
				t.Fatalf("%s: accepted %q", provider, signature)
			}

			for _, sum := range p.sums {
				if len(sum) != 32 {
					t.Fatalf("%s: a sum of %d bytes", provider, len(sum))
				}
			}
		}
	})
}

// FuzzPayload: no body breaks a parser, and what comes out is bounded.
func FuzzPayload(f *testing.F) {
	for _, s := range senders() {
		for _, m := range append(slices.Clone(s.broken), s.push, s.tag, s.deletion, s.ping, s.unrelated) {
			f.Add(m.event, []byte(m.body))
		}
	}

	f.Add("create", []byte(`{"ref":"v1","ref_type":"tag"}`))
	f.Add("System Hook", []byte(`{"event_name":"repository_update","changes":[{"ref":"refs/heads/main"}]}`))
	f.Add("mirror:repo_synchronized", []byte(`{"changes":null,"refLimitExceeded":true}`))

	f.Fuzz(func(t *testing.T, name string, body []byte) {
		for provider, s := range schemes {
			e, err := s.parse(name, slices.Clone(body))
			if err != nil {
				if err.Error() != errPayload.Error() {
					t.Fatalf("%s: the error may quote the body: %v", provider, err)
				}

				continue
			}

			if len(e.refs) > maxRefs {
				t.Fatalf("%s: %d refs", provider, len(e.refs))
			}

			for _, ref := range e.refs {
				if ref == "" || len(ref) > maxRef+len("refs/heads/") {
					t.Fatalf("%s: ref %q", provider, ref)
				}
			}
		}

		if text, err := payloadField(slices.Clone(body)); err == nil && len(text) > len(body) {
			t.Fatal("a form grew")
		}
	})
}

// FuzzClean: what goes into a log is printable ASCII and short.
func FuzzClean(f *testing.F) {
	f.Add("a\nb\x1b[0m\xff\u202e")

	f.Fuzz(func(t *testing.T, s string) {
		out := clean(s)
		if len(out) > maxField+3 {
			t.Fatalf("%d bytes", len(out))
		}

		for _, c := range []byte(out) {
			if c < ' ' || c > '~' {
				t.Fatalf("%q", out)
			}
		}
	})
}
