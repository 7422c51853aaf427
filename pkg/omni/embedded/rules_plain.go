package embedded

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/cosi/labels"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"gopkg.in/yaml.v3"

	"github.com/omni-syncd/omni-syncd/pkg/omni/installdisk"
)

// Bounds of Omni for the types below.
const (
	maxExtensions          = 256
	maxKernelArgs          = 64
	maxKernelArg           = 256
	minHealthCheckInterval = 5 * time.Second
	manualBackupWindow     = time.Minute
)

// plain checks the types that need no more than themselves and their cluster; old is nil for a create.
func (r rules) plain(ctx context.Context, old, res resource.Resource) error {
	switch res := res.(type) {
	case *omni.ExtensionsConfiguration:
		return r.extensions(ctx, res)
	case *omni.MachineClass:
		return r.machineClass(ctx, old, res)
	case *omni.KernelArgs:
		return kernelArgs(res.TypedSpec().Value.GetArgs())
	case *installdisk.Config:
		return installDisk(res.TypedSpec().Value)
	case *omni.KubernetesManifestGroup:
		return manifestGroup(res)
	case *omni.KubernetesHealthCheck:
		return healthCheck(res)
	case *omni.MachineRequestSet:
		return r.machineRequestSet(ctx, old, res)
	case *omni.InfraMachineConfig:
		return infraMachineConfig(old, res)
	case *omni.InstallationMediaConfig:
		return r.installationMedia(ctx, res)
	case *omni.NodeForceDestroyRequest:
		return r.forceDestroy(ctx, old, res)
	case *omni.EtcdManualBackup:
		at := res.TypedSpec().Value.GetBackupAt().AsTime()
		if before, ok := old.(*omni.EtcdManualBackup); ok && before.TypedSpec().Value.GetBackupAt().AsTime().Equal(at) {
			return nil
		}

		if time.Since(at).Abs() > manualBackupWindow {
			return fmt.Errorf("a manual backup's time must be now, give or take %s", manualBackupWindow)
		}
	}

	return nil
}

func (r rules) extensions(ctx context.Context, res *omni.ExtensionsConfiguration) error {
	names := res.TypedSpec().Value.GetExtensions()

	if len(names) == 0 {
		return nil
	}

	cluster, err := lookup[*omni.Cluster](ctx, r.st, label(res, omni.LabelCluster))
	if err != nil {
		return err
	}

	if cluster == nil {
		return fmt.Errorf("cluster %q of extensions %q does not exist", label(res, omni.LabelCluster), res.Metadata().ID())
	}

	return r.inCatalogue(ctx, cluster.TypedSpec().Value.GetTalosVersion(), names)
}

// inCatalogue checks the names of extensions against what a version of Talos has.
func (r rules) inCatalogue(ctx context.Context, version string, names []string) error {
	if len(names) == 0 {
		return nil
	}

	if len(names) > maxExtensions {
		return fmt.Errorf("there are %d extensions, more than %d", len(names), maxExtensions)
	}

	catalogue, err := safe.StateGetByID[*omni.TalosExtensions](ctx, r.st, version)
	if err != nil {
		return fmt.Errorf("there is no catalogue of extensions for talos %q: %w", version, err)
	}

	left := map[string]bool{}
	for _, item := range catalogue.TypedSpec().Value.GetItems() {
		left[item.GetName()] = true
	}

	for _, name := range names {
		full := name
		if !strings.Contains(full, "/") { // how old clients name the official ones
			full = officialExtensions + full
		}

		if !left[full] {
			return fmt.Errorf("extension %q is listed twice or is not in the catalogue of talos %s", name, version)
		}

		delete(left, full)
	}

	return nil
}

func (r rules) machineClass(ctx context.Context, old resource.Resource, res *omni.MachineClass) error {
	spec := res.TypedSpec().Value

	if spec.GetAutoProvision() != nil {
		switch {
		case spec.GetMatchLabels() != nil:
			return errors.New("a machine class has either match labels or auto provision, not both")
		case spec.GetAutoProvision().GetProviderId() == "":
			return errors.New("auto provision needs a provider")
		}

		before, _ := old.(*omni.MachineClass)
		if before == nil || before.TypedSpec().Value.GetAutoProvision().GetProviderData() != spec.GetAutoProvision().GetProviderData() {
			if err := r.provider(ctx, spec.GetAutoProvision().GetProviderId()); err != nil {
				return err
			}
		}

		return kernelArgs(spec.GetAutoProvision().GetKernelArgs())
	}

	queries, err := labels.ParseSelectors(spec.GetMatchLabels())
	if err != nil {
		return fmt.Errorf("match labels: %w", err)
	}

	if len(queries) == 0 {
		return errors.New("a machine class needs match labels or auto provision")
	}

	for _, query := range queries {
		for _, term := range query.Terms {
			if term.Key == omni.LabelNoManualAllocation {
				return fmt.Errorf("match labels cannot select by %q", term.Key)
			}
		}
	}

	return nil
}

func kernelArgs(args []string) error {
	if len(args) > maxKernelArgs {
		return fmt.Errorf("there are %d kernel arguments, more than %d", len(args), maxKernelArgs)
	}

	for i, arg := range args {
		if len(arg) > maxKernelArg || strings.ContainsFunc(arg, unicode.IsControl) {
			return fmt.Errorf("kernel argument %d is longer than %d bytes or has control characters", i, maxKernelArg)
		}
	}

	return nil
}

// healthCheckID is an ID that can end the name of a Kubernetes object.
var healthCheckID = regexp.MustCompile(`^[a-z0-9.-]*[a-z0-9]$`)

func healthCheck(res *omni.KubernetesHealthCheck) error {
	interval, job := res.TypedSpec().Value.GetInterval().AsDuration(), res.TypedSpec().Value.GetJob()

	switch {
	case job == "":
		return errors.New("the health check has no job")
	case !healthCheckID.MatchString(res.Metadata().ID()):
		return fmt.Errorf("the health check's ID %q cannot be part of a Kubernetes name", res.Metadata().ID())
	case yaml.Unmarshal([]byte(job), &map[string]any{}) != nil:
		return errors.New("the health check's job is not a YAML object")
	case interval > 0 && interval < minHealthCheckInterval:
		return fmt.Errorf("the health check's interval is shorter than %s", minHealthCheckInterval)
	}

	return nil
}

func manifestGroup(res *omni.KubernetesManifestGroup) error {
	switch {
	case res.TypedSpec().Value.GetMode() == specs.KubernetesManifestGroupSpec_UNKNOWN:
		return errors.New("the manifest group has no mode")
	case !hasLabel(res, omni.LabelCluster):
		return fmt.Errorf("the manifest group has no label %q", omni.LabelCluster)
	case hasLabel(res, omni.LabelSystemManifest):
		return errors.New("a user cannot make system manifests")
	}

	if _, err := res.TypedSpec().Value.GetManifests(); err != nil {
		return fmt.Errorf("manifests: %w", err)
	}

	return nil
}
