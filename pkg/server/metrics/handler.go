package metrics

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// Bounds of a request (G12). A scrape of 20,000 clusters takes a fraction of a second; what
// is over these is a daemon that hangs or a client that plays.
const (
	maxScrapes    = 4
	maxProbes     = 16
	scrapeTimeout = 10 * time.Second
	probeTimeout  = 5 * time.Second
	// connTimeout bounds how long a client may take to send its request's body, of which
	// nothing is read, and to take the answer.
	connTimeout = 30 * time.Second
)

// HandlerConfig says what a handler tells of.
type HandlerConfig struct {
	Engine   Engine
	Snapshot Snapshot
	// Logger may be nil.
	Logger *zap.Logger
}

// Handler answers GET and HEAD at /metrics, /healthz and /readyz, and nothing else. What
// it tells is for everybody who can reach it: names of sources and clusters and how they
// are, nothing secret.
//
// /healthz is for who restarts the daemon: 200 as long as it works. Omni and Git may be
// down; a restart would not bring them back. It never waits for a lock.
//
// /readyz is for who sends requests or goes on with a rollout: 200 when Omni was read and
// every source has answered once, well or not. One broken source of many does not make
// the daemon unready, since all others are served; omni_syncd_source_up tells of it. On
// failure, and with ?verbose, it lists what was checked.
func (m *Metrics) Handler(cfg HandlerConfig) http.Handler {
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}

	readModel := prometheus.NewRegistry()
	readModel.MustRegister(&state{m, cfg.Engine, cfg.Snapshot})

	// The read model comes first: it says whose counters are to be forgotten.
	scrape := promhttp.HandlerFor(prometheus.Gatherers{readModel, m.registry}, promhttp.HandlerOpts{
		ErrorLog:            errorLog{cfg.Logger},
		ErrorHandling:       promhttp.ContinueOnError, // one metric that is wrong must not hide the others
		MaxRequestsInFlight: maxScrapes,
		Timeout:             scrapeTimeout,
		EnableOpenMetrics:   true,
	})

	mux := http.NewServeMux()
	mux.Handle("GET /metrics", scrape)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { healthz(w, cfg.Engine) })
	mux.Handle("GET /readyz", bounded(func(w http.ResponseWriter, r *http.Request) { readyz(w, r, &cfg) }))

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		deadline := time.Now().Add(connTimeout)
		control := http.NewResponseController(w)
		// A writer that has no deadlines is not a connection: a test's.
		_ = control.SetReadDeadline(deadline)
		_ = control.SetWriteDeadline(deadline)

		mux.ServeHTTP(w, r)
	})
}

// bounded ends a probe in time, also if the daemon hangs, and lets only some of them hang.
func bounded(probe http.HandlerFunc) http.Handler {
	free := make(chan struct{}, maxProbes)

	return http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case free <- struct{}{}:
			defer func() { <-free }()

			probe(w, r)
		default:
			http.Error(w, fmt.Sprintf("%d probes are being answered, try again later", maxProbes), http.StatusServiceUnavailable)
		}
	}), probeTimeout, "the daemon does not answer in time\n")
}

func healthz(w http.ResponseWriter, engine Engine) {
	if err := engine.Alive(); err != nil {
		http.Error(w, line(err.Error()), http.StatusServiceUnavailable)

		return
	}

	text(w, "ok\n")
}

// check is one thing that has to be right for the daemon to be ready.
type check struct {
	name string
	err  error
}

func readyz(w http.ResponseWriter, r *http.Request, cfg *HandlerConfig) {
	checks := []check{
		{"engine", cfg.Engine.Alive()},
		{"snapshot", cfg.Snapshot.Err()},
		{"sources", unfetched(cfg.Engine)},
	}

	var list strings.Builder

	failed := false

	for _, c := range checks {
		if c.err == nil {
			fmt.Fprintf(&list, "[+]%s ok\n", c.name)
		} else {
			failed = true
			fmt.Fprintf(&list, "[-]%s failed: %s\n", c.name, line(c.err.Error()))
		}
	}

	switch {
	case failed:
		http.Error(w, list.String()+"readyz check failed", http.StatusServiceUnavailable)
	case r.URL.Query().Has("verbose"):
		text(w, list.String()+"readyz check passed\n")
	default:
		text(w, "ok\n")
	}
}

// unfetched says which sources have not answered yet.
func unfetched(engine Engine) error {
	status, _ := engine.Status()

	var missing []string

	for i := range status.Sources {
		if !status.Sources[i].Fetched {
			missing = append(missing, status.Sources[i].Name)
		}
	}

	const most = 10 // names in one line

	switch n := len(missing); {
	case n == 0:
		return nil
	case n > most:
		return fmt.Errorf("not fetched yet: %s and %d more", strings.Join(missing[:most], ", "), n-most)
	default:
		return fmt.Errorf("not fetched yet: %s", strings.Join(missing, ", "))
	}
}

// maxReason is the most bytes of a reason in an answer.
const maxReason = 1000

// line makes a reason one line that is not too long.
func line(reason string) string {
	reason = strings.Join(strings.Fields(strings.ToValidUTF8(reason, "")), " ")
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "") + "…"
	}

	return reason
}

func text(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = io.WriteString(w, body) // who asked is gone
}

// errorLog tells of what cannot be collected.
type errorLog struct{ log *zap.Logger }

// Println implements promhttp.Logger.
func (l errorLog) Println(v ...any) { l.log.Warn("metrics: " + line(fmt.Sprint(v...))) }
