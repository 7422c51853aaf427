// Package metrics shows what the daemon does to Prometheus, and whether it lives and is
// ready to whoever looks after it.
//
//	source ──▶ template ──▶ render ──▶ diff ──▶ sync ──▶ omni
//	   │                                          │        │
//	   └── requests          read model, passes ──┴ writes ┴── RPCs ──▶ server: metrics
//
// It stands beside the flow and no stage of it knows Prometheus: each tells what happens
// through a hook in its own words ([sync.Meter], [source.GitConfig].Observe, a gRPC
// interceptor), and how things are is read from the read model when somebody scrapes.
//
// Every label has a bounded set of values (G12): sources and hosts are those of the
// configuration, clusters are shown up to a limit, and nothing that a repository, a request
// or a server says becomes a label as it is. docs/metrics.md lists all names; a test
// generates it.
package metrics

import (
	"runtime"
	gosync "sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// namespace begins every name of ours.
const namespace = "omni_syncd"

// Bounds of cardinality (G12).
const (
	// MaxClusters is how many clusters have a series each; how many more there are is
	// in omni_syncd_clusters_omitted, and omni_syncd_clusters counts all.
	MaxClusters = 20_000
	// maxHosts is how many Git servers are told apart; all others are one.
	maxHosts = 256
	// otherHost stands for the Git servers beyond maxHosts.
	otherHost = "other"
	// localHost stands for repositories on this machine.
	localHost = "local"
)

// Buckets, in seconds. They are few: each is a series for every source or method.
var (
	passBuckets    = []float64{.001, .01, .1, .5, 1, 5, 30, 120}
	requestBuckets = []float64{.005, .025, .1, .25, 1, 2.5, 10, 60}
)

// Metrics counts what happens. It implements [sync.Meter]; its other hooks are methods,
// too. All of them are safe for concurrent use and return at once.
type Metrics struct {
	registry *prometheus.Registry
	queue    queueMetrics

	passes *prometheus.HistogramVec // by source and result
	errors *prometheus.CounterVec   // by source and class
	writes *prometheus.CounterVec   // by source, action and result
	drift  *prometheus.CounterVec   // by source
	// sources are those that passes, errors, writes and drift have series of; see forget.
	sources gosync.Map

	gitRequests *prometheus.CounterVec   // by host, kind and result
	gitDuration *prometheus.HistogramVec // by host and kind
	hosts       hosts

	rpcs       *prometheus.CounterVec   // by method and code
	rpcLatency *prometheus.HistogramVec // by method
	rpcsOpen   *prometheus.GaugeVec     // by method

	calls       *prometheus.CounterVec   // by procedure and code
	callLatency *prometheus.HistogramVec // by procedure
	callsOpen   *prometheus.GaugeVec     // by procedure

	webhooks *prometheus.CounterVec // by code

	configGood, configRead prometheus.Gauge
}

// New returns metrics of a program of that version, with a registry of their own that
// also tells of the process and its Go runtime.
func New(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), hosts: hosts{known: map[string]bool{}}}

	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)

	m.gauge("build_info", "The version of omni-syncd, always 1.", "version", "goversion").
		WithLabelValues(label(version), runtime.Version()).Set(1)

	m.passes = m.histogram("reconcile_duration_seconds",
		"Time that a pass over a target (a cluster, or the fleet resources of a source) took, by how it ended: "+
			"success, requeue (a step was written, the next follows at once), wait, retry, stalled, unread (Omni cannot be read).",
		passBuckets, "source", "result")
	m.errors = m.counter("reconcile_errors_total",
		"Passes that did not end well, by what happens next: retry (again by itself), wait (something has to change or end first), stalled (until the next revision or change).",
		"source", "class")
	m.writes = m.counter("writes_total",
		"Changes sent to Omni, by action (create, adopt, update, release, destroy) and result (success, retry, stalled: refused).",
		"source", "action", "result")
	m.drift = m.counter("drift_writes_total",
		"Changes sent to Omni to put right what somebody else changed there since the target was Synced; they are in omni_syncd_writes_total, too.",
		"source")

	m.gitRequests = m.counter("git_requests_total",
		"Requests to Git servers: look (the list of refs), fetch (objects). Sources that share a repository share them.",
		"host", "kind", "result")
	m.gitDuration = m.histogram("git_request_duration_seconds",
		"Time that a request to a Git server took, until all of it was stored.", requestBuckets, "host", "kind")

	m.rpcs = m.counter("omni_requests_total", "Calls to Omni that ended, by gRPC method and code.", "method", "code")
	m.rpcLatency = m.histogram("omni_request_duration_seconds",
		"Time until Omni answered a call; for a stream, until its first message.", requestBuckets, "method")
	m.rpcsOpen = m.gauge("omni_requests_in_flight", "Calls to Omni under way; watches are among them.", "method")

	m.calls = m.counter("api_requests_total", "Calls of the daemon's API that ended, by procedure and code.", "procedure", "code")
	m.callLatency = m.histogram("api_request_duration_seconds",
		"Time that a call of the daemon's API took; streams are left out.", requestBuckets, "procedure")
	m.callsOpen = m.gauge("api_requests_in_flight", "Calls of the daemon's API under way; streams are among them.", "procedure")

	m.webhooks = m.counter("webhook_requests_total", "Requests to the webhook listener, by HTTP status.", "code")

	m.configGood = m.gauge("config_last_reload_successful",
		"Whether the configuration file is the one in force; 0 while it is ignored because it cannot be used.").WithLabelValues()
	m.configRead = m.gauge("config_last_reload_success_timestamp_seconds",
		"When the configuration in force was read, in seconds since 1970.").WithLabelValues()
	m.Configured(nil)

	m.newQueue()

	return m
}

// counter makes a counter and registers it.
func (m *Metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	return register(m, prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels))
}

// gauge makes a gauge and registers it.
func (m *Metrics) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return register(m, prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels))
}

// histogram makes a histogram and registers it.
func (m *Metrics) histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return register(m, prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels))
}

func register[C prometheus.Collector](m *Metrics, c C) C {
	m.registry.MustRegister(c)

	return c
}

// Reconciled implements [sync.Meter].
func (m *Metrics) Reconciled(key sync.Key, result sync.Result, took time.Duration) {
	m.sources.Store(key.Source, true)
	m.passes.WithLabelValues(key.Source, string(result)).Observe(took.Seconds())

	switch result {
	case sync.ResultRetry, sync.ResultWait, sync.ResultStalled:
		m.errors.WithLabelValues(key.Source, string(result)).Inc()
	case sync.ResultSuccess, sync.ResultRequeue, sync.ResultUnread:
	}
}

// Wrote implements [sync.Meter].
func (m *Metrics) Wrote(key sync.Key, action diff.Action, result sync.Result, drift bool) {
	if action == diff.Mark {
		return // to people marks are no difference
	}

	m.sources.Store(key.Source, true)
	m.writes.WithLabelValues(key.Source, string(action), string(result)).Inc()

	// A counter that begins with 1 shows no increase, so it is there before it is needed.
	corrections := m.drift.WithLabelValues(key.Source)
	if drift {
		corrections.Inc()
	}
}

// Configured tells what came of reading the configuration file: nil, or why it is ignored. The
// one that the program started with counts as read.
func (m *Metrics) Configured(err error) {
	if err != nil {
		m.configGood.Set(0)

		return
	}

	m.configGood.Set(1)
	m.configRead.SetToCurrentTime()
}

// forget drops the series of sources that are no longer followed, so that a configuration
// which changes for years does not grow the registry.
func (m *Metrics) forget(followed map[string]bool) {
	m.sources.Range(func(name, _ any) bool {
		if !followed[name.(string)] {
			m.sources.Delete(name)

			gone := prometheus.Labels{"source": name.(string)}
			m.passes.DeletePartialMatch(gone)
			m.errors.DeletePartialMatch(gone)
			m.writes.DeletePartialMatch(gone)
			m.drift.DeletePartialMatch(gone)
		}

		return true
	})
}

// Git is the hook for [source.GitConfig].Observe.
func (m *Metrics) Git(request source.Request) {
	host, result := m.hosts.label(request.Host), "success"
	if request.Failed {
		result = "failure"
	}

	m.gitRequests.WithLabelValues(host, string(request.Kind), result).Inc()
	m.gitDuration.WithLabelValues(host, string(request.Kind)).Observe(request.Took.Seconds())
}

// hosts bounds how many Git servers are told apart.
type hosts struct {
	mu    gosync.Mutex
	known map[string]bool
}

func (h *hosts) label(host string) string {
	if host == "" {
		return localHost
	}

	host = label(host)

	h.mu.Lock()
	defer h.mu.Unlock()

	switch {
	case h.known[host]:
		return host
	case len(h.known) >= maxHosts:
		return otherHost
	default:
		h.known[host] = true

		return host
	}
}
