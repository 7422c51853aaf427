package sync_test

import (
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/safe"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/system"
	"google.golang.org/grpc/codes"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// With `omni.newer: plan` nothing is written to an Omni that is newer than what was tested, from the moment that it is
// known, and everything goes on when another one takes its place.
func TestNewerOmniIsPlannedOnly(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true, Version: "v1.99.0"})
	d := daemon.Start(t, o, func(c *sync.Config, _ *omni.SnapshotConfig) { c.PlanNewer = true })

	last := d.Feed(fleet("1.34.3", "a"))
	status := within(t, d, "waiting", func(s sync.Status) bool { return s.Settled() && len(s.Targets) == 1 })

	want := "Omni is v1.99.0, and this omni-syncd was tested with " + omni.Tested() + ": nothing is written (`omni.newer: plan`)"
	if got := target(status, "a"); !strings.HasPrefix(got.Message, want) || !strings.Contains(got.Message, "; pending: ") || got.Cause != sync.CauseUntested {
		t.Errorf("%+v", got)
	}

	expect(t, "server", omni.Server("v1.99.0"), status.Server)
	expect(t, "clusters", []string(nil), live(t, o, omnires.ClusterType))

	version(t, o, embedded.Version)
	applied(t, d, last)
	expect(t, "clusters", []string{"a"}, live(t, o, omnires.ClusterType))

	version(t, o, "v1.11.0")
	within(t, d, "an upgrade", func(s sync.Status) bool { return s.Server == "v1.11.0" })
	d.Feed(fleet("1.34.3", "a", "b"))
	within(t, d, "waiting again", func(s sync.Status) bool {
		return s.Settled() && len(s.Targets) == 2 && target(s, "b").Cause == sync.CauseUntested
	})
	expect(t, "clusters", []string{"a"}, live(t, o, omnires.ClusterType))
}

// version makes an Omni say that it is another one, as after an upgrade.
func version(t *testing.T, o *daemon.Omni, version string) {
	t.Helper()

	_, err := safe.StateUpdateWithConflicts(t.Context(), o.Server.State(), system.NewSysVersion(system.SysVersionID).Metadata(), func(r *system.SysVersion) error {
		r.TypedSpec().Value.BackendVersion = version

		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A confirmation that met a change of somebody else's ended with "context canceled", and was not written.
func TestConfirmMeetsAChange(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, func(c *sync.Config, _ *omni.SnapshotConfig) { c.Sources[0].MaxDelete = 0 })
	d.Apply(t, fleet("1.34.3", "a", "b"))
	d.Apply(t, fleet("1.34.3", "b"))

	o.Faults().Add(embedded.Fault{Match: embedded.Match{Verb: embedded.VerbUpdate, Type: omnires.ClusterType}, Times: 2, Code: codes.FailedPrecondition})
	confirm(t, d, "a")
	within(t, d, "a to go", func(s sync.Status) bool { return s.Settled() && len(s.Targets) == 1 })
	expect(t, "clusters", []string{"b"}, live(t, o, omnires.ClusterType))
}
