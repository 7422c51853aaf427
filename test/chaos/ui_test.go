package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// addForeign makes a cluster with a patch and a machine class that only the UI knows.
func (w *world) addForeign(ctx context.Context) error {
	cluster := omni.NewCluster(foreignPrefix + "cluster")
	cluster.TypedSpec().Value.KubernetesVersion, cluster.TypedSpec().Value.TalosVersion = "1.34.3", "1.12.0"

	owned, stranger := omni.NewCluster(ownedByOther), omni.NewCluster(alien)
	origin := `{"repository":"git.example.com/other/fleet","ref":"main","path":"clusters","file":"clusters/alien.yaml","commit":"0123"}`

	for _, r := range []*omni.Cluster{owned, stranger} {
		r.TypedSpec().Value.KubernetesVersion, r.TypedSpec().Value.TalosVersion = "1.34.3", "1.12.0"
		r.Metadata().Annotations().Set(diff.MarkOrigin, origin)
	}

	owned.Metadata().Annotations().Set(diff.MarkSource, otherSource)
	stranger.Metadata().Annotations().Set(diff.MarkSource, sourceName)

	class := omni.NewMachineClass(foreignPrefix + "class")
	class.TypedSpec().Value.MatchLabels = []string{"a = b"}

	for _, r := range []resource.Resource{cluster, owned, stranger, class, foreignPatch(foreignPrefix+"patch", cluster.Metadata().ID())} {
		if err := w.st.Create(ctx, r); err != nil {
			return err
		}
	}

	return nil
}

func foreignPatch(id, cluster string) resource.Resource {
	patch := omni.NewConfigPatch(id)
	patch.Metadata().Labels().Set(omni.LabelCluster, cluster)

	if err := patch.TypedSpec().Value.SetUncompressedData([]byte("machine: {nodeLabels: {ui: x}}")); err != nil {
		panic(err) // it is constant
	}

	return patch
}

// pick returns one of our live resources of a type that match; nil if there is none.
func (w *world) pick(ctx context.Context, typ resource.Type, n uint64, match func(resource.Resource) bool) resource.Resource {
	list, err := w.st.List(ctx, resource.NewMetadata(resources.DefaultNamespace, typ, "", resource.VersionUndefined))
	w.must(err)

	items := slices.DeleteFunc(list.Items, func(r resource.Resource) bool {
		return diff.SourceOf(r) != sourceName || strings.HasPrefix(clusterOf(r), foreignPrefix) || r.Metadata().Phase() != resource.PhaseRunning || match != nil && !match(r)
	})
	if len(items) == 0 {
		return nil
	}

	return items[n%uint64(len(items))]
}

// edit changes a resource as the UI does, unless it is gone or going meanwhile.
func (w *world) edit(ctx context.Context, r resource.Resource, change func(resource.Resource)) bool {
	_, err := w.st.UpdateWithConflicts(ctx, r.Metadata(), func(r resource.Resource) error {
		change(r)

		return nil
	}, state.WithUpdateOwner(r.Metadata().Owner()))
	if err != nil && !state.IsNotFoundError(err) && !state.IsPhaseConflictError(err) {
		w.must(err)
	}

	return err == nil
}

var editable = []resource.Type{omni.ClusterType, omni.MachineSetType, omni.ConfigPatchType, omni.MachineSetNodeType}

func uiLabel(ctx context.Context, w *world, s step) string {
	r := w.pick(ctx, editable[s.a%uint64(len(editable))], s.b, nil)
	if r == nil {
		return "nothing there"
	}

	w.edit(ctx, r, func(r resource.Resource) {
		if s.c%2 == 0 {
			r.Metadata().Labels().Set("ui/colour", fmt.Sprint(s.c))
		} else {
			r.Metadata().Annotations().Set("ui/note", fmt.Sprint(s.c))
		}
	})

	return refOf(r).String()
}

func uiTamper(ctx context.Context, w *world, s step) string {
	r := w.pick(ctx, omni.ConfigPatchType, s.a, nil)
	if r == nil {
		return "nothing there"
	}

	w.edit(ctx, r, func(r resource.Resource) {
		if patch, ok := r.(*omni.ConfigPatch); ok {
			w.must(patch.TypedSpec().Value.SetUncompressedData(fmt.Appendf(nil, "machine: {nodeLabels: {ui: \"%d\"}}", s.b)))
		}
	})

	return refOf(r).String()
}

func uiDestroy(ctx context.Context, w *world, s step) string {
	r := w.pick(ctx, omni.ConfigPatchType, s.a, nil)
	if r == nil {
		return "nothing there"
	}

	w.shadow.tears(refOf(r))

	if _, err := w.st.Teardown(ctx, r.Metadata()); err != nil && !state.IsNotFoundError(err) {
		w.must(err)
	}

	return refOf(r).String()
}

// uiStrip takes our mark off a patch: from then on it is nobody's, until Git adopts it.
func uiStrip(ctx context.Context, w *world, s step) string {
	r := w.pick(ctx, omni.ConfigPatchType, s.a, nil)
	if r == nil {
		return "nothing there"
	}

	w.edit(ctx, r, func(r resource.Resource) { r.Metadata().Annotations().Delete(diff.MarkSource) })

	return refOf(r).String()
}

func uiForeign(ctx context.Context, w *world, s step) string {
	cluster := w.pick(ctx, omni.ClusterType, s.a, nil)
	if cluster == nil {
		return "nothing there"
	}

	r := foreignPatch(fmt.Sprintf("%s%d", foreignPrefix, s.n), cluster.Metadata().ID())
	w.must(w.st.Create(ctx, r))

	return refOf(r).String() + " in " + cluster.Metadata().ID()
}

func uiLockMachine(ctx context.Context, w *world, s step) string {
	// Omni locks no machine of a control plane.
	r := w.pick(ctx, omni.MachineSetNodeType, s.a, func(r resource.Resource) bool {
		set, _ := r.Metadata().Labels().Get(omni.LabelMachineSet)

		return strings.HasSuffix(set, "-workers")
	})
	if r == nil {
		return "nothing there"
	}

	w.edit(ctx, r, func(r resource.Resource) { r.Metadata().Annotations().Set(omni.MachineLocked, "") })

	return refOf(r).String()
}

func uiLockCluster(ctx context.Context, w *world, s step) string {
	r := w.pick(ctx, omni.ClusterType, s.a, nil)
	if r == nil {
		return "nothing there"
	}

	w.edit(ctx, r, func(r resource.Resource) { r.Metadata().Annotations().Set(omni.ClusterLocked, "") })

	return refOf(r).String()
}

func uiUnlock(ctx context.Context, w *world, s step) string {
	types := []resource.Type{omni.ClusterType, omni.MachineSetNodeType}

	r := w.pick(ctx, types[s.b%2], s.a, locked)
	if r == nil {
		return "nothing there"
	}

	w.unlock(ctx, r)

	return refOf(r).String()
}

// unlock takes a lock away, as the UI does.
func (w *world) unlock(ctx context.Context, r resource.Resource) {
	key := refOf(r)

	w.shadow.mu.Lock()
	w.shadow.unlocking[key] = true
	w.shadow.mu.Unlock()

	unlocked := w.edit(ctx, r, func(r resource.Resource) {
		r.Metadata().Annotations().Delete(omni.ClusterLocked)
		r.Metadata().Annotations().Delete(omni.MachineLocked)
	})
	if !unlocked {
		w.shadow.mu.Lock()
		defer w.shadow.mu.Unlock()

		delete(w.shadow.unlocking, key)
	}
}

// unlockAll takes every lock away that somebody set in the UI.
func (w *world) unlockAll(ctx context.Context) {
	for _, typ := range []resource.Type{omni.ClusterType, omni.MachineSetNodeType} {
		list, err := w.st.List(ctx, resource.NewMetadata(resources.DefaultNamespace, typ, "", resource.VersionUndefined))
		w.must(err)

		for _, r := range list.Items {
			if locked(r) && r.Metadata().Phase() == resource.PhaseRunning {
				w.unlock(ctx, r)
			}
		}
	}
}
