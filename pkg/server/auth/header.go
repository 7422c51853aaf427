package auth

import (
	"errors"
	"net/http"
	"strings"
)

// The ways in which a request names no token.
var (
	errNoHeader   = errors.New("the request has no token: send the header `Authorization: Bearer <token>`")
	errHeaders    = errors.New("the request has more than one Authorization header: send one")
	errScheme     = errors.New("the Authorization header is none of a token: send `Authorization: Bearer <token>`")
	errLong       = errors.New("the token is too long: 16 KiB are taken")
	errCharacters = errors.New("the token has characters that no token has: look for blanks, commas and line ends in it")
)

const scheme = "bearer"

// bearer returns the token of a request. There is one header, of one form (RFC 6750, 2.1): in
// everything else two readers might see two different tokens.
func bearer(header http.Header) (string, error) {
	values := header.Values("Authorization")

	switch {
	case len(values) == 0:
		return "", errNoHeader
	case len(values) > 1:
		return "", errHeaders
	case len(values[0]) > len(scheme)+1+MaxToken:
		return "", errLong
	}

	word, token, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(word, scheme) {
		return "", errScheme
	}

	token = strings.TrimLeft(token, " ")

	switch {
	case token == "":
		return "", errScheme
	case !isToken(token):
		return "", errCharacters
	}

	return token, nil
}

// isToken tells whether a text is a b64token.
func isToken(text string) bool {
	body := strings.TrimRight(text, "=")

	for i := range len(body) {
		c := body[i]

		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~+/", c) >= 0:
		default:
			return false
		}
	}

	return body != ""
}
