package preflight_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/blang/semver/v4"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/system"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/installdisk"
	"github.com/omni-syncd/omni-syncd/pkg/preflight"
)

var _ preflight.Live = (*livestate.Snapshot)(nil)

// source is the mark of everything the tests write.
const source = "preflight"

// memory is a live state that stands still.
type memory map[resource.Type]map[resource.ID]resource.Resource

func (m memory) put(all ...resource.Resource) memory {
	for _, r := range all {
		if m[r.Metadata().Type()] == nil {
			m[r.Metadata().Type()] = map[resource.ID]resource.Resource{}
		}

		m[r.Metadata().Type()][r.Metadata().ID()] = r
	}

	return m
}

func (m memory) Get(typ resource.Type, id resource.ID) (resource.Resource, bool) {
	r, ok := m[typ][id]

	return r, ok
}

func (m memory) List(typ resource.Type) []resource.Resource {
	var all []resource.Resource
	for _, r := range m[typ] {
		all = append(all, r)
	}

	slices.SortFunc(all, func(a, b resource.Resource) int {
		return slices.Compare([]byte(a.Metadata().ID()), []byte(b.Metadata().ID()))
	})

	return all
}

// cluster returns what diff.Compute gets as the live state of a target.
func (m memory) cluster(name string, desired []resource.Resource) []resource.Resource {
	mine := memory{}

	for _, all := range m {
		for _, r := range all {
			if owner, _ := r.Metadata().Labels().Get(omni.LabelCluster); owner == name || r.Metadata().Type() == omni.ClusterType && r.Metadata().ID() == name {
				mine.put(r)
			}
		}
	}

	for _, want := range desired {
		if r, ok := m.Get(want.Metadata().Type(), want.Metadata().ID()); ok {
			mine.put(r)
		}
	}

	var all []resource.Resource
	for typ := range mine {
		all = append(all, mine.List(typ)...)
	}

	return all
}

// check runs the preflight of a target.
func (m memory) check(name string, desired []resource.Resource) []preflight.Finding {
	in := preflight.Input{Target: name, Desired: desired, Live: m.cluster(name, desired), Snapshot: m, Server: m.server()}
	in.Plan = diff.Compute(diff.Input{Source: source, Target: name, Desired: desired, Live: in.Live})

	return preflight.Check(in)
}

// server is the version of the Omni, as the Snapshot knows it; "" if none was put.
func (m memory) server() livestate.Server {
	version, _ := m[system.SysVersionType][system.SysVersionID].(*system.SysVersion)
	if version == nil {
		return ""
	}

	return livestate.Server(version.TypedSpec().Value.GetBackendVersion())
}

func newServer(version livestate.Server) *system.SysVersion {
	res := system.NewSysVersion(system.SysVersionID)
	res.TypedSpec().Value.BackendVersion = string(version)

	return res
}

// apply makes the live state what Git says, whatever Omni would think of it.
func (m memory) apply(name string, desired []resource.Resource) {
	plan := diff.Compute(diff.Input{Source: source, Target: name, Desired: desired, Live: m.cluster(name, desired)})
	for i := range plan.Changes {
		if plan.Changes[i].New != nil {
			m.put(plan.Changes[i].New)
		}
	}
}

// lab makes resources of a cluster named cluster, of versions that an Omni offers.
type lab struct {
	cluster string
	server  livestate.Server
	catalogue
}

// until is what a rule says that a release has no more, and since what one says that a release brings.
func (l lab) until(release, says string) string {
	if l.server.AtLeast(release) {
		return ""
	}

	return says
}

func (l lab) since(release, says string) string {
	if l.server.AtLeast(release) {
		return says
	}

	return ""
}

func (l lab) newCluster(edits ...func(*specs.ClusterSpec)) *omni.Cluster {
	res := omni.NewCluster(l.cluster)
	res.TypedSpec().Value.TalosVersion, res.TypedSpec().Value.KubernetesVersion = l.talos, l.kubernetes

	for _, edit := range edits {
		edit(res.TypedSpec().Value)
	}

	return res
}

func versions(talos, kubernetes string) func(*specs.ClusterSpec) {
	return func(spec *specs.ClusterSpec) { spec.TalosVersion, spec.KubernetesVersion = talos, kubernetes }
}

func encrypted(spec *specs.ClusterSpec) {
	spec.Features = &specs.ClusterSpec_Features{DiskEncryption: true}
}

func backups(interval time.Duration) func(*specs.ClusterSpec) {
	return func(spec *specs.ClusterSpec) {
		spec.BackupConfiguration = &specs.EtcdBackupConf{Enabled: true, Interval: durationpb.New(interval)}
	}
}

func (l lab) controlPlane(edits ...func(*specs.MachineSetSpec)) *omni.MachineSet {
	return l.set(omni.ControlPlanesResourceID(l.cluster), omni.LabelControlPlaneRole, edits)
}

func (l lab) workers(edits ...func(*specs.MachineSetSpec)) *omni.MachineSet {
	return l.set(l.cluster+"-workers", omni.LabelWorkerRole, edits)
}

func (l lab) set(id, role string, edits []func(*specs.MachineSetSpec)) *omni.MachineSet {
	res := omni.NewMachineSet(id)
	res.Metadata().Labels().Set(omni.LabelCluster, l.cluster)
	res.Metadata().Labels().Set(role, "")

	for _, edit := range edits {
		edit(res.TypedSpec().Value)
	}

	return res
}

func (l lab) ofClass(name string) func(*specs.MachineSetSpec) {
	return func(spec *specs.MachineSetSpec) {
		spec.MachineAllocation = &specs.MachineSetSpec_MachineAllocation{Name: l.cluster + "-" + name, MachineCount: 1}
	}
}

func (l lab) restored(spec *specs.MachineSetSpec) {
	spec.BootstrapSpec = &specs.MachineSetSpec_BootstrapSpec{ClusterUuid: l.cluster + "-lost", Snapshot: "x"}
}

// lost is the cluster that one is restored from.
func (l lab) lost() *omni.ClusterUUID {
	res := omni.NewClusterUUID(l.cluster + "-lost")
	res.TypedSpec().Value.Uuid = res.Metadata().ID()
	res.Metadata().Labels().Set(omni.LabelClusterUUID, res.Metadata().ID())

	return res
}

func (l lab) bootstrapped() *omni.ClusterBootstrapStatus {
	res := omni.NewClusterBootstrapStatus(l.cluster)
	res.TypedSpec().Value.Bootstrapped = true

	return res
}

// began is what Omni notes of the first Talos of a cluster.
func (l lab) began(version string) *omni.ClusterConfigVersion {
	res := omni.NewClusterConfigVersion(l.cluster)
	res.TypedSpec().Value.Version = version

	return res
}

func (l lab) patch(data string) *omni.ConfigPatch {
	res := omni.NewConfigPatch("100-" + l.cluster)
	res.Metadata().Labels().Set(omni.LabelCluster, l.cluster)

	if err := res.TypedSpec().Value.SetUncompressedData([]byte(data)); err != nil {
		panic(err)
	}

	return res
}

// embeddedDiscovery uses Omni's own discovery service.
func embeddedDiscovery(spec *specs.ClusterSpec) {
	spec.Features = &specs.ClusterSpec_Features{UseEmbeddedDiscoveryService: true}
}

// noPublicDiscovery sets disablePublicDiscoveryService, a field of Omni 1.10 that this client does not know.
func noPublicDiscovery(cluster *omni.Cluster) {
	features := cluster.TypedSpec().Value.GetFeatures().ProtoReflect()
	features.SetUnknown(protowire.AppendVarint(protowire.AppendTag(features.GetUnknown(), 5, protowire.VarintType), 1))
}

func (l lab) machine(name string) *omni.MachineSetNode {
	return omni.NewMachineSetNode(l.cluster+"-"+name, l.workers())
}

// class matches no machine.
// picked is how the disk of a machine is picked.
func (l lab) picked(expression string) resource.Resource {
	r := installdisk.New(l.machine("m").Metadata().ID())
	r.TypedSpec().Value.DiskSelector = expression

	return r
}

func (l lab) class(name string) *omni.MachineClass {
	res := omni.NewMachineClass(l.cluster + "-" + name)
	res.TypedSpec().Value.MatchLabels = []string{l.cluster + " = none"}

	return res
}

func (l lab) extensions(names ...string) *omni.ExtensionsConfiguration {
	res := omni.NewExtensionsConfiguration("schematic-" + l.cluster)
	res.Metadata().Labels().Set(omni.LabelCluster, l.cluster)
	res.TypedSpec().Value.Extensions = names

	return res
}

// catalogue is what the tests need of the versions that an Omni offers.
type catalogue struct {
	talos, talosPatch, talosDown, talosUp                     string // one minor twice, and the minors around it
	talosDeprecated                                           string // "" if there is none
	kubernetes, kubernetesDown, kubernetesUp, kubernetesTwoUp string // the last goes with talosUp and not with talos
	extension                                                 string // in full, of talos
	byCall, byCallUp                                          string // two minors that Omni 1.10 can install on any machine; "" if there are none
}

// readCatalogue fails a test whose Omni does not offer enough to ask all questions.
func readCatalogue(t *testing.T, live preflight.Live) catalogue {
	t.Helper()

	var (
		c       catalogue
		offered = map[uint64][]semver.Version{}
		takes   = map[string][]string{}
	)

	for _, r := range live.List(omni.TalosVersionType) {
		spec := r.(*omni.TalosVersion).TypedSpec().Value

		switch version, err := semver.Parse(r.Metadata().ID()); {
		case err != nil || len(version.Pre) > 0 || spec.GetUnsupported():
		case spec.GetDeprecated():
			c.talosDeprecated = version.String()
		default:
			offered[version.Minor] = append(offered[version.Minor], version)
			takes[version.String()] = spec.GetCompatibleKubernetesVersions()
		}
	}

	first := func(talos string, minor uint64) string {
		i := slices.IndexFunc(takes[talos], func(version string) bool { return semver.MustParse(version).Minor == minor })
		if i < 0 {
			return ""
		}

		return takes[talos][i]
	}

	for _, minor := range slices.Backward(slices.Sorted(maps.Keys(offered))) {
		patches, down, up := offered[minor], offered[minor-1], offered[minor+1]
		semver.Sort(patches)

		if minor >= 13 && len(up) > 0 {
			c.byCall, c.byCallUp = patches[0].String(), up[0].String()
		}

		if len(patches) < 2 || len(down) == 0 || len(up) == 0 {
			continue
		}

		semver.Sort(down)

		for _, version := range takes[patches[0].String()] {
			k := semver.MustParse(version).Minor
			kdown, kup, twoUp := first(patches[0].String(), k-1), first(patches[0].String(), k+1), first(up[0].String(), k+2)

			if kdown != "" && kup != "" && twoUp != "" && first(patches[0].String(), k+2) == "" && slices.Contains(takes[down[0].String()], version) {
				c.talos, c.talosPatch, c.talosDown, c.talosUp = patches[0].String(), patches[len(patches)-1].String(), down[0].String(), up[0].String()
				c.kubernetes, c.kubernetesDown, c.kubernetesUp, c.kubernetesTwoUp = version, kdown, kup, twoUp
			}
		}
	}

	if extensions, ok := live.Get(omni.TalosExtensionsType, c.talos); ok {
		c.extension = extensions.(*omni.TalosExtensions).TypedSpec().Value.GetItems()[0].GetName()
	}

	if c.talos == "" || c.kubernetes == "" || c.extension == "" {
		t.Fatalf("this Omni does not offer what the tests need: %+v of %v", c, takes)
	}

	return c
}

// offered is what an Omni offers, for tests without one.
func offered() memory {
	m := memory{}

	for id, kubernetes := range map[string][]string{
		"1.10.0": {"1.33.0", "1.34.0"}, // deprecated
		"1.10.2": {"1.33.0", "1.34.0"}, // deprecated
		"1.11.0": {"1.33.0", "1.34.0", "1.34.3"},
		"1.12.0": {"1.33.0", "1.34.0", "1.34.3", "1.35.0"},
		"1.12.8": {"1.33.0", "1.34.0", "1.34.3", "1.35.0"},
		"1.13.0": {"1.33.0", "1.34.0", "1.34.3", "1.35.0", "1.36.0"},
		"1.14.0": {"1.36.0"}, // unsupported
	} {
		version := omni.NewTalosVersion(id)
		version.TypedSpec().Value.CompatibleKubernetesVersions = kubernetes
		version.TypedSpec().Value.Deprecated = semver.MustParse(id).Minor == 10
		version.TypedSpec().Value.Unsupported = semver.MustParse(id).Minor == 14

		extensions := omni.NewTalosExtensions(id)
		for _, name := range []string{"siderolabs/gvisor", "siderolabs/zfs"} {
			extensions.TypedSpec().Value.Items = append(extensions.TypedSpec().Value.Items, &specs.TalosExtensionsSpec_Info{Name: name})
		}

		if id == "1.13.0" {
			extensions.TypedSpec().Value.Items = append(extensions.TypedSpec().Value.Items, &specs.TalosExtensionsSpec_Info{Name: "siderolabs/new"})
		}

		m.put(version, extensions)
	}

	return m.put(features())
}

func features() *omni.FeaturesConfig {
	res := omni.NewFeaturesConfig(omni.FeaturesConfigID)
	res.TypedSpec().Value.EmbeddedDiscoveryService = true
	res.TypedSpec().Value.EtcdBackupSettings = &specs.EtcdBackupSettings{
		MinInterval: durationpb.New(time.Hour), MaxInterval: durationpb.New(24 * time.Hour),
	}

	return res
}

func list(all ...resource.Resource) []resource.Resource { return all }
