package preflight

import (
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/installdisk"
	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/template/schema"
)

// Live is the live state of the whole Omni, from memory; [livestate.Snapshot] is one. It
// has to hold what omni-syncd writes, TalosVersions and [Kinds]: a KubernetesUpgradeStatus, a
// ClusterConfigVersion or a ClusterBootstrapStatus that it does not have counts as one that
// does not exist.
type Live interface {
	Get(typ resource.Type, id resource.ID) (resource.Resource, bool)
	List(typ resource.Type) []resource.Resource
}

// Kinds is what [Live] has to hold beyond what is written and the versions on offer.
func Kinds() []livestate.Kind {
	var kinds []livestate.Kind

	for _, typ := range []resource.Type{
		omni.ClusterBootstrapStatusType,  // whether bootstrapSpec is needed any more
		omni.ClusterConfigVersionType,    // below which minor version Talos cannot go
		omni.FeaturesConfigType,          // bounds of backups, and whether Omni serves discovery
		omni.KubernetesUpgradeStatusType, // an upgrade under way may be taken back
		omni.MachineStatusType,           // which Talos a machine runs
		omni.TalosExtensionsType,         // the catalogue of extensions
	} {
		kinds = append(kinds, livestate.Kind{Namespace: resources.DefaultNamespace, Type: typ})
	}

	return kinds
}

// Input is everything that the findings depend on. Resources are read, never written.
type Input struct {
	// Target is the cluster's name.
	Target string
	// Desired are the resources that Git describes; none for a cluster that left Git.
	Desired []resource.Resource
	// Live is what belongs to the cluster, as given to [diff.Compute].
	Live []resource.Resource
	// Classes are the machine classes that the same revision brings and that need not be
	// in Omni yet. Other types are ignored, so the fleet resources can be given as they are.
	Classes []resource.Resource
	// Snapshot knows the rest of Omni.
	Snapshot Live
	// Plan is what [diff.Compute] made of Desired and Live. It says which machines leave; nil: that is not judged.
	Plan *diff.Plan
	// Server is the version of Omni. Where releases differ and this is none that can be read,
	// nothing is judged.
	Server livestate.Server
}

// Finding is one thing that Omni would refuse.
type Finding struct {
	// Resource is the desired resource that it is about; for a machine that leaves, the one that it leaves.
	Resource *resource.Metadata
	// Key is the key of the template that it is about, of those that only newer clients have ([schema.Newer]); nil if it is none.
	Key *schema.Newer
	// Message is one line: what is wrong, and what to do about it.
	Message string
}

// Check returns what Omni would refuse of the writes that make a cluster what Git says,
// in the order of Desired, then machines that cannot leave; nothing if it would take them all. It is pure.
func Check(in Input) []Finding {
	c := check{Input: in, live: make(map[ref]resource.Resource, len(in.Live))}

	for _, r := range in.Live {
		c.live[refOf(r)] = r
	}

	if cluster, ok := c.live[ref{omni.ClusterType, in.Target}].(*omni.Cluster); ok {
		c.cluster = cluster

		if isTearingDown(cluster) {
			return nil // nothing is written before it is gone, and then all is judged anew
		}
	}

	for _, want := range in.Desired {
		if cluster, ok := want.(*omni.Cluster); ok {
			c.wanted = cluster
		}
	}

	for _, want := range in.Desired {
		switch want := want.(type) {
		case *omni.Cluster:
			c.checkCluster(want)
		case *omni.ConfigPatch:
			c.checkPatch(want)
		case *omni.ExtensionsConfiguration:
			c.checkExtensions(want)
		case *installdisk.Config:
			c.checkDisk(want)
		case *omni.MachineSet:
			c.checkMachineSet(want)
		case *omni.MachineSetNode:
			c.checkMachine(want)
		}
	}

	c.checkLeaving()

	return c.findings
}

// check is one run of Check.
type check struct {
	Input

	live map[ref]resource.Resource
	// cluster is the live one, nil if there is none; wanted is the desired one.
	cluster, wanted *omni.Cluster
	// versionsRefused is set once a finding is about the versions of the cluster.
	versionsRefused bool

	findings []Finding
}

func (c *check) report(about resource.Resource, message string) {
	c.findings = append(c.findings, Finding{Resource: about.Metadata(), Message: message})
}

// reportKey is report about a key of the template, if that sets it.
func (c *check) reportKey(about resource.Resource, key schema.Newer, message string) {
	c.report(about, message)

	if render.FlagOf(key).Get(about) {
		c.findings[len(c.findings)-1].Key = &key
	}
}

// get returns a resource of the whole Omni; nil if there is none.
func get[T resource.Resource](c *check, typ resource.Type, id resource.ID) T {
	r, _ := c.Snapshot.Get(typ, id)
	typed, _ := r.(T)

	return typed
}

// twin returns the live resource that becomes want by an update; nil if want has to be
// created, now or when what has its name is gone.
func twin[T resource.Resource](c *check, want T) T {
	have, ok := c.live[refOf(want)].(T)
	if ok && isTearingDown(have) {
		ok = false
	}

	if !ok {
		var none T

		return none
	}

	return have
}

// isWritten reports whether want is certain to be written over its live twin, with more than marks. Omni judges
// a whole resource with every write, also what was there before its rules.
func (c *check) isWritten(have, want resource.Resource) bool {
	if c.Plan != nil {
		return slices.ContainsFunc(c.Plan.Changes, func(change diff.Change) bool {
			return change.Action != diff.Mark && change.New != nil && refOf(change.New) == refOf(want)
		})
	}

	want, _ = livestate.KeepUnknown(have, want) // as it is planned: what only a newer Omni knows is no difference

	return diff.SourceOf(have) == "" || !livestate.EqualSpec(have, want)
}

// ref identifies a resource; every type here lives in one namespace.
type ref struct {
	typ resource.Type
	id  resource.ID
}

func refOf(r resource.Resource) ref { return ref{r.Metadata().Type(), r.Metadata().ID()} }

func isTearingDown(r resource.Resource) bool {
	return r.Metadata().Phase() == resource.PhaseTearingDown
}

func label(r resource.Resource, key string) string {
	value, _ := r.Metadata().Labels().Get(key)

	return value
}
