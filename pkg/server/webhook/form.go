package webhook

import (
	"bytes"
	"mime"
	"net/http"
)

const formType = "application/x-www-form-urlencoded"

func isForm(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))

	return err == nil && kind == formType
}

// payloadField takes the field "payload" out of a form, in place: a form of 8 MiB of "&" parsed
// as a whole would be a map of millions of entries. The body is overwritten.
func payloadField(body []byte) ([]byte, error) {
	for len(body) > 0 {
		field, rest, _ := bytes.Cut(body, []byte("&"))
		if value, ok := bytes.CutPrefix(field, []byte("payload=")); ok {
			return unescape(value)
		}

		body = rest
	}

	return nil, errPayload
}

func unescape(text []byte) ([]byte, error) {
	out := text[:0]

	for i := 0; i < len(text); i++ {
		c := text[i]

		switch c {
		case '+':
			c = ' '
		case '%':
			if i+2 >= len(text) {
				return nil, errPayload
			}

			high, low := unhex(text[i+1]), unhex(text[i+2])
			if high < 0 || low < 0 {
				return nil, errPayload
			}

			c = byte(high<<4 | low)
			i += 2
		}

		out = append(out, c)
	}

	return out, nil
}

// unhex returns -1 for what is no hex digit.
func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}

	return -1
}
