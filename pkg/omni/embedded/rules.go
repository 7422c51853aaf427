package embedded

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/blang/semver/v4"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// rules are what Omni refuses. They look at other resources at the moment of the write, without a lock, as Omni does: two writes
// that contradict each other can both pass when they come at once.
type rules struct {
	st state.State

	release release
}

// Bounds of Omni.
const (
	maxID        = 1024
	maxMetaKey   = 1024
	maxMetaValue = 16 << 10
	maxMetaCount = 256

	minBackupInterval = time.Hour
	maxBackupInterval = 24 * time.Hour
)

func (r rules) create(ctx context.Context, res resource.Resource) []error {
	problems := []error{checkID(res.Metadata().ID()), checkMetadata(res.Metadata(), nil)}

	switch res := res.(type) {
	case *omni.Cluster:
		return append(problems, r.cluster(ctx, nil, res)...)
	case *omni.MachineSet:
		return append(problems, r.machineSet(ctx, nil, res))
	case *omni.MachineSetNode:
		return append(problems, r.machineSetNode(ctx, nil, res))
	case *omni.ConfigPatch:
		return append(problems, r.newConfigPatch(ctx, res))
	default:
		return append(problems, r.plain(ctx, nil, res))
	}
}

func (r rules) update(ctx context.Context, old, res resource.Resource) []error {
	if res.Metadata().Phase() == resource.PhaseTearingDown {
		return r.destroy(ctx, old)
	}

	problems := []error{checkMetadata(res.Metadata(), old.Metadata())}

	switch res := res.(type) {
	case *omni.Cluster:
		return append(problems, r.cluster(ctx, old.(*omni.Cluster), res)...) //nolint:forcetypeassert // a type has one Go type
	case *omni.MachineSet:
		return append(problems, r.machineSet(ctx, old.(*omni.MachineSet), res)) //nolint:forcetypeassert
	case *omni.MachineSetNode:
		return append(problems, r.machineSetNode(ctx, old.(*omni.MachineSetNode), res)) //nolint:forcetypeassert
	case *omni.ConfigPatch:
		return append(problems, r.changedConfigPatch(old.(*omni.ConfigPatch), res)) //nolint:forcetypeassert
	default:
		return append(problems, r.plain(ctx, old, res))
	}
}

func (r rules) destroy(ctx context.Context, res resource.Resource) []error {
	switch res := res.(type) {
	case *omni.Cluster:
		if locked(res) {
			return []error{fmt.Errorf("cluster %q is locked: it cannot be deleted", res.Metadata().ID())}
		}
	case *omni.MachineSet:
		return []error{r.unlocked(ctx, res, "removing machine set")}
	case *omni.MachineSetNode:
		return []error{r.removableNode(ctx, res)}
	case *omni.MachineClass:
		return []error{r.unusedClass(ctx, res)}
	}

	return nil
}

// cluster checks a Cluster that is created (old is nil) or updated.
func (r rules) cluster(ctx context.Context, old, res *omni.Cluster) []error {
	if old != nil && locked(old) && locked(res) {
		return []error{fmt.Errorf("cluster %q is locked: it cannot be changed", res.Metadata().ID())}
	}

	spec := res.TypedSpec().Value
	sameTalos := old != nil && old.TypedSpec().Value.TalosVersion == spec.TalosVersion
	sameVersions := sameTalos && old.TypedSpec().Value.KubernetesVersion == spec.KubernetesVersion

	problems := []error{omni.ClusterValidator{
		ID:                         res.Metadata().ID(),
		KubernetesVersion:          spec.KubernetesVersion,
		TalosVersion:               spec.TalosVersion,
		EncryptionEnabled:          omni.GetEncryptionEnabled(res),
		SkipClusterIDCheck:         old != nil,
		SkipTalosVersionCheck:      sameTalos,
		SkipKubernetesVersionCheck: sameVersions,
	}.Validate()}

	if old != nil && omni.GetEncryptionEnabled(old) != omni.GetEncryptionEnabled(res) {
		problems = append(problems, errors.New("disk encryption cannot be switched on or off after a cluster was created"))
	}

	problems = append(problems, r.discovery(ctx, old, res))

	if backup := spec.GetBackupConfiguration(); backup != nil {
		if interval := backup.GetInterval().AsDuration(); interval < minBackupInterval || interval > maxBackupInterval {
			problems = append(problems, fmt.Errorf("backup interval %s is out of bounds: it must be from %s to %s", interval, minBackupInterval, maxBackupInterval))
		}
	}

	if !sameVersions {
		problems = append(problems, r.versions(ctx, old, res))
	}

	return problems
}

// versions checks the Talos and Kubernetes version of a cluster when at least one of them is new.
func (r rules) versions(ctx context.Context, old, res *omni.Cluster) error {
	spec := res.TypedSpec().Value

	talos, err := safe.StateGetByID[*omni.TalosVersion](ctx, r.st, spec.TalosVersion)
	if err != nil {
		return fmt.Errorf("talos version %q is unknown: %w", spec.TalosVersion, err)
	}

	oldKubernetes := ""

	if old != nil {
		oldKubernetes = old.TypedSpec().Value.KubernetesVersion

		if err = r.talosDowngrade(ctx, res); err != nil {
			return err
		}
	}

	if talos.TypedSpec().Value.Deprecated && !r.deprecated(ctx, old) {
		return fmt.Errorf("talos version %q is deprecated", spec.TalosVersion)
	}

	if talos.TypedSpec().Value.Unsupported {
		return fmt.Errorf("talos version %q is not supported", spec.TalosVersion)
	}

	if err = r.kubernetesPath(ctx, res.Metadata().ID(), oldKubernetes, spec.KubernetesVersion); err != nil {
		return err
	}

	if !slices.Contains(talos.TypedSpec().Value.CompatibleKubernetesVersions, spec.KubernetesVersion) {
		return fmt.Errorf("kubernetes version %q is not compatible with talos version %q", spec.KubernetesVersion, spec.TalosVersion)
	}

	return nil
}

func (r rules) deprecated(ctx context.Context, cluster *omni.Cluster) bool {
	if cluster == nil {
		return false
	}

	version, err := safe.StateGetByID[*omni.TalosVersion](ctx, r.st, cluster.TypedSpec().Value.TalosVersion)

	return err == nil && version.TypedSpec().Value.Deprecated
}

// talosDowngrade: machines cannot go below the minor version that their configuration was first made for.
func (r rules) talosDowngrade(ctx context.Context, res *omni.Cluster) error {
	first, err := safe.StateGetByID[*omni.ClusterConfigVersion](ctx, r.st, res.Metadata().ID())
	if state.IsNotFoundError(err) {
		return nil
	}

	if err != nil {
		return err
	}

	from, err := semver.ParseTolerant(first.TypedSpec().Value.Version)
	if err != nil {
		return err
	}

	to, err := semver.ParseTolerant(res.TypedSpec().Value.TalosVersion)
	if err != nil {
		return err
	}

	if to.Major < from.Major || to.Major == from.Major && to.Minor < from.Minor {
		return fmt.Errorf("talos cannot be downgraded from %s to %s: the cluster began with %s", from, to, from)
	}

	return nil
}

// kubernetesPath: at most one minor version up and none down, except back to where a running upgrade came from.
func (r rules) kubernetesPath(ctx context.Context, cluster, old, target string) error {
	if old == "" || old == target {
		return nil
	}

	from, err := semver.ParseTolerant(old)
	if err != nil {
		return err
	}

	to, err := semver.ParseTolerant(target)
	if err != nil {
		return err
	}

	if from.Major == to.Major && (to.Minor == from.Minor || to.Minor == from.Minor+1) {
		return nil
	}

	upgrade, err := safe.StateGetByID[*omni.KubernetesUpgradeStatus](ctx, r.st, cluster)
	if err == nil && upgrade.TypedSpec().Value.CurrentUpgradeVersion == old && upgrade.TypedSpec().Value.LastUpgradeVersion == target {
		return nil
	}

	return fmt.Errorf("kubernetes cannot go from %s to %s: one minor version up at a time", from, to)
}

func checkID(id resource.ID) error {
	switch {
	case id == "":
		return errors.New("the ID is empty")
	case len(id) > maxID:
		return fmt.Errorf("the ID has %d bytes, more than %d", len(id), maxID)
	case strings.ContainsFunc(id, unicode.IsControl):
		return errors.New("the ID has control characters")
	}

	return nil
}

// checkMetadata checks labels and annotations; those that were there before may stay.
func checkMetadata(md, old *resource.Metadata) error {
	var oldLabels, oldAnnotations map[string]string

	if old != nil {
		oldLabels, oldAnnotations = old.Labels().Raw(), old.Annotations().Raw()
	}

	return errors.Join(
		checkPairs("label", md.Labels().Raw(), oldLabels),
		checkPairs("annotation", md.Annotations().Raw(), oldAnnotations),
	)
}

func checkPairs(what string, pairs, old map[string]string) error {
	if len(pairs) > maxMetaCount && len(pairs) > len(old) {
		return fmt.Errorf("there are %d %ss, more than %d", len(pairs), what, maxMetaCount)
	}

	for key, value := range pairs {
		if before, ok := old[key]; ok && before == value {
			continue
		}

		switch {
		case key == "" || len(key) > maxMetaKey || strings.ContainsFunc(key, unicode.IsControl):
			return fmt.Errorf("%s key %.64q is empty, longer than %d bytes or has control characters", what, key, maxMetaKey)
		case len(value) > maxMetaValue || strings.ContainsFunc(value, unicode.IsControl):
			return fmt.Errorf("the value of %s %q is longer than %d bytes or has control characters", what, key, maxMetaValue)
		}
	}

	return nil
}
