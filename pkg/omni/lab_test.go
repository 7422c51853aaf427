package omni

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// lab is an Omni's state whose watches can be made to fail. It serves in the process and behind gRPC.
type lab struct {
	mu      sync.Mutex
	core    state.CoreState
	streams map[*labStream]bool
	opened  []string // "bootstrap" or "resume", in order

	refuse  error // new watches fail with it
	resumes error // new watches from a bookmark fail with it
	future  bool  // a bookmark is accepted, and then nothing ever comes
	hang    bool  // new watches are never answered
	hold    chan struct{}
}

type labStream struct {
	dead bool
	end  chan error
}

func newLab() *lab {
	return &lab{core: namespaced.NewState(inmem.Build), streams: map[*labStream]bool{}}
}

func (l *lab) current() state.State {
	l.mu.Lock()
	defer l.mu.Unlock()

	return state.WrapCore(l.core)
}

func (l *lab) set(fn func()) {
	l.mu.Lock()
	defer l.mu.Unlock()

	fn()
}

// breakStreams ends every stream with an Errored event of this error. The stream stays open and silent, as Omni's does.
func (l *lab) breakStreams(err error) {
	l.set(func() {
		for stream := range l.streams {
			stream.end <- err
		}
	})
}

// kill makes every stream that is open swallow its events from now on.
func (l *lab) kill() {
	l.set(func() {
		for stream := range l.streams {
			stream.dead = true
		}
	})
}

// restore replaces the state by an older copy of it.
func (l *lab) restore(ctx context.Context, t *testing.T, kinds []Kind, copied []resource.Resource) {
	t.Helper()

	core := inmem.NewStateWithOptions(inmem.WithBackingStore(backup(copied)))(resources.DefaultNamespace)
	for _, kind := range kinds {
		if _, err := core.List(ctx, resource.NewMetadata(kind.Namespace, kind.Type, "", resource.VersionUndefined)); err != nil {
			t.Fatal(err)
		}
	}

	l.set(func() { l.core = core })
}

// backup is a database with these resources in it.
type backup []resource.Resource

func (b backup) Load(_ context.Context, each inmem.LoadHandler) error {
	for _, r := range b {
		if err := each(r.Metadata().Type(), r.DeepCopy()); err != nil {
			return err
		}
	}

	return nil
}

func (backup) Put(context.Context, resource.Type, resource.Resource) error    { return nil }
func (backup) Destroy(context.Context, resource.Type, resource.Pointer) error { return nil }

// contents is everything the server holds.
func (l *lab) contents(t *testing.T, kinds []Kind) []resource.Resource {
	t.Helper()

	var all []resource.Resource

	for _, kind := range kinds {
		list, err := l.current().List(t.Context(), resource.NewMetadata(kind.Namespace, kind.Type, "", resource.VersionUndefined))
		if err != nil {
			t.Fatal(err)
		}

		all = append(all, list.Items...)
	}

	return all
}

func (l *lab) Get(ctx context.Context, p resource.Pointer, o ...state.GetOption) (resource.Resource, error) {
	return l.current().Get(ctx, p, o...)
}

func (l *lab) List(ctx context.Context, k resource.Kind, o ...state.ListOption) (resource.List, error) {
	return l.current().List(ctx, k, o...)
}

func (l *lab) Create(ctx context.Context, r resource.Resource, o ...state.CreateOption) error {
	return l.current().Create(ctx, r, o...)
}

func (l *lab) Update(ctx context.Context, r resource.Resource, o ...state.UpdateOption) error {
	return l.current().Update(ctx, r, o...)
}

func (l *lab) Destroy(ctx context.Context, p resource.Pointer, o ...state.DestroyOption) error {
	return l.current().Destroy(ctx, p, o...)
}

func (l *lab) Watch(ctx context.Context, p resource.Pointer, ch chan<- state.Event, o ...state.WatchOption) error {
	return l.current().Watch(ctx, p, ch, o...)
}

func (l *lab) WatchKind(ctx context.Context, k resource.Kind, ch chan<- state.Event, o ...state.WatchKindOption) error {
	return l.current().WatchKind(ctx, k, ch, o...)
}

func (l *lab) WatchKindAggregated(ctx context.Context, kind resource.Kind, ch chan<- []state.Event, opts ...state.WatchKindOption) error {
	var options state.WatchKindOptions
	for _, o := range opts {
		o(&options)
	}

	resume := options.StartFromBookmark != nil
	stream := &labStream{end: make(chan error, 1)}

	l.mu.Lock()
	core, refuse, hang, silent, hold := l.core, l.refuse, l.hang, l.future && resume, l.hold

	if resume {
		l.opened = append(l.opened, "resume")

		if refuse == nil {
			refuse = l.resumes
		}
	} else {
		l.opened = append(l.opened, "bootstrap")
	}

	if refuse == nil {
		l.streams[stream] = true
		context.AfterFunc(ctx, func() { l.set(func() { delete(l.streams, stream) }) })
	}
	l.mu.Unlock()

	switch {
	case refuse != nil:
		return refuse
	case hang:
		<-ctx.Done()

		return ctx.Err()
	case silent:
		return nil
	}

	inner := make(chan []state.Event)
	if err := core.WatchKindAggregated(ctx, kind, inner, opts...); err != nil {
		return err
	}

	if hold != nil { // the contents have been read, but are not on their way yet
		select {
		case <-hold:
		case <-ctx.Done():
		}
	}

	go func() {
		for {
			var batch []state.Event

			select {
			case <-ctx.Done():
				return
			case err := <-stream.end:
				batch = []state.Event{{Type: state.Errored, Error: err}}
				l.set(func() { stream.dead = true })
			case batch = <-inner:
				var dead bool

				if l.set(func() { dead = stream.dead }); dead {
					continue
				}
			}

			select {
			case ch <- batch:
			case <-ctx.Done():
				return
			}
		}
	}()

	return nil
}

// labKinds are the kinds of the tests; everything in them lives in the default namespace.
var labKinds = []Kind{
	{Namespace: resources.DefaultNamespace, Type: omni.ClusterType},
	{Namespace: resources.DefaultNamespace, Type: omni.ConfigPatchType},
	{Namespace: resources.DefaultNamespace, Type: omni.MachineSetNodeType},
	{Namespace: resources.DefaultNamespace, Type: omni.KernelArgsType},
}

func newCluster(name string) *omni.Cluster {
	return omni.NewCluster(name)
}

func newPatch(id, cluster, data string) *omni.ConfigPatch {
	r := omni.NewConfigPatch(id)
	if cluster != "" {
		r.Metadata().Labels().Set(omni.LabelCluster, cluster)
	}

	setData(r, data)

	return r
}

// setData stores the data of a patch plain, whatever its length.
func setData(r *omni.ConfigPatch, data string) {
	if err := r.TypedSpec().Value.SetUncompressedData([]byte(data), specs.WithConfigCompressionOption(plainConfig)); err != nil {
		panic(err)
	}
}

func newNode(machine, cluster string) *omni.MachineSetNode {
	r := omni.NewMachineSetNode(machine, omni.NewMachineSet(cluster+"-workers"))
	r.Metadata().Labels().Set(omni.LabelCluster, cluster)

	return r
}

// at gives a resource the version and creation time a server would have given it.
func at[R resource.Resource](r R, version uint64, created time.Time) R {
	var v resource.Version
	for range version {
		v = v.Next()
	}

	r.Metadata().SetVersion(v)
	r.Metadata().SetCreated(created)
	r.Metadata().SetUpdated(created.Add(time.Duration(version) * time.Second))

	return r
}
