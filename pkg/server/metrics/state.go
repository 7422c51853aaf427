package metrics

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// Engine is what the daemon's state is read from at each scrape; *[sync.Engine] is one.
type Engine interface {
	// Status is the read model.
	Status() (sync.Status, <-chan struct{})
	// Alive says why the engine does not work any more; nil if it does. It never blocks.
	Alive() error
	// Moved is when the engine last did something, if only a heartbeat; zero before it runs.
	Moved() time.Time
	// Leadership says whether the engine may write, and Part what it works on.
	Leadership() (sync.Leadership, <-chan struct{})
	Part() (shard sync.Shard, replicated bool)
}

// Snapshot is how fresh the live state is; *[omni.Snapshot] is one.
type Snapshot interface {
	Err() error
	Age() time.Duration
	Stats() []omni.KindStats
	Server() omni.Server
}

// state turns the read model into metrics when somebody scrapes.
type state struct {
	metrics  *Metrics
	engine   Engine
	snapshot Snapshot
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(namespace+"_"+name, help, labels, nil)
}

var (
	clusterInfo = desc("cluster_info",
		"One for each cluster, always 1. There is no label for the revision: it would begin a series for every cluster with each commit.",
		"source", "cluster", "sync", "health")
	clusterCount = desc("clusters", "Clusters by sync state and health, those without a series of their own included.", "sync", "health")
	omitted      = desc("clusters_omitted", "Clusters without a series in omni_syncd_cluster_info: those beyond 20,000, and those whose template has a name that cannot be a label.")
	fleetInfo    = desc("fleet_info", "One for each source with fleet resources, always 1.", "source", "sync")
	pending      = desc("pending_changes", "Sizes of the last plans, added up: changes that Omni still lacks, by action.", "source", "action")

	waiting = desc("waiting",
		"One for each cluster that something keeps from being Synced, always 1; without a cluster for the fleet resources of a source. "+
			"The reason is one of standby (another replica writes), locked, suspended, manual, confirmation (a deletion waits for one), kept (it left Git and stays), "+
			"leaving (it left Git, and is destroyed after a while), teardown, "+
			"elsewhere (another cluster has to let go of something), undone (somebody undoes it again and again), invalid (the template), "+
			"stalled (refused, or not ours), retry.",
		"source", "cluster", "reason")

	suspended = desc("suspended", "Clusters and fleet resources that are suspended by request, alone or with their source.", "source")

	sourceUp       = desc("source_up", "Whether the last look at the source succeeded; 0 before the first.", "source")
	sourcePolled   = desc("source_last_poll_timestamp_seconds", "When the source last answered well, in seconds since 1970. A watched directory has none.", "source")
	sourceProblems = desc("source_problems", "Problems in the files of the revision in force.", "source")

	omniInfo          = desc("omni_info", "The version of Omni, and whether this omni-syncd was tested with that release, always 1.", "version", "tested")
	snapshotReady     = desc("snapshot_ready", "Whether all of Omni was read and no watch has been down for long: without it nothing is applied.")
	snapshotAge       = desc("snapshot_age_seconds", "How long the watch that has been down the longest is down; 0 while what is known of Omni is current.")
	snapshotResources = desc("snapshot_resources", "Resources of Omni held in memory.", "type")
	watchFailures     = desc("snapshot_watch_failures_total", "Watches that broke or could not be begun.", "type")
	watchBootstraps   = desc("snapshot_bootstraps_total", "Times that all resources of a type were read anew.", "type")
	watchResumes      = desc("snapshot_resumes_total", "Times that a watch went on where it broke.", "type")

	engineMoved = desc("last_activity_timestamp_seconds", "When the reconcile loop last did something, if only its heartbeat every 5 s; see /healthz. In seconds since 1970.")

	leads     = desc("leader", "Whether this process may write, 0 or 1: of several replicas of a shard one may. Always 1 without leader election.")
	shardInfo = desc("shard_info", "Which part of the clusters this process works on, from 0, and into how many they are divided, always 1.", "shard", "shards")

	stateDescs = []*prometheus.Desc{
		leads, shardInfo,
		clusterInfo, clusterCount, omitted, fleetInfo, pending, waiting, suspended, sourceUp, sourcePolled, sourceProblems,
		omniInfo, snapshotReady, snapshotAge, snapshotResources, watchFailures, watchBootstraps, watchResumes, engineMoved,
	}
)

// Describe implements prometheus.Collector.
func (*state) Describe(out chan<- *prometheus.Desc) {
	for _, d := range stateDescs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (s *state) Collect(out chan<- prometheus.Metric) {
	status, _ := s.engine.Status()

	s.metrics.forget(names(status.Sources))
	collectSources(status.Sources, out)
	collectTargets(status.Targets, out)
	s.collectSnapshot(out)

	now, _ := s.engine.Leadership()
	out <- gauge(leads, number(now.Term != 0))

	part, _ := s.engine.Part()
	out <- gauge(shardInfo, 1, strconv.Itoa(part.Index), strconv.Itoa(max(part.Count, 1)))

	if moved := s.engine.Moved(); !moved.IsZero() {
		out <- gauge(engineMoved, seconds(moved))
	}
}

func collectSources(sources []sync.SourceStatus, out chan<- prometheus.Metric) {
	for i := range sources {
		src := &sources[i]

		out <- gauge(sourceUp, number(src.Fetched && src.Error == ""), src.Name)
		out <- gauge(sourceProblems, float64(len(src.Problems)), src.Name)

		if !src.LastPoll.IsZero() {
			out <- gauge(sourcePolled, seconds(src.LastPoll), src.Name)
		}
	}
}

// looks is how a cluster is, in the two words of Argo CD.
type looks struct {
	sync   sync.SyncStatus
	health sync.Health
}

// allLooks lists every pair, so that none is absent where an alert looks for it.
func allLooks() map[looks]int {
	count := map[looks]int{}

	for _, state := range []sync.SyncStatus{sync.Synced, sync.OutOfSync, sync.Unknown} {
		for _, health := range []sync.Health{sync.Healthy, sync.Progressing, sync.Degraded, sync.Missing, sync.HealthUnknown} {
			count[looks{state, health}] = 0
		}
	}

	return count
}

var actions = []diff.Action{diff.Create, diff.Adopt, diff.Update, diff.Release, diff.Destroy}

func collectTargets(targets []sync.TargetStatus, out chan<- prometheus.Metric) {
	count, shown, left := allLooks(), 0, 0
	planned, held := map[string]map[diff.Action]int{}, map[string]int{}

	for i := range targets {
		t := &targets[i]

		if planned[t.Source] == nil {
			planned[t.Source] = map[diff.Action]int{}
		}

		if t.Plan != nil {
			for i := range t.Plan.Changes {
				planned[t.Source][t.Plan.Changes[i].Action]++
			}
		}

		if t.Suspension != nil {
			held[t.Source]++
		}

		if t.Target == "" {
			out <- gauge(fleetInfo, 1, t.Source, string(t.Sync))
			collectCause(t, out)

			continue
		}

		count[looks{t.Sync, t.Health}]++

		// A template that is refused has a target, too, whatever it calls itself.
		if shown >= MaxClusters || !plain(t.Target) {
			left++

			continue
		}

		shown++
		out <- gauge(clusterInfo, 1, t.Source, t.Target, string(t.Sync), string(t.Health))
		collectCause(t, out)
	}

	for l, n := range count {
		out <- gauge(clusterCount, float64(n), string(l.sync), string(l.health))
	}

	for source, changes := range planned {
		for _, action := range actions {
			out <- gauge(pending, float64(changes[action]), source, string(action))
		}

		out <- gauge(suspended, float64(held[source]), source)
	}

	out <- gauge(omitted, float64(left))
}

// collectCause tells why a target is not Synced. A target has one series at most.
func collectCause(t *sync.TargetStatus, out chan<- prometheus.Metric) {
	if t.Sync != sync.Synced && t.Cause != "" {
		out <- gauge(waiting, 1, t.Source, t.Target, string(t.Cause))
	}
}

func (s *state) collectSnapshot(out chan<- prometheus.Metric) {
	if server := s.snapshot.Server(); server != "" {
		out <- gauge(omniInfo, 1, string(server), strconv.FormatBool(server.Untested() == "" && server.Outdated() == ""))
	}

	out <- gauge(snapshotReady, number(s.snapshot.Err() == nil))
	out <- gauge(snapshotAge, s.snapshot.Age().Seconds())

	for _, kind := range s.snapshot.Stats() {
		out <- gauge(snapshotResources, float64(kind.Resources), kind.Kind.Type)
		out <- counter(watchFailures, kind.Failures, kind.Kind.Type)
		out <- counter(watchBootstraps, kind.Bootstraps, kind.Kind.Type)
		out <- counter(watchResumes, kind.Resumes, kind.Kind.Type)
	}
}

func names(sources []sync.SourceStatus) map[string]bool {
	followed := make(map[string]bool, len(sources))
	for i := range sources {
		followed[sources[i].Name] = true
	}

	return followed
}

// gauge makes a value. It cannot fail: the labels are as many as the description's, and
// valid.
func gauge(d *prometheus.Desc, value float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

func counter(d *prometheus.Desc, value uint64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
}

func number(yes bool) float64 {
	if yes {
		return 1
	}

	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
