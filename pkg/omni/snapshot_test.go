package omni

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
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
// the labels say, and nobody who follows the changes missed one.
func same(t *testing.T, s *Snapshot, f *follower, server []resource.Resource) {
	t.Helper()

	want, clusters := map[ref]resource.Resource{}, map[string]int{}
	for _, r := range server {
		want[ref{r.Metadata().Type(), r.Metadata().ID()}] = r
		clusters[clusterOf(r.Metadata())]++
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

	delete(clusters, "")

	for name, n := range clusters {
		if got := s.Cluster(name); len(got) != n || !slices.IsSortedFunc(got, func(a, b resource.Resource) int {
			return strings.Compare(a.Metadata().Type()+"/"+a.Metadata().ID(), b.Metadata().Type()+"/"+b.Metadata().ID())
		}) {
			t.Errorf("cluster %s: %d held in order, %d there", name, len(got), n)
		}
	}

	if len(s.index.clusters) != len(clusters) {
		t.Errorf("%d clusters held, %d there", len(s.index.clusters), len(clusters))
	}

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
		cfg.State, cfg.Kinds = state.WrapCore(l), labKinds
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

func TestSnapshotFollows(t *testing.T) {
	inBubble(t, SnapshotConfig{}, func(b *bench) {
		if !b.snapshot.Ready() || b.snapshot.Err() != nil || b.snapshot.WaitReady(b.Context()) != nil {
			b.Fatalf("not ready: %v", b.snapshot.Err())
		}

		if told := b.take(); told != nil {
			b.Errorf("the first bootstrap was told one by one: %v", told)
		}

		if !slices.Equal(b.readiness, []bool{true}) {
			b.Errorf("readiness was told as %v", b.readiness)
		}

		b.same()
		b.change("p", "y")
		b.create(newPatch("q", "b", "x"))
		b.create(newCluster("b"))
		b.destroy(newNode("m1", "a"))
		b.same()

		if got, want := b.take(), []string{"Clusters/b@b", "ConfigPatches/p@a", "ConfigPatches/q@b", "MachineSetNodes/m1@a"}; !slices.Equal(got, want) {
			b.Errorf("told %v, want %v", got, want)
		}

		if bootstraps, resumes := b.watches(); bootstraps != len(labKinds) || resumes != 0 {
			b.Errorf("%d bootstraps and %d resumes", bootstraps, resumes)
		}

		// Nothing changes: nothing is asked for until the slow timer.
		b.pass(7 * time.Minute)

		if bootstraps, resumes := b.watches(); bootstraps+resumes != 0 {
			b.Errorf("%d bootstraps and %d resumes with nothing to do", bootstraps, resumes)
		}

		b.pass(6 * time.Minute)

		if bootstraps, resumes := b.watches(); bootstraps != len(labKinds) || resumes != 0 {
			b.Errorf("%d bootstraps and %d resumes by the slow timer", bootstraps, resumes)
		}

		b.same()

		if told := b.take(); told != nil || len(b.readiness) != 1 {
			b.Errorf("reading it all again told %v, readiness %v", told, b.readiness)
		}
	})
}

// TestSnapshotFaults injects each fault, lets the server change behind it in every way, ends it, and looks.
func TestSnapshotFaults(t *testing.T) {
	t.Parallel()

	for name, test := range map[string]struct {
		begin func(b *bench)
		end   func(b *bench)
		heals time.Duration // after the end
		fresh bool          // what was said before is worth nothing: read anew at once, do not resume
	}{
		"dropped": {
			begin: func(b *bench) { b.breakStreams(errAway) },
			heals: time.Second,
		},
		"away for a moment": {
			begin: func(b *bench) { b.set(func() { b.refuse = errAway }); b.breakStreams(errAway); b.pass(3 * time.Second) },
			end:   func(b *bench) { b.set(func() { b.refuse = nil }) },
			heals: 30 * time.Second,
		},
		"away for long": {
			begin: func(b *bench) { b.set(func() { b.refuse = errAway }); b.breakStreams(errAway); b.pass(time.Hour) },
			end:   func(b *bench) { b.set(func() { b.refuse = nil }) },
			heals: 30 * time.Second,
		},
		"errored (compaction)": {
			begin: func(b *bench) { b.breakStreams(errors.New("mvcc: required revision has been compacted")) },
			heals: time.Second,
			fresh: true,
		},
		"errored without a word": {
			begin: func(b *bench) { b.breakStreams(nil) },
			heals: time.Second,
			fresh: true,
		},
		"bookmark invalid": {
			begin: func(b *bench) { b.set(func() { b.resumes = inmem.ErrInvalidWatchBookmark }); b.breakStreams(errAway) },
			heals: time.Second,
		},
		"bookmark from the future": {
			begin: func(b *bench) { b.set(func() { b.future = true }); b.breakStreams(errAway) },
			heals: 2 * verifyAfter,
		},
		"dead, with an own write": {
			begin: func(b *bench) {
				b.kill()

				for _, r := range []resource.Resource{newCluster("own"), newPatch("own", "own", "x"), newNode("own", "own"), omni.NewKernelArgs("own")} {
					if err := b.own.Create(b.Context(), r); err != nil {
						b.Fatal(err)
					}

					b.snapshot.Put(r)
				}
			},
			heals: echoWithin,
		},
		"dead, with nobody noticing": {
			begin: func(b *bench) { b.kill() },
			heals: 13 * time.Minute,
		},
		"hanging": {
			begin: func(b *bench) { b.set(func() { b.hang = true }); b.breakStreams(errAway); b.pass(time.Hour) },
			end:   func(b *bench) { b.set(func() { b.hang = false }) },
			heals: answerWithin + 30*time.Second,
		},
		"forbidden": {
			begin: func(b *bench) {
				err := status.Error(codes.PermissionDenied, "insufficient role")
				b.set(func() { b.refuse = err })
				b.breakStreams(err)
				b.pass(time.Hour)
			},
			end:   func(b *bench) { b.set(func() { b.refuse = nil }) },
			heals: 30 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, SnapshotConfig{}, func(b *bench) {
				for range 3 { // it must heal as well the next time
					b.pass(time.Minute)
					b.create(newPatch("old", "a", "x"))
					b.create(newPatch("moves", "a", "x"))
					b.same()
					b.watches()
					test.begin(b)

					if test.fresh {
						synctest.Wait()

						if bootstraps, resumes := b.watches(); bootstraps != len(labKinds) || resumes != 0 {
							b.Errorf("%d bootstraps and %d resumes", bootstraps, resumes)
						}
					}

					b.change("p", "changed")
					b.create(newCluster("new"))
					b.create(newPatch("new", "new", "x"))
					b.destroy(newPatch("old", "", ""))
					b.destroy(newPatch("moves", "", ""))
					b.create(newPatch("moves", "new", "x"))

					if test.end != nil {
						test.end(b)
					}

					b.pass(test.heals)
					b.same()

					if !b.snapshot.Ready() {
						b.Errorf("not ready afterwards: %v", b.snapshot.Err())
					}

					for _, r := range []resource.Resource{newCluster("new"), newPatch("new", "", ""), newPatch("moves", "", "")} {
						b.destroy(r)
					}

					b.change("p", "back")

					for _, r := range b.contents(b.T, labKinds) {
						if r.Metadata().ID() == "own" {
							b.destroy(r)
						}
					}

					b.pass(test.heals)
					b.same()
				}
			})
		})
	}
}

// TestSnapshotRestored goes back to an older copy of the database in all the ways that can be noticed.
func TestSnapshotRestored(t *testing.T) {
	t.Parallel()

	for name, test := range map[string]struct {
		future bool
		down   time.Duration
		heals  time.Duration
	}{
		"bookmarks refused":               {false, 0, time.Second},
		"bookmarks accepted, then silent": {true, 0, 2 * verifyAfter},
		"after an outage":                 {true, 10 * time.Minute, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, SnapshotConfig{}, func(b *bench) {
				copied := b.contents(b.T, labKinds)

				for i := range 5 {
					b.change("p", fmt.Sprint("lost ", i))
				}

				b.create(newCluster("lost"))
				b.destroy(newNode("m1", "a"))
				b.same()

				// Our own last write is lost as well; it must not be defended for ever.
				own := newPatch("own", "a", "x")
				if err := b.own.Create(b.Context(), own); err != nil {
					b.Fatal(err)
				}

				b.set(func() { b.future = test.future; b.refuse = errAway })
				b.restore(b.Context(), b.T, labKinds, copied)
				b.snapshot.Put(own)
				b.breakStreams(errAway)
				b.pass(test.down)
				b.set(func() { b.refuse = nil })

				b.pass(test.heals + minPause)
				b.same()

				if r, ok := b.snapshot.Get(omni.ConfigPatchType, "p"); !ok || r.Metadata().Version().Value() != 1 {
					b.Errorf("the older version is not held: %v", r)
				}
			})
		})
	}
}

func TestSnapshotReadiness(t *testing.T) {
	inBubble(t, SnapshotConfig{StaleAfter: time.Minute}, func(b *bench) {
		b.set(func() { b.refuse = errAway })
		b.breakStreams(errAway)

		b.pass(59 * time.Second)

		if !b.snapshot.Ready() || b.snapshot.Age() != 59*time.Second {
			b.Errorf("after 59 s: ready %v, age %v, %v", b.snapshot.Ready(), b.snapshot.Age(), b.snapshot.Err())
		}

		b.pass(time.Second)

		if b.snapshot.Ready() || !slices.Equal(b.readiness, []bool{true, false}) {
			b.Errorf("after a minute: ready %v, told %v", b.snapshot.Ready(), b.readiness)
		}

		err := b.snapshot.Err()
		if want := "waiting for Clusters.omni.sidero.dev (and 3 more): connection refused"; err == nil || err.Error() != want || !Transient(err) {
			b.Errorf("the error is %v, want %q", err, want)
		}

		ctx, cancel := context.WithTimeout(b.Context(), time.Second)
		defer cancel()

		if err := b.snapshot.WaitReady(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "connection refused") {
			b.Errorf("waiting ended with %v", err)
		}

		b.watches()
		b.set(func() { b.refuse = nil })

		if err := b.snapshot.WaitReady(b.Context()); err != nil {
			b.Error(err)
		}

		synctest.Wait()

		if bootstraps, resumes := b.watches(); bootstraps != len(labKinds) || resumes != 0 {
			b.Errorf("%d bootstraps and %d resumes after it was stale", bootstraps, resumes)
		}

		if !slices.Equal(b.readiness, []bool{true, false, true}) || b.snapshot.Age() != 0 {
			b.Errorf("told %v, age %v", b.readiness, b.snapshot.Age())
		}

		b.same()
	})
}

func TestSnapshotRefused(t *testing.T) {
	inBubble(t, SnapshotConfig{}, func(b *bench) {
		for code, want := range map[codes.Code]string{
			codes.PermissionDenied: "waiting for Clusters.omni.sidero.dev (and 3 more): no; the service account needs at least the role Reader, for all clusters",
			codes.Unauthenticated:  "waiting for Clusters.omni.sidero.dev (and 3 more): no; the service account key is unknown to this Omni, has expired or was revoked",
		} {
			b.set(func() { b.refuse = status.Error(code, "no") })
			b.breakStreams(errAway)
			b.watches()
			b.pass(time.Minute)

			if bootstraps, resumes := b.watches(); bootstraps+resumes > 6*len(labKinds) {
				b.Errorf("%d attempts in the first minute of refusals", bootstraps+resumes)
			}

			b.pass(5 * time.Minute)

			// Waiting does not help, so it is not waited.
			if err := b.snapshot.WaitReady(b.Context()); err == nil || err.Error() != want || !Rejected(err) {
				b.Errorf("the error is %v, want %q", err, want)
			}

			b.watches()
			b.pass(time.Minute)

			if bootstraps, resumes := b.watches(); resumes != 0 || bootstraps < 2*len(labKinds) || bootstraps > 5*len(labKinds) {
				b.Errorf("%d bootstraps and %d resumes in a minute of refusals", bootstraps, resumes)
			}

			b.set(func() { b.refuse = nil })
			b.pass(maxPause)
			b.same()
		}
	})
}

// TestSnapshotRefusedFromTheStart waits for a snapshot that Omni refuses: it must not wait for ever.
func TestSnapshotRefusedFromTheStart(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		l.refuse = status.Error(codes.PermissionDenied, "no")
		s := NewSnapshot(SnapshotConfig{State: state.WrapCore(l), Kinds: labKinds})
		ctx, cancel := context.WithCancel(t.Context())
		waited := make(chan error, 1)

		go func() { waited <- s.WaitReady(ctx) }()

		synctest.Wait() // it waits already when the refusal comes

		go s.Run(ctx) //nolint:errcheck // tested elsewhere

		if err := <-waited; !Rejected(err) {
			t.Errorf("waiting ended with %v", err)
		}

		cancel()
		synctest.Wait()
	})
}

// TestSnapshotBookmarkTooOld resumes after an outage, and Omni no longer knows the bookmark. That is no failure and no
// reason to pause: the contents are read in the same breath.
func TestSnapshotBookmarkTooOld(t *testing.T) {
	inBubble(t, SnapshotConfig{}, func(b *bench) {
		b.set(func() { b.refuse, b.resumes = errAway, inmem.ErrInvalidWatchBookmark })
		b.breakStreams(errAway)
		b.pass(20 * time.Second)
		b.set(func() { b.refuse = nil })

		// Until each kind has tried once more.
		before := b.snapshot.Stats()
		b.watches()
		b.pass(maxPause)

		if bootstraps, resumes := b.watches(); bootstraps != len(labKinds) || resumes != len(labKinds) {
			b.Errorf("%d bootstraps and %d resumes", bootstraps, resumes)
		}

		for i, stats := range b.snapshot.Stats() {
			if stats.Failures != before[i].Failures {
				b.Errorf("%s: a failure was counted", stats.Kind.Type)
			}
		}

		b.same()
	})
}

// TestSnapshotKeepsCopies changes what was put in and torn down.
func TestSnapshotKeepsCopies(t *testing.T) {
	inBubble(t, SnapshotConfig{}, func(b *bench) {
		r := newPatch("own", "a", "x")
		if err := b.own.Create(b.Context(), r); err != nil {
			b.Fatal(err)
		}

		b.snapshot.Put(r)
		setData(r, "changed by its owner")

		held, _ := b.snapshot.Get(omni.ConfigPatchType, "own")
		if !EqualSpec(held, newPatch("own", "a", "x")) {
			b.Error("the snapshot shares what was put")
		}

		b.snapshot.TearingDown(held.Metadata())

		if held.Metadata().Phase() != resource.PhaseRunning {
			b.Error("a resource that was handed out has changed")
		}
	})
}

// TestSnapshotPauses counts how often a server that is away is asked: at once, then with growing pauses. A server that
// accepts every watch and drops it again is treated no better, and is still verified.
func TestSnapshotPauses(t *testing.T) {
	inBubble(t, SnapshotConfig{}, func(b *bench) {
		b.pass(time.Minute)
		b.watches()
		b.set(func() { b.refuse = errAway })
		b.breakStreams(errAway)
		synctest.Wait()

		if _, resumes := b.watches(); resumes != len(labKinds) {
			b.Errorf("%d resumes at once", resumes)
		}

		b.pass(10 * time.Minute)

		if bootstraps, resumes := b.watches(); bootstraps+resumes < 20*len(labKinds) || bootstraps+resumes > 60*len(labKinds) {
			b.Errorf("%d attempts in 10 minutes", bootstraps+resumes)
		}

		b.set(func() { b.refuse = nil })
		b.pass(time.Minute)
		b.watches()

		for range 600 {
			b.breakStreams(errAway)
			b.pass(100 * time.Millisecond)
		}

		bootstraps, resumes := b.watches()
		if bootstraps+resumes > 25*len(labKinds) {
			b.Errorf("%d bootstraps and %d resumes in a minute of flapping", bootstraps, resumes)
		}

		if bootstraps == 0 {
			b.Error("a flapping watch was never verified")
		}

		b.pass(time.Minute)
		b.same()
	})
}

// TestSnapshotBootstrapRaces writes while the contents that Omni has already read are still on their way.
func TestSnapshotBootstrapRaces(t *testing.T) {
	inBubble(t, SnapshotConfig{}, func(b *bench) {
		for _, r := range []resource.Resource{newPatch("updated", "a", "x"), newPatch("destroyed", "a", "x"), newPatch("torn", "a", "x")} {
			b.create(r)
		}

		synctest.Wait()

		hold := make(chan struct{})
		b.set(func() { b.hold = hold })
		b.breakStreams(errors.New("compacted"))
		synctest.Wait()

		created := newPatch("created", "a", "x")
		if err := b.own.Create(b.Context(), created); err != nil {
			b.Fatal(err)
		}

		b.snapshot.Put(created)

		held, _ := b.snapshot.Get(omni.ConfigPatchType, "updated")
		updated := held.DeepCopy()
		updated.Metadata().Labels().Set("new", "label")

		if err := b.own.Update(b.Context(), updated); err != nil {
			b.Fatal(err)
		}

		b.snapshot.Put(updated)

		held, _ = b.snapshot.Get(omni.ConfigPatchType, "destroyed")
		if err := b.own.Destroy(b.Context(), held.Metadata()); err != nil {
			b.Fatal(err)
		}

		b.snapshot.Removed(held.Metadata())

		held, _ = b.snapshot.Get(omni.ConfigPatchType, "torn")
		if _, err := b.own.Teardown(b.Context(), held.Metadata()); err != nil {
			b.Fatal(err)
		}

		b.snapshot.TearingDown(held.Metadata())

		look := func(when string) {
			b.Helper()

			if _, ok := b.snapshot.Get(omni.ConfigPatchType, "created"); !ok {
				b.Errorf("%s: what we created is not held", when)
			}

			if r, _ := b.snapshot.Get(omni.ConfigPatchType, "updated"); r.Metadata().Version().Value() != 2 {
				b.Errorf("%s: our update is not held: %v", when, r.Metadata())
			}

			if _, ok := b.snapshot.Get(omni.ConfigPatchType, "destroyed"); ok {
				b.Errorf("%s: what we destroyed is held", when)
			}

			if r, _ := b.snapshot.Get(omni.ConfigPatchType, "torn"); r.Metadata().Phase() != resource.PhaseTearingDown {
				b.Errorf("%s: what we tore down is held as %v", when, r.Metadata().Phase())
			}
		}

		look("before the contents")

		// The contents are from before all of that; the follower looks with every step.
		var wrong sync.Once

		cancel := b.snapshot.Subscribe(func(Change) {
			if _, ok := b.snapshot.Get(omni.ConfigPatchType, "destroyed"); ok {
				wrong.Do(func() { b.Error("what we destroyed came back for a moment") })
			}
		})
		defer cancel()

		b.set(func() { b.hold = nil })
		close(hold)
		synctest.Wait()
		look("after the contents")
		b.same()

		if n := len(b.snapshot.watchers[omni.ConfigPatchType].own); n != 0 {
			b.Errorf("%d own writes still pending", n)
		}
	})
}

func TestSnapshotCancelsSubscription(t *testing.T) {
	inBubble(t, SnapshotConfig{}, func(b *bench) {
		calls := 0
		cancel := b.snapshot.Subscribe(func(Change) { calls++ })
		b.change("p", "1")
		synctest.Wait()
		cancel()
		cancel()
		b.change("p", "2")
		synctest.Wait()

		if calls != 1 {
			b.Errorf("%d calls", calls)
		}
	})
}

func TestSnapshotProgressAndStats(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		hold := make(chan struct{})
		l.hold = hold
		s := NewSnapshot(SnapshotConfig{State: state.WrapCore(l), Kinds: labKinds})
		ctx, cancel := context.WithCancel(t.Context())

		if err := l.Create(ctx, newPatch("p", "", "")); err != nil {
			t.Fatal(err)
		}

		go s.Run(ctx) //nolint:errcheck // tested elsewhere

		synctest.Wait()

		if done, total := s.Progress(); done != 0 || total != 4 {
			t.Errorf("%d of %d", done, total)
		}

		if err := s.Err(); err == nil || err.Error() != "waiting for Clusters.omni.sidero.dev (and 3 more): being read" {
			t.Errorf("the error is %v", err)
		}

		close(hold)
		synctest.Wait()

		if done, total := s.Progress(); done != 4 || total != 4 {
			t.Errorf("%d of %d", done, total)
		}

		got := s.Stats()[1]
		if got.Kind != labKinds[1] || got.Resources != 1 || got.Bootstraps != 1 || !got.DownSince.IsZero() || !got.LastEvent.Equal(time.Now()) {
			t.Errorf("%+v", got)
		}

		cancel()
		synctest.Wait()
	})
}

func TestSnapshotRunRefuses(t *testing.T) {
	t.Parallel()

	for name, kinds := range map[string][]Kind{"none": nil, "twice": {labKinds[0], {resources.VirtualNamespace, labKinds[0].Type}}} {
		if err := NewSnapshot(SnapshotConfig{State: state.WrapCore(newLab()), Kinds: kinds}).Run(t.Context()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}

	s := NewSnapshot(SnapshotConfig{State: state.WrapCore(newLab()), Kinds: labKinds})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}

	if err := s.Run(ctx); err == nil {
		t.Error("it ran twice")
	}
}
