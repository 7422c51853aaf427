package omni

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var errAway = status.Error(codes.Unavailable, "connection refused")

// follower is somebody who knows only what a snapshot tells: it looks at a resource when it is told of it, and at
// everything when readiness changes. If a change were not told, it would show here.
type follower struct {
	snapshot *Snapshot
	kinds    []Kind

	mu        sync.Mutex
	seen      map[ref]resource.Resource
	changes   []Change
	readiness []bool
	told      chan struct{} // closed and replaced with every call
}

func follow(s *Snapshot, kinds []Kind) *follower {
	f := &follower{snapshot: s, kinds: kinds, seen: map[ref]resource.Resource{}, told: make(chan struct{})}
	s.Subscribe(f.tell)

	return f
}

func (f *follower) tell(change Change) {
	// A callback may use the snapshot.
	ready := f.snapshot.Ready()
	f.snapshot.Cluster(change.Cluster)

	f.mu.Lock()
	defer f.mu.Unlock()

	close(f.told)
	f.told = make(chan struct{})

	if change != (Change{}) {
		f.changes = append(f.changes, change)
		f.look(ref{change.Type, change.ID})

		return
	}

	f.readiness = append(f.readiness, ready)

	if len(f.readiness) == 1 { // only the first: after that, every change must be told
		for _, kind := range f.kinds {
			for _, r := range f.snapshot.List(kind.Type) {
				f.look(ref{kind.Type, r.Metadata().ID()})
			}
		}
	}
}

func (f *follower) look(at ref) {
	if r, ok := f.snapshot.Get(at.typ, at.id); ok {
		f.seen[at] = r
	} else {
		delete(f.seen, at)
	}
}

// take returns the changes told since the last time, sorted and without repetition.
func (f *follower) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()

	var told []string
	for _, c := range f.changes {
		told = append(told, strings.TrimSuffix(c.Type, ".omni.sidero.dev")+"/"+c.ID+"@"+c.Cluster)
	}

	f.changes = nil
	slices.Sort(told)

	return slices.Compact(told)
}

// same is the one check of all faults: the snapshot is what the server holds, version by version, its clusters are what
// the labels say, its tags what the phases say, and nobody who follows the changes missed one.
func same(t *testing.T, s *Snapshot, f *follower, server []resource.Resource) {
	t.Helper()

	want, clusters, tags := map[ref]resource.Resource{}, map[string]int{}, map[string]int{}
	for _, r := range server {
		want[ref{r.Metadata().Type(), r.Metadata().ID()}] = r
		clusters[clusterOf(r.Metadata())]++
		tags[patchPhase(r)]++
	}

	held := 0

	for _, kind := range s.cfg.Kinds {
		for _, r := range s.List(kind.Type) {
			held++

			w, ok := want[ref{kind.Type, r.Metadata().ID()}]

			switch {
			case !ok:
				t.Errorf("held but not there: %v", r.Metadata())
			case !w.Metadata().Equal(*r.Metadata()), !EqualSpec(w, r):
				t.Errorf("held %v %v, there is %v %v", r.Metadata(), r.Spec(), w.Metadata(), w.Spec())
			}
		}
	}

	if held != len(want) {
		t.Errorf("%d held, %d there", held, len(want))
	}

	s.mu.RLock()
	heldClusters, heldTags := len(s.index.clusters), len(s.index.tags)
	s.mu.RUnlock()

	checkGroups(t, "clusters", heldClusters, s.Cluster, clusters)
	checkGroups(t, "tags", heldTags, s.Tagged, tags)

	f.mu.Lock()
	defer f.mu.Unlock()

	if len(f.seen) != len(want) {
		t.Errorf("a follower has seen %d, %d are there", len(f.seen), len(want))
	}

	for at, r := range f.seen {
		if w, ok := want[at]; !ok || differs(w, r) {
			t.Errorf("a follower was not told: has seen %v, there is %v", r, w)
		}
	}
}

// checkGroups holds groups of the index, so many, against how many resources each must have.
func checkGroups(t *testing.T, what string, held int, list func(string) []resource.Resource, want map[string]int) {
	t.Helper()

	delete(want, "")

	for name, n := range want {
		if got := list(name); len(got) != n || !slices.IsSortedFunc(got, func(a, b resource.Resource) int {
			return strings.Compare(a.Metadata().Type()+"/"+a.Metadata().ID(), b.Metadata().Type()+"/"+b.Metadata().ID())
		}) {
			t.Errorf("%s, %s: %d held in order, %d there", what, name, len(got), n)
		}
	}

	if held != len(want) {
		t.Errorf("%s: %d held, %d there", what, held, len(want))
	}
}

// patchPhase is what the snapshots of these tests tag: patches change it under the same ID.
func patchPhase(r resource.Resource) string {
	if r.Metadata().Type() != omni.ConfigPatchType {
		return ""
	}

	return r.Metadata().Phase().String()
}

// bench is a snapshot of a lab in the process, inside a synctest bubble.
type bench struct {
	*testing.T
	*lab
	*follower
	snapshot *Snapshot
	own      state.State // as the program writes
	stop     func()
}

func inBubble(t *testing.T, cfg SnapshotConfig, test func(b *bench)) {
	t.Helper()
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		cfg.State, cfg.Tag = state.WrapCore(l), patchPhase

		if cfg.Kinds == nil {
			cfg.Kinds = labKinds
		}

		s := NewSnapshot(cfg)
		ctx, cancel := context.WithCancel(t.Context())
		b := &bench{T: t, lab: l, follower: follow(s, labKinds), snapshot: s, own: state.WrapCore(l), stop: cancel}

		b.create(newCluster("a"))
		b.create(newPatch("p", "a", "x"))
		b.create(newNode("m1", "a"))
		b.create(omni.NewKernelArgs("m1"))

		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()

		synctest.Wait()
		test(b)
		cancel()

		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}

		if s.Ready() || s.Err() == nil {
			t.Error("ready after Run has returned")
		}
	})
}

func (b *bench) create(r resource.Resource) {
	b.Helper()

	if err := b.current().Create(b.Context(), r); err != nil {
		b.Fatal(err)
	}
}

// change gives a patch new data, behind the snapshot's back.
func (b *bench) change(id, data string) {
	b.Helper()

	_, err := b.current().UpdateWithConflicts(b.Context(), omni.NewConfigPatch(id).Metadata(), func(r resource.Resource) error {
		setData(r.(*omni.ConfigPatch), data) //nolint:forcetypeassert // it is one

		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) destroy(r resource.Resource) {
	b.Helper()

	if err := b.current().Destroy(b.Context(), r.Metadata()); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) same() {
	b.Helper()
	synctest.Wait()
	same(b.T, b.snapshot, b.follower, b.contents(b.T, labKinds))
}

func (b *bench) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// watches returns how the watches were opened since the last time.
func (b *bench) watches() (bootstraps, resumes int) {
	b.set(func() {
		for _, how := range b.opened {
			if how == "resume" {
				resumes++
			} else {
				bootstraps++
			}
		}

		b.opened = nil
	})

	return bootstraps, resumes
}
