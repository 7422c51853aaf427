package bench

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// link is the way between a client and an Omni: what is sent arrives half a round trip later,
// however much it is.
type link struct {
	address string
	bytes   atomic.Int64 // both ways
}

// newLink opens a way to an Omni that takes rtt there and back.
func newLink(tb testing.TB, target string, rtt time.Duration) *link {
	tb.Helper()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(tb, err)
	tb.Cleanup(func() { listener.Close() }) //nolint:errcheck // the test is over

	l := &link{address: listener.Addr().String()}

	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}

			far, err := net.Dial("tcp", target)
			if err != nil {
				near.Close() //nolint:errcheck // nothing was sent

				continue
			}

			go l.carry(near, far, rtt/2)
			go l.carry(far, near, rtt/2)
		}
	}()

	return l
}

// parcel is what was sent at once, and when it arrives.
type parcel struct {
	data []byte
	at   time.Time
}

func (l *link) carry(from, to net.Conn, delay time.Duration) {
	underWay := make(chan parcel, 1<<14)

	go func() {
		defer close(underWay)

		for {
			data := make([]byte, 32<<10)

			n, err := from.Read(data)
			if n > 0 {
				l.bytes.Add(int64(n))
				underWay <- parcel{data[:n], time.Now().Add(delay)}
			}

			if err != nil {
				return
			}
		}
	}()

	for p := range underWay {
		if wait := time.Until(p.at); wait > 0 {
			time.Sleep(wait)
		}

		if _, err := to.Write(p.data); err != nil {
			break
		}
	}

	to.Close()   //nolint:errcheck // one end is closed
	from.Close() //nolint:errcheck // likewise

	for range underWay { // lets the other goroutine end
	}
}

// far is an embedded Omni behind a link.
type far struct {
	*daemon.Omni
	*link
}

// startFar starts an Omni that is a round trip away; it ends with the test.
func startFar(tb testing.TB, rtt time.Duration, cfg embedded.Config) *far {
	tb.Helper()

	cfg.NoControllers = true
	o := daemon.StartOmni(tb, cfg)
	f := &far{Omni: o, link: newLink(tb, strings.TrimPrefix(o.Endpoint(), "http://"), rtt)}

	conn, err := omni.Dial(omni.ConnConfig{Endpoint: "http://" + f.address, ServiceAccountKey: o.ServiceAccountKey(embedded.AccountOperator)})
	check(tb, err)
	check(tb, conn.Check(tb.Context()))
	check(tb, o.Conn.Close())
	o.Conn = conn

	return f
}

// spent is what something took on the way to Omni, both ways.
type spent struct {
	RPCs  int   `json:"rpcs"`
	Bytes int64 `json:"bytes"`
}

// spend counts what fn takes.
func (f *far) spend(fn func()) spent {
	calls, bytes := f.Calls(), f.bytes.Load()

	fn()

	return spent{f.Calls().Since(calls).Total(), f.bytes.Load() - bytes}
}
