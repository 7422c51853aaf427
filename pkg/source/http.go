package source

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// httpRemote is a repository on a server that speaks Git's smart HTTP protocol. One
// goroutine at a time.
type httpRemote struct {
	url    *url.URL
	login  Login
	tls    TLS
	proxy  proxy
	files  *secretFiles
	app    *appTokens // nil without GitHubApp
	routes *routes
	sum    string // what routes was made of
	hidden []string
}

func newHTTPRemote(u *url.URL, cfg *GitConfig, via proxy, files *secretFiles) *httpRemote {
	r := &httpRemote{url: u, login: cfg.Login, tls: cfg.TLS, proxy: via, files: files}
	if cfg.Login.GitHubApp != nil {
		r.app = &appTokens{app: *cfg.Login.GitHubApp, files: files}
	}

	return r
}

// secrets returns what must not be shown of the last look.
func (r *httpRemote) secrets() []string { return r.hidden }

const (
	advertType = "application/x-git-upload-pack-advertisement"
	resultType = "application/x-git-upload-pack-result"
	askType    = "application/x-git-upload-pack-request"
	service    = "git-upload-pack"
	userAgent  = "git/omni-syncd" // some servers take only what begins with git/ for Git
)

func (r *httpRemote) look(ctx context.Context) (*view, error) {
	session, err := r.session(ctx)
	if err != nil {
		return nil, err
	}

	v, err := session.look(ctx)
	if r.app != nil && errors.Is(err, errDenied) {
		r.app.forget() // revoked; the next look gets a new one
	}

	return v, err
}

// session reads all files anew, so that what was replaced counts.
func (r *httpRemote) session(ctx context.Context) (*httpSession, error) {
	r.hidden = nil

	if err := r.route(); err != nil {
		return nil, err
	}

	cred, err := r.login.forHTTP(r.url.Hostname(), r.files)
	if err == nil && r.app != nil {
		cred, err = r.app.credential(ctx, r.routes)
	}

	if err != nil {
		return nil, err
	}

	r.hidden = append(r.hidden, cred.secrets...)

	return &httpSession{
		base: r.url, known: cred.header != "",
		client: &http.Client{Transport: &signing{r.routes, cred.header}, CheckRedirect: checkRedirect},
	}, nil
}

// route makes sure that r.routes is as the files and the environment say now.
// Connections are kept while they do not change.
func (r *httpRemote) route() error {
	sum := sha256.New()

	own, others, err := r.tls.load(r.files, sum)
	if err != nil {
		return err
	}

	full, password, err := r.proxy.withPassword(r.files)
	if err != nil {
		return err
	}

	r.hidden = append(r.hidden, password)
	note(sum, []byte(password))

	if now := digest(sum); r.routes == nil || r.sum != now {
		r.close()

		// HTTP/1.1: there is one request at a time, and a server that refuses our certificate
		// can say so.
		newTransport := func() *http.Transport {
			return &http.Transport{
				Proxy:                 r.proxy.forHTTP(full),
				DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
				MaxIdleConns:          2,
				IdleConnTimeout:       90 * time.Second,
				TLSHandshakeTimeout:   dialTimeout,
				ResponseHeaderTimeout: time.Minute,
			}
		}

		r.routes = &routes{origin: originOf(r.url), own: newTransport(), others: newTransport()}
		r.routes.own.TLSClientConfig, r.routes.others.TLSClientConfig = own, others
		r.sum = now
	}

	return nil
}

// close gives back the connections that are kept for the next look.
func (r *httpRemote) close() {
	if r.routes != nil {
		r.routes.own.CloseIdleConnections()
		r.routes.others.CloseIdleConnections()
	}
}

func digest(sum hash.Hash) string { return string(sum.Sum(nil)) }

// routes sends requests to the server of the URL, which gets our client certificate, and
// to others, which do not.
type routes struct {
	origin      string
	own, others *http.Transport
}

func (r *routes) RoundTrip(req *http.Request) (*http.Response, error) {
	if originOf(req.URL) == r.origin {
		return r.own.RoundTrip(req)
	}

	return r.others.RoundTrip(req)
}

// originOf is whom a URL reaches: scheme, host and port.
func originOf(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}

	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// signing adds the credential to requests to the server of the URL. No other server ever
// gets it, whatever leads there.
type signing struct {
	*routes

	header string
}

func (s *signing) RoundTrip(req *http.Request) (*http.Response, error) {
	if s.header == "" || originOf(req.URL) != s.origin {
		return s.routes.RoundTrip(req)
	}

	req = req.Clone(req.Context()) // a RoundTripper must not change what it is given
	req.Header.Set("Authorization", s.header)

	return s.routes.RoundTrip(req)
}

// errRedirect is told apart from what the network does wrong.
type errRedirect string

func (e errRedirect) Error() string { return string(e) }

// checkRedirect lets a server move a repository, but not to where anybody on the way can
// read and change it. It is asked for the list of refs only.
func checkRedirect(req *http.Request, via []*http.Request) error {
	const most = 5

	switch last := via[len(via)-1]; {
	case req.Method != http.MethodGet || last.Method != http.MethodGet:
		return errRedirect("the server redirects a fetch, which is refused: use the URL that it redirects to")
	case len(via) >= most:
		return errRedirect("the server redirects too often: use the URL that it leads to in the end")
	case req.URL.Scheme != "https" && req.URL.Scheme != "http",
		last.URL.Scheme == "https" && req.URL.Scheme != "https":
		return errRedirect("the server redirects from https to an address that is not, which is refused: check the URL")
	case req.URL.User != nil:
		return errRedirect("the server redirects to a URL with credentials in it, which is refused")
	}

	req.Header.Del("Referer") // servers need not know of each other

	return nil
}

// httpSession is one look, and the requests that follow it.
type httpSession struct {
	client *http.Client
	base   *url.URL // of the repository; after a redirect, where that led
	known  bool     // a credential was sent
}

func (s *httpSession) look(ctx context.Context) (*view, error) {
	const refs = "/info/refs"

	u := *s.base
	u.Path = strings.TrimSuffix(u.Path, "/") + refs
	u.RawPath = ""
	u.RawQuery = "service=" + service

	res, err := s.do(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()

	if mediaType(res) != advertType {
		return nil, errNotGit
	}

	final := *res.Request.URL

	path, ok := strings.CutSuffix(final.Path, refs)
	if !ok {
		return nil, errRedirect("the server redirects to something that is no Git repository: check the URL")
	}

	final.Path, final.RawPath, final.RawQuery, final.Fragment = path, "", "", ""
	s.base = &final

	advert, err := readAdvert(res.Body)
	if err != nil {
		return nil, explain(err)
	}

	drain(res.Body)

	return newView(advert, s.ask), nil
}

func (s *httpSession) ask(ctx context.Context, request []byte) (io.ReadCloser, error) {
	u := *s.base
	u.Path += "/" + service

	res, err := s.do(ctx, http.MethodPost, u.String(), request)
	if err != nil {
		return nil, err
	}

	if mediaType(res) != resultType {
		res.Body.Close()

		return nil, errNotGit
	}

	return explained{res.Body}, nil
}

// drain reads the end of an answer: a connection is used again only after that.
func drain(body io.Reader) {
	io.Copy(io.Discard, io.LimitReader(body, 4<<10)) //nolint:errcheck // else there is a new one
}

func (s *httpSession) do(ctx context.Context, method, target string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("not a valid URL: use https://host/path")
	}

	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Pragma", "no-cache") // some proxies keep what they should not

	if body == nil {
		req.Body, req.GetBody = http.NoBody, nil
	} else {
		req.Header.Set("Content-Type", askType)
		req.Header.Set("Accept", resultType)
	}

	res, err := s.client.Do(req)
	if err != nil {
		return nil, explain(err)
	}

	if res.StatusCode != http.StatusOK {
		res.Body.Close()

		return nil, s.refusal(res)
	}

	return res, nil
}

func mediaType(res *http.Response) string {
	typ, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")

	return strings.TrimSpace(typ)
}

// errDenied is a server that wants other credentials than it got.
var errDenied = errors.New("denied")

type denied string

func (d denied) Error() string   { return string(d) }
func (denied) Is(err error) bool { return err == errDenied } //nolint:errorlint // compared by errors.Is

// refusal says what a status means. The server's own text is left out: it may be a whole
// page, and may repeat what we sent.
func (s *httpSession) refusal(res *http.Response) error {
	moved := originOf(res.Request.URL) != s.client.Transport.(*signing).origin //nolint:forcetypeassert // set in session

	switch code := res.StatusCode; {
	case (code == http.StatusUnauthorized || code == http.StatusForbidden) && s.known && moved:
		return denied("the server redirects to another one, which wants credentials and does not get them: use the URL that it redirects to")
	case code == http.StatusUnauthorized && s.known && s.wantsUser(res):
		return denied("the server takes no bearer token: name a user with it (GitHub: any, GitLab: oauth2, Bitbucket Cloud: x-token-auth)")
	case code == http.StatusUnauthorized && s.known:
		return denied("the server does not accept the login: check the user, and that the password or token is right and has not expired")
	case code == http.StatusForbidden && s.known:
		return denied("the server does not allow the login to read this repository: check what the token or user may do")
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return denied("the server wants credentials: check the URL (many servers say this about a repository that does not exist), or set a login")
	case code == http.StatusNotFound && s.known:
		return errors.New("there is no such repository on the server, or the login may not see it: check the URL and the login")
	case code == http.StatusNotFound:
		return errors.New("there is no such repository on the server: check the URL (some servers say this about a private one without a login)")
	case code == http.StatusProxyAuthRequired:
		return errProxyLogin
	default:
		return fmt.Errorf("the server answered %q: try again later, or check the URL", statusText(code))
	}
}

// wantsUser reports whether a server was sent a bearer token and wants a user name.
func (s *httpSession) wantsUser(res *http.Response) bool {
	header := s.client.Transport.(*signing).header //nolint:forcetypeassert // set in session
	if !strings.HasPrefix(header, "Bearer ") {
		return false
	}

	wants := strings.ToLower(strings.Join(res.Header.Values("WWW-Authenticate"), ","))

	return strings.Contains(wants, "basic") && !strings.Contains(wants, "bearer")
}

var (
	errNotGit     = errors.New("the server's answer is not from a Git repository: use the URL that \"git clone\" takes")
	errProxyLogin = errors.New("the proxy wants a user and a password, or refuses these: check them")
)

// explained is an answer whose errors say what to do.
type explained struct{ io.ReadCloser }

func (e explained) Close() error {
	drain(e.ReadCloser)

	return e.ReadCloser.Close()
}

func (e explained) Read(p []byte) (int, error) {
	n, err := e.ReadCloser.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // a reader returns it as it is
		err = explain(err)
	}

	return n, err
}
