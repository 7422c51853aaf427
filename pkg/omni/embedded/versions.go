package embedded

import (
	"context"
	"fmt"

	"github.com/blang/semver/v4"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	cosiregistry "github.com/cosi-project/runtime/pkg/state/registry"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/registry" // registers all types
	"github.com/siderolabs/omni/client/pkg/omni/resources/system"
)

// The versions on offer. A Talos minor supports Kubernetes from the first minor here up to its own.
var (
	talosVersions      = []string{"1.11.0", "1.11.5", "1.12.0", "1.12.8", "1.13.0", "1.13.5"}
	kubernetesVersions = []string{"1.33.0", "1.33.5", "1.34.0", "1.34.3", "1.35.0", "1.35.5", "1.36.0", "1.36.1"}

	newestKubernetes = map[uint64]uint64{11: 34, 12: 35, 13: 36} // minor of Talos → minor of Kubernetes
)

// Version is the release whose behaviour this is.
const Version = "v1.9.3"

const officialExtensions = "siderolabs/"

// extensions of every Talos version; a small part of the real catalogue.
var extensions = []string{
	"amd-ucode", "btrfs", "drbd", "gvisor", "hello-world-service", "i915", "intel-ucode", "iscsi-tools", "nvidia-container-toolkit-lts",
	"nvidia-open-gpu-kernel-modules-lts", "qemu-guest-agent", "tailscale", "util-linux-tools", "vmtoolsd-guest-agent", "zfs",
}

// seed fills the database with what an Omni knows from the start.
func seed(ctx context.Context, st state.State, release string) error {
	if err := seedDefinitions(ctx, st); err != nil {
		return err
	}

	version := system.NewSysVersion(system.SysVersionID)
	version.TypedSpec().Value.BackendVersion = release
	version.TypedSpec().Value.InstanceName = instance

	all := []resource.Resource{version}

	for _, version := range kubernetesVersions {
		res := omni.NewKubernetesVersion(version)
		res.TypedSpec().Value.Version = version
		all = append(all, res)
	}

	for _, version := range talosVersions {
		parsed, err := semver.Parse(version)
		if err != nil {
			return err
		}

		res := omni.NewTalosVersion(version)
		res.TypedSpec().Value.Version = version
		res.TypedSpec().Value.CompatibleKubernetesVersions = upTo(kubernetesVersions, newestKubernetes[parsed.Minor])
		res.TypedSpec().Value.UpgradableTalosVersions = upTo(talosVersions, parsed.Minor+1)

		catalogue := omni.NewTalosExtensions(version)
		for _, name := range extensions {
			catalogue.TypedSpec().Value.Items = append(catalogue.TypedSpec().Value.Items, &specs.TalosExtensionsSpec_Info{Name: officialExtensions + name})
		}

		all = append(all, res, catalogue)
	}

	for _, res := range all {
		if err := st.Create(ctx, res); err != nil {
			return fmt.Errorf("seed %s: %w", res.Metadata(), err)
		}
	}

	return nil
}

// seedDefinitions is what `omnictl get` looks types up in.
func seedDefinitions(ctx context.Context, st state.State) error {
	namespaces, definitions := cosiregistry.NewNamespaceRegistry(st), cosiregistry.NewResourceRegistry(st)

	if err := namespaces.RegisterDefault(ctx); err != nil {
		return err
	}

	if err := definitions.RegisterDefault(ctx); err != nil {
		return err
	}

	for _, res := range registry.Resources {
		if err := definitions.Register(ctx, res); err != nil {
			return fmt.Errorf("register %s: %w", res.ResourceDefinition().Type, err)
		}
	}

	return nil
}

func upTo(versions []string, minor uint64) []string {
	var result []string

	for _, version := range versions {
		if semver.MustParse(version).Minor <= minor {
			result = append(result, version)
		}
	}

	return result
}
