package signature

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// signed is an object taken apart: what was signed, and the signature.
type signed struct {
	payload   []byte
	signature string // as it was made: armour, without the indentation of a header; or ""
	// when is the committer's or tagger's time, or zero if there is none that can be
	// understood. It is a claim of the signer, and covered by the signature.
	when time.Time
}

// header is one header of an object with its continuation lines.
type header struct {
	key   string
	value string // first line, without the newline
	raw   []byte // all lines, with the newlines
}

// readCommit takes a commit apart, by the rules of git's parse_signed_commit.
func readCommit(o Object) (signed, error) {
	if err := checkID("commit", o); err != nil {
		return signed{}, err
	}

	headers, body, err := splitHeaders(o.Raw)
	if err != nil {
		return signed{}, err
	}

	if err := checkCommitHeaders(headers); err != nil {
		return signed{}, err
	}

	var s signed

	seen := map[string]bool{}

	for _, h := range headers {
		if !strings.HasPrefix(h.key, "gpgsig") {
			s.payload = append(s.payload, h.raw...)

			continue
		}

		if h.key != "gpgsig" && h.key != "gpgsig-sha256" {
			return signed{}, fmt.Errorf("%w: header %s is not covered by signatures and unknown: remove it", ErrMalformed, clip(h.key))
		}

		if seen[h.key] {
			return signed{}, fmt.Errorf("%w: more than one header %s: sign the commit once", ErrMalformed, h.key)
		}

		seen[h.key] = true

		if h.key == "gpgsig" {
			s.signature = unfold(h)
		}
	}

	s.payload = append(s.payload, body...)
	s.when = timeOf(headers, "committer")

	return s, nil
}

// checkCommitHeaders holds the headers to the order in which git writes them. Two
// readers of a commit with, say, two tree lines could see different trees.
func checkCommitHeaders(headers []header) error {
	next := func(key string) (header, bool) {
		if len(headers) == 0 || headers[0].key != key {
			return header{}, false
		}

		h := headers[0]
		headers = headers[1:]

		return h, true
	}

	if h, ok := next("tree"); !ok || !isID(h.value) {
		return fmt.Errorf("%w: it does not begin with a tree", ErrMalformed)
	}

	for {
		h, ok := next("parent")
		if !ok {
			break
		}

		if !isID(h.value) {
			return fmt.Errorf("%w: parent %s is not an object ID", ErrMalformed, clip(h.value))
		}
	}

	for _, key := range []string{"author", "committer"} {
		if _, ok := next(key); !ok {
			return fmt.Errorf("%w: no %s where it must be", ErrMalformed, key)
		}
	}

	for _, h := range headers {
		switch h.key {
		case "tree", "parent", "author", "committer":
			return fmt.Errorf("%w: a second or misplaced %s", ErrMalformed, h.key)
		}
	}

	return nil
}

// readTag takes a tag apart, by the rules of git's parse_signature, and makes sure
// that it is a tag of that commit.
func readTag(o Object, commitID string) (signed, error) {
	if err := checkID("tag", o); err != nil {
		return signed{}, err
	}

	headers, body, err := splitHeaders(o.Raw)
	if err != nil {
		return signed{}, err
	}

	if err := checkTagHeaders(headers, o.Name, commitID); err != nil {
		return signed{}, err
	}

	var s signed

	for _, h := range headers {
		if h.key != "gpgsig-sha256" { // like in a commit: no part of what is signed
			s.payload = append(s.payload, h.raw...)
		}
	}

	at := findSignature(body)
	s.payload = append(s.payload, body[:at]...)
	s.signature = string(body[at:])
	s.when = timeOf(headers, "tagger")

	return s, nil
}

func checkTagHeaders(headers []header, name, commitID string) error {
	order := []string{"object", "type", "tag", "tagger", "gpgsig-sha256"}
	values := map[string]string{}

	for _, h := range headers {
		for len(order) > 0 && order[0] != h.key {
			order = order[1:]
		}

		if len(order) == 0 {
			return fmt.Errorf("%w: header %s is unknown, doubled or in the wrong place", ErrMalformed, clip(h.key))
		}

		order = order[1:]
		values[h.key] = h.value

		if h.key != "gpgsig-sha256" && bytes.Count(h.raw, []byte("\n")) > 1 {
			return fmt.Errorf("%w: header %s has more than one line", ErrMalformed, h.key)
		}
	}

	switch {
	case values["type"] != "commit":
		return fmt.Errorf("%w: it is a tag of a %s: tag the commit itself", ErrUnsupported, clip(values["type"]))
	case values["object"] != commitID:
		return fmt.Errorf("%w: it is a tag of %s, not of commit %s", ErrMalformed, clip(values["object"]), clip(commitID))
	case values["tag"] == "":
		return fmt.Errorf("%w: it has no name", ErrMalformed)
	case name != "" && values["tag"] != name:
		return fmt.Errorf("%w: it was signed under the name %s, so it must not count as %s: create the tag again under its new name",
			ErrBadSignature, clip(values["tag"]), clip(name))
	}

	return nil
}

// splitHeaders returns the headers and the rest, which begins with the empty line.
func splitHeaders(raw []byte) (headers []header, rest []byte, err error) {
	rest = raw

	for {
		if len(rest) > 0 && rest[0] == '\n' {
			break
		}

		line, after, ok := bytes.Cut(rest, []byte("\n"))
		if !ok {
			return nil, nil, fmt.Errorf("%w: the headers do not end with an empty line", ErrMalformed)
		}

		if bytes.IndexByte(line, 0) >= 0 {
			return nil, nil, fmt.Errorf("%w: a zero byte in the headers", ErrMalformed)
		}

		full := rest[:len(line)+1]
		rest = after

		if line[0] == ' ' {
			if len(headers) == 0 {
				return nil, nil, fmt.Errorf("%w: it begins with a continuation line", ErrMalformed)
			}

			last := &headers[len(headers)-1]
			last.raw = last.raw[:len(last.raw)+len(full)] // the lines follow each other in raw

			continue
		}

		key, value, ok := strings.Cut(string(line), " ")
		if !ok {
			return nil, nil, fmt.Errorf("%w: header %s has no value", ErrMalformed, clip(key))
		}

		headers = append(headers, header{key: key, value: value, raw: full})
	}

	return headers, rest, nil
}

// unfold returns the value of a header with several lines.
func unfold(h header) string {
	return strings.ReplaceAll(strings.TrimPrefix(string(h.raw), h.key+" "), "\n ", "\n")
}

// timeOf reads the time from a header "name <mail> seconds zone".
func timeOf(headers []header, key string) time.Time {
	for _, h := range headers {
		if h.key != key {
			continue
		}

		fields := strings.Fields(h.value[strings.LastIndexByte(h.value, '>')+1:])
		if len(fields) != 2 {
			break
		}

		// The year 9999 ends before 1<<38.
		seconds, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil || seconds <= 0 || seconds >= 1<<38 {
			break
		}

		return time.Unix(seconds, 0)
	}

	return time.Time{}
}

// The first lines of the signatures that git knows.
const (
	beginOpenPGP        = "-----BEGIN PGP SIGNATURE-----"
	beginOpenPGPMessage = "-----BEGIN PGP MESSAGE-----"
	beginX509           = "-----BEGIN SIGNED MESSAGE-----"
	beginSSH            = "-----BEGIN SSH SIGNATURE-----"
)

// findSignature returns where the signature of a tag begins: at the end, if there is
// none. As in git, it is the last line that looks like the beginning of one; earlier
// ones are message.
func findSignature(body []byte) int {
	at := len(body)

	for i := 0; i < len(body); {
		for _, begin := range []string{beginOpenPGP, beginOpenPGPMessage, beginX509, beginSSH} {
			if bytes.HasPrefix(body[i:], []byte(begin)) {
				at = i
			}
		}

		n := bytes.IndexByte(body[i:], '\n')
		if n < 0 {
			break
		}

		i += n + 1
	}

	return at
}
