package sync

import (
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/history"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/render"
	sourcerev "github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// idleEngine returns an engine that runs nothing and has the source s.
func idleEngine() *Engine {
	return New(Config{
		Sources:  []SourceConfig{{Name: "s", Source: idle{}}},
		Snapshot: omni.NewSnapshot(SnapshotConfig(nil)),
	})
}

// put brings a resource into the snapshot of an engine, as one that it has just created.
func put(e *Engine, r resource.Resource) {
	version, _ := resource.ParseVersion("1")
	if before, ok := e.Snapshot.Get(r.Metadata().Type(), r.Metadata().ID()); ok {
		version = before.Metadata().Version().Next()
		r.Metadata().SetCreated(before.Metadata().Created())
	}

	r.Metadata().SetVersion(version)
	e.Snapshot.Put(r)
}

// member returns a machine of the cluster a.
func member(id string, phase resource.Phase, controlPlane bool) resource.Resource {
	set := "a-workers"
	if controlPlane {
		set = "a-control-planes"
	}

	r := omnires.NewMachineSetNode(id, omnires.NewMachineSet(set))
	r.Metadata().Labels().Set(omnires.LabelCluster, "a")
	r.Metadata().SetPhase(phase)

	if controlPlane {
		r.Metadata().Labels().Set(omnires.LabelControlPlaneRole, "")
	}

	return r
}

// problem is one of many.
var problem = template.Problem{Message: "no"}

type recorder []history.Entry

func (r *recorder) Add(entry history.Entry) { *r = append(*r, entry) }

// inMemory returns an engine that writes to a state in memory, and a target of it.
func inMemory(wrap func(state.State) state.State) (*Engine, *target) {
	e := idleEngine()
	e.State = state.WrapCore(inmem.NewState("default"))

	if wrap != nil {
		e.State = wrap(e.State)
	}

	from := &desired{}
	e.sources.get("s").desired.Store(from)

	return e, &target{Key: Key{"s", "a"}, src: e.sources.get("s"), from: from}
}

// revision accepts a revision of a source: names and digests of its targets.
func revision(e *Engine, source, id string, targets map[string]string) *desired {
	var rendered []*render.Target
	for name, digest := range targets {
		rendered = append(rendered, &render.Target{Name: name, Digest: digest})
	}

	slices.SortFunc(rendered, func(a, b *render.Target) int { return strings.Compare(a.Name, b.Name) })

	src := e.sources.get(source)
	e.accept(src, sourcerev.Revision{ID: id}, &reading{set: &template.Set{}, targets: rendered})

	return src.desired.Load()
}

// oddFiles fails to look at a file.
type oddFiles struct{ err error }

func (o oddFiles) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: o.err}
}

// marked returns a cluster of the source s, from the place that the tests read.
func marked(name string, phase resource.Phase) resource.Resource {
	r := fromOrigin(name, diff.Origin{Place: place, File: "clusters/" + name + ".yaml", Commit: "3f2a1c"})
	r.Metadata().SetPhase(phase)

	return r
}

// fromOrigin returns a cluster of the source s.
func fromOrigin(name string, origin diff.Origin) resource.Resource {
	r := omnires.NewCluster(name)
	value, _ := json.Marshal(origin)
	r.Metadata().Annotations().Set(diff.MarkSource, "s")
	r.Metadata().Annotations().Set(diff.MarkOrigin, string(value))

	return r
}

// other is a source that is not the same one as idle.
type other struct{ idle }

// heldCluster returns the cluster a of the snapshot.
func heldCluster(e *Engine) resource.Resource {
	r, _ := e.Snapshot.Get(omnires.ClusterType, "a")

	return r
}

// broken makes a source describe a target in a broken file only.
func broken(e *Engine, source, name string) {
	e.sources.get(source).desired.Store(&desired{broken: map[string]error{name: errors.New("a typo")}})
}

// drain takes all but the last from the queue and returns that.
func drain(e *Engine) (key Key) {
	for e.queue.Len() > 0 {
		key, _ = e.queue.Get()
		e.queue.Done(key)
	}

	return key
}

// lockedNode is a machine with a lock that came from Git.
func lockedNode(phase resource.Phase) resource.Resource {
	r := member("m1", phase, false)
	r.Metadata().Annotations().Set(diff.MarkSource, "s")
	r.Metadata().Annotations().Set(diff.MarkLocked, "")
	r.Metadata().Annotations().Set(omnires.MachineLocked, "")

	return r
}
