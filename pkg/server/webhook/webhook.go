package webhook

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// Provider is the kind of server that sends a hook.
type Provider string

// The providers. The package documentation says what each signs.
const (
	GitHub    Provider = "github"
	GitLab    Provider = "gitlab"
	Gitea     Provider = "gitea"     // also Forgejo and Gogs
	Bitbucket Provider = "bitbucket" // Cloud and Data Center
	Generic   Provider = "generic"
)

// Hook is what one source accepts.
type Hook struct {
	// Provider says how deliveries are signed and what they look like.
	Provider Provider
	// SecretFile holds the secret that the provider was given, in one line of at least
	// MinSecret bytes. A file of up to MaxSecrets lines holds several, each of which is good:
	// to rotate without losing a delivery, add the new one, change it at the provider,
	// remove the old one. The file is read for every delivery, so a change counts at once.
	SecretFile string
	// Ref is the full name of the ref that triggers, such as "refs/heads/main". A name that
	// ends in "/*" means all below: "refs/tags/*" for a source that follows a range of
	// versions. Empty means "refs/heads/*", for a source that follows the default branch,
	// whose name is not known here. (A look too many is cheap.)
	//
	// There is no filter by repository: the secret says who may trigger. With a hook of a
	// whole organisation, pushes to the same ref of its other repositories cause looks.
	Ref string
	// Poke asks for a look. It is called for every valid event, possibly many times at once,
	// and up to a few seconds after the last request. It must not block and must coalesce: two calls
	// before the look begins are one look.
	Poke func()
}

// Bounds that are not configurable.
const (
	MinSecret  = 16       // bytes of a secret: what is shorter can be guessed
	MaxSecrets = 4        // lines of a secret file
	maxSecret  = 4 << 10  // bytes of a secret file
	maxName    = 253      // bytes of a source's name
	maxRef     = 1 << 10  // bytes of a ref
	maxRefs    = 1000     // refs of one event that are compared; with more of them it triggers
	maxID      = 256      // bytes of an ID in a header
	maxSeen    = 1024     // deliveries remembered for each hook
	maxRemotes = 4096     // remote addresses remembered
	firstChunk = 64 << 10 // bytes of a body that are not taken from MaxMemory
)

// TimestampTolerance is how far a signed time may be from this machine's clock.
const TimestampTolerance = 5 * time.Minute

// Limits bound what senders can cost. The zero value of a field means its default.
type Limits struct {
	// MaxBody bounds the bytes of a body. Default 8 MiB. GitHub sends up to 25 MB, but only a
	// push that rewrites thousands of files in hundreds of commits comes near to 8.
	MaxBody int64
	// MaxMemory bounds the bytes of all bodies held at once, beside 64 KiB for each
	// of Concurrent. Memory is taken as bytes arrive, not as they are announced. Default 64 MiB,
	// and at least twice MaxBody (while a buffer grows there are two).
	MaxMemory int64
	// BodyTimeout bounds the time to read one body. Default 10s, which is also what
	// GitHub waits for an answer.
	BodyTimeout time.Duration
	// Concurrent bounds the bodies being read at once. Default 64.
	Concurrent int
	// ConcurrentPerRemote bounds the same for one remote address. Default 8.
	ConcurrentPerRemote int
	// FailureRate and FailureBurst bound the attempts of one remote address that fail before they
	// are known to be signed, or repeat one. Defaults: one per second, 20 at once.
	FailureRate  rate.Limit
	FailureBurst int
	// SourceRate and SourceBurst bound the signed deliveries of one source that are looked
	// into. What comes on top is answered with 202 and joined into one Poke when the rate allows the
	// next: nothing is lost, and no provider disables a hook that seems to fail (GitLab
	// does after a few 4xx). Defaults: one per second, 30 at once.
	SourceRate  rate.Limit
	SourceBurst int
	// ReplayWindow is how long a delivery is remembered. Default 1h.
	ReplayWindow time.Duration
	// LogRate bounds the log lines per second about what was refused. The next line
	// that is written counts those left out. Default 5.
	LogRate rate.Limit
}

// Config is what New needs.
type Config struct {
	// Hooks by name of the source.
	Hooks map[string]Hook
	// Remote says on whose budget a request goes. Nil means the address of the connection.
	// Behind a proxy that is the proxy for everybody, and somebody's failed attempts
	// would hold up everybody's deliveries: give a function that believes the proxy's header.
	// The result is used as it is, so it must not be what any client may choose.
	Remote func(*http.Request) string
	// Logger may be nil.
	Logger *zap.Logger
	// Limits may be zero.
	Limits Limits
}

// Handler answers POST /hooks/<source>. It is an http.Handler for that whole subtree and
// safe for concurrent use. The ResponseWriter that it is given must let http.ResponseController
// set a read deadline; otherwise nothing is read and the answer is 500.
type Handler struct {
	hooks  map[string]*hook
	limits Limits
	remote func(*http.Request) string
	log    *journal

	remotes *remotes
	memory  atomic.Int64 // bytes of MaxMemory that are in use
}

// hook is a Hook at work.
type hook struct {
	Hook
	name   string
	scheme scheme
	budget *rate.Limiter
	seen   *memory
	joined atomic.Bool // a Poke is going to be made by a timer
}

// New checks the configuration, the secret files too. It starts nothing and there is
// nothing to close.
func New(cfg Config) (*Handler, error) {
	limits, err := cfg.Limits.withDefaults()
	if err != nil {
		return nil, err
	}

	h := &Handler{
		hooks:   make(map[string]*hook, len(cfg.Hooks)),
		limits:  limits,
		remote:  cfg.Remote,
		log:     newJournal(cfg.Logger, limits.LogRate),
		remotes: newRemotes(limits),
	}

	if h.remote == nil {
		h.remote = connection
	}

	for _, name := range slices.Sorted(maps.Keys(cfg.Hooks)) {
		if h.hooks[name], err = newHook(name, cfg.Hooks[name], limits); err != nil {
			return nil, fmt.Errorf("webhook of source %q: %w", clean(name), err)
		}
	}

	return h, nil
}

func newHook(name string, cfg Hook, limits Limits) (*hook, error) {
	if name == "" || len(name) > maxName || strings.ContainsAny(name, "/\x00") {
		return nil, fmt.Errorf("the name must have 1 to %d bytes and no slash, because it is part of a URL", maxName)
	}

	scheme, known := schemes[cfg.Provider]
	if !known {
		return nil, fmt.Errorf("provider %q is unknown: use one of github, gitlab, gitea, bitbucket, generic", clean(string(cfg.Provider)))
	}

	if cfg.Ref == "" {
		cfg.Ref = "refs/heads/*"
	}

	prefix := strings.TrimSuffix(cfg.Ref, "/*")
	if !strings.HasPrefix(cfg.Ref, "refs/") || len(cfg.Ref) > maxRef || strings.ContainsAny(prefix, "* \\?[^~:") || strings.HasSuffix(prefix, "/") {
		return nil, fmt.Errorf("ref %q must be a full name such as refs/heads/main, or end in /* such as refs/tags/*", clean(cfg.Ref))
	}

	if cfg.Poke == nil {
		return nil, fmt.Errorf("the function Poke is missing")
	}

	if _, err := readSecrets(cfg.SecretFile, cfg.Provider); err != nil {
		return nil, err
	}

	return &hook{
		Hook:   cfg,
		name:   name,
		scheme: scheme,
		budget: rate.NewLimiter(limits.SourceRate, limits.SourceBurst),
		seen:   newMemory(maxSeen, limits.ReplayWindow),
	}, nil
}

// follows reports whether a change of ref is one of this hook.
func (k *hook) follows(ref string) bool {
	if folder, all := strings.CutSuffix(k.Ref, "*"); all {
		return strings.HasPrefix(ref, folder) && len(ref) > len(folder)
	}

	return ref == k.Ref
}

// join makes one Poke when the budget allows it, however often it is called until then.
func (k *hook) join(now time.Time) {
	if !k.joined.CompareAndSwap(false, true) {
		return
	}

	wait := k.budget.ReserveN(now, 1).DelayFrom(now)

	time.AfterFunc(wait, func() {
		k.joined.Store(false) // first: what comes during the Poke is news again
		k.Poke()
	})
}

func (l Limits) withDefaults() (Limits, error) {
	l.MaxBody = or(l.MaxBody, 8<<20)
	l.MaxMemory = or(l.MaxMemory, max(64<<20, 2*l.MaxBody))
	l.BodyTimeout = or(l.BodyTimeout, 10*time.Second)
	l.Concurrent = or(l.Concurrent, 64)
	l.ConcurrentPerRemote = or(l.ConcurrentPerRemote, 8)
	l.FailureRate = or(l.FailureRate, 1)
	l.FailureBurst = or(l.FailureBurst, 20)
	l.SourceRate = or(l.SourceRate, 1)
	l.SourceBurst = or(l.SourceBurst, 30)
	l.ReplayWindow = or(l.ReplayWindow, time.Hour)
	l.LogRate = or(l.LogRate, 5)

	for _, negative := range []bool{
		l.MaxBody < 0, l.BodyTimeout < 0, l.Concurrent < 0, l.ConcurrentPerRemote < 0, l.FailureRate < 0,
		l.FailureBurst < 0, l.SourceRate < 0, l.SourceBurst < 0, l.ReplayWindow < 0, l.LogRate < 0,
	} {
		if negative {
			return l, fmt.Errorf("webhook limits: none may be negative (leave one out for its default)")
		}
	}

	if l.MaxMemory < 2*l.MaxBody {
		return l, fmt.Errorf("webhook limits: memory for bodies (%d bytes) must be at least twice the largest body (%d bytes)", l.MaxMemory, l.MaxBody)
	}

	return l, nil
}

func or[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}

	return value
}

// connection names the remote end of the connection: an IPv4 address, or the /64 of an IPv6
// address, because whoever has one address of a /64 has all of them.
func connection(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}

	ip := net.ParseIP(host)
	if ip == nil || ip.To4() != nil {
		return host
	}

	return ip.Mask(net.CIDRMask(64, 128)).String() + "/64"
}
