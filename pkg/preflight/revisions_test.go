package preflight_test

import (
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// row is a cluster in some revisions, of which Omni takes all but maybe the last.
type row struct {
	name    string
	classes []resource.Resource // made before the cluster
	machine string              // the Talos that the machine "m" runs; "" for one that does not exist
	before  []resource.Resource // nil for a new cluster
	between []resource.Resource // a revision more, if not nil
	locked  resource.Resource   // a machine that a person locks before the last revision
	after   []resource.Resource
	says    string            // a regular expression for the one finding; "" if Omni takes it
	about   resource.Resource // what the finding is about
	refuses resource.Resource // what Omni refuses, if that is not what the finding is about
	trap    bool              // Omni takes it and regrets it
}

// rows are asked of the package alone, of the embedded Omni and of a real one.
func rows(l lab) []row {
	cluster, workers := l.newCluster(), l.workers()
	base := list(cluster, l.controlPlane(), workers)
	large, small := l.class("large"), l.class("small")
	short := l.extension[len("siderolabs/"):]

	with := func(changed ...resource.Resource) []resource.Resource {
		all := append([]resource.Resource(nil), base...)

		for _, r := range changed {
			replaced := false

			for i := range all {
				if all[i].Metadata().Type() == r.Metadata().Type() && all[i].Metadata().ID() == r.Metadata().ID() {
					all[i], replaced = r, true
				}
			}

			if !replaced {
				all = append(all, r)
			}
		}

		return all
	}

	up := l.newCluster(versions(l.talosUp, l.kubernetes))

	all := []row{
		{name: "new", after: base},
		{name: "new with everything", classes: list(large), after: with(l.newCluster(encrypted, backups(time.Hour)), l.workers(l.ofClass("large")), l.extensions(l.extension))},
		{name: "machine that does not exist", after: with(l.machine("nobody"))},
		{name: "unknown Talos", after: with(l.newCluster(versions("1.0.99", l.kubernetes))), says: `^Omni does not offer Talos 1\.0\.99; it offers \d+\.\d+\.\d+, `, about: cluster},
		{name: "unknown Kubernetes", after: with(l.newCluster(versions(l.talos, "1.0.99"))), says: `^Omni does not offer Kubernetes 1\.0\.99 with Talos .*; it offers \d`, about: cluster},
		{name: "Kubernetes too new for its Talos", after: with(l.newCluster(versions(l.talos, l.kubernetesTwoUp))), says: "does not offer Kubernetes", about: cluster},
		{name: "frequent backups", after: with(l.newCluster(backups(time.Minute))), says: "interval from .* to .*, not 1m", about: cluster},
		{name: "rare backups", after: with(l.newCluster(backups(10000 * time.Hour))), says: "interval", about: cluster},

		{name: "nothing changed", before: base, after: base},
		{name: "Talos patch", before: base, after: with(l.newCluster(versions(l.talosPatch, l.kubernetes)))},
		{name: "both up", before: base, after: with(l.newCluster(versions(l.talosUp, l.kubernetesUp)))},
		{name: "Kubernetes up", before: base, after: with(l.newCluster(versions(l.talos, l.kubernetesUp)))},
		{name: "Talos below the first minor", before: base, after: with(l.newCluster(versions(l.talosDown, l.kubernetes))), says: "^Talos cannot go down to .*; it offers", about: cluster},
		{name: "Talos back to the minor it began with", before: base, between: with(up), after: with(l.newCluster(versions(l.talosPatch, l.kubernetes)))},
		{name: "unknown Talos in an update", before: base, after: with(l.newCluster(versions("1.0.99", l.kubernetes))), says: "does not offer Talos", about: cluster},
		{name: "Kubernetes down a minor", before: base, after: with(l.newCluster(versions(l.talos, l.kubernetesDown))), says: "^Kubernetes cannot go from", about: cluster},
		{name: "Kubernetes two up", before: base, after: with(l.newCluster(versions(l.talosUp, l.kubernetesTwoUp))), says: "^Kubernetes cannot go from", about: cluster},
		{name: "Kubernetes too new in an update", before: base, after: with(l.newCluster(versions(l.talos, l.kubernetesTwoUp))), says: "does not offer Kubernetes", about: cluster},
		{name: "encryption on", before: base, after: with(l.newCluster(encrypted)), says: "encryption", about: cluster},
		{name: "encryption off", before: with(l.newCluster(encrypted)), after: base, says: "encryption", about: cluster},
		{name: "encryption kept", before: with(l.newCluster(encrypted)), after: with(l.newCluster(encrypted, versions(l.talosPatch, l.kubernetes)))},
		{name: "frequent backups in an update", before: base, after: with(l.newCluster(backups(time.Minute))), says: "interval", about: cluster},

		{name: "no such class", classes: list(small), after: with(l.workers(l.ofClass("large"))), says: `machine class ".*-large" does not exist.* or use one of `, about: workers},
		{name: "another class", classes: list(large, small), before: with(l.workers(l.ofClass("large"))), after: with(l.workers(l.ofClass("small")))},
		{name: "another class that does not exist", classes: list(large), before: with(l.workers(l.ofClass("large"))), after: with(l.workers(l.ofClass("small"))), says: "does not exist", about: workers},
		{name: "from no machines to a class", classes: list(large), before: base, after: with(l.workers(l.ofClass("large")))},
		{name: "from no machines to a class that does not exist", before: base, after: with(l.workers(l.ofClass("large")))},
		{name: "from machines to a class", classes: list(large), before: with(l.machine("nobody")), after: with(l.workers(l.ofClass("large"))), says: `of its own \(1\)`, about: workers},
		{name: "from a class to nothing", classes: list(large), before: with(l.workers(l.ofClass("large"))), after: base, says: "could not delete", about: workers, trap: true},
		{name: "from a class to machines", classes: list(large), before: with(l.workers(l.ofClass("large"))), after: with(l.machine("nobody")), says: "cannot change to machines", about: workers, refuses: l.machine("nobody")}, // the machine comes before its set
		{name: "control plane from a class to nothing", classes: list(large), before: with(l.controlPlane(l.ofClass("large"))), after: base, says: "new cluster$", about: l.controlPlane(), trap: true},
		{name: "restored after the fact", before: base, after: with(l.controlPlane(restored)), says: "bootstrapSpec", about: l.controlPlane()},

		{name: "extension by its short name", after: with(l.extensions(short))},
		{name: "unknown extension", after: with(l.extensions(l.extension, "siderolabs/none")), says: "has no extension siderolabs/none;", about: l.extensions()},
		{name: "extension twice", after: with(l.extensions(l.extension, short)), says: "twice", about: l.extensions()},
		{name: "unknown extension in an update", before: with(l.extensions(l.extension)), after: with(l.extensions("siderolabs/none")), says: "has no extension", about: l.extensions()},
		{name: "extensions with another Talos", before: with(l.extensions(l.extension)), after: with(up, l.extensions(l.extension))},

		{name: "machine of the same Talos", machine: l.talos, after: with(l.machine("m"))},
		{name: "machine of an older Talos", machine: l.talosDown, after: with(l.machine("m"))},
		{name: "machine of a newer Talos", machine: l.talosUp, after: with(l.machine("m")), says: `runs Talos .*, newer than the [\d.]+ of the cluster; .* boot it with \d+\.\d+$`, about: l.machine("m")},
		{name: "machine of a newer Talos joins", machine: l.talosUp, before: base, after: with(l.machine("m")), says: "newer", about: l.machine("m")},
		{name: "machine of a newer Talos joins together with its upgrade", machine: l.talosUp, before: base, after: with(up, l.machine("m")), says: "later revision", about: l.machine("m")},
	}

	// F6: a machine that is locked in Omni was found out when all else of a change was in force.
	pool := l.set(l.cluster+"-pool", omni.LabelWorkerRole, nil)
	moved := omni.NewMachineSetNode(l.machine("nobody").Metadata().ID(), pool)
	member := l.machine("nobody")
	gitLocked := l.machine("nobody")
	gitLocked.Metadata().Annotations().Set(omni.MachineLocked, "")

	all = append(all,
		row{name: "locked machine leaves", before: with(member), locked: member, after: base, says: `^machine .*-nobody is locked in Omni.*cannot leave .*-workers; unlock it in Omni, or put it back`, about: workers, refuses: member},
		row{name: "locked machine stays", before: with(member), locked: member, after: with(member)},
		row{name: "locked machine moves to another set", before: with(pool, member), locked: member, after: with(pool, moved), says: `cannot move from .*-workers to .*-pool; unlock`, about: moved},
		row{name: "locked machine leaves with its set", before: with(member), locked: member, after: list(cluster, l.controlPlane())},
		row{name: "machine that is not locked leaves", before: with(member), after: base},
		row{name: "machine that Git locked leaves", before: with(gitLocked), after: base},
	)

	if l.talosDeprecated != "" {
		all = append(all, row{
			name: "deprecated Talos", after: with(l.newCluster(versions(l.talosDeprecated, l.kubernetes))),
			says: "is deprecated", about: cluster,
		})
	}

	return all
}
