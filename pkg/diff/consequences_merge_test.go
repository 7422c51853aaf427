package diff

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is merged in parts is what is merged as a whole.
func TestMerger_AsAWhole(t *testing.T) {
	patches := []string{
		"machine:\n  env:\n    A: one\n  sysctls:\n    a.b: \"1\"\n",
		"machine:\n  env:\n    A: two\n    B: three\n",
		"machine:\n  network:\n    hostname: one\n    interfaces:\n      - interface: eth0\n        addresses: [10.0.0.1/24]\n        vip: {ip: 10.0.0.9}\n",
		"machine:\n  network:\n    interfaces:\n      - interface: eth0\n        mtu: 9000\n        addresses: [10.0.0.2/24]\n      - interface: eth1\n        dhcp: true\n",
		"machine:\n  kubelet:\n    extraArgs:\n      max-pods: \"250\"\n  files:\n    - path: /var/a\n      content: a\ncluster:\n  apiServer:\n    certSANs: [a.example.com]\n",
		"cluster:\n  apiServer:\n    certSANs: [b.example.com]\n  allowSchedulingOnControlPlanes: false\n",
		"machine:\n  certSANs: []\n  features: {}\n",
		"machine:\n  install:\n    wipe: false\n    disk: /dev/sda\n  registries:\n    mirrors:\n      docker.io: {endpoints: [https://a.example.com]}\n",
		"apiVersion: v1alpha1\nkind: WatchdogTimerConfig\ndevice: /dev/watchdog0\n",
		"apiVersion: v1alpha1\nkind: WatchdogTimerConfig\ndevice: /dev/watchdog1\ntimeout: 2m0s\n",
		"debug: true\n",
		"apiVersion: v1alpha1\nkind: UserVolumeConfig\nname: data\nprovisioning: {diskSelector: {match: system_disk}}\n---\nmachine:\n  sysctls:\n    c.d: \"2\"\n",
	}

	for mask := range 1 << len(patches) {
		if mask%61 != 0 && mask&(mask-1) != 0 {
			continue // enough of all ways to share them out
		}

		l := layers{byMachineSet: map[string][]*configPatch{}, clusterMachine: map[string][]*configPatch{}}

		for i, payload := range patches {
			if p := (&configPatch{payload: payload}); mask>>i&1 == 0 {
				l.cluster = append(l.cluster, p)
			} else {
				l.clusterMachine["m"] = append(l.clusterMachine["m"], p)
			}
		}

		u := unit{set: &machineSet{}, machine: "m", n: 1}

		parts, err := merged(nil, slices.Concat(l.cluster, l.clusterMachine["m"]))
		if err != nil {
			t.Fatal(err)
		}

		want, err := encoded(parts)
		if err != nil {
			t.Fatal(err)
		}

		m := newMerger(l)

		for range 2 { // the first time leaves the base as it is
			got, err := m.config(u)
			if d := cmp.Diff(want, got); err != nil || d != "" {
				t.Fatalf("%b: %v (-want +got):\n%s", mask, err, d)
			}
		}
	}

	// A machine whose own patch says nothing is as one without.
	m := newMerger(layers{clusterMachine: map[string][]*configPatch{"m": {{payload: "machine: {}\n"}}}})
	with, errWith := m.config(unit{set: &machineSet{}, machine: "m"})
	without, errWithout := m.config(unit{set: &machineSet{}})

	if d := cmp.Diff(without, with); errWith != nil || errWithout != nil || d != "" {
		t.Error(errWith, errWithout, d)
	}
}
