package omni

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

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

// TestSnapshotBookmarkTooOld resumes after a short outage, and Omni no longer knows the bookmark. That is no failure and no
// reason to pause: the contents are read in the same breath.
func TestSnapshotBookmarkTooOld(t *testing.T) {
	inBubble(t, SnapshotConfig{}, func(b *bench) {
		b.set(func() { b.refuse, b.resumes = errAway, inmem.ErrInvalidWatchBookmark })
		b.breakStreams(errAway)
		b.pass(minPause)
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
