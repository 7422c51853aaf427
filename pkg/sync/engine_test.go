package sync_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// G3, G4: what did not change costs nothing, and what changed costs exactly that.
func TestG3_NoOpIsFree(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)

	expect(t, "first", synced("a", "b", "c"), syncs(d.Apply(t, fleet("1.34.3", "a", "b", "c"))))

	before := o.Calls()
	expect(t, "again", synced("a", "b", "c"), syncs(d.Apply(t, fleet("1.34.3", "a", "b", "c"))))
	expect(t, "calls of a revision without a change", embedded.Calls{}, o.Calls().Since(before))

	files := fleet("1.34.3", "a", "b", "c")
	files["b.yaml"] = cluster("b", "1.35.0", machine('b'))
	files["README.md"] = &fstest.MapFile{Data: []byte("not a template")}

	before = o.Calls()
	d.Apply(t, files)
	expect(t, "calls of one changed field", embedded.Calls{embedded.VerbUpdate: 1}, o.Calls().Since(before))
}

// G6: clusters that Omni refuses, templates that are broken and deletions that hang do
// not touch the others, and are tried again when they can succeed.
func TestG6_Isolation(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)

	files := fleet("1.34.3", "a")
	files["b.yaml"] = cluster("b", "9.9.9", machine('b'))
	files["c.yaml"] = cluster("c", "latest", machine('c'))

	status := d.Apply(t, files)
	expect(t, "status", map[string]sync.SyncStatus{"a": sync.Synced, "b": sync.OutOfSync, "c": sync.Unknown}, syncs(status))

	if got := message(status, "b"); !strings.HasPrefix(got, "b.yaml:2:7: Omni does not offer Kubernetes 9.9.9") {
		t.Errorf("message of b: %s", got)
	}

	// What was refused is not sent again while nothing changes.
	before := o.Calls()
	relabel(t, o, "a", "x", "1")
	d.Until(t, func(s sync.Status) bool { return s.Settled() && hasLabel(t, o, "a", "x") == false })

	if calls := o.Calls().Since(before); calls[embedded.VerbCreate] != 0 {
		t.Errorf("a refused cluster was sent again: %v", calls)
	}

	// Omni learns the version: b is accepted without a new revision.
	offer(t, o, "9.9.9")
	d.Until(t, func(s sync.Status) bool { return syncs(s)["b"] == sync.Synced })
}

// G2, G11: none of these ways in which templates can vanish deletes a cluster.
func TestG2_NothingVanishesByAccident(t *testing.T) {
	all := func() fstest.MapFS { return fleet("1.34.3", "a", "b") }

	for _, test := range []struct {
		name   string
		files  func() fstest.MapFS
		change func(*sync.SourceConfig)
		keep   string
	}{
		{"an empty revision", func() fstest.MapFS { return fstest.MapFS{} }, nil, "no templates at all"},
		{"only other files", func() fstest.MapFS { return fstest.MapFS{"x.yaml": {Data: []byte("replicas: 1")}} }, nil, "no templates at all"},
		{"a broken file beside", func() fstest.MapFS {
			files := fleet("1.34.3", "a")
			files["x.yaml"] = &fstest.MapFile{Data: []byte("kind: Cluster\nname: [")}

			return files
		}, nil, "not whole"},
		{"the template itself is broken", func() fstest.MapFS {
			files := all()
			files["b.yaml"] = cluster("b", "latest", machine('b'))

			return files
		}, nil, ""},
		{"the template is emptied", func() fstest.MapFS {
			files := fleet("1.34.3", "a")
			files["b.yaml"] = &fstest.MapFile{}

			return files
		}, nil, "b.yaml is still there, but does not describe it any more"},
		{"the template is saved in another encoding", func() fstest.MapFS {
			files := fleet("1.34.3", "a")
			files["b.yaml"] = &fstest.MapFile{Data: []byte("\xff\xfek\x00i\x00n\x00d\x00:\x00")}

			return files
		}, nil, ""},
		{"maxDelete is 0", func() fstest.MapFS { return fleet("1.34.3", "a") }, func(c *sync.SourceConfig) { c.MaxDelete = 0 }, "maxDelete allows 0"},
		{"the path is renamed", all, func(c *sync.SourceConfig) { c.Scope.Root = "elsewhere" }, "not whole"},
		{"prune is off", func() fstest.MapFS { return fleet("1.34.3", "a") }, func(c *sync.SourceConfig) { c.Prune = false }, "prune is off"},
		{"more than maxDelete at once", func() fstest.MapFS { return fleet("1.34.3", "z") }, nil, "2 clusters left Git within 1h, maxDelete allows 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := daemon.StartOmni(t, embedded.Config{NoControllers: true})

			first := daemon.Start(t, o, nil)
			expect(t, "at first", synced("a", "b"), syncs(first.Apply(t, all())))
			first.Stop(t)

			// A new process, so that nothing is remembered (G10).
			d := daemon.Start(t, o, func(cfg *sync.Config, _ *omni.SnapshotConfig) {
				if test.change != nil {
					test.change(&cfg.Sources[0])
				}
			})
			status := d.Apply(t, test.files())

			for _, name := range []string{"a", "b"} {
				if !slices.Contains(live(t, o, omnires.ClusterType), name) {
					t.Errorf("%s was deleted", name)
				}
			}

			if got := message(status, "b"); !strings.Contains(got, test.keep) {
				t.Errorf("message of b: %q, want %q\n%s", got, test.keep, daemon.Describe(status))
			}
		})
	}
}

// G2: a source that fails keeps what it said last, and drift is still put right.
func TestG2_FailedFetchKeepsLastRevision(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{})
	d := daemon.Start(t, o, nil)
	d.Apply(t, fleet("1.34.3", "a"))

	d.Fail(errors.New("the server is down"))
	status := d.Until(t, func(s sync.Status) bool { return s.Sources[0].Error != "" })
	expect(t, "revision in force", "test@1", status.Sources[0].Revision)

	if status.Synced() {
		t.Error("a source that fails must not count as synced")
	}

	relabel(t, o, "a", "x", "1")
	d.Until(t, func(s sync.Status) bool { return s.Settled() && !hasLabel(t, o, "a", "x") })
}

// G10: a daemon that starts finds what left Git while it was away.
func TestG10_RestartFindsRemovedClusters(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{})
	first := daemon.Start(t, o, nil)
	expect(t, "at first", synced("a", "b"), syncs(first.Apply(t, fleet("1.34.3", "a", "b"))))
	first.Stop(t)

	second := daemon.Start(t, o, nil)
	expect(t, "after the restart", synced("a"), syncs(second.Apply(t, fleet("1.34.3", "a"))))
	expect(t, "clusters", []string{"a"}, live(t, o, omnires.ClusterType))
	expect(t, "machines", []string{machine('a')}, live(t, o, omnires.MachineSetNodeType))
}

// A deletion that waits for a machine that is off never ends with a deadline, says whom
// it waits for, does not delay anybody, and ends by itself.
func TestG6_DeletionThatHangs(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{HealthyMachines: true})
	d := daemon.Start(t, o, nil)
	d.Apply(t, fleet("1.34.3", "a", "b"))
	d.Until(t, func(s sync.Status) bool { return healthOf(s, "b") == sync.Healthy })

	if err := o.SetMachinePower(t.Context(), machine('b'), false); err != nil {
		t.Fatal(err)
	}

	d.Feed(fleet("1.34.3", "a", "c"))

	status := d.Until(t, func(s sync.Status) bool {
		return syncs(s)["c"] == sync.Synced && strings.Contains(message(s, "b"), "held by")
	})
	if status.Settled() {
		t.Error("a teardown that is under way is not the end")
	}

	if err := o.SetMachinePower(t.Context(), machine('b'), true); err != nil {
		t.Fatal(err)
	}

	expect(t, "in the end", synced("a", "c"), syncs(d.Until(t, func(s sync.Status) bool { return s.Settled() && len(s.Targets) == 2 })))
}

func healthOf(s sync.Status, target string) sync.Health {
	for i := range s.Targets {
		if s.Targets[i].Target == target {
			return s.Targets[i].Health
		}
	}

	return ""
}

// restore puts the database back to a copy from before somebody else's cluster was made.
func restore(ctx context.Context, o *daemon.Omni) error {
	backup, err := o.Backup(ctx)
	if err != nil {
		return err
	}

	for i := range 20 {
		if err := o.State().Create(ctx, omnires.NewMachineClass(fmt.Sprintf("later-%d", i))); err != nil {
			return err
		}
	}

	return o.Restore(ctx, backup)
}

func teardown(ctx context.Context, st state.State, md *resource.Metadata) error {
	_, err := st.Teardown(ctx, md)

	return err
}

// running returns the machines that are in a cluster and not on their way out.
func running(t *testing.T, o *daemon.Omni) []string {
	t.Helper()

	list, err := o.State().List(t.Context(), resource.NewMetadata(resources.DefaultNamespace, omnires.MachineSetNodeType, "", resource.VersionUndefined))
	if err != nil {
		t.Fatal(err)
	}

	var ids []string

	for _, r := range list.Items {
		if r.Metadata().Phase() == resource.PhaseRunning {
			ids = append(ids, r.Metadata().ID())
		}
	}

	return ids
}

// G2: a broken manifest keeps the fleet resources as they are, and says where it is broken.
func TestG2_BrokenManifestKeepsFleet(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)

	const class = "metadata: {namespace: default, type: MachineClasses.omni.sidero.dev, id: %s}\nspec:\n  matchlabels: [size = %s]\n"

	files := fleet("1.34.3", "a")
	files["small.yaml"] = &fstest.MapFile{Data: fmt.Appendf(nil, class, "small", "small")}
	files["large.yaml"] = &fstest.MapFile{Data: fmt.Appendf(nil, class, "large", "large")}
	expect(t, "first", synced("", "a"), syncs(d.Apply(t, files)))

	files = fleet("1.34.3", "a", "b")
	files["small.yaml"] = &fstest.MapFile{Data: fmt.Appendf(nil, class+"  unknown: 1\n", "small", "small")}

	status := d.Apply(t, files)
	expect(t, "then", map[string]sync.SyncStatus{"": sync.Unknown, "a": sync.Synced, "b": sync.Synced}, syncs(status))
	expect(t, "classes", []string{"large", "small"}, live(t, o, omnires.MachineClassType))

	if got := message(status, ""); !strings.HasPrefix(got, "small.yaml:4:3: ") {
		t.Errorf("message: %s", got)
	}
}

// Health says in words what is missing, and that an upgrade is under way.
func TestHealth(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{Step: time.Millisecond, HealthyMachines: true})
	d := daemon.Start(t, o, nil)
	reason := func(s sync.Status, want string) bool {
		return len(s.Targets) == 1 && strings.Contains(s.Targets[0].HealthReason, want)
	}

	d.Feed(fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1), machine(2), machine(3))})
	d.Until(t, func(s sync.Status) bool { return healthOf(s, "a") == sync.Healthy && reason(s, "") })

	if err := o.SetMachinePower(t.Context(), machine(2), false); err != nil {
		t.Fatal(err)
	}

	d.Until(t, func(s sync.Status) bool {
		return healthOf(s, "a") == sync.Degraded && reason(s, "2 of 3 control plane machines ready: "+machine(2)+" is off")
	})

	if err := o.SetMachinePower(t.Context(), machine(2), true); err != nil {
		t.Fatal(err)
	}

	d.Until(t, func(s sync.Status) bool { return healthOf(s, "a") == sync.Healthy && s.Targets[0].HealthReason == "" })
}
