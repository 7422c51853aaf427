package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxSums bounds the signatures that one header may offer (a sender that rotates its key
// offers two).
const maxSums = 4

// proof is what the headers of a delivery offer to show that it is from who knows the secret.
type proof struct {
	sums   [][]byte // HMAC-SHA256 sums, one of which must be right
	prefix string   // what is signed in front of the body
	// signing: the sums are made with a signing token, see secret.
	signing bool

	token string // the secret itself, for GitLab's old way
	id    string // tells repeats of a delivery with a token apart; proves nothing

	// again: the sender may well send the same once more and mean it.
	again bool
}

// errProof is why a proof was not even tried. Its text goes to the sender.
type errProof string

func (e errProof) Error() string { return string(e) }

const (
	errMissing errProof = "the signature is missing or malformed"
	errStale   errProof = "the timestamp is too far from this server's clock"
)

// check reports whether the proof holds for the body under one of the secrets, and a
// digest by which a repeat of the delivery is known. How long it takes depends on the number of
// secrets and the sizes of what was sent, and on nothing that is secret.
func (p proof) check(secrets []secret, body []byte) (id [sha256.Size]byte, ok bool) {
	for _, s := range secrets {
		if p.token != "" && !s.signing {
			// Compared as digests, so that not even the length shows.
			sent, want := sha256.Sum256([]byte(p.token)), sha256.Sum256(s.key)
			if subtle.ConstantTimeCompare(sent[:], want[:]) == 1 {
				ok = true

				digest := sha256.New()
				digest.Write([]byte(p.id + "\x00"))
				digest.Write(body)
				digest.Sum(id[:0])
			}
		}

		if len(p.sums) == 0 || s.signing != p.signing {
			continue
		}

		mac := hmac.New(sha256.New, s.key)
		mac.Write([]byte(p.prefix))
		mac.Write(body)
		sum := mac.Sum(nil)

		for _, offered := range p.sums {
			if hmac.Equal(offered, sum) {
				ok = true
				copy(id[:], sum)
			}
		}
	}

	return id, ok
}

// hexProof reads the first of the named headers that is there: prefix and an HMAC of the
// body in hex. An empty prefix stands for headers that have none.
func hexProof(headers ...signatureHeader) func(http.Header, time.Time) (proof, error) {
	return func(h http.Header, _ time.Time) (proof, error) {
		for _, header := range headers {
			if len(h[header.name]) == 0 {
				continue
			}

			sum, ok := hexSum(h, header)
			if !ok {
				return proof{}, errMissing
			}

			return proof{sums: [][]byte{sum}}, nil
		}

		return proof{}, errMissing
	}
}

// signatureHeader is a header with a MAC in hex. The name is in canonical form.
type signatureHeader struct{ name, prefix string }

// hexSum takes a header with exactly one value of exactly the right form.
func hexSum(h http.Header, header signatureHeader) ([]byte, bool) {
	value, ok := strings.CutPrefix(only(h, header.name), header.prefix)
	if !ok || len(value) != hex.EncodedLen(sha256.Size) {
		return nil, false
	}

	sum, err := hex.DecodeString(value)

	return sum, err == nil
}

// genericProof is an HMAC of the body, or of a time and the body.
//
// Neither can be taken for the other: a body is empty or begins with a brace, and what is
// signed with a time begins with a digit.
func genericProof(h http.Header, now time.Time) (proof, error) {
	sum, ok := hexSum(h, signatureHeader{"X-Signature", "sha256="})
	if !ok {
		return proof{}, errMissing
	}

	p := proof{sums: [][]byte{sum}, again: true}

	if len(h["X-Signature-Timestamp"]) > 0 {
		stamp := only(h, "X-Signature-Timestamp")
		if err := fresh(stamp, now); err != nil {
			return proof{}, err
		}

		p.prefix, p.again = stamp+".", false
	}

	return p, nil
}

// gitlabProof takes a token, a signature, or both: the secret file decides which counts.
func gitlabProof(h http.Header, now time.Time) (proof, error) {
	p := proof{token: only(h, "X-Gitlab-Token")}
	if len(p.token) > maxSecret {
		return proof{}, errMissing
	}

	if p.id = bounded(only(h, "Idempotency-Key"), maxID); p.id == "" {
		p.id = bounded(only(h, "X-Gitlab-Event-Uuid"), maxID)
	}

	if len(h["Webhook-Signature"]) > 0 {
		id, stamp := only(h, "Webhook-Id"), only(h, "Webhook-Timestamp")
		if id == "" || len(id) > maxID {
			return proof{}, errMissing
		}

		if err := fresh(stamp, now); err != nil {
			return proof{}, err
		}

		p.sums = standardSums(only(h, "Webhook-Signature"))
		p.prefix, p.signing = id+"."+stamp+".", true
	}

	if p.token == "" && len(p.sums) == 0 {
		return proof{}, errMissing
	}

	return p, nil
}

// standardSums reads "v1,<base64> v1,<base64>". Other versions are passed over.
func standardSums(value string) [][]byte {
	var sums [][]byte

	for range maxSums {
		one, rest, more := strings.Cut(value, " ")

		if encoded, ok := strings.CutPrefix(one, "v1,"); ok && len(encoded) == base64.StdEncoding.EncodedLen(sha256.Size) {
			if sum, err := base64.StdEncoding.DecodeString(encoded); err == nil && len(sum) == sha256.Size {
				sums = append(sums, sum)
			}
		}

		if value = rest; !more {
			break
		}
	}

	return sums
}

// fresh checks a time in Unix seconds, digits only.
func fresh(stamp string, now time.Time) error {
	if len(stamp) == 0 || len(stamp) > len("9999999999") || strings.Trim(stamp, "0123456789") != "" {
		return errMissing
	}

	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return errMissing
	}

	if off := now.Sub(time.Unix(seconds, 0)); off > TimestampTolerance || off < -TimestampTolerance {
		return errStale
	}

	return nil
}

// only returns the value of a header that is there exactly once, else "". The name is in
// canonical form.
func only(h http.Header, name string) string {
	if values := h[name]; len(values) == 1 {
		return values[0]
	}

	return ""
}

func bounded(s string, limit int) string {
	if len(s) > limit {
		return ""
	}

	return s
}
