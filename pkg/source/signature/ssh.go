package signature

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// namespace is what git signs for. A signature that was made to log in somewhere, or
// for a file, has another one.
const namespace = "git"

// sshKey is one line of a key file.
type sshKey struct {
	public        ssh.PublicKey
	identity      string
	namespaces    []string  // patterns; nil means all
	after, before time.Time // zero means unbounded
	line          int
}

// verifySSH checks an SSH signature. See the package comment for the rules.
func (k *keySet) verifySSH(s signed, now time.Time) (Signer, error) {
	blob, err := dearmor(s.signature, sshsig.PEMType)
	if err != nil {
		return Signer{}, fmt.Errorf("%w: %w: sign again", ErrBadSignature, err)
	}

	sig, err := sshsig.ParseSignature(blob)
	if err != nil {
		return Signer{}, fmt.Errorf("%w: %w: sign again with a current ssh-keygen", ErrBadSignature, err)
	}

	if cert, ok := sig.PublicKey.(*ssh.Certificate); ok {
		return Signer{}, fmt.Errorf("%w: it is signed with an SSH certificate of key %s: sign with the key itself",
			ErrUnsupported, ssh.FingerprintSHA256(cert.Key))
	}

	fingerprint := ssh.FingerprintSHA256(sig.PublicKey)
	id := "SSH key " + fingerprint

	// Only security keys state something (flags, a counter) behind their signature.
	rest := len(sig.Signature.Rest) > 0 && !strings.HasPrefix(sig.PublicKey.Type(), "sk-")
	if rest || !bytes.Equal(sig.Marshal(), blob) {
		return Signer{}, fmt.Errorf("%w: trailing garbage in the signature of %s: sign again", ErrBadSignature, id)
	}

	lines := k.ssh[string(sig.PublicKey.Marshal())]
	if len(lines) == 0 {
		return Signer{}, fmt.Errorf("%w: %s: add its public key to a key file if it is to be trusted", ErrUnknownKey, id)
	}

	if sig.Namespace != namespace {
		return Signer{}, fmt.Errorf("%w: %s made it for the namespace %s and not for %q: sign with git", ErrBadSignature, id, clip(sig.Namespace), namespace)
	}

	if err := sshsig.Verify(bytes.NewReader(s.payload), sig, lines[0].public, sig.HashAlgorithm, namespace); err != nil {
		return Signer{}, fmt.Errorf("%w: it does not belong to %s and this content: the object was changed after it was signed (%w)", ErrBadSignature, id, err)
	}

	// The signature is genuine. It counts if one of the key's lines says so.
	var refusals []error

	for _, line := range lines {
		err := line.allows(s.when, now)
		if err == nil {
			return Signer{Kind: "ssh", Fingerprint: fingerprint, Identity: line.identity}, nil
		}

		refusals = append(refusals, err)
	}

	return Signer{}, fmt.Errorf("%w: %s: %w", ErrKeyNotValid, id, errors.Join(refusals...))
}

// allows says whether a line of a key file covers a Git object of that time.
func (k sshKey) allows(when, now time.Time) error {
	if k.namespaces != nil && !matchList(namespace, k.namespaces) {
		return fmt.Errorf("line %d of its key file does not allow the namespace %q: add it to namespaces=", k.line, namespace)
	}

	if k.after.IsZero() && k.before.IsZero() {
		return nil
	}

	switch {
	case when.IsZero():
		return fmt.Errorf("line %d of its key file limits the time, and the object states none", k.line)
	case !k.after.IsZero() && (when.Before(k.after) || now.Before(k.after)):
		return fmt.Errorf("line %d of its key file: valid only after %s: sign with another key", k.line, k.after.UTC().Format(time.RFC3339))
	case !k.before.IsZero() && when.After(k.before):
		return fmt.Errorf("line %d of its key file: valid only before %s: sign with another key", k.line, k.before.UTC().Format(time.RFC3339))
	}

	return nil
}

// matchList is OpenSSH's match_pattern_list: one pattern must match, and none that
// begins with "!".
func matchList(s string, patterns []string) bool {
	matched := false

	for _, pattern := range patterns {
		negated := strings.HasPrefix(pattern, "!")
		if !match(s, strings.TrimPrefix(pattern, "!")) {
			continue
		}

		if negated {
			return false
		}

		matched = true
	}

	return matched
}

// match knows "*" and "?". The text is this package's own namespace, so that the
// number of steps is bounded by the pattern's length.
func match(s, pattern string) bool {
	for pattern != "" {
		if pattern[0] == '*' {
			pattern = strings.TrimLeft(pattern, "*")
			for i := range len(s) + 1 {
				if match(s[i:], pattern) {
					return true
				}
			}

			return false
		}

		if s == "" || (pattern[0] != '?' && pattern[0] != s[0]) {
			return false
		}

		s, pattern = s[1:], pattern[1:]
	}

	return s == ""
}

// printable makes a name from a key file fit for a status line.
func printable(s string) string {
	const limit = 200

	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}

		return r
	}, strings.ToValidUTF8(strings.TrimSpace(s), "?"))

	if runes := []rune(s); len(runes) > limit {
		s = string(runes[:limit]) + "…"
	}

	return s
}
