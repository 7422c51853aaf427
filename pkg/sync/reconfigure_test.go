package sync_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/cosi-project/runtime/pkg/resource"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/pkg/template"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// G2: whoever takes a source out of the configuration, or renames it, loses no cluster.
func TestG2_SourceRemovedDeletesNothing(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)
	d.Apply(t, fleet("1.34.3", "a"))

	log := o.Calls()
	src := d.Sources[0]

	d.Reconfigure(nil)
	within(t, d, "the source is gone", func(s sync.Status) bool { return len(s.Sources) == 0 && len(s.Targets) == 0 })

	// Drift of what is nobody's any more is left alone; the next revision of another source
	// proves that the engine had the time to act.
	edit(t, o, omnires.NewCluster("a").Metadata(), toKubernetes("1.33.0"))

	renamed := src
	renamed.Name = "renamed"
	d.Reconfigure([]sync.SourceConfig{renamed})
	status := d.Apply(t, fleet("1.34.3", "b"))

	expect(t, "clusters", []string{"a", "b"}, live(t, o, omnires.ClusterType))
	expect(t, "targets", synced("b"), syncs(status))

	expect(t, "teardowns", 0, o.Calls().Since(log)[embedded.VerbTeardown])
}

// A policy that changes is applied to the revision in force, without a new look at Git.
func TestReconfigure_Policy(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)
	d.Apply(t, fleet("1.34.3", "a", "b"))

	src := d.Sources[0]
	suspended := src
	suspended.Policy.Suspended = true
	d.Reconfigure([]sync.SourceConfig{suspended})

	edit(t, o, omnires.NewCluster("a").Metadata(), toKubernetes("1.33.0"))
	within(t, d, "suspended", func(s sync.Status) bool { return target(s, "a").Sync == sync.OutOfSync && target(s, "a").Settled })

	d.Reconfigure([]sync.SourceConfig{src})
	within(t, d, "resumed", func(s sync.Status) bool { return s.Settled() && s.Synced() })
	expect(t, "version", "1.34.3", kubernetes(t, o, "a"))
}

// G8: what was planned under the old policy is not written under the new one.
func TestReconfigure_StopsAnApplyInTheMiddle(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)
	hit, release := hold(t, o, embedded.Match{Verb: "Create", Type: omnires.ClusterType})

	d.Feed(fleet("1.34.3", "a"))
	await(t, "the first write", hit)

	suspended := d.Sources[0]
	suspended.Policy.Suspended = true
	d.Reconfigure([]sync.SourceConfig{suspended})
	release()

	within(t, d, "suspended", func(s sync.Status) bool { return s.Settled() && s.Targets[0].Sync == sync.OutOfSync })
	expect(t, "machine sets", 0, len(live(t, o, omnires.MachineSetType)))
}

// A folder that moves in the repository together with `path` in the configuration is the
// same source: nothing is deleted and nothing is written but where the file is.
func TestReconfigure_Path(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)
	d.Apply(t, fleet("1.34.3", "a", "b", "c"))

	moved := d.Sources[0]
	moved.Scope = template.Scope{Root: "clusters"}
	d.Reconfigure([]sync.SourceConfig{moved})

	files := fstest.MapFS{}
	for name, file := range fleet("1.34.3", "a", "b", "c") {
		files["clusters/"+name] = file
	}

	expect(t, "after the move", synced("a", "b", "c"), syncs(d.Apply(t, files)))
	expect(t, "clusters", []string{"a", "b", "c"}, live(t, o, omnires.ClusterType))
}

// G6: a source that cannot even start is reported and stops nobody.
func TestG6_BrokenSource(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)

	d.Reconfigure(append(slices.Clone(d.Sources), sync.SourceConfig{Name: "unreachable", Source: brokenSource{}}))
	status := d.Apply(t, fleet("1.34.3", "a"))

	expect(t, "targets", synced("a"), syncs(status))
	within(t, d, "the report", func(s sync.Status) bool {
		return slices.ContainsFunc(s.Sources, func(s sync.SourceStatus) bool { return s.Name == "unreachable" && s.Error == errBroken.Error() })
	})
}

var errBroken = errors.New("the repository has no such branch")

type brokenSource struct{}

// Watch implements sync.Source.
func (brokenSource) Watch(context.Context, func(source.Revision, error)) error { return errBroken }

// toKubernetes returns an edit of a cluster's Kubernetes version.
func toKubernetes(version string) func(resource.Resource) {
	return func(r resource.Resource) { r.(*omnires.Cluster).TypedSpec().Value.KubernetesVersion = version } //nolint:forcetypeassert // it fails the test
}
