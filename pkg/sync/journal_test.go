package sync_test

import (
	"fmt"
	gosync "sync"
	"testing"
	"testing/fstest"

	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/history"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// recorded is a history in memory.
type recorded struct {
	mu      gosync.Mutex
	entries []history.Entry
}

// Add implements sync.Recorder.
func (r *recorded) Add(entry history.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.entries = append(r.entries, entry)
}

// lines returns what was recorded since the last call, a line each.
func (r *recorded) lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()

	var lines []string

	for _, e := range r.entries {
		line := fmt.Sprintf("%s %s %s %s (%s)", e.Revision, e.Cluster, e.Outcome, e.Error, e.Reason)
		for _, op := range e.Operations {
			line += fmt.Sprintf("; %s %s %s", op.Action, op.Resource, op.Change)
		}

		lines = append(lines, line)
	}

	r.entries = nil

	return lines
}

func startRecorded(t *testing.T) (*daemon.Omni, *daemon.Daemon, *recorded) {
	t.Helper()

	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	log := &recorded{}

	return o, daemon.Start(t, o, func(c *sync.Config, _ *omni.SnapshotConfig) { c.History = log }), log
}

// An entry is one operation on one target: from the first write until it is Synced.
func TestHistory(t *testing.T) {
	o, d, log := startRecorded(t)

	d.Apply(t, fleet("1.34.3", "a"))
	expect(t, "a creation", []string{
		"test@1 a Succeeded  (new revision); create Cluster a ; create MachineSet a-control-planes ; create MachineSetNode " + machine('a') + " ",
	}, log.lines())

	d.Apply(t, fleet("1.35.0", "a"))
	expect(t, "an upgrade", []string{"test@2 a Succeeded  (new revision); update Cluster a spec.kubernetesversion: 1.34.3 → 1.35.0"}, log.lines())

	edit(t, o, omnires.NewCluster("a").Metadata(), toKubernetes("1.34.3"))
	within(t, d, "the repair", func(s sync.Status) bool { return s.Settled() && s.Synced() && kubernetes(t, o, "a") == "1.35.0" })
	expect(t, "drift", []string{"test@2 a Succeeded  (drift in Omni); update Cluster a spec.kubernetesversion: 1.34.3 → 1.35.0"}, log.lines())

	d.Apply(t, fstest.MapFS{"a.yaml": cluster("a", "9.9.9", machine('a'))})

	if got := log.lines(); len(got) != 1 || got[0][:15] != "test@3 a Failed" {
		t.Errorf("a refusal: %q", got)
	}

	d.Apply(t, fleet("1.35.0", "a"))
	expect(t, "nothing to do", 0, len(log.lines()))
}

// What was written by halves is told as such: why, and how far it came.
func TestHistory_Halves(t *testing.T) {
	o, d, log := startRecorded(t)

	// A newer revision comes between two phases.
	hit, release := hold(t, o, embedded.Match{Verb: "Create", Type: omnires.ClusterType})

	d.Feed(fleet("1.34.3", "a"))
	await(t, "the first write", hit)

	id := d.Feed(fleet("1.35.0", "a"))

	within(t, d, "the newer revision", func(s sync.Status) bool { return s.Sources[0].Revision == id })
	release()
	within(t, d, "the sync", func(s sync.Status) bool { return s.Settled() && s.Synced() })
	expect(t, "superseded", []string{
		"test@1 a Superseded  (new revision); create Cluster a ",
		"test@2 a Succeeded  (new revision); create MachineSet a-control-planes ; create MachineSetNode " + machine('a') + " ; update Cluster a spec.kubernetesversion: 1.34.3 → 1.35.0",
	}, log.lines())

	// A stop comes while the second phase fails and is tried again.
	o.Faults().Add(unavailable(embedded.VerbCreate, omnires.MachineSetType))
	d.Feed(fleet("1.35.0", "a", "b"))
	within(t, d, "the failure", func(s sync.Status) bool { return target(s, "b").Operation == sync.Failed })
	d.Stop(t)
	expect(t, "a stop", []string{"test@3 b Interrupted  (new revision); create Cluster b "}, log.lines())
}
