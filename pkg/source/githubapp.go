package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/bradleyfalzon/ghinstallation/v2"
)

// GitHubApp is an app that is installed where the repository is. Its tokens last an hour
// and are renewed before they end.
type GitHubApp struct {
	// AppID and InstallationID are the numbers that GitHub shows for the app and for its
	// installation.
	AppID, InstallationID int64
	// PrivateKeyFile is the key that GitHub made for the app (PEM, RSA).
	PrivateKeyFile string
	// BaseURL is the address of the API. Empty: https://api.github.com. For GitHub
	// Enterprise Server it is https://<host>/api/v3.
	BaseURL string
}

func (a GitHubApp) check() error {
	switch {
	case a.AppID <= 0 || a.InstallationID <= 0:
		return errors.New("the GitHub app has no app ID or no installation ID: give both numbers")
	case a.PrivateKeyFile == "":
		return errors.New("the GitHub app has no private key file: give the one that GitHub made for it")
	case a.BaseURL == "":
		return nil
	}

	u, err := url.Parse(a.BaseURL)

	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("the GitHub app's base URL is not valid: it reads like https://github.example.com/api/v3")
	case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())):
		return errors.New("the GitHub app's base URL has to be https://…: a token would be sent in clear text")
	default:
		return nil
	}
}

// appTokens gets and keeps an app's token. One goroutine at a time.
type appTokens struct {
	app   GitHubApp
	files *secretFiles

	key    string // what source was made of
	routes *routes
	source *ghinstallation.Transport
}

func (a *appTokens) forget() { a.source = nil }

// credential returns what the repository's server takes: a user name that stands for a
// token, and the token.
func (a *appTokens) credential(ctx context.Context, via *routes) (credential, error) {
	key, err := a.files.read(a.app.PrivateKeyFile, "private key")
	if err != nil {
		return credential{}, err
	}

	if a.source == nil || a.key != string(key) || a.routes != via {
		source, err := ghinstallation.New(apiTransport{via}, a.app.AppID, a.app.InstallationID, key)
		if err != nil { // not shown: it is about the content of the file
			return credential{}, fmt.Errorf("the GitHub app's private key %s cannot be used: it has to be an RSA key in PEM, as GitHub made it", a.app.PrivateKeyFile)
		}

		if a.app.BaseURL != "" {
			source.BaseURL = strings.TrimSuffix(a.app.BaseURL, "/")
		}

		a.key, a.routes, a.source = string(key), via, source
	}

	token, err := a.source.Token(ctx)

	switch {
	case err != nil:
		a.forget()

		return credential{}, fmt.Errorf("get a token for the GitHub app: %w", apiError(err))
	case token == "":
		a.forget()

		return credential{}, errors.New("get a token for the GitHub app: the answer holds none: check the base URL")
	default:
		return basic("x-access-token", token), nil
	}
}

// apiError says what to do. What the server said is left out.
func apiError(err error) error {
	var refused *ghinstallation.HTTPError
	if !errors.As(err, &refused) || refused.Response == nil {
		if refused != nil && refused.RootCause != nil {
			return explain(refused.RootCause)
		}

		return errors.New("the answer is not as GitHub's: check the base URL")
	}

	switch code := refused.Response.StatusCode; code {
	case http.StatusUnauthorized:
		return errors.New("GitHub does not accept the key: check that it belongs to the app ID, and this machine's clock")
	case http.StatusNotFound:
		return errors.New("GitHub knows no such installation of the app: check the installation ID and the base URL")
	case http.StatusForbidden:
		return errors.New("GitHub refuses: the installation is suspended, or there were too many requests")
	default:
		return fmt.Errorf("GitHub answered %q: try again later", statusText(code))
	}
}

// apiTransport bounds what is read of an answer.
type apiTransport struct{ *routes }

func (t apiTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.routes.RoundTrip(req)
	if err != nil {
		return nil, err
	}

	if res.StatusCode/100 != 2 { // nobody reads or closes that one
		res.Body.Close()
		res.Body = http.NoBody

		return res, nil
	}

	const most = 1 << 20

	res.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(res.Body, most), res.Body}

	return res, nil
}
