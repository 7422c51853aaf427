package monitoring

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// series are what Prometheus scraped: values in promtool's notation, by name and labels.
type series map[string]string

// always is a value that stays.
func always(value int) string { return fmt.Sprintf("%d+0x%d", value, minutes) }

// then is a value that becomes another one after some minutes.
func then(before, after, first int) string {
	return fmt.Sprintf("%d+0x%d %d+0x%d", before, after-1, first, minutes)
}

// goes is a series that ends after some minutes, as a process does.
func goes(value, after int) string { return fmt.Sprintf("%d+0x%d stale", value, after-1) }

// comes is a series that begins after some minutes.
func comes(value, after int) string { return fmt.Sprintf("_x%d %d+0x%d", after, value, minutes) }

// minutes is how long every scene plays: longer than the longest `for`.
const minutes = 3*24*60 + 60

// replica is what one process that is well tells: of two clusters and their fleet resources.
func replica(instance string, leader, shard, shards int) series {
	at := fmt.Sprintf(`job="omni-syncd",namespace="omni",instance=%q`, instance)

	return series{
		"up{" + at + "}":                        always(1),
		"omni_syncd_build_info{" + at + "}":     always(1),
		"omni_syncd_leader{" + at + "}":         always(leader),
		"omni_syncd_snapshot_ready{" + at + "}": always(1),
		fmt.Sprintf(`omni_syncd_shard_info{%s,shard="%d",shards="%d"}`, at, shard, shards): always(1),
		"omni_syncd_last_activity_timestamp_seconds{" + at + "}":                           fmt.Sprintf("0+60x%d", minutes),
		"omni_syncd_config_last_reload_successful{" + at + "}":                             always(1),
		`omni_syncd_source_up{` + at + `,source="fleet"}`:                                  always(1),
		`omni_syncd_source_problems{` + at + `,source="fleet"}`:                            always(0),
		`omni_syncd_fleet_info{` + at + `,source="fleet",sync="Synced"}`:                   always(1),
		cluster(instance, "a", "Synced", "Healthy"):                                        always(1),
		cluster(instance, "b", "Synced", "Healthy"):                                        always(1),
		`omni_syncd_drift_writes_total{` + at + `,source="fleet"}`:                         always(0),
		`omni_syncd_queue_latency_seconds_bucket{` + at + `,le="1"}`:                       fmt.Sprintf("0+12x%d", minutes),
		`omni_syncd_queue_latency_seconds_bucket{` + at + `,le="5"}`:                       fmt.Sprintf("0+12x%d", minutes),
		`omni_syncd_queue_latency_seconds_bucket{` + at + `,le="30"}`:                      fmt.Sprintf("0+12x%d", minutes),
		`omni_syncd_queue_latency_seconds_bucket{` + at + `,le="+Inf"}`:                    fmt.Sprintf("0+12x%d", minutes),
	}
}

func cluster(instance, name, sync, health string) string {
	return fmt.Sprintf(`omni_syncd_cluster_info{job="omni-syncd",namespace="omni",instance=%q,source="fleet",cluster=%q,sync=%q,health=%q}`, instance, name, sync, health)
}

// metric names a series of a replica.
func metric(name, instance string, labels ...string) string {
	return name + "{" + strings.Join(append([]string{`job="omni-syncd"`, `namespace="omni"`, fmt.Sprintf("instance=%q", instance)}, labels...), ",") + "}"
}

// waiting names the series of what keeps a target from being Synced; a cluster "" is the
// fleet resources.
func waiting(instance, cluster, reason string) string {
	return metric("omni_syncd_waiting", instance, `source="fleet"`, fmt.Sprintf("cluster=%q", cluster), fmt.Sprintf("reason=%q", reason))
}

// with is what all of them tell; the later one wins, and a value of "" takes a series away.
func with(parts ...series) series {
	all := series{}
	for _, part := range parts {
		maps.Copy(all, part)
	}

	maps.DeleteFunc(all, func(_, values string) bool { return values == "" })

	return all
}

// without takes all series of a replica away after some minutes, and leaves `up` at 0 if
// Prometheus still wants to scrape it.
func without(r series, after int, known bool) series {
	gone := maps.Clone(r)

	for name, values := range gone {
		value, rest, _ := strings.Cut(values, "+")
		step, _, _ := strings.Cut(rest, "x")
		gone[name] = fmt.Sprintf("%s+%sx%d stale", value, step, after-1)

		if known && strings.HasPrefix(name, "up{") {
			gone[name] = then(1, after, 0)
		}
	}

	return gone
}

// scene is what happens, and which alerts fire at what time; none fires that is not named.
type scene struct {
	name   string
	series series
	firing map[time.Duration][]string
}

// alert is a firing alert with its labels, but for what all have.
func alert(name string, labels ...string) string {
	return fmt.Sprintf(`{alertname="OmniSyncd%s",%s}`, name, strings.Join(labels, ","))
}

const (
	job    = `job="omni-syncd",namespace="omni"`
	fleet  = job + `,source="fleet"`
	onA    = fleet + `,cluster="a"`
	alone  = "10.0.0.1:9090" // the only replica, or the leader
	second = "10.0.0.2:9090"
)

// pair are a leader and a standby.
func pair() series { return with(replica(alone, 1, 0, 1), replica(second, 0, 0, 1)) }

// sharded are four shards of one replica each.
func sharded() series {
	var all []series
	for i := range 4 {
		all = append(all, replica(fmt.Sprintf("10.0.0.%d:9090", i+1), 1, i, 4))
	}

	return with(all...)
}

// scenes are what the alerts were made for, and what must not wake anybody.
func scenes() []scene {
	at := func(n int) time.Duration { return time.Duration(n) * time.Minute }
	one := func() series { return replica(alone, 1, 0, 1) }

	// A change of a cluster that both replicas of a pair see.
	both := func(name, sync, health string, after int) series {
		change := series{}
		for _, instance := range []string{alone, second} {
			change[cluster(instance, name, "Synced", "Healthy")] = goes(1, after)
			change[cluster(instance, name, sync, health)] = comes(1, after)
		}

		return change
	}

	held := func(name, reason string, after int) series {
		return series{waiting(alone, name, reason): comes(1, after), waiting(second, name, reason): comes(1, after)}
	}

	never := map[time.Duration][]string{}
	for _, n := range []int{5, 20, 40, 65, 120} {
		never[at(n)] = nil
	}

	return []scene{
		{"one replica is well", one(), never},
		{"a leader and a standby are well", pair(), never},
		{"four shards are well", sharded(), never},
		{"two installations are well", with(one(), renamed(one(), "other"), renamed(one(), "third")), never},

		{"nothing is scraped at all", series{`up{job="node"}`: always(1)},
			map[time.Duration][]string{at(4): nil, at(6): {alert("Down")}}},
		{"the only replica is down", without(one(), 10, true),
			map[time.Duration][]string{at(14): nil, at(16): {alert("Down", job)}, at(60): {alert("Down", job)}}},
		{"the only replica is gone", without(one(), 10, false),
			map[time.Duration][]string{at(14): nil, at(16): {alert("Down")}}},
		{"one of two installations is down", with(one(), renamed(without(one(), 10, true), "other")),
			map[time.Duration][]string{at(14): nil, at(16): {alert("Down", `job="omni-syncd",namespace="other"`)}}},
		{"the standby is down", with(pair(), without(replica(second, 0, 0, 1), 10, true)),
			map[time.Duration][]string{at(24): nil, at(26): {alert("ReplicaDown", job, `instance="`+second+`"`)}}},
		{"a replica restarts", with(pair(), series{metric("up", second): "1+0x10 0 0 1+0x4500"}), never},

		{"the loop hangs", with(pair(), series{metric("omni_syncd_last_activity_timestamp_seconds", alone): fmt.Sprintf("0+60x10 600+0x%d", minutes)}),
			map[time.Duration][]string{at(12): nil, at(14): {alert("LoopHangs", job, `instance="`+alone+`"`)}}},

		{"the leader does not see Omni, nor do its clusters look well", with(pair(), both("a", "Unknown", "Unknown", 10), both("b", "Unknown", "Unknown", 10),
			series{metric("omni_syncd_snapshot_ready", alone): then(1, 10, 0)}),
			map[time.Duration][]string{at(14): nil, at(16): {alert("OmniUnseen", job, `instance="`+alone+`"`)}, at(90): {alert("OmniUnseen", job, `instance="`+alone+`"`)}}},
		{"a standby does not see Omni", with(pair(), series{metric("omni_syncd_snapshot_ready", second): then(1, 10, 0),
			cluster(second, "a", "Synced", "Healthy"): goes(1, 10), cluster(second, "a", "Unknown", "Unknown"): comes(1, 10)}), never},

		{"the queue is slow", with(one(), series{
			metric("omni_syncd_queue_latency_seconds_bucket", alone, `le="1"`): fmt.Sprintf("0+12x20 240+2x%d", minutes),
			metric("omni_syncd_queue_latency_seconds_bucket", alone, `le="5"`): fmt.Sprintf("0+12x20 240+4x%d", minutes),
		}), map[time.Duration][]string{at(20): nil, at(45): {alert("QueueSlow", job, `instance="`+alone+`"`)}}},

		{"the configuration is ignored", with(pair(), series{metric("omni_syncd_config_last_reload_successful", second): then(1, 10, 0)}),
			map[time.Duration][]string{at(14): nil, at(16): {alert("ConfigIgnored", job, `instance="`+second+`"`)}}},

		{"nobody holds the Lease", with(pair(), series{metric("omni_syncd_leader", alone): then(1, 10, 0)}),
			map[time.Duration][]string{at(12): nil, at(14): {alert("NoLeader", job, `shard="0",shards="1"`)}}},
		{"the Lease moves", with(pair(), series{metric("omni_syncd_leader", alone): then(1, 10, 0), metric("omni_syncd_leader", second): then(0, 12, 1)}), never},
		{"both replicas believe they lead", with(pair(), series{metric("omni_syncd_leader", second): then(0, 10, 1)}),
			map[time.Duration][]string{at(12): nil, at(14): {alert("SeveralLeaders", job, `shard="0",shards="1"`)}}},
		{"a shard has no leader", with(sharded(), series{metric("omni_syncd_leader", "10.0.0.3:9090"): then(1, 10, 0)}),
			map[time.Duration][]string{at(12): nil, at(14): {alert("NoLeader", job, `shard="2",shards="4"`)}}},
		{"a shard is down", with(sharded(), without(replica("10.0.0.4:9090", 1, 3, 4), 10, true)),
			map[time.Duration][]string{at(19): nil, at(21): {alert("ShardMissing", job, `shards="4"`)},
				at(26): {alert("ShardMissing", job, `shards="4"`), alert("ReplicaDown", job, `instance="10.0.0.4:9090"`)}}},
		{"a shard of a standby each is down to one replica", with(sharded(), replica("10.0.1.1:9090", 0, 3, 4), without(replica("10.0.0.4:9090", 0, 3, 4), 10, false),
			series{metric("omni_syncd_leader", "10.0.1.1:9090"): always(1)}), never},
		{"the shards disagree", with(sharded(), series{metric("omni_syncd_shard_info", "10.0.0.4:9090", `shard="3"`, `shards="4"`): "",
			metric("omni_syncd_shard_info", "10.0.0.4:9090", `shard="3"`, `shards="5"`): always(1)}),
			map[time.Duration][]string{at(9): nil, at(11): {alert("ShardMissing", job, `shards="5"`)}}},

		{"a source fails", with(pair(), series{metric("omni_syncd_source_up", alone, `source="fleet"`): then(1, 10, 0), metric("omni_syncd_source_up", second, `source="fleet"`): then(1, 10, 0)}),
			map[time.Duration][]string{at(24): nil, at(26): {alert("SourceFailing", fleet)}}},
		{"a source fails for a moment", with(pair(), series{metric("omni_syncd_source_up", alone, `source="fleet"`): "1+0x10 0+0x10 1+0x4500"}), never},
		{"files are broken", with(pair(), both("a", "Unknown", "Healthy", 10), held("a", "invalid", 10),
			series{metric("omni_syncd_source_problems", alone, `source="fleet"`): then(0, 10, 2), metric("omni_syncd_source_problems", second, `source="fleet"`): then(0, 10, 2)}),
			map[time.Duration][]string{at(24): nil, at(26): {alert("SourceProblems", fleet)}, at(90): {alert("SourceProblems", fleet)}}},

		{"a cluster is out of sync", with(pair(), both("a", "OutOfSync", "Healthy", 10)),
			map[time.Duration][]string{at(39): nil, at(41): {alert("NotSynced", onA)}}},
		{"a cluster fails again and again, in two states", with(pair(), both("a", "OutOfSync", "Healthy", 10), held("a", "retry", 10),
			series{cluster(alone, "a", "OutOfSync", "Healthy"): "_x10 1+0x14 stale", cluster(alone, "a", "Unknown", "Healthy"): comes(1, 25)}),
			map[time.Duration][]string{at(39): nil, at(41): {alert("NotSynced", onA)}}},
		{"fleet resources are out of sync", with(pair(), series{
			metric("omni_syncd_fleet_info", alone, `source="fleet"`, `sync="Synced"`): goes(1, 10), metric("omni_syncd_fleet_info", alone, `source="fleet"`, `sync="OutOfSync"`): comes(1, 10)}),
			map[time.Duration][]string{at(39): nil, at(41): {alert("NotSynced", fleet)}}},
		{"what left Git is kept", with(pair(), both("a", "OutOfSync", "Healthy", 10), held("a", "kept", 10)),
			map[time.Duration][]string{at(39): nil, at(41): {alert("NotSynced", onA)}}},
		{"a cluster is locked", with(pair(), both("a", "OutOfSync", "Healthy", 10), held("a", "locked", 10)), never},
		{"a cluster is synced on request", with(pair(), both("a", "OutOfSync", "Missing", 10), held("a", "manual", 10)), never},
		{"a cluster is suspended", with(pair(), both("a", "OutOfSync", "Healthy", 10), held("a", "suspended", 10)),
			map[time.Duration][]string{at(120): nil, at(3*24*60 + 9): nil, at(3*24*60 + 11): {alert("SuspendedLong", onA)}}},
		{"only the standby believes that a cluster is ill", with(pair(), series{
			cluster(second, "a", "Synced", "Healthy"): goes(1, 10), cluster(second, "a", "OutOfSync", "Degraded"): comes(1, 10), waiting(second, "a", "stalled"): comes(1, 10)}), never},

		{"Omni refuses a cluster", with(pair(), both("a", "OutOfSync", "Healthy", 10), held("a", "stalled", 10)),
			map[time.Duration][]string{at(14): nil, at(16): {alert("Stalled", onA)}, at(90): {alert("Stalled", onA)}}},
		{"Omni refuses fleet resources", with(pair(), held("", "stalled", 10), series{
			metric("omni_syncd_fleet_info", alone, `source="fleet"`, `sync="Synced"`): goes(1, 10), metric("omni_syncd_fleet_info", alone, `source="fleet"`, `sync="OutOfSync"`): comes(1, 10)}),
			map[time.Duration][]string{at(14): nil, at(16): {alert("Stalled", fleet)}, at(90): {alert("Stalled", fleet)}}},
		{"somebody undoes it every ten minutes", with(pair(), series{metric("omni_syncd_drift_writes_total", alone, `source="fleet"`): steps(10, 60)}),
			map[time.Duration][]string{at(60): nil, at(90): {alert("Undone", fleet)}, at(550): {alert("Undone", fleet)}, at(700): nil}},
		{"somebody does a lot by hand, once", with(pair(), series{metric("omni_syncd_drift_writes_total", alone, `source="fleet"`): then(0, 10, 40)}), never},
		{"a deletion waits for a confirmation", with(pair(), both("a", "OutOfSync", "Healthy", 10), held("a", "confirmation", 10)),
			map[time.Duration][]string{at(14): nil, at(16): {alert("ConfirmationNeeded", onA)}, at(90): {alert("ConfirmationNeeded", onA)}}},
		{"a cluster left Git, and is deleted after two hours", with(pair(), both("a", "OutOfSync", "Healthy", 10), held("a", "leaving", 10)),
			map[time.Duration][]string{at(10): nil, at(12): {alert("Leaving", onA)}, at(90): {alert("Leaving", onA)}}},
		{"a fleet resource left Git", with(pair(), held("", "leaving", 10)),
			map[time.Duration][]string{at(10): nil, at(12): {alert("Leaving", fleet)}}},
		{"a teardown hangs", with(pair(), both("a", "OutOfSync", "Progressing", 10), held("a", "teardown", 10)),
			map[time.Duration][]string{at(69): nil, at(71): {alert("TeardownSlow", onA)}}},
		{"a cluster is degraded", with(pair(), both("a", "Synced", "Degraded", 10)),
			map[time.Duration][]string{at(24): nil, at(26): {alert("Degraded", onA)}}},
		{"a cluster is degraded for a moment", with(pair(), series{cluster(alone, "a", "Synced", "Degraded"): "_x10 1+0x10 stale"}), never},
		{"a cluster of a shard is degraded", with(sharded(), series{cluster("10.0.0.3:9090", "a", "Synced", "Degraded"): comes(1, 10)}),
			map[time.Duration][]string{at(24): nil, at(26): {alert("Degraded", onA)}}},
	}
}

// steps grows by one every so many minutes, so many times.
func steps(every, times int) string {
	var s strings.Builder
	for i := range times {
		fmt.Fprintf(&s, "%d+0x%d ", i, every-1)
	}

	return s.String() + fmt.Sprintf("%d+0x%d", times, minutes)
}

// renamed are the same processes in another namespace.
func renamed(s series, namespace string) series {
	other := series{}
	for name, values := range s {
		other[strings.Replace(name, `namespace="omni"`, fmt.Sprintf("namespace=%q", namespace), 1)] = values
	}

	return other
}

// document writes scenes as a file of promtool.
func document(rules string, all []scene) string {
	var out strings.Builder

	fmt.Fprintf(&out, "rule_files: [%q]\nevaluation_interval: 1m\ntests:\n", rules)

	for _, s := range all {
		fmt.Fprintf(&out, "  - name: %q\n    interval: 1m\n    input_series:\n", s.name)

		for _, name := range slices.Sorted(maps.Keys(s.series)) {
			fmt.Fprintf(&out, "      - {series: '%s', values: '%s'}\n", name, s.series[name])
		}

		out.WriteString("    promql_expr_test:\n")

		for _, when := range slices.Sorted(maps.Keys(s.firing)) {
			fmt.Fprintf(&out, "      - expr: count without (severity, alertstate) (ALERTS{alertstate=\"firing\"})\n        eval_time: %s\n        exp_samples:\n", when)

			for _, a := range s.firing[when] {
				fmt.Fprintf(&out, "          - {labels: '%s', value: 1}\n", a)
			}
		}
	}

	return out.String()
}

// Every alert fires in some scene: one that nothing can set off is no alert.
func TestEveryAlertHasAScene(t *testing.T) {
	var fired strings.Builder
	for _, s := range scenes() {
		for _, alerts := range s.firing {
			fired.WriteString(strings.Join(alerts, " "))
		}
	}

	for _, rule := range rules(t) {
		if !strings.Contains(fired.String(), fmt.Sprintf("alertname=%q", rule.Alert)) {
			t.Errorf("%s fires in no scene", rule.Alert)
		}
	}
}
