package forge

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// perPage is how many comments are asked for at once: as many as GitHub and GitLab give.
const perPage = 100

// maxMessage is how much of what a server says gets into an error.
const maxMessage = 300

// laterError is what may be over in a while.
type laterError struct {
	err error
	// after is how long the server asked to wait; nil if it did not.
	after *time.Duration
}

func (e *laterError) Error() string { return e.err.Error() }

func (e *laterError) Unwrap() error { return e.err }

// pause is how long to wait before the next attempt: as the server says, else 1, 2 and 4 s.
func (e *laterError) pause(attempt int) time.Duration {
	if e.after != nil {
		return max(0, *e.after)
	}

	return time.Second << (attempt - 1)
}

// caller is the way to one server.
type caller struct {
	http    http.Client
	headers http.Header
	token   string
}

// newCaller returns the way to a server, after a look at the address: the token goes there.
func (c *Client) newCaller(token string, headers map[string]string, addresses ...string) (*caller, error) {
	for _, address := range addresses {
		if err := checkAddress(address); err != nil {
			return nil, err
		}
	}

	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("the token holds a blank, a line break or another character that no token has; set it again")
	}

	k := &caller{headers: http.Header{}, token: token}
	k.http = http.Client{Transport: c.Transport, Timeout: CallTimeout, CheckRedirect: follow}
	k.headers.Set("User-Agent", c.UserAgent)
	k.headers.Set("Accept", "application/json")

	for name, value := range headers {
		k.headers.Set(name, value)
	}

	return k, nil
}

func checkAddress(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return errors.New("the address of the API is no URL like https://api.github.com or https://gitlab.example.com/api/v4")
	}

	ip := net.ParseIP(u.Hostname())
	if u.Scheme != "https" && (u.Scheme != "http" || ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("the API at %s: it has to be https, because the token travels with every call", u.Host)
	}

	return nil
}

// follow lets a reading call be sent elsewhere on the same server (a renamed repository), and
// nothing else: the token is not for others, and a writing call turns into a reading one.
func follow(to *http.Request, via []*http.Request) error {
	first := via[0]
	if len(via) > 3 || first.Method != http.MethodGet || to.URL.Scheme != first.URL.Scheme || to.URL.Host != first.URL.Host {
		return http.ErrUseLastResponse
	}

	return nil
}

// call sends a call, in is its body as JSON, and reads the answer into out.
func (k *caller) call(ctx context.Context, what, method, address string, in, out any) (http.Header, error) {
	var body io.Reader

	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}

		body = bytes.NewReader(data)
	}

	request, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, fmt.Errorf("%s: the address of the API is wrong", what)
	}

	request.Header = k.headers.Clone()
	if in != nil {
		request.Header.Set("Content-Type", "application/json")
	}

	response, err := k.http.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: %w", what, context.Cause(ctx))
		}

		if untrusted := new(tls.CertificateVerificationError); errors.As(err, &untrusted) {
			return nil, fmt.Errorf("%s: the certificate of %s is not trusted: %w; name the authority that made it with --ca-file", what, request.URL.Host, untrusted.Err)
		}

		var reason *url.Error
		if errors.As(err, &reason) {
			err = reason.Err // without the URL; the host is enough
		}

		return nil, &laterError{fmt.Errorf("%s: %s does not answer: %w", what, request.URL.Host, err), nil}
	}
	defer response.Body.Close() //nolint:errcheck // only read from

	data, err := io.ReadAll(io.LimitReader(response.Body, MaxAnswer+1))

	switch {
	case err != nil:
		return nil, &laterError{fmt.Errorf("%s: the answer of %s broke off: %w", what, request.URL.Host, err), nil}
	case len(data) > MaxAnswer:
		return nil, fmt.Errorf("%s: the answer of %s is larger than %d MiB", what, request.URL.Host, MaxAnswer>>20)
	case response.StatusCode/100 != 2:
		return nil, k.refusal(what, response, data)
	case out == nil:
		return response.Header, nil
	}

	if err := json.Unmarshal(data, out); err != nil {
		return nil, fmt.Errorf("%s: %s answers with something else than the JSON of its API; is the address right?", what, request.URL.Host)
	}

	return response.Header, nil
}

// statusError is a refusal by its number.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

func isStatus(err error, status ...int) bool {
	var refusal *statusError
	if !errors.As(err, &refusal) {
		return false
	}

	for _, s := range status {
		if refusal.status == s {
			return true
		}
	}

	return false
}

// refusal turns an answer that is none into an error of its kind.
func (k *caller) refusal(what string, response *http.Response, data []byte) error {
	text := fmt.Sprintf("%s: %s answers %d", what, response.Request.URL.Host, response.StatusCode)
	if said := k.message(data); said != "" {
		text += ": " + said
	}

	err := &statusError{response.StatusCode, text}
	limited := response.Header.Get("Retry-After") != "" || response.Header.Get("X-Ratelimit-Remaining") == "0"

	switch status := response.StatusCode; {
	case status == http.StatusTooManyRequests, status == http.StatusForbidden && limited:
		return &laterError{err, askedToWait(response.Header, time.Now())}
	case status >= 500, status == http.StatusRequestTimeout:
		return &laterError{err, askedToWait(response.Header, time.Now())}
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return &Refused{err}
	case status/100 == 3:
		return fmt.Errorf("%w: it has moved; correct the address of the API or the name of the project", err)
	default:
		return err
	}
}

// message is what the server says, on one line, short, and without the token.
func (k *caller) message(data []byte) string {
	var said struct {
		Message any `json:"message"`
		Error   any `json:"error"`
	}

	if json.Unmarshal(data, &said) != nil {
		return ""
	}

	text := ""

	for _, part := range []any{said.Message, said.Error} {
		if part != nil {
			text = fmt.Sprint(part)

			break
		}
	}

	text = strings.ReplaceAll(text, k.token, "***")
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}

		return ' '
	}, text)

	if runes := []rune(text); len(runes) > maxMessage {
		text = string(runes[:maxMessage]) + "…"
	}

	return text
}

// askedToWait reads how long a server wants to be left alone, nil if it does not say.
func askedToWait(header http.Header, now time.Time) *time.Duration {
	if seconds, err := strconv.Atoi(header.Get("Retry-After")); err == nil && seconds >= 0 && seconds < 1<<20 {
		return new(time.Duration(seconds) * time.Second)
	}

	if at, err := http.ParseTime(header.Get("Retry-After")); err == nil {
		return new(at.Sub(now))
	}

	for _, name := range []string{"X-Ratelimit-Reset", "Ratelimit-Reset"} {
		if at, err := strconv.ParseInt(header.Get(name), 10, 64); err == nil && header.Get("X-Ratelimit-Remaining")+header.Get("Ratelimit-Remaining") == "0" {
			return new(time.Unix(at, 0).Sub(now))
		}
	}

	return nil
}

// hasNext reports whether a list goes on, as both kinds of servers say it.
func hasNext(header http.Header) bool {
	for _, link := range header.Values("Link") {
		for part := range strings.SplitSeq(link, ",") {
			if _, params, ok := strings.Cut(part, ">"); ok && strings.Contains(strings.ReplaceAll(params, " ", ""), `rel="next"`) {
				return true
			}
		}
	}

	return header.Get("X-Next-Page") != ""
}
