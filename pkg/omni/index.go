package omni

import (
	"cmp"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// Change names a resource that changed and the cluster it belongs to. The zero Change says that readiness changed.
type Change struct {
	Type    resource.Type
	ID      resource.ID
	Cluster string // empty if it belongs to none
}

// index holds the resources of all kinds, found by type and ID, by cluster and by tag. The Snapshot's lock guards it.
type index struct {
	tag func(resource.Resource) string // may be nil

	types    map[resource.Type]map[resource.ID]resource.Resource
	clusters groups
	tags     groups
	machines map[resource.ID]string // machine ID → its cluster, from the MachineSetNodes
}

// groups are resources by the name of something that they belong to, such as a cluster.
type groups map[string]*members

// members are the resources of a group. They are asked for several times in every pass, and sorted once.
type members struct {
	byRef  map[ref]resource.Resource
	sorted atomic.Pointer[[]resource.Resource] // nil after a change
}

// put adds a resource; a group without a name is none.
func (g groups) put(name string, at ref, r resource.Resource) {
	if name == "" {
		return
	}

	m := g[name]
	if m == nil {
		m = &members{byRef: map[ref]resource.Resource{}}
		g[name] = m
	}

	m.byRef[at] = r
	m.sorted.Store(nil)
}

// remove takes out a resource that is in the group.
func (g groups) remove(name string, at ref) {
	if name == "" {
		return
	}

	m := g[name]
	delete(m.byRef, at)
	m.sorted.Store(nil)

	if len(m.byRef) == 0 {
		delete(g, name)
	}
}

// list returns the resources of a group, sorted by type and ID.
func (g groups) list(name string) []resource.Resource {
	m := g[name]
	if m == nil {
		return nil
	}

	list := m.sorted.Load()
	if list == nil {
		all := sorted(m.byRef, ref.compare)
		list = &all
		m.sorted.Store(list) // others who read may do the same at this moment
	}

	return slices.Clip(*list)
}

type ref struct {
	typ resource.Type
	id  resource.ID
}

// compare sorts by type, then ID.
func (a ref) compare(b ref) int {
	if a.typ != b.typ {
		return cmp.Compare(a.typ, b.typ)
	}

	return cmp.Compare(a.id, b.id)
}

func newIndex(tag func(resource.Resource) string) *index {
	return &index{
		tag:      tag,
		types:    map[resource.Type]map[resource.ID]resource.Resource{},
		clusters: groups{},
		tags:     groups{},
		machines: map[resource.ID]string{},
	}
}

func (x *index) get(typ resource.Type, id resource.ID) (resource.Resource, bool) {
	r, ok := x.types[typ][id]

	return r, ok
}

func (x *index) list(typ resource.Type) []resource.Resource {
	return sorted(x.types[typ], cmp.Compare)
}

// sorted sorts the keys, which is cheaper than asking each resource for its metadata again and again.
func sorted[K comparable](set map[K]resource.Resource, compare func(a, b K) int) []resource.Resource {
	list := make([]resource.Resource, 0, len(set))

	for _, key := range slices.SortedFunc(maps.Keys(set), compare) {
		list = append(list, set[key])
	}

	return list
}

// put stores a resource and returns what to tell: nothing if nobody can see a difference, one change for its cluster,
// two if it moved from one cluster to another.
func (x *index) put(r resource.Resource) []Change {
	old, held := x.get(r.Metadata().Type(), r.Metadata().ID())

	var before Change

	if held {
		before = x.change(old)
		x.unlink(old)
	}

	x.link(r)

	after := x.change(r)

	switch {
	case !held:
		return []Change{after}
	case !differs(old, r):
		return nil
	case before != after:
		return []Change{before, after}
	default:
		return []Change{after}
	}
}

// remove forgets a resource; it does nothing if there is none.
func (x *index) remove(typ resource.Type, id resource.ID) []Change {
	old, held := x.get(typ, id)
	if !held {
		return nil
	}

	change := x.change(old)
	x.unlink(old)

	return []Change{change}
}

func (x *index) link(r resource.Resource) {
	at, cluster := ref{r.Metadata().Type(), r.Metadata().ID()}, clusterOf(r.Metadata())

	set(x.types, at.typ, at.id, r)
	x.clusters.put(cluster, at, r)
	x.tags.put(x.tagOf(r), at, r)

	if cluster != "" && at.typ == omni.MachineSetNodeType {
		x.machines[at.id] = cluster
	}
}

func (x *index) unlink(r resource.Resource) {
	at, cluster := ref{r.Metadata().Type(), r.Metadata().ID()}, clusterOf(r.Metadata())

	unset(x.types, at.typ, at.id)
	x.clusters.remove(cluster, at)
	x.tags.remove(x.tagOf(r), at)

	if cluster != "" && at.typ == omni.MachineSetNodeType {
		delete(x.machines, at.id)
	}
}

func (x *index) tagOf(r resource.Resource) string {
	if x.tag == nil {
		return ""
	}

	return x.tag(r)
}

// change names the cluster of a resource as it stands now. A resource without the cluster label whose ID is that of a
// machine (KernelArgs, MachineLabels) is reported for the cluster the machine is in.
func (x *index) change(r resource.Resource) Change {
	md := r.Metadata()

	return Change{Type: md.Type(), ID: md.ID(), Cluster: cmp.Or(clusterOf(md), x.machines[md.ID()])}
}

// clusterOf is the cluster a resource says it belongs to, or "".
func clusterOf(md *resource.Metadata) string {
	// These carry no label: Omni names them after their cluster.
	switch md.Type() {
	case omni.ClusterType, omni.ClusterStatusType, omni.ClusterBootstrapStatusType, omni.ClusterConfigVersionType, omni.KubernetesUpgradeStatusType,
		omni.TalosUpgradeStatusType:
		return md.ID()
	}

	name, _ := md.Labels().Get(omni.LabelCluster)

	return name
}

// differs reports a difference that matters to somebody. Omni bumps versions, timestamps and finalizers all the time;
// finalizers matter only in a deletion, where they say what it waits for. Equal versions and times are no short cut: a
// version starts again at 1 when an ID is created again, and goes backwards when a database is restored.
func differs(a, b resource.Resource) bool {
	ma, mb := a.Metadata(), b.Metadata()

	if ma.Phase() != mb.Phase() || ma.Owner() != mb.Owner() ||
		!ma.Labels().Equal(*mb.Labels()) || !ma.Annotations().Equal(*mb.Annotations()) {
		return true
	}

	if mb.Phase() == resource.PhaseTearingDown && !sameFinalizers(ma, mb) {
		return true
	}

	return !EqualSpec(a, b)
}

func sameFinalizers(a, b *resource.Metadata) bool {
	return slices.Equal(slices.Sorted(slices.Values(*a.Finalizers())), slices.Sorted(slices.Values(*b.Finalizers())))
}

func set(m map[resource.Type]map[resource.ID]resource.Resource, k resource.Type, l resource.ID, r resource.Resource) {
	if m[k] == nil {
		m[k] = map[resource.ID]resource.Resource{}
	}

	m[k][l] = r
}

func unset(m map[resource.Type]map[resource.ID]resource.Resource, k resource.Type, l resource.ID) {
	delete(m[k], l)

	if len(m[k]) == 0 {
		delete(m, k)
	}
}
