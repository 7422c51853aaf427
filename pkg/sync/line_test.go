package sync_test

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// restarted returns a daemon, and its Omni, that has found a cluster as its template says and written nothing.
func restarted(t *testing.T, files fs.FS, change func(*sync.Config, *omni.SnapshotConfig)) (*daemon.Omni, *daemon.Daemon, *writeLog) {
	t.Helper()

	var writes writeLog

	o := daemon.StartOmni(t, embedded.Config{NoControllers: true, OnWrite: writes.add})

	first := daemon.Start(t, o, nil)
	first.Apply(t, files)
	first.Stop(t)

	d := daemon.Start(t, o, change)
	d.Apply(t, files)

	return o, d, &writes
}

// G8, G1: Omni takes a patch for a cluster that is locked, and the watch that would tell of the lock is dead. So Omni is
// asked before the write, once, and what it says is known from then on.
func TestG8_SilentWatch(t *testing.T) {
	annotate := func(key, value string) func(resource.Resource) {
		return func(r resource.Resource) { r.Metadata().Annotations().Set(key, value) }
	}

	for name, test := range map[string]struct {
		change func(resource.Resource)
		want   string // in the message
	}{
		"locked":                  {annotate(omnires.ClusterLocked, ""), "locked in Omni"},
		"another source's":        {annotate(diff.MarkSource, "other"), "managed by the source other"},
		"a mark of a later time":  {annotate("omni-syncd/leaving", "x"), ""},
		"nothing that matters":    {annotate("note", "x"), ""},
		"nothing that is changed": {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			o, d, writes := restarted(t, fstest.MapFS{"a.yaml": patched("a", machine(1), [2]string{"400-x", "1"})}, noRelist)
			o.Faults().SilenceWatches(embedded.Match{Type: omnires.ClusterType})

			if test.change != nil {
				edit(t, o, omnires.NewCluster("a").Metadata(), test.change)
			}

			before, wrote := o.Calls(), len(writes.all())
			d.Feed(fstest.MapFS{"a.yaml": patched("a", machine(1), [2]string{"400-x", "2"}, [2]string{"400-y", "1"})})

			if test.want == "" {
				applied(t, d, "test@2")
			} else {
				within(t, d, "the refusal", func(s sync.Status) bool { return strings.Contains(message(s, "a"), test.want) })
				expect(t, "writes", []string{}, writes.all()[wrote:])
				expect(t, "looks", 1, o.Calls().Since(before)[embedded.VerbGet])
			}
		})
	}
}

// G8, G3: the writes of a phase share a look, and so do the phases of a moment. What does not change has none.
func TestG8_OneLook(t *testing.T) {
	o, d, _ := restarted(t, fstest.MapFS{"a.yaml": patched("a", machine(1), [2]string{"400-x", "1"})}, noRelist)

	var patches [][2]string
	for _, id := range strings.Split("abcdefghijklmnop", "") {
		patches = append(patches, [2]string{"400-" + id, "1"})
	}

	before := o.Calls()
	d.Apply(t, fstest.MapFS{"a.yaml": patched("a", machine(1), patches...)})

	calls := o.Calls().Since(before)
	if calls[embedded.VerbCreate] != len(patches) || calls[embedded.VerbGet] < 1 || calls[embedded.VerbGet] > 3 {
		t.Errorf("%v, want %d creates and a look, or one a second", calls, len(patches))
	}

	before = o.Calls()
	d.Apply(t, fstest.MapFS{"a.yaml": patched("a", machine(1), patches...), "README.md": text("x")})
	expect(t, "calls without a change", embedded.Calls{}, o.Calls().Since(before))
}

// G5: a cluster that is gone, or locked, is known as such when the write to itself is refused, although the watch is dead.
func TestG5_RefusedClusterIsRead(t *testing.T) {
	o, d, _ := restarted(t, fleet("1.34.3", "a"), noRelist)
	o.Faults().SilenceWatches(embedded.Match{Type: omnires.ClusterType})
	lock(t, o, "a")

	d.Feed(fleet("1.35.0", "a"))
	within(t, d, "the lock", func(s sync.Status) bool { return strings.Contains(message(s, "a"), "locked in Omni") })
}

// G2, G8: without Omni's answer nothing is written, and it is asked once for all writes of a pass.
func TestG8_NoAnswerNoWrite(t *testing.T) {
	o, d, writes := restarted(t, fstest.MapFS{"a.yaml": patched("a", machine(1))}, func(c *sync.Config, _ *omni.SnapshotConfig) { c.RetryMin = time.Hour })
	remove := o.Faults().Add(embedded.Fault{Match: embedded.Match{Verb: embedded.VerbGet}, Code: codes.Unavailable})
	before, wrote := o.Calls(), len(writes.all())

	d.Feed(fstest.MapFS{"a.yaml": patched("a", machine(1), [2]string{"400-x", "1"}, [2]string{"400-y", "1"})})
	within(t, d, "the failure", func(s sync.Status) bool { return strings.Contains(message(s, "a"), "read Cluster a") })
	expect(t, "writes", []string{}, writes.all()[wrote:])
	expect(t, "calls", embedded.Calls{embedded.VerbGet: 1}, o.Calls().Since(before))
	remove()
}

// G2: nothing is written while a watch is away for longer than a moment, although the snapshot is still shown, and
// everything that was held back is written when it is back.
func TestG2_WatchAway(t *testing.T) {
	o, d, writes := restarted(t, fstest.MapFS{"a.yaml": patched("a", machine(1))}, func(c *sync.Config, s *omni.SnapshotConfig) {
		c.RetryMin, s.Relist = time.Hour, time.Hour
	})
	remove := o.Faults().Add(embedded.Fault{Match: embedded.Match{Verb: embedded.VerbWatch, Type: omnires.MachineSetType}, Code: codes.Unavailable})
	o.Faults().DropWatches(embedded.Match{Type: omnires.MachineSetType})

	for d.Snapshot.Current() {
		time.Sleep(10 * time.Millisecond) // until the moment is over
	}

	wrote := len(writes.all())

	d.Feed(fstest.MapFS{"a.yaml": patched("a", machine(1), [2]string{"400-x", "1"})})

	status := within(t, d, "the wait", func(s sync.Status) bool { return strings.Contains(message(s, "a"), "after an interruption; pending: ") })
	expect(t, "writes", []string{}, writes.all()[wrote:])

	if !status.Ready || status.Settled() {
		t.Errorf("ready %v, settled %v", status.Ready, status.Settled())
	}

	remove()
	applied(t, d, "test@2")
	expect(t, "writes", 1, len(writes.all()[wrote:]))
}
