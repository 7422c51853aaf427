package embedded

import (
	"context"
	"errors"
	"fmt"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/system"
	"github.com/siderolabs/talos/pkg/machinery/cel"
	"github.com/siderolabs/talos/pkg/machinery/cel/celenv"
	"gopkg.in/yaml.v3"

	"github.com/omni-syncd/omni-syncd/pkg/omni/installdisk"
)

// upgrade brings the database to a release, as that does when it starts.
func upgrade(ctx context.Context, st state.State, version string) error {
	_, err := safe.StateUpdateWithConflicts(ctx, st, system.NewSysVersion(system.SysVersionID).Metadata(), func(res *system.SysVersion) error {
		res.TypedSpec().Value.BackendVersion = version

		return nil
	})
	if err != nil {
		return fmt.Errorf("upgrade to %s: %w", version, err)
	}

	if releaseOf(version) < v1_11 {
		return nil
	}

	patches, err := safe.StateListAll[*omni.ConfigPatch](ctx, st)
	if err != nil {
		return fmt.Errorf("upgrade to %s: %w", version, err)
	}

	for patch := range patches.All() {
		if err := installDiskOf(ctx, st, patch); err != nil {
			return fmt.Errorf("upgrade to %s: %w", version, err)
		}
	}

	return nil
}

// installDiskOf puts a resource in the place of a patch that picks the disk of a machine, and nothing else, as the client of 1.10 makes
// it. Of such a patch of a cluster that templates manage, the resource is theirs, too.
func installDiskOf(ctx context.Context, st state.State, patch *omni.ConfigPatch) error {
	machine, _ := patch.Metadata().Labels().Get(omni.LabelClusterMachine)
	if patch.Metadata().Owner() != "" || patch.Metadata().ID() != fmt.Sprintf("000-cm-%s-install-disk", machine) {
		return nil
	}

	data, err := patch.TypedSpec().Value.GetUncompressedData()
	if err != nil {
		return err
	}
	defer data.Free()

	var body map[string]map[string]map[string]string
	if yaml.Unmarshal(data.Data(), &body) != nil || len(body) != 1 || len(body["machine"]) != 1 || len(body["machine"]["install"]) != 1 || body["machine"]["install"]["disk"] == "" {
		return nil
	}

	res := installdisk.New(machine)
	res.TypedSpec().Value.Disk = body["machine"]["install"]["disk"]

	name, _ := patch.Metadata().Labels().Get(omni.LabelCluster)

	cluster, err := safe.StateGetByID[*omni.Cluster](ctx, st, name)
	if err != nil && !state.IsNotFoundError(err) {
		return err
	}

	if cluster != nil {
		if _, managed := cluster.Metadata().Annotations().Get(omni.ResourceManagedByClusterTemplates); managed {
			res.Metadata().Annotations().Set(omni.ResourceManagedByClusterTemplates, "")
		}
	}

	if err := st.Create(ctx, res); err != nil && !state.IsConflictError(err) {
		return err
	}

	if _, err := st.UpdateWithConflicts(ctx, patch.Metadata(), func(res resource.Resource) error {
		res.Metadata().Finalizers().Set(resource.Finalizers{})

		return nil
	}, state.WithExpectedPhaseAny()); err != nil {
		return err
	}

	return st.Destroy(ctx, patch.Metadata())
}

// installDisk checks how the disk of a machine is picked.
func installDisk(spec *installdisk.ConfigSpec) error {
	switch {
	case spec.GetDisk() != "" && spec.GetDiskSelector() != "":
		return errors.New("a disk and a disk selector exclude each other")
	case spec.GetDisk() == "" && spec.GetDiskSelector() == "":
		return errors.New("a disk or a disk selector is needed")
	case spec.GetDiskSelector() == "":
		return nil
	}

	if _, err := cel.ParseBooleanExpression(spec.GetDiskSelector(), celenv.DiskLocator()); err != nil {
		return fmt.Errorf("the disk selector is no expression over a disk that is true or false: %w", err)
	}

	return nil
}
