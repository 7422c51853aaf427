package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/workqueue"
)

// queueMetrics tell of the engine's queue, in the words that every controller built with
// client-go uses. It implements workqueue.MetricsProvider for the one queue there is, so
// the name of the queue is no label.
type queueMetrics struct {
	adds, retries              prometheus.Counter
	depth, unfinished, longest prometheus.Gauge
	latency, work              prometheus.Histogram
}

// Queue is the provider for [sync.Config].QueueMetrics.
func (m *Metrics) Queue() workqueue.MetricsProvider { return &m.queue }

func (m *Metrics) newQueue() {
	m.queue = queueMetrics{
		adds:       m.counter("queue_adds_total", "Targets put into the queue, with one heartbeat every 5 s.").WithLabelValues(),
		retries:    m.counter("queue_retries_total", "Targets put into the queue for later: after a failure, or to look again.").WithLabelValues(),
		depth:      m.gauge("queue_depth", "Targets in the queue that no worker has taken yet.").WithLabelValues(),
		unfinished: m.gauge("queue_unfinished_work_seconds", "Sum of how long the passes under way have taken so far.").WithLabelValues(),
		longest:    m.gauge("queue_longest_running_processor_seconds", "How long the longest pass under way has taken so far.").WithLabelValues(),
		latency:    m.single("queue_latency_seconds", "Time that a target stayed in the queue before a worker took it."),
		work:       m.single("queue_work_duration_seconds", "Time that a worker spent with what it took from the queue."),
	}
}

// single makes a histogram without labels.
func (m *Metrics) single(name, help string) prometheus.Histogram {
	return register(m, prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: passBuckets}))
}

// The methods of workqueue.MetricsProvider.

func (q *queueMetrics) NewDepthMetric(string) workqueue.GaugeMetric            { return q.depth }
func (q *queueMetrics) NewAddsMetric(string) workqueue.CounterMetric           { return q.adds }
func (q *queueMetrics) NewLatencyMetric(string) workqueue.HistogramMetric      { return q.latency }
func (q *queueMetrics) NewWorkDurationMetric(string) workqueue.HistogramMetric { return q.work }
func (q *queueMetrics) NewRetriesMetric(string) workqueue.CounterMetric        { return q.retries }
func (q *queueMetrics) NewUnfinishedWorkSecondsMetric(string) workqueue.SettableGaugeMetric {
	return q.unfinished
}
func (q *queueMetrics) NewLongestRunningProcessorSecondsMetric(string) workqueue.SettableGaugeMetric {
	return q.longest
}
