package render_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/installdisk"
	"github.com/omni-syncd/omni-syncd/pkg/render"
)

const (
	diskA = "00000000-0000-4000-8000-00000000000a"
	diskB = "00000000-0000-4000-8000-00000000000b"
)

// TestInstallDisk: what a template says of the disk of a machine is a config patch until 1.10 and a resource from 1.11 on, which comes
// before the machine that is installed on it.
func TestInstallDisk(t *testing.T) {
	const template = `kind: Cluster
name: one
kubernetes: {version: v1.34.3}
talos: {version: v1.12.8}
---
kind: ControlPlane
machines: [` + diskA + `]
---
kind: Workers
machines: [` + diskB + `]
---
kind: Machine
name: ` + diskA + `
install: {disk: /dev/vda}
---
kind: Machine
name: ` + diskB + `
install:
  diskSelector: disk.transport == 'nvme' # the fast one
patches:
  - name: install-disk
    inline: {machine: {nodeLabels: {a: b}}}
`
	one := mustRender(t, render.New(), fstest.MapFS{"one.yaml": {Data: []byte(template)}})["one"]

	patch := "ConfigPatches.omni.sidero.dev 000-cm-" + diskA + "-install-disk at one.yaml:14:17"
	selector := "MachineInstallDiskConfigs.omni.sidero.dev " + diskB + ` at one.yaml:19:17 "" "disk.transport == 'nvme'"`
	path := "MachineInstallDiskConfigs.omni.sidero.dev " + diskA + ` at one.yaml:14:17 "/dev/vda" ""`

	for server, want := range map[livestate.Server][]string{
		"": {patch, selector}, "v1.9.3": {patch, selector}, "v1.10.4": {patch, selector}, "dev": {patch, selector},
		"v1.11.0-alpha.0": {path, selector}, "v1.11.0": {path, selector}, "v2.0.0": {path, selector},
	} {
		var (
			got   []string
			nodes bool
		)

		target := one.For(server)

		for _, r := range target.Resources {
			md := r.Metadata()

			switch r := r.(type) {
			case *installdisk.Config:
				if _, ok := md.Annotations().Get(omni.ResourceManagedByClusterTemplates); !ok || nodes || len(md.Labels().Raw()) > 0 {
					t.Errorf("%s: %s after the machines: %v", server, md, nodes)
				}

				got = append(got, fmt.Sprintf("%s %s at %s %q %q", md.Type(), md.ID(), target.Position(md), r.TypedSpec().Value.GetDisk(), r.TypedSpec().Value.GetDiskSelector()))
			case *omni.MachineSetNode:
				nodes = true
			case *omni.ConfigPatch:
				if _, system := md.Labels().Get(omni.LabelSystemPatch); system {
					got = append(got, fmt.Sprintf("%s %s at %s", md.Type(), md.ID(), target.Position(md)))
				}
			}
		}

		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s:\ngot  %s\nwant %s", server, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}

		if len(target.Resources) != len(one.Resources) {
			t.Errorf("%s: %d resources, want %d", server, len(target.Resources), len(one.Resources))
		}

		if again := target.For(server); again != target {
			t.Errorf("%s: another target the second time", server)
		}
	}
}

// TestInstallDisk_Like: a patch that only looks like one of upstream's stays a patch.
func TestInstallDisk_Like(t *testing.T) {
	const head = "kind: Cluster\nname: one\nkubernetes: {version: v1.34.3}\ntalos: {version: v1.12.8}\n---\nkind: ControlPlane\nmachines: [" + diskA + "]\n---\nkind: Machine\nname: " + diskA + "\npatches:\n"

	for _, patch := range []string{
		"  - idOverride: 000-cm-" + diskA + "-install-disk\n    inline: {machine: {install: {disk: /dev/vda}}}\n",
		"  - name: install-disk\n    inline: {machine: {install: {disk: /dev/vda}}}\n",
	} {
		one := mustRender(t, render.New(), fstest.MapFS{"one.yaml": {Data: []byte(head + patch)}})["one"]
		if newer := one.For("v1.11.0"); newer != one {
			t.Errorf("%s: became %v", patch, ids(newer.Resources))
		}
	}
}

func ids(resources []resource.Resource) []string {
	var all []string
	for _, r := range resources {
		all = append(all, r.Metadata().ID())
	}

	return all
}
