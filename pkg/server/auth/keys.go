package auth

import (
	"cmp"
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Bounds of what an issuer sends, and how often it is asked (G12).
const (
	maxDocument   = 1 << 20
	maxKeys       = 100
	issuerTimeout = 10 * time.Second
	// keysFresh is how old keys get before they are fetched again, in the background: a key that the
	// issuer withdrew is good for no longer than that.
	keysFresh = 15 * time.Minute
	// keysKept is how long keys are used if the issuer does not answer.
	keysKept = 24 * time.Hour
	// askAgain is the least time between two attempts. In between a token that is signed with a
	// key that nobody knows is refused, so that such tokens do not become a flood at the issuer.
	askAgain = 5 * time.Second
	// askAgainFailed is the same after a failed attempt.
	askAgainFailed = 2 * time.Second
)

// algorithms are those with a public key. With the others a public key could be taken for the
// secret, or no key would be needed at all.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

var errSignature = errors.New("no key of the issuer made the signature")

// keySet holds the public keys of an issuer. It is empty until they are needed, so that a
// daemon starts while the issuer is away.
//
// It takes the place of go-oidc's own, which asks the issuer for each token with a bad
// signature, and whose errors do not tell a bad signature from an issuer that is away.
type keySet struct {
	issuer string
	client *http.Client

	mu      sync.Mutex
	keys    []jose.JSONWebKey
	fetched time.Time // when keys were; zero: never
	tried   time.Time
	err     error         // of the last attempt
	running chan struct{} // closed when the attempt under way has ended
}

// verify returns the payload of a token that the issuer signed. The error is errSignature, or an
// [*UnavailableError]. Without ask it looks into memory only.
func (k *keySet) verify(ctx context.Context, token string, ask bool) ([]byte, error) {
	signed, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil || len(signed.Signatures) != 1 {
		return nil, errSignature
	}

	keys, fresh := k.known()

	if payload, ok := try(keys, signed); ok {
		if !fresh && ask {
			k.refresh()
		}

		return payload, nil
	}

	if !ask {
		return nil, errSignature
	}

	if running := k.refresh(); running != nil {
		select {
		case <-running:
		case <-ctx.Done():
			return nil, k.unavailable(ctx.Err())
		}
	}

	k.mu.Lock()
	keys, err = k.keys, k.err
	k.mu.Unlock()

	if payload, ok := try(keys, signed); ok {
		return payload, nil
	}

	if err != nil {
		return nil, k.unavailable(err)
	}

	return nil, errSignature
}

func (k *keySet) unavailable(err error) error {
	return &UnavailableError{Who: "the issuer " + k.issuer, Err: err}
}

// try returns the payload if one of the keys made the signature. A key is for what it says
// that it is for.
func try(keys []jose.JSONWebKey, signed *jose.JSONWebSignature) ([]byte, bool) {
	header := signed.Signatures[0].Header

	for i := range keys {
		key := &keys[i]

		if header.KeyID != "" && key.KeyID != header.KeyID || key.Algorithm != "" && key.Algorithm != header.Algorithm {
			continue
		}

		if payload, err := signed.Verify(key); err == nil {
			return payload, true
		}
	}

	return nil, false
}

// known returns the keys in memory, and whether they are fresh.
func (k *keySet) known() ([]jose.JSONWebKey, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()

	age := time.Since(k.fetched)
	if age > keysKept {
		k.keys = nil
	}

	return k.keys, age <= keysFresh
}

// refresh fetches the keys, unless that was tried a moment ago. It returns a channel that is
// closed when it is done, or nil if nothing is under way.
func (k *keySet) refresh() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()

	pause := askAgain
	if k.err != nil {
		pause = askAgainFailed
	}

	if k.running != nil || !k.tried.IsZero() && time.Since(k.tried) < pause {
		return k.running
	}

	running := make(chan struct{})
	k.running = running

	// For all who wait, and for those who come next: it does not end with a request.
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), issuerTimeout)
		defer cancel()

		keys, err := k.fetch(ctx)

		k.mu.Lock()
		defer k.mu.Unlock()

		k.tried, k.err, k.running = time.Now(), err, nil
		if err == nil {
			k.keys, k.fetched = keys, k.tried
		}

		close(running)
	}()

	return running
}

// fetch asks the issuer where its keys are, and for them. (OpenID Connect Discovery 1.0, 4.)
func (k *keySet) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	var discovery struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}

	if err := k.get(ctx, strings.TrimSuffix(k.issuer, "/")+"/.well-known/openid-configuration", &discovery); err != nil {
		return nil, err
	}

	switch {
	case discovery.Issuer != k.issuer:
		return nil, fmt.Errorf("it calls itself %q: write the issuer into the configuration exactly like that", printable(discovery.Issuer))
	case !strings.HasPrefix(discovery.Keys, "https://"):
		return nil, errors.New("its `jwks_uri` is no https URL")
	}

	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}

	if err := k.get(ctx, discovery.Keys, &set); err != nil {
		return nil, err
	}

	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("it has %d keys, at most %d are taken", len(set.Keys), maxKeys)
	}

	var keys []jose.JSONWebKey

	for _, raw := range set.Keys {
		var key jose.JSONWebKey

		// One of a kind that we do not know does not spoil the others.
		if key.UnmarshalJSON(raw) == nil && usable(&key) {
			keys = append(keys, key)
		}
	}

	if len(keys) == 0 {
		return nil, errors.New("it has no key that can be used: RSA of 2048 bits or more, ECDSA or Ed25519, for signatures")
	}

	return keys, nil
}

// usable tells whether a key is a public one for signatures, and strong.
func usable(key *jose.JSONWebKey) bool {
	if !key.Valid() || !key.IsPublic() || cmp.Or(key.Use, "sig") != "sig" {
		return false
	}

	if public, ok := key.Key.(*rsa.PublicKey); ok {
		return public.N.BitLen() >= 2048 && public.N.BitLen() <= 8192 // larger ones only cost time
	}

	return true
}

// get reads a JSON document. Nothing of it is in an error.
func (k *keySet) get(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return errors.New("it names no URL that can be asked")
	}

	req.Header.Set("Accept", "application/json")

	res, err := k.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // only read from

	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: it answers %d", url, res.StatusCode)
	}

	data, err := io.ReadAll(io.LimitReader(res.Body, maxDocument+1))

	switch {
	case err != nil:
		return fmt.Errorf("GET %s: %w", url, err)
	case len(data) > maxDocument:
		return fmt.Errorf("GET %s: the answer is larger than %d bytes", url, maxDocument)
	case json.Unmarshal(data, into) != nil:
		return fmt.Errorf("GET %s: the answer is not the JSON that belongs there", url)
	default:
		return nil
	}
}

// issuerClient returns a client that trusts the system's certificates and those of caFile.
func issuerClient(caFile string) (*http.Client, error) {
	transport := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    issuerTimeout,
		ResponseHeaderTimeout:  issuerTimeout,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConns:           2,
		IdleConnTimeout:        time.Minute,
		ForceAttemptHTTP2:      true,
	}

	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("the certificates of the issuer: %w", err)
		}

		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}

		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("the certificates of the issuer: there is none in %s: it has to be PEM", caFile)
		}

		transport.TLSClientConfig.RootCAs = pool
	}

	return &http.Client{Transport: transport, Timeout: issuerTimeout, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) > 3 || req.URL.Scheme != "https" || req.URL.Host != via[0].URL.Host {
			return errors.New("it redirects to somewhere else, or too often: name the issuer by its own URL")
		}

		return nil
	}}, nil
}
