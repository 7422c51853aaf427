package sync

import (
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	omnisnapshot "github.com/omni-syncd/omni-syncd/pkg/omni"
)

// Survey says how the clusters are that carry the mark of a source, whoever runs that, and
// counts the others. Nothing is compared with Git: Sync is Unknown. The snapshot has to hold
// [Kinds].
func Survey(snapshot *omnisnapshot.Snapshot) (marked []TargetStatus, others int) {
	judge := &Engine{Config: Config{Snapshot: snapshot}} // checkup reads the snapshot and nothing else
	seen := newBoard()

	for _, cluster := range snapshot.List(omni.ClusterType) {
		source, name := diff.SourceOf(cluster), cluster.Metadata().ID()
		if source == "" {
			others++

			continue
		}

		t := TargetStatus{Key: Key{source, name}, Sync: Unknown}

		seen.updateSource(source, func(*SourceStatus) {})
		seen.observe(t.Key, judge.checkup(name), defaultSettle)
		now := seen.get(t.Key)
		t.Health, t.HealthReason = now.Health, now.HealthReason

		if _, locked := cluster.Metadata().Annotations().Get(omni.ClusterLocked); locked {
			t.Message = "the cluster is locked in Omni"
		}

		marked = append(marked, t)
	}

	return marked, others
}
