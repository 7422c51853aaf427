package preflight_test

import (
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/installdisk"
)

// F7: the preflight was that of Omni 1.9 whatever Omni it was. Of one that does not say what it is, nothing is refused that any
// release takes, unless it is of a kind that is not watched then.
func TestUnknownServer(t *testing.T) {
	byServer := map[livestate.Server][]row{}
	for _, server := range []livestate.Server{"v1.9.3", "v1.10.4", "v1.11.0-alpha.0"} {
		byServer[server] = rows(lab{cluster: "blue", server: server, catalogue: readCatalogue(t, offered())})
	}

	for _, server := range []livestate.Server{"", "a1b2c3d-dirty"} {
		for i, row := range byServer["v1.9.3"] {
			for _, all := range byServer {
				if _, unwatched := row.about.(*installdisk.Config); all[i].says == "" && !unwatched {
					row.says = "" // this one takes it
				}
			}

			t.Run(string(server)+"/"+row.name, func(t *testing.T) { compare(t, row, row.inMemory(t, server)) })
		}
	}
}

// F7: what was taken out of the rules for good, and what a release after the last known one does, follow from the newest.
func TestNewerServer(t *testing.T) {
	for _, row := range rows(lab{cluster: "blue", server: "v1.12.1", catalogue: readCatalogue(t, offered())}) {
		t.Run(row.name, func(t *testing.T) { compare(t, row, row.inMemory(t, "v1.12.1")) })
	}
}

// F7: a patch with the key of a cluster was found by Omni 1.10 alone, after half of the cluster was made. The kinds of documents
// here are those that the embedded Omni's Talos does not know.
func TestPatches(t *testing.T) {
	l := lab{cluster: "blue", catalogue: readCatalogue(t, offered())}
	document := func(kind, rest string) string { return "apiVersion: v1alpha1\nkind: " + kind + "\n" + rest }

	for _, test := range []struct{ name, patch, says string }{
		{"a document of each", document("UnattendedInstallConfig", "---\n") + document("DiscoveryIdentityConfig", "---\n") + document("KubeClusterConfig", ""), "holds a UnattendedInstallConfig, a DiscoveryIdentityConfig, a KubeClusterConfig;"},
		{"authorities", document("KubeAPIServerCAConfig", "---\n") + document("KubeAggregatorCAConfig", ""), "holds a KubeAPIServerCAConfig, a KubeAggregatorCAConfig;"},
		{"private key", document("KubeServiceAccountConfig", "issuer:\n  privateKey: LS0tCg==\n"), "holds KubeServiceAccountConfig.issuer.privateKey;"},
		{"public keys", document("KubeServiceAccountConfig", "accepted:\n  publicKeys: [LS0tCg==]\n"), ""},
		{"admin", document("KubeTalosAPIAccessConfig", "allowedRoles: [os:reader, os:admin]\n"), "holds os:admin in KubeTalosAPIAccessConfig.allowedRoles;"},
		{"reader", document("KubeTalosAPIAccessConfig", "allowedRoles: [os:reader]\n"), ""},
		{"key without a value", "cluster:\n  ca:\n", `holds cluster\.ca;`},
		{"keys elsewhere", document("HostnameConfig", "cluster:\n  ca: {}\n"), ""},
		{"twice", "cluster:\n  id: a\n---\ncluster:\n  id: b\n", `holds cluster\.id; take`},
		{"key that is there twice", "machine: {}\n---\nmachine:\n  token: c2VjcmV0\n  token: c2VjcmV0\n", "cannot read every document"},
		{"list", "machine: {}\n---\n- c2VjcmV0\n", "cannot read every document"},
		{"nothing behind the line", "machine: {}\n---\n", ""},
		{"nothing", "", ""},
	} {
		for server, judged := range map[livestate.Server]bool{"": false, "v1.9.3": false, "v1.10.4": true, "v1.11.0": true} {
			live := offered().put(newServer(server))
			findings := live.check("blue", list(l.newCluster(), l.patch(test.patch)))

			switch {
			case !judged || test.says == "":
				if len(findings) > 0 {
					t.Errorf("%s: Omni %s: found %v", test.name, server, findings)
				}
			case len(findings) != 1 || !regexp.MustCompile(test.says).MatchString(findings[0].Message):
				t.Errorf("%s: Omni %s: found %v, want %q", test.name, server, findings, test.says)
			case regexp.MustCompile("c2VjcmV0").MatchString(findings[0].Message):
				t.Errorf("%s: the message tells the patch: %s", test.name, findings[0].Message)
			}
		}
	}
}

// F7: from 1.10 on the label of a machine says whether it is installed, which a provider of bare metal knows better than the
// machine; before that, its disks do.
func TestInstalled(t *testing.T) {
	l := lab{cluster: "blue", catalogue: readCatalogue(t, offered())}
	machine := func(disk, label bool) *omni.MachineStatus {
		m := newMachine("blue-m", "1.11.0") // and the cluster has 1.12
		m.TypedSpec().Value.Hardware.Blockdevices[0].SystemDisk = disk
		m.Metadata().Labels().Delete(omni.MachineStatusLabelInstalled)

		if label {
			m.Metadata().Labels().Set(omni.MachineStatusLabelInstalled, "")
		}

		return m
	}

	for server, taken := range map[livestate.Server][]*omni.MachineStatus{
		"v1.9.3":  {machine(true, true), machine(true, false)},
		"v1.10.4": {machine(true, true), machine(false, true)},
		"":        {machine(true, true), machine(true, false), machine(false, true)},
	} {
		for _, m := range []*omni.MachineStatus{machine(true, true), machine(true, false), machine(false, true), machine(false, false)} {
			want := slices.ContainsFunc(taken, func(t *omni.MachineStatus) bool {
				return t.Metadata().Labels().Equal(*m.Metadata().Labels()) && t.TypedSpec().Value.EqualVT(m.TypedSpec().Value)
			})

			findings := offered().put(newServer(server), m).check("blue", list(l.newCluster(), l.controlPlane(), l.workers(), l.machine("m")))
			if want != (len(findings) == 0) {
				t.Errorf("Omni %s: disk %v, labels %v: found %v", server, m.TypedSpec().Value.Hardware, m.Metadata().Labels().Raw(), findings)
			}
		}
	}
}

// F7: machines without an installation are a question of the version, from Talos 1.13 on.
func TestInstallation(t *testing.T) {
	for _, test := range []struct {
		server         livestate.Server
		machine, needs string
		taken          bool
	}{
		{"v1.9.3", "1.13.2", "1.13.0", true},
		{"v1.9.3", "1.13.0", "1.14.0", false},
		{"v1.10.4", "1.13.0", "1.14.0", true},
		{"v1.10.4", "1.13.0-beta.0", "1.14.0", true},
		{"v1.10.4", "1.12.8", "1.13.0", false},
		{"v1.10.4", "1.12.8", "1.12.0", true},
		{"v1.10.4", "1.14.0", "1.13.0", false},
		{"v1.11.0", "1.13.0", "1.14.0", true},
		{"", "1.13.0", "1.14.0", true},
		{"", "1.12.0", "1.13.0", false}, // no release takes that
	} {
		l := lab{cluster: "blue", catalogue: readCatalogue(t, offered())}
		live := offered().put(newServer(test.server))
		live[omni.TalosVersionType][test.needs] = live[omni.TalosVersionType]["1.13.0"]

		m := newMachine("blue-m", test.machine)
		m.TypedSpec().Value.Hardware = nil
		omni.ReconcileMachineStatusLabels(m)

		findings := live.put(m).check("blue", list(l.newCluster(versions(test.needs, "1.34.0")), l.controlPlane(), l.workers(), l.machine("m")))
		if test.taken != (len(findings) == 0) {
			t.Errorf("Omni %s: %s into %s: found %v", test.server, test.machine, test.needs, findings)
		}
	}
}

// F7: a field that only a newer Omni knows is kept, and is no difference: nothing is written for it, and so nothing is judged.
func TestNewerFieldIsNoDifference(t *testing.T) {
	l := lab{cluster: "blue", catalogue: readCatalogue(t, offered())}
	revision := list(l.newCluster(nothingOfFeatures, backups(time.Minute))) // of before the bounds

	live := offered()
	live.apply("blue", revision)
	noPublicDiscovery(live[omni.ClusterType]["blue"].(*omni.Cluster))

	if findings := live.check("blue", revision); len(findings) > 0 {
		t.Errorf("found %v", findings)
	}
}
