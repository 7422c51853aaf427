package embedded

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// Bounds of Omni, in bytes.
const (
	maxRequestID       = 128
	maxKernelArgsBytes = 4096
)

// provider checks that an infrastructure provider has connected; none ever does unless a test writes its status through State. The
// provider's schema is not looked at.
func (r rules) provider(ctx context.Context, id string) error {
	status, err := lookup[*infra.ProviderStatus](ctx, r.st, id)

	switch {
	case err != nil:
		return err
	case status == nil:
		return fmt.Errorf("provider %q does not exist", id)
	case hasLabel(status, omni.LabelIsStaticInfraProvider):
		return fmt.Errorf("provider %q is static: it makes no machines", id)
	}

	return nil
}

func (r rules) machineRequestSet(ctx context.Context, old resource.Resource, res *omni.MachineRequestSet) error {
	spec := res.TypedSpec().Value
	if spec.GetProviderId() == "" {
		return errors.New("the machine request set has no provider id")
	}

	before, _ := old.(*omni.MachineRequestSet)
	if before == nil || before.TypedSpec().Value.GetProviderData() != spec.GetProviderData() {
		if err := r.provider(ctx, spec.GetProviderId()); err != nil {
			return err
		}
	}

	if err := kernelArgs(spec.GetKernelArgs()); err != nil {
		return err
	}

	version, err := lookup[*omni.TalosVersion](ctx, r.st, spec.GetTalosVersion())

	switch {
	case err != nil:
		return err
	case version == nil || version.TypedSpec().Value.GetDeprecated() || version.TypedSpec().Value.GetUnsupported():
		return fmt.Errorf("talos version %q is unknown, deprecated or not supported", spec.GetTalosVersion())
	}

	return r.inCatalogue(ctx, spec.GetTalosVersion(), spec.GetExtensions())
}

func infraMachineConfig(old resource.Resource, res *omni.InfraMachineConfig) error {
	spec := res.TypedSpec().Value

	if before, ok := old.(*omni.InfraMachineConfig); ok && before.TypedSpec().Value.GetAcceptanceStatus() == specs.InfraMachineConfigSpec_ACCEPTED &&
		spec.GetAcceptanceStatus() != specs.InfraMachineConfigSpec_ACCEPTED {
		return errors.New("a machine that was accepted cannot be rejected or made to wait again")
	}

	return errors.Join(
		checkText("requested reboot ID", spec.GetRequestedRebootId(), maxRequestID),
		checkText("power-off request ID", spec.GetPowerOffRequestId(), maxRequestID),
		checkText("extra kernel arguments", spec.GetExtraKernelArgs(), maxKernelArgsBytes),
	)
}

// installationMedia leaves the names of platforms and overlays unchecked.
func (r rules) installationMedia(ctx context.Context, res *omni.InstallationMediaConfig) error {
	spec := res.TypedSpec().Value

	switch {
	case spec.GetArchitecture() == specs.PlatformConfigSpec_UNKNOWN_ARCH:
		return errors.New("installation media need an architecture")
	case spec.GetCloud() != nil && spec.GetSbc() != nil:
		return errors.New("installation media are for a cloud or for an sbc, not both")
	}

	if err := checkText("kernel arguments", spec.GetKernelArgs(), maxKernelArgsBytes); err != nil {
		return err
	}

	talos := strings.TrimPrefix(spec.GetTalosVersion(), "v")
	if talos == "" { // Omni's newest, and its catalogue
		return r.inCatalogue(ctx, talosVersions[len(talosVersions)-1], spec.GetInstallExtensions())
	}

	version, err := lookup[*omni.TalosVersion](ctx, r.st, talos)
	if err != nil {
		return err
	}

	if version == nil {
		return fmt.Errorf("talos version %q is unknown", spec.GetTalosVersion())
	}

	return r.inCatalogue(ctx, talos, spec.GetInstallExtensions())
}

func (r rules) forceDestroy(ctx context.Context, old resource.Resource, res *omni.NodeForceDestroyRequest) error {
	if old != nil {
		return nil
	}

	machine, err := lookup[*omni.ClusterMachine](ctx, r.st, res.Metadata().ID())
	if err == nil && machine == nil {
		return fmt.Errorf("there is no cluster machine %q to destroy", res.Metadata().ID())
	}

	return err
}

func checkText(what, text string, limit int) error {
	if len(text) > limit || strings.ContainsFunc(text, unicode.IsControl) {
		return fmt.Errorf("the %s has more than %d bytes or a control character", what, limit)
	}

	return nil
}
