package auth

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

const (
	// maxKept is how many addresses, and how many callers, have a budget at the same time. Who
	// has more addresses than that can make it forget one, and gains a burst by it.
	maxKept = 4096
	// logRate and logBurst bound the lines about refused requests.
	logRate, logBurst = 5, 20
)

// budgets are limiters by name.
type budgets struct {
	limit rate.Limit
	burst int
	known *bounded[string, *rate.Limiter]
}

func newBudgets(perSecond float64, burst int) *budgets {
	return &budgets{rate.Limit(perSecond), burst, newBounded[string, *rate.Limiter](maxKept)}
}

// take takes one from the budget of a name. If there is none left it returns how long that
// takes to change.
func (b *budgets) take(name string) (wait time.Duration) {
	limiter := b.known.getOrPut(name, func() *rate.Limiter { return rate.NewLimiter(b.limit, b.burst) })
	if limiter.Allow() {
		return 0
	}

	return b.until(limiter)
}

// wait returns how long a name has to wait for its budget, and takes nothing from it.
func (b *budgets) wait(name string) time.Duration {
	limiter, ok := b.known.get(name)
	if !ok || limiter.Tokens() >= 1 {
		return 0
	}

	return b.until(limiter)
}

func (b *budgets) until(limiter *rate.Limiter) time.Duration {
	return max(time.Duration((1-limiter.Tokens())/float64(b.limit)*float64(time.Second)), 1)
}

// remoteOf names the network that a request comes from: an IPv4 address, or the /64 of
// an IPv6 address, since whoever has one of those has all of them. Headers that proxies
// set do not count: everybody can.
func remoteOf(remoteAddr string) string {
	host, _, err := net.SplitHostPort(remoteAddr)
	if err != nil {
		host = remoteAddr
	}

	addr, err := netip.ParseAddr(host)
	if err != nil {
		return "unknown" // all of these share a budget
	}

	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return addr.String()
	}

	prefix, _ := addr.Prefix(64) // of an IPv6 address it is never wrong

	return prefix.String()
}

// refusals logs what was refused, at a bounded rate, so that a flood does not fill a disk. A
// line counts those that were left out before it.
type refusals struct {
	log     *zap.Logger
	limiter *rate.Limiter

	mu      sync.Mutex
	leftOut int
}

func newRefusals(log *zap.Logger) *refusals {
	return &refusals{log: log, limiter: rate.NewLimiter(logRate, logBurst)}
}

func (r *refusals) add(fields ...zap.Field) {
	r.mu.Lock()
	defer r.mu.Unlock()

	if !r.limiter.Allow() {
		r.leftOut++

		return
	}

	if r.leftOut > 0 {
		fields = append(fields, zap.Int("left_out_before", r.leftOut))
		r.leftOut = 0
	}

	r.log.Warn("a request was refused", fields...)
}
