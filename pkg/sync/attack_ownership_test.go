package sync_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// labels returns the manifest of a machine's labels.
func labels(machine string, labels ...string) *fstest.MapFile {
	return text("metadata: {namespace: default, type: MachineLabels.omni.sidero.dev, id: %s, labels: {%s}}\n", machine, strings.Join(labels, ", "))
}

// fleetPatch returns the manifest of a ConfigPatch, with a cluster label if one is given.
func fleetPatch(id, cluster, value string) *fstest.MapFile {
	label := ""
	if cluster != "" {
		label = "labels: {omni.sidero.dev/cluster: " + cluster + "}, "
	}

	return text("metadata: {namespace: default, type: ConfigPatches.omni.sidero.dev, %sid: %s}\nspec:\n  data: |\n    machine: {env: {X: %q}}\n", label, id, value)
}

// G4: drift of a fleet resource is put right also when it has to do with a cluster. It was told for that cluster alone, and
// what a destroyed cluster took along did not come back.
func TestG4_FleetDriftInsideCluster(t *testing.T) {
	for name, files := range map[string]fstest.MapFS{
		"labels of a machine": {"l.yaml": labels(machine(1), "rack: r1")},
		"patch of a cluster":  {"p.yaml": fleetPatch("400-x", "a", "1")},
		"of one that is gone": {"p.yaml": fleetPatch("400-x", "gone", "1")},
	} {
		t.Run(name, func(t *testing.T) {
			o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
			d := daemon.Start(t, o, noRelist)
			files["a.yaml"] = cluster("a", "1.34.3", machine(1))
			applied(t, d, d.Feed(files))

			md := omnires.NewMachineLabels(machine(1)).Metadata()
			if files["p.yaml"] != nil {
				md = omnires.NewConfigPatch("400-x").Metadata()
			}

			if err := o.State().Destroy(t.Context(), md); err != nil {
				t.Fatal(err)
			}

			watchFor(t, o, md, "coming back", func(resource.Resource) bool { return true })
		})
	}
}

// G4: a label that leaves a fleet manifest leaves Omni.
func TestG4_FleetLabelRemoved(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)
	applied(t, d, d.Feed(fstest.MapFS{"l.yaml": labels(machine(1), "rack: r1", "gpu: yes"), "a.yaml": cluster("a", "1.34.3", machine(1))}))
	applied(t, d, d.Feed(fstest.MapFS{"l.yaml": labels(machine(1), "rack: r1"), "a.yaml": cluster("a", "1.34.3", machine(1))}))

	r, err := o.State().Get(t.Context(), omnires.NewMachineLabels(machine(1)).Metadata())
	if err != nil {
		t.Fatal(err)
	}

	expect(t, "labels", map[string]string{"rack": "r1"}, r.Metadata().Labels().Raw())
}

// G4: a patch moves from a cluster's template to a fleet manifest and back with its ID, and
// from one cluster to another.
func TestG4_PatchMovesBetweenClusterAndFleet(t *testing.T) {

	plain := func(name string, n int) *fstest.MapFile { return patched(name, machine(n)) }
	with := func(name string, n int) *fstest.MapFile { return patched(name, machine(n), [2]string{"400-x", "1"}) }

	steps := []struct {
		name  string
		files fstest.MapFS
	}{
		{"cluster", fstest.MapFS{"a.yaml": with("a", 1), "b.yaml": plain("b", 2), "x.yaml": class("x", "1")}},
		{"to the fleet", fstest.MapFS{"a.yaml": plain("a", 1), "b.yaml": plain("b", 2), "x.yaml": class("x", "1"), "p.yaml": fleetPatch("400-x", "a", "1")}},
		{"back", fstest.MapFS{"a.yaml": with("a", 1), "b.yaml": plain("b", 2), "x.yaml": class("x", "1")}},
		{"to the only fleet resource", fstest.MapFS{"a.yaml": plain("a", 1), "b.yaml": plain("b", 2), "p.yaml": fleetPatch("400-x", "a", "1")}},
		{"back again", fstest.MapFS{"a.yaml": with("a", 1), "b.yaml": plain("b", 2)}},
		{"to the other cluster", fstest.MapFS{"a.yaml": plain("a", 1), "b.yaml": with("b", 2)}},
	}

	o := daemon.StartOmni(t, embedded.Config{Step: time.Millisecond})
	d := daemon.Start(t, o, noRelist)

	for _, step := range steps {
		id := d.Feed(step.files)
		if !t.Run(step.name, func(t *testing.T) {
			applied(t, d, id)
			expect(t, "patches", []string{"400-x"}, slices.DeleteFunc(live(t, o, omnires.ConfigPatchType), func(id string) bool { return strings.HasPrefix(id, "000-") }))
		}) {
			return
		}
	}
}

// G4: the fleet's patch for one cluster becomes another cluster's own, once it is gone.
func TestG4_FleetPatchGoesToOtherCluster(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, noRelist)
	applied(t, d, d.Feed(fstest.MapFS{
		"a.yaml": patched("a", machine(1)), "b.yaml": patched("b", machine(2)), "x.yaml": class("x", "1"), "p.yaml": fleetPatch("400-x", "a", "1"),
	}))

	md := omnires.NewConfigPatch("400-x").Metadata()
	if err := o.State().AddFinalizer(t.Context(), md, "held"); err != nil {
		t.Fatal(err)
	}

	last := d.Feed(fstest.MapFS{"a.yaml": patched("a", machine(1)), "b.yaml": patched("b", machine(2), [2]string{"400-x", "1"}), "x.yaml": class("x", "1")})
	within(t, d, "both to wait", func(s sync.Status) bool {
		return strings.Contains(message(s, ""), "held by") && strings.Contains(message(s, "b"), "400-x")
	})

	if err := o.State().RemoveFinalizer(t.Context(), md, "held"); err != nil {
		t.Fatal(err)
	}

	applied(t, d, last)
}

// G4: a template that moves to another file changes nothing about its cluster.
func TestG4_TemplateRenamed(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)
	applied(t, d, d.Feed(fleet("1.34.3", "a", "b")))

	before := o.Calls()
	files := fleet("1.34.3", "b")
	files["sub/other.yaml"] = cluster("a", "1.34.3", machine('a'))
	status := applied(t, d, d.Feed(files))
	expect(t, "path", "sub/other.yaml", target(status, "a").Path)

	// At most the mark on the cluster that says where its template is.
	if calls := o.Calls().Since(before); calls.Total() > 1 || calls[embedded.VerbUpdate] != calls.Total() {
		t.Errorf("moving a file costs %v", calls)
	}

	before = o.Calls()

	// In both places at once nobody knows which is meant: nothing happens.
	files["a.yaml"] = cluster("a", "1.35.0", machine('a'))
	status = d.Apply(t, files)
	expect(t, "status", map[string]sync.SyncStatus{"a": sync.Unknown, "b": sync.Synced}, syncs(status))
	expect(t, "calls", embedded.Calls{}, o.Calls().Since(before))
}

// G11: two clusters that left in one revision need a confirmation, also when a person
// deletes one of them.
func TestG11_MaxDeleteStands(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)
	applied(t, d, d.Feed(fleet("1.34.3", "a", "b", "c")))
	d.Apply(t, fleet("1.34.3", "c"))

	if err := o.State().Destroy(t.Context(), omnires.NewCluster("a").Metadata()); err != nil {
		t.Fatal(err)
	}

	relabel(t, o, "b", "x", "1")
	within(t, d, "b to be looked at again", func(s sync.Status) bool {
		plan := target(s, "b").Plan

		return plan == nil || plan.Count(diff.Destroy) > 0 || slices.ContainsFunc(plan.Left, func(l diff.Left) bool {
			_, ok := l.Resource.Metadata().Labels().Get("x")

			return ok
		})
	})
	expect(t, "clusters", []string{"b", "c"}, live(t, o, omnires.ClusterType))
}

// G11: templates that vanish and come back at full speed delete nothing: what is judged is
// always one revision as a whole.
func TestG11_FlickeringTemplates(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})

	// Many other clusters make the look at what left Git slow.
	for i := range 1500 {
		if err := o.State().Create(t.Context(), omnires.NewCluster(fmt.Sprintf("other-%d", i))); err != nil {
			t.Fatal(err)
		}
	}

	for _, name := range []string{"a", "b"} {
		r := omnires.NewConfigPatch("500-" + name)
		r.Metadata().Labels().Set(omnires.LabelCluster, name)

		if err := o.State().Create(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}

	d := daemon.Start(t, o, nil)
	d.Apply(t, fleet("1.34.3", "a", "b", "c"))

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)

	go func() {
		for i := 0; ctx.Err() == nil; i++ {
			if _, err := o.State().UpdateWithConflicts(t.Context(), omnires.NewConfigPatch("500-"+string("ab"[i%2])).Metadata(), func(r resource.Resource) error {
				r.Metadata().Labels().Set("x", fmt.Sprint(i))

				return nil
			}); err != nil {
				done <- err

				return
			}
		}

		done <- nil
	}()

	for i := range 60 {
		if i%2 == 0 {
			d.Feed(fleet("1.34.3", "c"))
		} else {
			d.Feed(fleet("1.34.3", "a", "b", "c"))
		}
	}

	cancel()

	if err := <-done; err != nil {
		t.Fatal(err)
	}

	d.Apply(t, fleet("1.34.3", "a", "b", "c"))

	calls := o.Calls()
	if n := calls[embedded.VerbTeardown] + calls[embedded.VerbDestroy]; n != 0 {
		t.Errorf("%d deletions, although no revision allowed any", n)
	}
}

// G1: an older database without marks comes back: what Git describes is adopted again,
// what it does not is nobody's.
func TestG1_RestoreOfUnmarked(t *testing.T) {

	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})

	for _, name := range []string{"a", "z"} {
		c := omnires.NewCluster(name)
		c.TypedSpec().Value.TalosVersion, c.TypedSpec().Value.KubernetesVersion = "1.12.0", "1.34.3"

		if err := o.State().Create(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}

	backup, err := o.Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	d := daemon.Start(t, o, func(_ *sync.Config, s *omni.SnapshotConfig) { s.Relist = time.Second })
	applied(t, d, d.Feed(fleet("1.34.3", "a", "z")))
	applied(t, d, d.Feed(fleet("1.34.3", "a")))
	expect(t, "clusters", []string{"a"}, live(t, o, omnires.ClusterType))

	if err := o.Restore(t.Context(), backup); err != nil {
		t.Fatal(err)
	}

	within(t, d, "adoption", func(s sync.Status) bool { return s.Settled() && s.Synced() && adopted(t, o, "a") })
	applied(t, d, d.Feed(fleet("1.35.0", "a")))
	expect(t, "clusters", []string{"a", "z"}, live(t, o, omnires.ClusterType))
}

func adopted(t *testing.T, o *daemon.Omni, name string) bool {
	t.Helper()

	r, err := o.State().Get(t.Context(), omnires.NewCluster(name).Metadata())
	if err != nil {
		t.Fatal(err)
	}

	return diff.SourceOf(r) == daemon.Source
}

// G8, KernelArgs: they are adopted, released when they leave, and follow a machine.
func TestG1_KernelArgs(t *testing.T) {
	var writes writeLog

	o := daemon.StartOmni(t, embedded.Config{Step: time.Millisecond, OnWrite: writes.add})
	own := omnires.NewKernelArgs(machine(1))
	own.TypedSpec().Value.Args = []string{"quiet"}

	if err := o.State().Create(t.Context(), own); err != nil {
		t.Fatal(err)
	}

	// A second machine each, or nothing could leave a control plane.
	spare := func(cluster string) string { return machine(int(cluster[0])) }
	with := func(name string, n int, args string) *fstest.MapFile {
		return text("%s---\nkind: Machine\nname: %s\nkernelArgs: [%s]\n", cluster(name, "1.34.3", machine(n), spare(name)).Data, machine(n), args)
	}
	source := func() string {
		r, err := o.State().Get(t.Context(), own.Metadata())
		if err != nil {
			t.Fatal(err)
		}

		return diff.SourceOf(r)
	}

	d := daemon.Start(t, o, noRelist)
	applied(t, d, d.Feed(fstest.MapFS{"a.yaml": with("a", 1, "quiet"), "b.yaml": cluster("b", "1.34.3", machine(2), spare("b"))}))
	expect(t, "adopted", daemon.Source, source())

	applied(t, d, d.Feed(fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(1), spare("a")), "b.yaml": cluster("b", "1.34.3", machine(2), spare("b"))}))
	expect(t, "released", "", source())

	applied(t, d, d.Feed(fstest.MapFS{"a.yaml": with("a", 1, "nosmp"), "b.yaml": cluster("b", "1.34.3", machine(2), spare("b"))}))
	expect(t, "adopted again", daemon.Source, source())

	before := len(writes.all())

	// The machine and its arguments change the cluster, both ways at once.
	applied(t, d, d.Feed(fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(2), spare("a")), "b.yaml": with("b", 1, "nosmp")}))
	expect(t, "moved", daemon.Source, source())

	if n := count(writes.all()[before:], "Update "+machine(1)); n > 4 {
		t.Errorf("two clusters of one source fought over KernelArgs with %d updates", n)
	}

	applied(t, d, d.Feed(fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machine(2), spare("a"))}))
	expect(t, "left behind", "", source())

	if n := count(writes.all(), "Teardown "+machine(1)); n > 3 {
		t.Errorf("%d teardowns of the machine or its KernelArgs", n)
	}
}

// G1, G3: two daemons with overlapping clusters: one has them, the other says so and is
// silent.
func TestG1_TwoDaemonsOverlap(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	one := daemon.Start(t, o, nil)
	two := daemon.Start(t, o, func(cfg *sync.Config, _ *omni.SnapshotConfig) { cfg.Sources[0].Name = "two" })
	one.Feed(fleet("1.34.3", "a", "b", "c"))
	two.Feed(fleet("1.35.0", "b", "c", "d"))

	first := one.Until(t, func(s sync.Status) bool { return s.Settled() && len(s.Targets) == 3 })
	second := two.Until(t, func(s sync.Status) bool { return s.Settled() && len(s.Targets) == 3 })

	for _, name := range []string{"b", "c"} {
		got := []sync.SyncStatus{target(first, name).Sync, target(second, name).Sync}
		slices.Sort(got)
		expect(t, name, []sync.SyncStatus{sync.OutOfSync, sync.Synced}, got)
	}

	before := o.Calls()
	two.Apply(t, fleet("1.35.0", "b", "c", "d"))
	one.Apply(t, fleet("1.34.3", "a", "b", "c"))
	// What loses is asked for once more with each revision, from memory.
	expect(t, "calls", embedded.Calls{}, o.Calls().Since(before))
}

// G4: what Omni refuses for want of a machine class is accepted once somebody makes it.
func TestG4_ClassArrivesLater(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, noRelist)
	status := d.Apply(t, fstest.MapFS{"a.yaml": ofClass("a", "x")})
	expect(t, "refused", map[string]sync.SyncStatus{"a": sync.OutOfSync}, syncs(status))

	c := omnires.NewMachineClass("x")
	c.TypedSpec().Value.MatchLabels = []string{"size = 1"}

	if err := o.State().Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}

	applied(t, d, "test@1")
}
