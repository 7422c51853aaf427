package preflight

import (
	"fmt"
	"slices"

	"github.com/blang/semver/v4"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni/installdisk"
	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/template/schema"
)

func (c *check) checkCluster(want *omni.Cluster) {
	have := c.cluster

	if message := c.versions(have, want); message != "" {
		c.versionsRefused = true
		c.report(want, message)
	}

	if have != nil && omni.GetEncryptionEnabled(have) != omni.GetEncryptionEnabled(want) {
		c.report(want, "disk encryption cannot be switched on or off once a cluster exists; take the change back, or make a new cluster")
	}

	if message := c.discovery(have, want); message != "" {
		c.reportKey(want, schema.DisablePublicDiscovery(), message)
	}

	c.checkNewer(want)

	features := get[*omni.FeaturesConfig](c, omni.FeaturesConfigType, omni.FeaturesConfigID)
	if features == nil {
		return
	}

	if message := c.backupInterval(features, have, want); message != "" {
		c.report(want, message)
	}

	had := have != nil && have.TypedSpec().Value.GetFeatures().GetUseEmbeddedDiscoveryService()
	if want.TypedSpec().Value.GetFeatures().GetUseEmbeddedDiscoveryService() && !had && !features.TypedSpec().Value.GetEmbeddedDiscoveryService() {
		c.report(want, "this Omni has no embedded discovery service; take useEmbeddedDiscoveryService out, or enable it in Omni")
	}
}

// discovery returns why Omni would refuse how the machines of a cluster find each other; "" if it would not.
func (c *check) discovery(have, want *omni.Cluster) string {
	written := c.written(want)
	if written == nil || !discoveryIsNeeded.in(c.Server) || !render.FlagOf(schema.DisablePublicDiscovery()).Get(written) {
		return ""
	}

	talos, remedy := want.TypedSpec().Value.GetTalosVersion(), "switch it on in Omni"
	if first, ok := c.firstTalos(have); ok {
		talos = first.String()
	}

	if render.FlagOf(schema.DisablePublicDiscovery()).Get(want) {
		remedy = "take that out of the template"
	}

	switch {
	case isBelow(talos, semver.Version{Major: 1, Minor: 14}):
		return fmt.Sprintf("the public discovery service is off (disablePublicDiscoveryService), and a cluster that began with Talos %s cannot do without; %s", talos, remedy)
	case !want.TypedSpec().Value.GetFeatures().GetUseEmbeddedDiscoveryService():
		return "the public discovery service is off (disablePublicDiscoveryService), so the cluster needs useEmbeddedDiscoveryService; add that, or " + remedy
	default:
		return ""
	}
}

// checkNewer reports what a template sets with a key of a newer release than the server, which would drop it without a word.
func (c *check) checkNewer(want *omni.Cluster) {
	for _, n := range schema.Switches() {
		if (span{until: n.Since}).in(c.Server) && render.FlagOf(n).Get(want) {
			c.reportKey(want, n, fmt.Sprintf("%s needs Omni %s or newer, and this one is %s; take it out of the template, or upgrade Omni", n, n.Since, c.Server))
		}
	}
}

// checkDisk reports the choice of a disk in a way that the server does not have.
func (c *check) checkDisk(want *installdisk.Config) {
	if !c.Server.Has(installdisk.Since) { // of a version that is not known, too: then the kind is not watched
		c.report(want, fmt.Sprintf("install.diskSelector needs Omni %s or newer, and this one is %s; say install.disk in its place, or upgrade Omni", installdisk.Since, c.Server))
	}
}

// written returns a resource as it will be written, with what is kept of the live one; nil if it is not.
func (c *check) written(want resource.Resource) resource.Resource {
	if c.Plan == nil {
		return want
	}

	for i := range c.Plan.Changes {
		if change := &c.Plan.Changes[i]; change.New != nil && refOf(change.New) == refOf(want) {
			return change.New
		}
	}

	return nil
}

func (c *check) backupInterval(features *omni.FeaturesConfig, have, want *omni.Cluster) string {
	backup, bounds := want.TypedSpec().Value.GetBackupConfiguration(), features.TypedSpec().Value.GetEtcdBackupSettings()
	if backup == nil || bounds.GetMinInterval() == nil || bounds.GetMaxInterval() == nil || have != nil && !c.isWritten(have, want) {
		return ""
	}

	interval, shortest, longest := backup.GetInterval().AsDuration(), bounds.GetMinInterval().AsDuration(), bounds.GetMaxInterval().AsDuration()
	if interval >= shortest && interval <= longest {
		return ""
	}

	return fmt.Sprintf("Omni takes a backup interval from %s to %s, not %s", shortest, longest, interval)
}

// versions returns why Omni would refuse the versions of a cluster; "" if it would not.
// A cluster that keeps both of them keeps them, whatever Omni offers by now.
func (c *check) versions(have, want *omni.Cluster) string {
	spec := want.TypedSpec().Value
	sameTalos := have != nil && have.TypedSpec().Value.TalosVersion == spec.TalosVersion

	if sameTalos && have.TypedSpec().Value.KubernetesVersion == spec.KubernetesVersion {
		return ""
	}

	version := get[*omni.TalosVersion](c, omni.TalosVersionType, spec.TalosVersion)

	switch {
	case version != nil:
	case sameTalos:
		return "" // Omni has forgotten this Talos, and then takes any Kubernetes with it
	case len(c.Snapshot.List(omni.TalosVersionType)) == 0:
		return ""
	default:
		return fmt.Sprintf("Omni does not offer Talos %s%s", spec.TalosVersion, c.offeredTalos(have))
	}

	first, bounded := c.firstTalos(have)

	switch {
	case version.TypedSpec().Value.GetDeprecated() && !c.isDeprecated(have):
		return fmt.Sprintf("Talos %s is deprecated: Omni takes it only where a deprecated version runs already%s", spec.TalosVersion, c.offeredTalos(have))
	case version.TypedSpec().Value.GetUnsupported():
		return fmt.Sprintf("Talos %s is newer than this Omni supports%s", spec.TalosVersion, c.offeredTalos(have))
	case bounded && isBelow(spec.TalosVersion, first):
		return fmt.Sprintf("Talos cannot go down to %s: the cluster began with %d.%d, and Omni goes no lower than that%s",
			spec.TalosVersion, first.Major, first.Minor, c.offeredTalos(have))
	}

	return c.kubernetes(have, want, version.TypedSpec().Value.GetCompatibleKubernetesVersions())
}

// kubernetes returns why Omni would refuse the Kubernetes of a cluster, of those that go
// with its Talos.
func (c *check) kubernetes(have, want *omni.Cluster, compatible []string) string {
	spec := want.TypedSpec().Value

	reachable := slices.DeleteFunc(slices.Clone(compatible), func(version string) bool {
		return have != nil && !c.canUpgrade(have, version)
	})

	switch {
	case !slices.Contains(compatible, spec.KubernetesVersion):
		return fmt.Sprintf("Omni does not offer Kubernetes %s with Talos %s%s", spec.KubernetesVersion, spec.TalosVersion, offer(reachable))
	case !slices.Contains(reachable, spec.KubernetesVersion):
		return fmt.Sprintf("Kubernetes cannot go from %s to %s: Omni goes up by one minor version at a time and never down by one%s",
			have.TypedSpec().Value.KubernetesVersion, spec.KubernetesVersion, offer(reachable))
	default:
		return ""
	}
}

// canUpgrade reports whether Omni lets a cluster go to a version of Kubernetes. The
// versions themselves are known to Omni; one that cannot be parsed is left to it.
func (c *check) canUpgrade(cluster *omni.Cluster, version string) bool {
	from, err := semver.ParseTolerant(cluster.TypedSpec().Value.KubernetesVersion)
	if err != nil {
		return true
	}

	to, err := semver.ParseTolerant(version)
	if err != nil {
		return true
	}

	if from.Major == to.Major && (to.Minor == from.Minor || to.Minor == from.Minor+1) {
		return true
	}

	// While an upgrade is under way, Omni lets it be taken back.
	upgrade := get[*omni.KubernetesUpgradeStatus](c, omni.KubernetesUpgradeStatusType, cluster.Metadata().ID())
	if upgrade == nil {
		return false
	}

	goal, err := semver.ParseTolerant(upgrade.TypedSpec().Value.GetCurrentUpgradeVersion())
	if err != nil {
		return false // no upgrade
	}

	before, err := semver.ParseTolerant(upgrade.TypedSpec().Value.GetLastUpgradeVersion())
	if err != nil {
		return false // the first version, to which there is no way back
	}

	return from.LT(goal) && to.LT(before) || from.EQ(goal) && to.EQ(before)
}

// firstTalos returns the Talos for which the configuration of a cluster was first made.
func (c *check) firstTalos(cluster *omni.Cluster) (semver.Version, bool) {
	if cluster == nil {
		return semver.Version{}, false
	}

	first := get[*omni.ClusterConfigVersion](c, omni.ClusterConfigVersionType, cluster.Metadata().ID())
	if first == nil {
		return semver.Version{}, false
	}

	version, err := semver.ParseTolerant(first.TypedSpec().Value.GetVersion())

	return version, err == nil
}

// isBelow compares minor versions.
func isBelow(version string, first semver.Version) bool {
	parsed, err := semver.ParseTolerant(version)

	return err == nil && (parsed.Major < first.Major || parsed.Major == first.Major && parsed.Minor < first.Minor)
}

func (c *check) isDeprecated(cluster *omni.Cluster) bool {
	if cluster == nil {
		return false
	}

	version := get[*omni.TalosVersion](c, omni.TalosVersionType, cluster.TypedSpec().Value.TalosVersion)

	return version != nil && version.TypedSpec().Value.GetDeprecated()
}

// offeredTalos names the versions of Talos that Omni would take for a cluster, nil for a new one.
func (c *check) offeredTalos(cluster *omni.Cluster) string {
	var versions []string

	first, bounded := c.firstTalos(cluster)

	for _, r := range c.Snapshot.List(omni.TalosVersionType) {
		version, ok := r.(*omni.TalosVersion)
		if !ok || version.TypedSpec().Value.GetUnsupported() || version.TypedSpec().Value.GetDeprecated() && !c.isDeprecated(cluster) {
			continue
		}

		if !bounded || !isBelow(version.Metadata().ID(), first) {
			versions = append(versions, version.Metadata().ID())
		}
	}

	return offer(versions)
}

// maxOffered bounds how many alternatives a message names.
const maxOffered = 5

// offer ends a message with the versions there are to choose from, newest first; "" if
// there is none. Of what is no release it says nothing.
func offer(versions []string) string {
	var releases []semver.Version

	for _, version := range versions {
		if parsed, err := semver.ParseTolerant(version); err == nil && len(parsed.Pre) == 0 {
			releases = append(releases, parsed)
		}
	}

	slices.SortFunc(releases, func(a, b semver.Version) int { return b.Compare(a) })

	names := make([]string, 0, len(releases))
	for _, release := range releases {
		names = append(names, release.String())
	}

	if len(names) == 0 {
		return ""
	}

	return "; it offers " + some(names)
}
