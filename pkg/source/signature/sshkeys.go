package signature

import (
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// parseSSHKeys reads SSH public keys, one per line, in the format of authorized_keys
// (without options) or of allowed_signers:
//
//	ssh-ed25519 AAAA… comment
//	jane@example.com,joe@example.com namespaces="git",valid-before="20270101Z" ssh-ed25519 AAAA…
//
// Options are honoured or refused, never ignored: each of them takes something away.
func parseSSHKeys(text string) ([]sshKey, error) {
	var keys []sshKey

	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}

		key, err := parseSSHKey(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}

		key.line = i + 1
		keys = append(keys, key)
	}

	return keys, nil
}

func parseSSHKey(line string) (sshKey, error) {
	var key sshKey

	first, rest := cutField(line)
	if isKeyType(first) {
		comment, err := parsePublic(&key, line)
		key.identity = comment

		return key, err
	}

	if isAuthorizedKeysOption(first) {
		return key, fmt.Errorf("%s is an option of authorized_keys, and those say nothing about Git: write the key alone, or a line of an allowed_signers file: principal namespaces=\"git\" type key",
			clip(first))
	}

	if err := parsePrincipals(&key, first); err != nil {
		return key, err
	}

	if options, after := cutField(rest); !isKeyType(options) {
		if err := parseOptions(&key, options); err != nil {
			return key, err
		}

		rest = after
	}

	_, err := parsePublic(&key, rest)

	return key, err
}

// parsePrincipals takes the principals as the name to show. Patterns are not asked
// for: git takes whatever principal the key belongs to.
func parsePrincipals(key *sshKey, field string) error {
	field = strings.Trim(field, `"`)
	if field == "" {
		return errors.New("the principal is empty: name the owner of the key")
	}

	for principal := range strings.SplitSeq(field, ",") {
		if strings.HasPrefix(principal, "!") {
			return fmt.Errorf("principal %s: negated principals are not supported: list who may sign", clip(principal))
		}
	}

	key.identity = printable(field)

	return nil
}

// parsePublic reads "type base64 comment".
func parsePublic(key *sshKey, text string) (comment string, err error) {
	kind, text := cutField(text)
	if !isKeyType(kind) {
		return "", fmt.Errorf("found %s where the type of an SSH key must be, such as ssh-ed25519", clip(kind))
	}

	encoded, comment := cutField(text)

	wire, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return "", errors.New("the key is not valid base64: copy it again")
	}

	public, err := ssh.ParsePublicKey(wire)
	if err != nil {
		return "", fmt.Errorf("the key cannot be read: %w: copy it again, or use another kind of key", err)
	}

	if public.Type() != kind {
		return "", fmt.Errorf("the line says %s but the key is a %s: copy it again", kind, clip(public.Type()))
	}

	if err := checkSSHStrength(public); err != nil {
		return "", err
	}

	key.public = public

	return printable(comment), nil
}

func checkSSHStrength(public ssh.PublicKey) error {
	switch public.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256,
		ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521:
		return nil
	case ssh.KeyAlgoRSA:
		public, ok := public.(ssh.CryptoPublicKey)
		if !ok {
			break
		}

		if key, ok := public.CryptoPublicKey().(*rsa.PublicKey); ok && key.N.BitLen() < 2048 {
			return fmt.Errorf("the RSA key has %d bits, fewer than 2048: use a stronger key", key.N.BitLen())
		}

		return nil
	}

	return fmt.Errorf("keys of type %s are not accepted: use a plain Ed25519, ECDSA or RSA key", public.Type())
}

// parseOptions reads the options of an allowed_signers line.
func parseOptions(key *sshKey, text string) error {
	seen := map[string]bool{}

	for rest := text; rest != ""; {
		name, value, after, err := cutOption(rest)
		if err != nil {
			return fmt.Errorf("options %s: %w", clip(text), err)
		}

		rest = after

		if seen[name] {
			return fmt.Errorf("option %s is there twice: keep one", name)
		}

		seen[name] = true

		switch name {
		case "namespaces":
			if value == "" {
				return errors.New("option namespaces is empty: write namespaces=\"git\"")
			}

			key.namespaces = strings.Split(value, ",")
		case "valid-after":
			key.after, err = parseTime(value)
		case "valid-before":
			key.before, err = parseTime(value)
		case "cert-authority":
			err = errors.New("certificates are not supported: list the keys themselves")
		default:
			return fmt.Errorf("%s is neither a key type nor a known option (namespaces, valid-after, valid-before): correct it", clip(name))
		}

		if err != nil {
			return fmt.Errorf("option %s: %w", name, err)
		}
	}

	if !key.after.IsZero() && !key.before.IsZero() && !key.after.Before(key.before) {
		return errors.New("valid-after is not before valid-before: correct them")
	}

	return nil
}

// cutOption splits off `name` or `name="value"` and the comma that follows.
func cutOption(text string) (name, value, rest string, err error) {
	end := strings.IndexAny(text, "=,")
	if end < 0 {
		return strings.ToLower(text), "", "", nil
	}

	name, rest = strings.ToLower(text[:end]), text[end:]

	if quoted, ok := strings.CutPrefix(rest, `="`); ok {
		if value, rest, ok = strings.Cut(quoted, `"`); !ok || strings.Contains(value, `\`) {
			return "", "", "", errors.New("a value must stand between quotation marks, without backslashes")
		}
	}

	if rest == "" {
		return name, value, "", nil
	}

	rest, ok := strings.CutPrefix(rest, ",")
	if !ok || rest == "" {
		return "", "", "", errors.New("write options as name=\"value\", separated by commas")
	}

	return name, value, rest, nil
}

// parseTime reads YYYYMMDD[HHMM[SS]][Z]: local time without the Z, as ssh-keygen does.
func parseTime(value string) (time.Time, error) {
	location := time.Local
	digits := value

	if utc, ok := strings.CutSuffix(value, "Z"); ok {
		location, digits = time.UTC, utc
	}

	layout := "20060102150405"

	switch len(digits) {
	case 8, 12, 14:
		if t, err := time.ParseInLocation(layout[:len(digits)], digits, location); err == nil {
			return t, nil
		}
	}

	return time.Time{}, fmt.Errorf("%s is no time: write YYYYMMDDZ or YYYYMMDDHHMMZ", clip(value))
}

// cutField splits off the text up to the first space outside of quotation marks.
func cutField(text string) (field, rest string) {
	text = strings.TrimLeft(text, " \t")
	quoted := false

	for i := range len(text) {
		switch c := text[i]; {
		case c == '"':
			quoted = !quoted
		case (c == ' ' || c == '\t') && !quoted:
			return text[:i], strings.TrimLeft(text[i:], " \t")
		}
	}

	return text, ""
}

// isKeyType includes kinds that are refused later, with a better error.
func isKeyType(s string) bool {
	switch strings.TrimSuffix(s, "-cert-v01@openssh.com") {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoRSA, "ssh-dss",
		ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
		ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256, "sk-ssh-ed25519", "sk-ecdsa-sha2-nistp256":
		return true
	}

	return false
}

// isAuthorizedKeysOption tells options from principals. Taken for a principal, an
// option like expiry-time would be ignored without a word.
func isAuthorizedKeysOption(field string) bool {
	if strings.Contains(field, `="`) {
		return true
	}

	for name := range strings.SplitSeq(strings.ToLower(field), ",") {
		switch name {
		case "cert-authority", "restrict", "agent-forwarding", "port-forwarding", "pty", "user-rc", "x11-forwarding",
			"no-agent-forwarding", "no-port-forwarding", "no-pty", "no-user-rc", "no-x11-forwarding",
			"no-touch-required", "verify-required":
			return true
		}
	}

	return false
}
