package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/zap"
)

// The defaults of [Config].
const (
	DefaultRequestsPerSecond = 50
	DefaultBurst             = 200
	DefaultFailuresPerSecond = 0.2
	DefaultFailureBurst      = 20
)

const (
	// authenticateTimeout is how long it may take to find out who it is.
	authenticateTimeout = 15 * time.Second
	// maxAsking is how many requests of one remote address may wait for somebody outside to be asked.
	maxAsking = 16
	// refusedBody is how long the body of a refused request may take to arrive: the server
	// reads some of it so that the client sees the answer.
	refusedBody = time.Second
)

// Config says who may in.
type Config struct {
	// Authenticators are asked in their order. Without any, nobody may in.
	Authenticators []Authenticator
	// RequestsPerSecond and Burst bound the requests of one caller. Defaults: 50, 200 at once.
	RequestsPerSecond float64
	Burst             int
	// FailuresPerSecond and FailureBurst bound the unknown tokens that come from one IPv4 address or
	// one /64 of IPv6. Defaults: one in 5 s, 20 at once.
	//
	// Who is over it is not locked out, because a proxy may stand in front of many: a token that
	// is good by what the daemon has in memory (the token file, the keys of the issuer, what the
	// Kubernetes API server said within the last seconds) is still taken. But nobody outside
	// is asked any more.
	FailuresPerSecond float64
	FailureBurst      int
	// Logger gets a line for what is refused, at a bounded rate. It may be nil.
	Logger *zap.Logger
}

// Guard lets requests through to a handler that have a good token.
type Guard struct {
	Config

	next     http.Handler
	callers  *budgets
	failures *budgets
	asking   *bounded[string, *atomic.Int32]
	refusals *refusals
	errors   *connect.ErrorWriter
}

// recaller is an [Authenticator] that can also answer without asking anybody. What it does not
// know that way is [ErrUnknown].
type recaller interface {
	recall(ctx context.Context, token string) (*Caller, error)
}

// Require returns a handler that gives next the requests with a good token, their [Caller] in
// the context, without the token. It answers all others itself, in the protocol that they
// speak: 401 without a good token, 429 with a Retry-After over a limit, 503 when it could not be
// found out whose token it is.
func Require(cfg Config, next http.Handler) *Guard {
	cfg.RequestsPerSecond = cmp.Or(cfg.RequestsPerSecond, DefaultRequestsPerSecond)
	cfg.Burst = cmp.Or(cfg.Burst, DefaultBurst)
	cfg.FailuresPerSecond = cmp.Or(cfg.FailuresPerSecond, DefaultFailuresPerSecond)
	cfg.FailureBurst = cmp.Or(cfg.FailureBurst, DefaultFailureBurst)
	cfg.Logger = cmp.Or(cfg.Logger, zap.NewNop())

	return &Guard{
		Config: cfg, next: next, refusals: newRefusals(cfg.Logger), errors: connect.NewErrorWriter(),
		callers:  newBudgets(cfg.RequestsPerSecond, cfg.Burst),
		failures: newBudgets(cfg.FailuresPerSecond, cfg.FailureBurst),
		asking:   newBounded[string, *atomic.Int32](maxKept),
	}
}

// ServeHTTP implements http.Handler.
func (g *Guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	caller, refused := g.check(r)
	if refused != nil {
		g.refuse(w, r, refused)

		return
	}

	ctx := With(r.Context(), caller)

	if !caller.Expires.IsZero() {
		var cancel context.CancelFunc

		ctx, cancel = context.WithDeadlineCause(ctx, caller.Expires, &ExpiredError{Name: caller.Name, At: caller.Expires})
		defer cancel()
	}

	r = r.WithContext(ctx)
	r.Header = r.Header.Clone()
	r.Header.Del("Authorization") // nobody behind needs it, so nobody can log it

	g.next.ServeHTTP(w, r)
}

// refusal is why a request gets no further.
type refusal struct {
	code   connect.Code
	status int
	err    error         // what the client is told
	detail error         // what the log says; nil: the same
	who    string        // if it is known
	wait   time.Duration // for Retry-After
}

// check finds out who it is, and whether it may make one more request.
func (g *Guard) check(r *http.Request) (*Caller, *refusal) {
	token, err := bearer(r.Header)
	if err != nil {
		return nil, &refusal{code: connect.CodeUnauthenticated, status: http.StatusUnauthorized, err: err}
	}

	ctx, cancel := context.WithTimeout(r.Context(), authenticateTimeout)
	defer cancel()

	remote := remoteOf(r.RemoteAddr)
	wait := g.failures.wait(remote)

	// What fails is counted when it has failed, so those under way are counted, too.
	asking := g.asking.getOrPut(remote, func() *atomic.Int32 { return new(atomic.Int32) })
	defer asking.Add(-1)

	if asking.Add(1) > maxAsking {
		wait = max(wait, time.Second)
	}

	caller, err := g.authenticate(ctx, token, wait > 0)

	var expired *ExpiredError

	switch {
	case err == nil:
	case errors.As(err, &expired):
		return nil, &refusal{code: connect.CodeUnauthenticated, status: http.StatusUnauthorized, err: expired, who: expired.Name}
	case wait > 0:
		return nil, tooMany(fmt.Errorf("too many tokens from this address were not known, or are being looked up: wait %s", seconds(wait)), wait, "")
	case errors.Is(err, ErrUnknown):
		g.failures.take(remote)

		return nil, &refusal{code: connect.CodeUnauthenticated, status: http.StatusUnauthorized, err: ErrUnknown, detail: err}
	default:
		// A token that makes others be asked in vain costs as much as one that is not known.
		g.failures.take(remote)

		return nil, &refusal{
			code: connect.CodeUnavailable, status: http.StatusServiceUnavailable, wait: time.Second, detail: err,
			err: errors.New("it cannot be found out now whose token this is: try again; the log of the daemon says more"),
		}
	}

	if wait := g.callers.take(cmp.Or(caller.id, caller.Name)); wait > 0 {
		return nil, tooMany(fmt.Errorf("too many requests of %s: wait %s", caller.Name, seconds(wait)), wait, caller.Name)
	}

	return caller, nil
}

func tooMany(err error, wait time.Duration, who string) *refusal {
	return &refusal{code: connect.CodeResourceExhausted, status: http.StatusTooManyRequests, err: err, wait: wait, who: who}
}

// authenticate asks one way after the other. One that cannot tell now does not keep those out
// that come another way.
func (g *Guard) authenticate(ctx context.Context, token string, fromMemory bool) (*Caller, error) {
	unknown, unavailable := ErrUnknown, error(nil)

	for _, a := range g.Authenticators {
		ask := a.Authenticate

		if fromMemory {
			local, ok := a.(recaller)
			if !ok {
				continue
			}

			ask = local.recall
		}

		caller, err := ask(ctx, token)

		var expired *ExpiredError

		switch {
		case err == nil && caller != nil:
			return caller, nil
		case errors.As(err, &expired):
			return nil, err
		case err == nil || errors.Is(err, ErrUnknown):
			unknown = cmp.Or(more(err), unknown)
		default:
			unavailable = errors.Join(unavailable, err)
		}
	}

	return nil, cmp.Or(unavailable, unknown)
}

// more returns an error that says more than that the token is unknown.
func more(err error) error {
	if err == nil || err.Error() == ErrUnknown.Error() {
		return nil
	}

	return err
}

// refuse answers, and writes it down.
func (g *Guard) refuse(w http.ResponseWriter, r *http.Request, why *refusal) {
	fields := []zap.Field{
		zap.String("remote", printable(r.RemoteAddr)), zap.String("path", printable(r.URL.Path)),
		zap.String("reason", printable(cmp.Or(why.detail, why.err).Error())),
	}
	if why.who != "" {
		fields = append(fields, zap.String("who", why.who))
	}

	g.refusals.add(fields...)

	header := w.Header()

	if why.code == connect.CodeUnauthenticated {
		header.Set("WWW-Authenticate", `Bearer realm="omni-syncd"`)
	}

	if why.wait > 0 {
		header.Set("Retry-After", strconv.Itoa(int(seconds(why.wait)/time.Second)))
	}

	// Who is not known keeps no connection: those are bounded, and others need them. HTTP/2
	// ends it when its other requests are done.
	header.Set("Connection", "close")

	if r.ContentLength != 0 {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(refusedBody)) // at best: nothing is read by us
	}

	// To the writer every GET is one of Connect, also that of a browser.
	rpc := g.errors.IsSupported(r) && (r.Method != http.MethodGet || strings.Contains(r.URL.RawQuery, "connect="))
	if !rpc {
		http.Error(w, why.err.Error(), why.status)

		return
	}

	_ = g.errors.Write(w, r, connect.NewError(why.code, why.err)) // who does not read it misses it
}

// seconds rounds up to what a Retry-After can say.
func seconds(wait time.Duration) time.Duration {
	return time.Duration(math.Ceil(wait.Seconds())) * time.Second
}
