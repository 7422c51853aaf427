package render

import (
	"fmt"
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/constants"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"go.yaml.in/yaml/v4"

	"github.com/omni-syncd/omni-syncd/pkg/omni/installdisk"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// The disk that a machine is installed on, `install` of a Machine in a template, is a config patch for Omni until 1.10, which
// upstream's code of this build makes, and a resource of its own from 1.11 on. From omni main of August 2026,
// client/pkg/template/internal/models/machine.go.

// selectors returns the resources of the machines whose disk is picked by an expression. Older releases have nothing for that.
func selectors(settings []template.Setting) []resource.Resource {
	var all []resource.Resource

	for _, s := range settings {
		if s.Text != "" {
			all = append(all, installDisk(s.Name, &installdisk.ConfigSpec{DiskSelector: s.Text}))
		}
	}

	return all
}

// disksAsResources returns the resources of a target with a resource in the place of each patch that upstream made for
// `install.disk`, sorted; nil if there is none.
func disksAsResources(resources []resource.Resource) []resource.Resource {
	var (
		all   = make([]resource.Resource, 0, len(resources))
		found bool
	)

	for _, r := range resources {
		if machine, disk := diskOf(r); disk != "" {
			r, found = installDisk(machine, &installdisk.ConfigSpec{Disk: disk}), true
		}

		all = append(all, r)
	}

	if !found {
		return nil
	}

	sortResources(all)

	return all
}

func installDisk(machine resource.ID, spec *installdisk.ConfigSpec) resource.Resource {
	r := installdisk.New(machine)
	r.Metadata().Annotations().Set(omni.ResourceManagedByClusterTemplates, "")
	r.TypedSpec().Value = spec

	return r
}

// diskOf returns what a patch says if it is one that upstream made for `install.disk`, and says nothing else; "" if not.
func diskOf(r resource.Resource) (machine resource.ID, disk string) {
	patch, ok := r.(*omni.ConfigPatch)
	if !ok {
		return "", ""
	}

	machine, _ = patch.Metadata().Labels().Get(omni.LabelClusterMachine)

	_, system := patch.Metadata().Labels().Get(omni.LabelSystemPatch)
	if !system || patch.Metadata().ID() != fmt.Sprintf("%03d-cm-%s-install-disk", constants.PatchWeightInstallDisk, machine) {
		return "", ""
	}

	data, err := patch.TypedSpec().Value.GetUncompressedData()
	if err != nil {
		return "", ""
	}
	defer data.Free()

	var body struct {
		Machine struct {
			Install struct {
				Disk string `yaml:"disk"`
			} `yaml:"install"`
		} `yaml:"machine"`
	}

	if err := yaml.Load(data.Data(), &body, yaml.WithKnownFields()); err != nil {
		return "", ""
	}

	return machine, body.Machine.Install.Disk
}

// diskIn returns the key with which a template says the disk of a machine.
func diskIn(t *template.Template, machine resource.ID) string {
	if slices.ContainsFunc(t.Settings(), func(s template.Setting) bool { return s.Text != "" && s.Name == machine }) {
		return "diskSelector"
	}

	return "disk"
}
