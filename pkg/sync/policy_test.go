package sync_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/google/go-cmp/cmp"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// annotated returns the template of a cluster with annotations.
func annotated(name, kubernetes string, annotations ...string) *fstest.MapFile {
	file := cluster(name, kubernetes, machine(int(name[0])))
	file.Data = []byte(strings.Replace(string(file.Data), "kubernetes:",
		fmt.Sprintf("annotations: {%s}\nkubernetes:", strings.Join(annotations, ", ")), 1))

	return file
}

func one(file *fstest.MapFile) fstest.MapFS {
	return fstest.MapFS{"a.yaml": file, "z.yaml": cluster("z", "1.34.3", machine('z'))}
}

// A policy in a template holds for its cluster, and what it holds back is shown.
func TestPolicies(t *testing.T) {
	for _, test := range []struct {
		name      string
		revisions []fstest.MapFS
		change    func(*sync.Config)
		message   string // of a, after the last revision
		want      string // Kubernetes version of a in Omni, "" if a is gone
	}{
		{"suspended", []fstest.MapFS{one(annotated("a", "1.34.3")), one(annotated("a", "1.35.0", `omni-syncd/suspend: "true"`))}, nil, "the cluster is suspended (", "1.34.3"},
		{"not suspended any more", []fstest.MapFS{
			one(annotated("a", "1.34.3")), one(annotated("a", "1.35.0", `omni-syncd/suspend: "true"`)), one(annotated("a", "1.35.0", `omni-syncd/suspend: "false"`)),
		}, nil, "", "1.35.0"},
		{"suspended source", []fstest.MapFS{one(annotated("a", "1.34.3"))}, func(c *sync.Config) { c.Sources[0].Policy.Suspended = true }, "the cluster is suspended (", ""},
		// G13: annotations of a template once switched off what the configuration said.
		{"a template cannot resume what the source suspends", []fstest.MapFS{one(annotated("a", "1.34.3", `omni-syncd/suspend: "false"`))},
			func(c *sync.Config) { c.Sources[0].Policy.Suspended = true }, "the cluster is suspended (", ""},
		{"a template cannot make it automatic", []fstest.MapFS{one(annotated("a", "1.34.3", `omni-syncd/sync: auto`))},
			func(c *sync.Config) { c.Sources[0].Policy.Manual = true }, "on request only", ""},
		{"a template cannot take the protection off", []fstest.MapFS{one(annotated("a", "1.34.3", "omni-syncd/deletion: allowed")), {"z.yaml": cluster("z", "1.34.3", machine('z'))}},
			func(c *sync.Config) { c.Sources[0].Policy.Protected = true }, "it is protected", "1.34.3"},
		{"a cluster that the source may not have", []fstest.MapFS{one(annotated("a", "1.34.3"))}, func(c *sync.Config) { c.Sources[0].Allow.Clusters = []string{"z*"} }, "may not have a cluster", ""},
		{"manual", []fstest.MapFS{one(annotated("a", "1.34.3", "omni-syncd/sync: manual"))}, nil, "on request only", ""},
		{"manual, requested", []fstest.MapFS{one(annotated("a", "1.34.3", "omni-syncd/sync: manual"))}, func(c *sync.Config) { c.Requested = true }, "", "1.34.3"},
		{"a typo", []fstest.MapFS{one(annotated("a", "1.34.3", "omni-syncd/sync: manul"))}, nil, `"manul" is unknown; use "manual" or "auto"`, ""},
		{"protected", []fstest.MapFS{one(annotated("a", "1.34.3", "omni-syncd/deletion: protected")), {"z.yaml": cluster("z", "1.34.3", machine('z'))}}, nil, "it is protected", "1.34.3"},
		{"protection taken back first", []fstest.MapFS{
			one(annotated("a", "1.34.3", "omni-syncd/deletion: protected")), one(annotated("a", "1.34.3")), {"z.yaml": cluster("z", "1.34.3", machine('z'))},
		}, nil, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
			d := daemon.Start(t, o, func(c *sync.Config, _ *omni.SnapshotConfig) {
				if test.change != nil {
					test.change(c)
				}
			})

			var status sync.Status
			for _, files := range test.revisions {
				status = d.Apply(t, files)
			}

			if got := message(status, "a"); !strings.Contains(got, test.message) || test.message == "" && got != "" {
				t.Errorf("message %q, want %q", got, test.message)
			}

			got := ""
			for _, id := range live(t, o, omnires.ClusterType) {
				if id == "a" {
					got = kubernetes(t, o, "a")
				}
			}

			expect(t, "Kubernetes of a", test.want, got)
		})
	}
}

// G11: what waits for a confirmation goes on when exactly that is confirmed, also over a restart.
func TestG11_Confirmation(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	first := daemon.Start(t, o, nil)
	first.Apply(t, fleet("1.34.3", "a", "b", "c"))
	status := first.Apply(t, fleet("1.34.3", "c"))

	for _, name := range []string{"a", "b"} {
		if got := message(status, name); !strings.Contains(got, "2 clusters left Git within 1h, maxDelete allows 1; `omni-syncd confirm "+name+"` to delete it") {
			t.Errorf("%s: %s", name, got)
		}
	}

	confirm(t, first, "a")
	within(t, first, "a to go", func(s sync.Status) bool { return s.Settled() && len(s.Targets) == 2 })
	first.Stop(t)

	// What was kept stays so, although it would be the only one now.
	second := daemon.Start(t, o, nil)
	status = second.Apply(t, fleet("1.34.3", "c"))
	expect(t, "clusters", []string{"b", "c"}, live(t, o, omnires.ClusterType))
	expect(t, "kept", true, strings.Contains(message(status, "b"), "omni-syncd confirm b"))

	// Once it was back the confirmation means nothing.
	confirm(t, second, "b")
	within(t, second, "b to go", func(s sync.Status) bool { return s.Settled() && len(s.Targets) == 1 })
	expect(t, "clusters", []string{"c"}, live(t, o, omnires.ClusterType))
}

// G11: a confirmation is used up: what was confirmed, came back and left again needs another one.
func TestG11_ConfirmationIsUsedUp(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, func(c *sync.Config, _ *omni.SnapshotConfig) { c.Sources[0].Policy.Protected = true })
	d.Apply(t, fleet("1.34.3", "a", "b", "c"))
	d.Apply(t, fleet("1.34.3", "c"))

	for _, name := range []string{"a", "b"} {
		confirm(t, d, name) // and protected: they stay
	}

	status := d.Apply(t, fleet("1.34.3", "a", "b", "c"))
	expect(t, "back", synced("a", "b", "c"), syncs(status))
	d.Stop(t)

	d = daemon.Start(t, o, nil)
	d.Apply(t, fleet("1.34.3", "c"))
	expect(t, "clusters", []string{"a", "b", "c"}, live(t, o, omnires.ClusterType))
}

func confirm(t *testing.T, d *daemon.Daemon, name string) {
	t.Helper()

	if _, err := d.Confirm(t.Context(), daemon.Source, name, "tester"); err != nil {
		t.Fatal(err)
	}
}

// G11: the guard knew listed machines only, and a control plane of a machine class shrank from 3 to 1
// unasked. The confirmation covers that step and no other.
func TestG11_QuorumOfAClass(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	sized := func(n int) fstest.MapFS {
		return fstest.MapFS{"x.yaml": class("x", "1"), "a.yaml": text("%s", strings.ReplaceAll(string(ofClass("a", "x").Data), "size: 1", fmt.Sprintf("size: %d", n)))}
	}

	first := daemon.Start(t, o, nil)
	applied(t, first, first.Feed(sized(4)))

	status := first.Apply(t, sized(2))
	if !strings.Contains(message(status, "a"), "2 of 4 control plane machines would leave at once") {
		t.Fatalf("not refused: %s", message(status, "a"))
	}

	confirm(t, first, "a")
	first.Stop(t)

	second := daemon.Start(t, o, nil)
	applied(t, second, second.Feed(sized(2)))
	applied(t, second, second.Feed(sized(5)))

	if status = second.Apply(t, sized(2)); !strings.Contains(message(status, "a"), "3 of 5") {
		t.Fatalf("another step, and nobody was asked: %s", message(status, "a"))
	}

	confirm(t, second, "a")
	within(t, second, "the step", func(s sync.Status) bool { return s.Settled() && s.Synced() })
}

// G11: most of a control plane does not leave at once, unless that is confirmed.
func TestG11_Quorum(t *testing.T) {
	for _, test := range []struct {
		before, after []int
		refused       bool
	}{
		{[]int{1, 2, 3}, []int{1, 2}, false},
		{[]int{1, 2, 3}, []int{1}, true},
		{[]int{1, 2, 3}, []int{4}, true},
		{[]int{1, 2, 3}, []int{1, 4, 5}, false},
		{[]int{1, 2, 3, 4, 5}, []int{1, 2, 3}, false},
		{[]int{1, 2, 3, 4, 5}, []int{1, 2}, true},
		{[]int{1, 2}, []int{1}, false},
		{[]int{1}, []int{2}, false},
		{[]int{1, 2}, []int{3}, true},
	} {
		t.Run(fmt.Sprint(test.before, test.after), func(t *testing.T) {
			o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
			d := daemon.Start(t, o, nil)
			d.Apply(t, fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machines(test.before)...)})

			status := d.Apply(t, fstest.MapFS{"a.yaml": cluster("a", "1.34.3", machines(test.after)...)})
			if got := strings.Contains(message(status, "a"), "quorum"); got != test.refused {
				t.Fatalf("refused %v, want %v: %s", got, test.refused, message(status, "a"))
			}

			if !test.refused {
				expect(t, "machines", machines(test.after), live(t, o, omnires.MachineSetNodeType))

				return
			}

			expect(t, "machines", machines(test.before), live(t, o, omnires.MachineSetNodeType))
			confirm(t, d, "a")
			within(t, d, "the confirmed change", func(s sync.Status) bool { return s.Settled() && s.Synced() })
			expect(t, "machines", machines(test.after), live(t, o, omnires.MachineSetNodeType))
			expect(t, "confirmations left", "", annotation(t, o, "a", diff.MarkConfirmed))
		})
	}
}

func machines(numbers []int) []string {
	var ids []string
	for _, n := range numbers {
		ids = append(ids, machine(n))
	}

	return ids
}

// G1: a cluster goes from one source to another, and nothing in it is destroyed or made anew.
func TestG1_Handover(t *testing.T) {
	var writes writeLog

	o := daemon.StartOmni(t, embedded.Config{NoControllers: true, OnWrite: writes.add})
	giver := daemon.Start(t, o, nil)
	taker := daemon.Start(t, o, func(c *sync.Config, _ *omni.SnapshotConfig) { c.Sources[0].Name = "taker" })

	// The giver lets go, then the taker adopts.
	giver.Apply(t, one(annotated("a", "1.34.3", "omni-syncd/handover: taker")))
	giver.Apply(t, fstest.MapFS{"z.yaml": annotated("z", "1.34.3", "omni-syncd/handover: taker")})
	taker.Apply(t, fstest.MapFS{"a.yaml": annotated("a", "1.34.3")})
	expect(t, "clusters", []string{"a", "z"}, live(t, o, omnires.ClusterType))

	// The taker takes from a giver that still describes it and says so, and that then keeps its hands off.
	taker.Feed(fstest.MapFS{"a.yaml": annotated("a", "1.34.3"), "z.yaml": annotated("z", "1.34.3")})
	within(t, taker, "the taking", func(s sync.Status) bool { return cmp.Equal(syncs(s), synced("a", "z")) }) // its snapshot may lag behind the giver

	status := giver.Until(t, func(s sync.Status) bool { return strings.Contains(message(s, "z"), "managed by the source taker") })
	expect(t, "giver", sync.OutOfSync, syncs(status)["z"])
	giver.Apply(t, fstest.MapFS{"y.yaml": cluster("y", "1.34.3", machine('y'))})
	expect(t, "clusters", []string{"a", "y", "z"}, live(t, o, omnires.ClusterType))

	for _, w := range writes.all() {
		if strings.HasPrefix(w, "Teardown") || strings.HasPrefix(w, "Destroy") {
			t.Errorf("%s: a hand-over destroys nothing", w)
		}
	}
}

// G1, G5: the teardown of a cluster is refused if the cluster changed on the way: it carries the version that was decided on.
func TestG1_TeardownCarriesTheVersion(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)
	d.Apply(t, fleet("1.34.3", "a", "b"))

	hit, release := hold(t, o, embedded.Match{Verb: embedded.VerbTeardown, Type: omnires.ClusterType})

	d.Feed(fleet("1.34.3", "b"))
	await(t, "the teardown", hit)
	edit(t, o, omnires.NewCluster("a").Metadata(), func(r resource.Resource) {
		r.Metadata().Annotations().Set(diff.MarkSource, "other")
	})
	release()

	within(t, d, "a to be somebody else's", func(s sync.Status) bool { return s.Settled() && len(s.Targets) == 1 })
	expect(t, "clusters", []string{"a", "b"}, live(t, o, omnires.ClusterType))
}

// G1: a teardown carries no version, so Omni is asked once more: what changed hands while
// the watch said nothing is left alone.
func TestG1_DestroyAsksOmniFirst(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, noRelist)
	d.Apply(t, fstest.MapFS{"a.yaml": patched("a", machine(1), [2]string{"400-x", "1"})})

	o.Faults().SilenceWatches(embedded.Match{})
	edit(t, o, omnires.NewConfigPatch("400-x").Metadata(), func(r resource.Resource) {
		r.Metadata().Annotations().Set(diff.MarkSource, "other")
	})

	before := o.Calls()
	d.Feed(fstest.MapFS{"a.yaml": patched("a", machine(1))})
	within(t, d, "the refusal", func(s sync.Status) bool { return strings.Contains(message(s, "a"), "changed hands") })

	if n := o.Calls().Since(before)[embedded.VerbTeardown]; n != 0 {
		t.Errorf("%d teardowns of what another source has taken over", n)
	}
}
