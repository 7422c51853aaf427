package sync_test

import (
	"fmt"
	"testing"
	"testing/fstest"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/google/go-cmp/cmp"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// cluster returns the template of a small cluster.
func cluster(name, kubernetes string, machines ...string) *fstest.MapFile {
	text := fmt.Sprintf("kind: Cluster\nname: %s\nkubernetes: {version: v%s}\ntalos: {version: v1.12.0}\n---\nkind: ControlPlane\nmachines:\n", name, kubernetes)
	for _, m := range machines {
		text += "  - " + m + "\n"
	}

	return &fstest.MapFile{Data: []byte(text)}
}

func machine(n int) string { return fmt.Sprintf("5f3a1c00-0000-4000-8000-%012d", n) }

// fleet returns the templates of some clusters with one machine each.
func fleet(kubernetes string, names ...string) fstest.MapFS {
	files := fstest.MapFS{}
	for _, name := range names {
		files[name+".yaml"] = cluster(name, kubernetes, machine(int(name[0])))
	}

	return files
}

// syncs returns the sync status by target.
func syncs(s sync.Status) map[string]sync.SyncStatus {
	got := map[string]sync.SyncStatus{}
	for i := range s.Targets {
		got[s.Targets[i].Target] = s.Targets[i].Sync
	}

	return got
}

func message(s sync.Status, target string) string {
	for i := range s.Targets {
		if s.Targets[i].Target == target {
			return s.Targets[i].Message
		}
	}

	return ""
}

// live returns the IDs of the resources of a type that carry no owner.
func live(t *testing.T, o *daemon.Omni, typ resource.Type) []string {
	t.Helper()

	list, err := o.State().List(t.Context(), resource.NewMetadata(resources.DefaultNamespace, typ, "", resource.VersionUndefined))
	if err != nil {
		t.Fatal(err)
	}

	var ids []string

	for _, r := range list.Items {
		if r.Metadata().Owner() == "" {
			ids = append(ids, r.Metadata().ID())
		}
	}

	return ids
}

func expect(t *testing.T, what string, want, got any) {
	t.Helper()

	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

func synced(names ...string) map[string]sync.SyncStatus {
	want := map[string]sync.SyncStatus{}
	for _, name := range names {
		want[name] = sync.Synced
	}

	return want
}

// offer makes Omni offer a Kubernetes version.
func offer(t *testing.T, o *daemon.Omni, version string) {
	t.Helper()

	if _, err := o.State().UpdateWithConflicts(t.Context(), omnires.NewTalosVersion("1.12.0").Metadata(), func(r resource.Resource) error {
		spec := r.(*omnires.TalosVersion).TypedSpec().Value
		spec.CompatibleKubernetesVersions = append(spec.CompatibleKubernetesVersions, version)

		return nil
	}); err != nil {
		t.Fatal(err)
	}

	offered := omnires.NewKubernetesVersion(version)
	offered.TypedSpec().Value.Version = version

	if err := o.State().Create(t.Context(), offered); err != nil {
		t.Fatal(err)
	}
}

func relabel(t *testing.T, o *daemon.Omni, cluster, key, value string) {
	t.Helper()

	md := omnires.NewCluster(cluster).Metadata()
	if _, err := o.State().UpdateWithConflicts(t.Context(), md, func(r resource.Resource) error {
		r.Metadata().Labels().Set(key, value)

		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func hasLabel(t *testing.T, o *daemon.Omni, cluster, key string) bool {
	t.Helper()

	r, err := o.State().Get(t.Context(), omnires.NewCluster(cluster).Metadata())
	if err != nil {
		t.Fatal(err)
	}

	_, ok := r.Metadata().Labels().Get(key)

	return ok
}

// annotation returns an annotation of a cluster; "" if it has none.
func annotation(t *testing.T, o *daemon.Omni, cluster, key string) string {
	t.Helper()

	r, err := o.State().Get(t.Context(), omnires.NewCluster(cluster).Metadata())
	if err != nil {
		t.Fatal(err)
	}

	value, _ := r.Metadata().Annotations().Get(key)

	return value
}
