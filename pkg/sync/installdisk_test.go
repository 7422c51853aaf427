package sync_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/omni/installdisk"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// installed returns a cluster whose one machine says with `install` which disk it is installed on.
func installed(install string) fstest.MapFS {
	files := fleet("1.34.3", "a")
	if install != "" {
		files["a.yaml"].Data = append(files["a.yaml"].Data, fmt.Sprintf("---\nkind: Machine\nname: %s\ninstall: {%s}\n", machine('a'), install)...)
	}

	return files
}

// disk returns what Omni holds of the disk of the machine, and the source that it is of.
func disk(t *testing.T, o *daemon.Omni) string {
	t.Helper()

	r, err := safe.StateGetByID[*installdisk.Config](t.Context(), o.Server.State(), machine('a'))
	if state.IsNotFoundError(err) {
		return ""
	} else if err != nil {
		t.Fatal(err)
	}

	_, managed := r.Metadata().Annotations().Get(omnires.ResourceManagedByClusterTemplates)

	return fmt.Sprintf("%s%s by %q, managed %v", r.TypedSpec().Value.GetDisk(), r.TypedSpec().Value.GetDiskSelector(), diff.SourceOf(r), managed)
}

// From Omni 1.11 on the disk of a machine is a resource, which comes, changes and goes with the template, and stays with a machine
// that leaves.
func TestInstallDisk(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true, Version: "v1.11.0"})
	d := daemon.Start(t, o, nil)

	for _, step := range []struct{ install, want string }{
		{"disk: /dev/vda", `/dev/vda by "test", managed true`},
		{"diskSelector: disk.transport == 'nvme'", `disk.transport == 'nvme' by "test", managed true`},
		{"disk: /dev/vdb", `/dev/vdb by "test", managed true`},
		{"", ""},
		{"disk: /dev/vda", `/dev/vda by "test", managed true`},
	} {
		expect(t, step.install, synced("a"), syncs(d.Apply(t, installed(step.install))))
		expect(t, step.install, step.want, disk(t, o))
		expect(t, "patches", []string(nil), live(t, o, omnires.ConfigPatchType))
	}

	// Drift is put right.
	calls := o.Calls()
	watchDisk := installdisk.New(machine('a')).Metadata()

	if err := o.State().Destroy(t.Context(), watchDisk); err != nil {
		t.Fatal(err)
	}

	within(t, d, "drift", func(sync.Status) bool { return disk(t, o) == `/dev/vda by "test", managed true` })

	if n := o.Calls().Since(calls).Writes(); n > 2 {
		t.Errorf("%d writes for one drift", n)
	}

	files := installed("disk: /dev/vda")
	files["a.yaml"] = cluster("a", "1.34.3", machine(1))
	expect(t, "another machine", synced("a"), syncs(d.Apply(t, files)))
	expect(t, "machine that left", `/dev/vda by "", managed false`, disk(t, o))
}

// An older Omni gets the patch of upstream, and has no expression; it is never asked for the resource.
func TestInstallDisk_Before(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true, Version: "v1.10.4"})
	d := daemon.Start(t, o, nil)
	patch := []string{"000-cm-" + machine('a') + "-install-disk"}

	expect(t, "disk", synced("a"), syncs(d.Apply(t, installed("disk: /dev/vda"))))
	expect(t, "patches", patch, live(t, o, omnires.ConfigPatchType))

	status := d.Apply(t, installed("diskSelector: disk.transport == 'nvme'"))
	expect(t, "selector", map[string]sync.SyncStatus{"a": sync.OutOfSync}, syncs(status))
	expect(t, "patches", patch, live(t, o, omnires.ConfigPatchType))

	if got := message(status, "a"); !strings.Contains(got, "a.yaml:12:25: install.diskSelector needs Omni 1.11 or newer, and this one is v1.10.4") {
		t.Errorf("says %q", got)
	}
}

// TestInstallDisk_Upgrade: Omni 1.11 makes resources of the patches of before. They are taken over, nothing else is written, and the
// patches do not come back; while the new kind has not been read nothing is planned (G2).
func TestInstallDisk_Upgrade(t *testing.T) {
	for name, forget := range map[string]bool{"bookmarks kept": false, "bookmarks forgotten": true} {
		t.Run(name, func(t *testing.T) {
			o := daemon.StartOmni(t, embedded.Config{NoControllers: true, Version: "v1.10.4"})
			d := daemon.Start(t, o, nil)

			id := d.Feed(installed("disk: /dev/vda"))
			applied(t, d, id)

			held := make(chan struct{})
			o.Faults().Add(embedded.Fault{Match: embedded.Match{Verb: embedded.VerbWatch, Type: installdisk.Type}, Until: held})

			if err := o.Restart(t.Context(), embedded.RestartOptions{Version: "v1.11.0", ForgetBookmarks: forget}); err != nil {
				t.Fatal(err)
			}

			expect(t, "made by Omni", `/dev/vda by "", managed true`, disk(t, o))
			within(t, d, "the new version", func(s sync.Status) bool { return !s.Ready })
			expect(t, "while it is not read", `/dev/vda by "", managed true`, disk(t, o))

			before := o.Calls()
			close(held)
			within(t, d, "the takeover", func(s sync.Status) bool {
				return s.Settled() && s.Synced() && s.Server == "v1.11.0" && disk(t, o) == `/dev/vda by "test", managed true`
			})
			expect(t, "patches", []string(nil), live(t, o, omnires.ConfigPatchType))

			// The patch of before may be tried once, within the second that a view may be old: Omni refuses it.
			if n := o.Calls().Since(before).Writes(); n < 1 || n > 2 {
				t.Errorf("%d writes after the upgrade, want the one mark", n)
			}
		})
	}
}

// Between two commits there is no Omni that lacks the kind.
func TestInstallDisk_Between(t *testing.T) {
	const x, y = "diskSelector: disk.readonly", "diskSelector: disk.cdrom"

	for _, test := range []struct{ base, head, want string }{
		{x, x, ""}, {x, y, "1 to change"}, {x, "", "1 to destroy"}, {"", x, "1 to create"}, {"disk: /dev/vda", "disk: /dev/vda", ""}, {"disk: /dev/vda", x, "1 to create, 1 to destroy"},
	} {
		review, err := sync.Between(t.Context(), []sync.Step{{Source: sync.SourceConfig{Name: "test"}, Base: installed(test.base), Head: installed(test.head)}})
		if err != nil {
			t.Fatal(err)
		}

		if got := target(review.Status, "a").Plan; got.Summary() != test.want && (test.want != "" || !got.Empty()) {
			t.Errorf("%q to %q: %s, want %s", test.base, test.head, got.Summary(), test.want)
		}
	}
}

// A server whose version cannot be read is not known to have the kind, so that it is not watched and nothing is written of it.
func TestInstallDisk_UnknownVersion(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true, Version: "a1b2c3d-dirty"})
	status := daemon.Start(t, o, nil).Apply(t, installed("diskSelector: disk.readonly"))

	if got := message(status, "a"); !strings.Contains(got, "install.diskSelector needs Omni 1.11 or newer, and this one is a1b2c3d-dirty") {
		t.Errorf("says %q", got)
	}

	expect(t, "disk", "", disk(t, o))
}
