package preflight_test

import (
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// row is a cluster in some revisions, of which Omni takes all but maybe the last.
type row struct {
	name    string
	classes []resource.Resource // made before the cluster
	machine string              // the Talos that the machine "m" runs; "" for one that does not exist
	iso     bool                // "m" has no Talos installed
	before  []resource.Resource // nil for a new cluster
	between []resource.Resource // a revision more, if not nil
	locked  resource.Resource   // a machine that a person locks before the last revision
	// What Omni's controllers or another client made of it before the first and the last revision. A real Omni cannot be brought
	// there.
	already, meanwhile []resource.Resource
	edit               func(*omni.Cluster) // by another client, before the last revision
	after              []resource.Resource
	says               string            // a regular expression for the one finding; "" if Omni takes it
	about              resource.Resource // what the finding is about
	refuses            resource.Resource // what Omni refuses, if that is not what the finding is about
	trap               bool              // Omni takes it and regrets it
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
		{name: "restored after the fact", before: base, after: with(l.controlPlane(l.restored)), says: "bootstrapSpec", about: l.controlPlane()},

		{name: "bootstrapSpec taken out too early", already: list(l.lost()), before: with(l.controlPlane(l.restored)), after: base, says: "bootstrapSpec", about: l.controlPlane()},
		{
			name: "bootstrapSpec taken out after bootstrap", already: list(l.lost()), meanwhile: list(l.bootstrapped()),
			before: with(l.controlPlane(l.restored)), after: base, says: l.until("1.10", "before Omni 1.10"), about: l.controlPlane(),
		},
		{
			name: "bootstrapSpec changed after bootstrap", already: list(l.lost()), meanwhile: list(l.bootstrapped()),
			before: with(l.controlPlane(l.restored)), after: with(l.controlPlane(l.restored, func(spec *specs.MachineSetSpec) { spec.BootstrapSpec.Snapshot = "y" })),
			says: "cannot change", about: l.controlPlane(),
		},

		{
			name: "no discovery left", meanwhile: list(l.began("v1.14.0")), edit: noPublicDiscovery,
			before: with(l.newCluster(embeddedDiscovery)), after: with(l.newCluster(nothingOfFeatures)), says: l.since("1.10", "needs useEmbeddedDiscoveryService"), about: cluster,
		},
		{
			name: "no public discovery", meanwhile: list(l.began("v1.14.0")), edit: noPublicDiscovery,
			before: with(l.newCluster(embeddedDiscovery)), after: with(l.newCluster(embeddedDiscovery, backups(time.Hour))),
		},
		{
			name: "no public discovery in an old cluster", edit: noPublicDiscovery,
			before: with(l.newCluster(embeddedDiscovery)), after: with(l.newCluster(embeddedDiscovery, backups(time.Hour))),
			says: l.since("1.10", "cannot do without"), about: cluster,
		},

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

	if l.byCall != "" {
		up := list(l.newCluster(versions(l.byCallUp, l.kubernetesUp)), l.controlPlane(), workers, l.machine("m"))

		all = append(
			all,
			row{name: "machine without an installation, of an older Talos", machine: l.byCall, iso: true, after: up, says: l.until("1.10", "without an installation"), about: l.machine("m")},
			row{name: "machine without an installation, of Talos before installation by a call", machine: l.talos, iso: true, after: up, says: "without an installation", about: l.machine("m")},
		)
	}

	all = append(all, l.patches(with)...)

	if l.talosDeprecated != "" {
		all = append(all, row{
			name: "deprecated Talos", after: with(l.newCluster(versions(l.talosDeprecated, l.kubernetes))),
			says: "is deprecated", about: cluster,
		})
	}

	return all
}

// nothingOfFeatures switches Omni's own discovery service off. Features that are all off are still there, and with them a field
// that only a newer Omni knows.
func nothingOfFeatures(spec *specs.ClusterSpec) { spec.Features = &specs.ClusterSpec_Features{} }

// patches are rows about config patches.
func (l lab) patches(with func(...resource.Resource) []resource.Resource) []row {
	const harmless = "machine:\n  kubelet: {}\n"

	var (
		serviceAccount = l.patch("cluster:\n  serviceAccount:\n    key: LS0tCg==\n")
		ca             = l.patch("cluster:\n  ca:\n    crt: LS0tCg==\n    key: LS0tCg==\n")
		second         = l.patch("apiVersion: v1alpha1\nkind: HostnameConfig\nhostname: a\n---\nmachine:\n  token: abc\n")
		admin          = l.patch("apiVersion: v1alpha1\nkind: HostnameConfig\nhostname: a\n---\n" +
			"machine:\n  features:\n    kubernetesTalosAPIAccess:\n      enabled: true\n      allowedRoles: [os:admin]\n")
		encryption = l.patch(harmless + "---\napiVersion: v1alpha1\nkind: KubeEtcdEncryptionConfig\nconfig:\n  resources: [secrets]\n")
		disk       = l.patch("machine:\n  install:\n    disk: /dev/sda\n")
		picked     = l.picked("disk.transport == 'nvme'")
	)

	return []row{
		{name: "patch", after: with(l.patch(harmless))},
		{name: "patch that deletes", after: with(l.patch(harmless + "---\napiVersion: v1alpha1\nkind: HostnameConfig\n$patch: delete\n"))},
		{name: "patch with the service accounts' key", after: with(serviceAccount), says: l.since("1.10", `^Omni v1.* holds cluster\.serviceAccount;`), about: serviceAccount},
		{name: "patch with the cluster's CA", after: with(ca), says: l.since("1.10", `holds cluster\.ca;`), about: ca},
		{name: "patch with the cluster's CA in an update", before: with(l.patch(harmless)), after: with(ca), says: l.since("1.10", `holds cluster\.ca;`), about: ca},
		{name: "patch with a token in its second document", after: with(second), says: l.since("1.10", `holds machine\.token;`), about: second},
		{name: "patch that makes an admin in its second document", after: with(admin), says: l.since("1.10", "holds os:admin in machine.features"), about: admin},
		{name: "patch with a document of Omni's", after: with(encryption), says: l.since("1.10", "holds a KubeEtcdEncryptionConfig;"), about: encryption},
		{name: "patch with the disk to install to", after: with(disk), says: l.since("1.11", "holds machine.install.disk;.*`install.disk`"), about: disk},
		{name: "disk that an expression picks", after: with(picked), says: l.until("1.11", `^install\.diskSelector needs Omni 1\.11 or newer, and this one is `), about: picked},
		{
			name: "patch of before the rules", already: list(ca), before: with(ca), after: with(l.newCluster(backups(time.Hour)), ca), // its text stays
		},
	}
}
