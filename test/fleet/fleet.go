// Package fleet makes fleets of cluster templates as people have them, of any size, for tests
// and benchmarks. The same configuration makes the same files, on every machine.
package fleet

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing/fstest"
)

// Config says what fleet to make.
type Config struct {
	// Clusters is how many there are.
	Clusters int
	// Machines is how many machines a cluster has: at least 1, of which up to 3 are control
	// planes.
	Machines int
	// Varied makes clusters of all sizes up to twice Machines, of several versions, with
	// workers of a machine class in every fourth. Without it all are alike, and every cluster
	// is 6 + 3·Machines resources (156 with 50 machines) if it has workers.
	Varied bool
	// Seed chooses among the varied fleets.
	Seed uint64
}

// Names of what a fleet has besides its clusters.
const (
	// SharedPatch is a file that every template names.
	SharedPatch = "patches/registries.yaml"
	// ClassPath is the manifest of the machine class of a varied fleet.
	ClassPath = "fleet/workers.yaml"

	class = "fleet-workers"
)

// Fleet is the files of a source. Its changes are cheap: they share what stays.
type Fleet struct {
	Files fstest.MapFS

	cfg Config
}

// New makes a fleet.
func New(cfg Config) *Fleet {
	f := &Fleet{cfg: cfg, Files: fstest.MapFS{SharedPatch: sharedPatch(0)}}

	if cfg.Varied {
		f.Files[ClassPath] = file("metadata:\n  namespace: default\n  type: MachineClasses.omni.sidero.dev\n  id: %s\nspec:\n  matchlabels: [role=worker]\n", class)
	}

	for c := range cfg.Clusters {
		f.Files[Path(c)] = f.template(c, 0)
	}

	return f
}

// Name returns the name of the c-th cluster.
func Name(c int) string { return fmt.Sprintf("cluster-%04d", c) }

// Path returns the file of the c-th cluster's template.
func Path(c int) string { return fmt.Sprintf("clusters/%02d/%s.yaml", c%100, Name(c)) }

// MachineID returns the ID of the m-th machine of the c-th cluster.
func MachineID(c, m int) string { return fmt.Sprintf("5f3a1c00-%04d-4000-8000-%012d", c, m) }

// With returns the fleet with the template of the c-th cluster edited: one label of the cluster
// is another. The same edit gives the same file.
func (f *Fleet) With(c, edit int) *Fleet { return f.replaced(Path(c), f.template(c, edit)) }

// WithSharedPatch returns the fleet with the patch edited that all templates share.
func (f *Fleet) WithSharedPatch(edit int) *Fleet { return f.replaced(SharedPatch, sharedPatch(edit)) }

func (f *Fleet) replaced(path string, content *fstest.MapFile) *Fleet {
	files := maps.Clone(f.Files)
	files[path] = content

	return &Fleet{Files: files, cfg: f.cfg}
}

func sharedPatch(edit int) *fstest.MapFile {
	return file(`machine:
  registries:
    mirrors:
      docker.io:
        endpoints: [https://mirror-%d.example.com]
`, edit)
}

func (f *Fleet) template(c, edit int) *fstest.MapFile {
	var (
		t        bytes.Buffer
		random   = rand.New(rand.NewPCG(f.cfg.Seed, uint64(c))) //nolint:gosec // a fleet, not a key
		machines = f.cfg.Machines
		version  = "v1.34.3"
		fromPool = false
	)

	if f.cfg.Varied {
		machines = 1 + random.IntN(2*machines)
		version = []string{"v1.33.7", "v1.34.3", "v1.35.0"}[random.IntN(3)]
		fromPool = random.IntN(4) == 0
	}

	planes := 3
	if machines < planes {
		planes = 1
	}

	if fromPool {
		machines = planes
	}

	fmt.Fprintf(&t, `kind: Cluster
name: %s
labels: {team: team-%02d, edit: "%d"}
kubernetes: {version: %s}
talos: {version: v1.12.0}
patches:
  - name: registries
    file: ../../%s
  - name: sysctls
    inline: {machine: {sysctls: {vm.overcommit_memory: "1", net.core.somaxconn: "%d"}}}
---
kind: ControlPlane
machines: [`, Name(c), c%20, edit, version, SharedPatch, 1024+c)

	list := func(from, to int) {
		for m := from; m < to; m++ {
			if m > from {
				t.WriteString(", ")
			}

			t.WriteString(MachineID(c, m))
		}
	}

	list(0, planes)
	t.WriteString("]\n")

	if machines > planes || fromPool {
		t.WriteString("---\nkind: Workers\n")

		if fromPool {
			fmt.Fprintf(&t, "machineClass: {name: %s, size: %d}\n", class, 1+random.IntN(2*f.cfg.Machines))
		} else {
			t.WriteString("machines: [")
			list(planes, machines)
			t.WriteString("]\n")
		}

		t.WriteString("patches:\n  - name: pods\n    inline: {machine: {kubelet: {extraConfig: {maxPods: 200}}}}\n")
	}

	for m := range machines {
		fmt.Fprintf(&t, `---
kind: Machine
name: %s
patches:
  - name: labels
    inline: {machine: {nodeLabels: {rack: r%02d, node: n%d}}}
  - name: address
    inline: {machine: {network: {interfaces: [{interface: eth0, dhcp: false, addresses: [10.%d.%d.%d/16]}]}}}
`, MachineID(c, m), m%16, m, c/250, c%250, m%250)
	}

	return &fstest.MapFile{Data: t.Bytes()}
}

func file(format string, args ...any) *fstest.MapFile {
	return &fstest.MapFile{Data: fmt.Appendf(nil, format, args...)}
}
