package omni

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// TestG2_AfterOutage has Omni come back with an older database and bookmarks that lead nowhere. Until all of it has been
// read anew nothing may be written; from then on what is held is true. One watch that is back calls the others.
func TestG2_AfterOutage(t *testing.T) {
	for _, away := range []time.Duration{8 * time.Second, 20 * time.Second, 25 * time.Second} {
		t.Run(away.String(), func(t *testing.T) {
			inBubble(t, SnapshotConfig{}, func(b *bench) {
				copied := b.contents(b.T, labKinds)

				b.create(newCluster("lost"))
				b.change("p", "lost")
				b.destroy(newNode("m1", "a"))
				b.same()

				if !b.snapshot.Current() {
					t.Error("not current at first")
				}

				b.set(func() { b.future, b.refuse = true, errAway })
				b.restore(b.Context(), b.T, labKinds, copied)
				b.breakStreams(errAway)
				b.pass(away)

				if b.snapshot.Current() || !b.snapshot.Ready() {
					t.Errorf("after %s: current %v, ready %v", away, b.snapshot.Current(), b.snapshot.Ready())
				}

				b.readiness = nil
				b.set(func() { b.refuse = nil })

				up := func() (n int) {
					for _, s := range b.snapshot.Stats() {
						if s.DownSince.IsZero() {
							n++
						}
					}

					return n
				}

				for up() == 0 {
					b.pass(time.Millisecond)
				}

				b.pass(time.Millisecond)

				if !b.snapshot.Current() || up() != len(labKinds) {
					t.Errorf("%d of %d watches came back with the first one", up(), len(labKinds))
				}

				b.same()

				if len(b.readiness) != 1 {
					t.Errorf("told %v, want one word that it is current", b.readiness)
				}
			})
		})
	}
}

// TestSnapshotCurrent_One: one watch that does not come back is enough. A pause of a moment is not.
func TestSnapshotCurrent_One(t *testing.T) {
	inBubble(t, SnapshotConfig{}, func(b *bench) {
		b.breakStreams(errors.New("compacted"))

		if !b.snapshot.Current() {
			t.Error("not current while everything is read anew")
		}

		b.pass(time.Second)

		// An own write that does not come back has its kind read anew, and Omni does not answer.
		b.kill()
		b.set(func() { b.hang = true })
		b.snapshot.Put(at(newCluster("own"), 1, time.Time{}))
		b.pass(echoWithin + Fresh)

		if !b.snapshot.Current() {
			t.Error("not current although the others are")
		}

		b.pass(time.Millisecond)

		if b.snapshot.Current() {
			t.Error("current without the clusters")
		}
	})
}

// TestSnapshotHurry: watches that break whenever they are up do not drive each other.
func TestSnapshotHurry(t *testing.T) {
	inBubble(t, SnapshotConfig{}, func(b *bench) {
		b.pass(time.Minute)
		b.watches()

		for range 600 {
			b.breakStreams(errAway)
			b.pass(100 * time.Millisecond)
		}

		if bootstraps, resumes := b.watches(); bootstraps+resumes > 25*len(labKinds) {
			t.Errorf("%d bootstraps and %d resumes in a minute", bootstraps, resumes)
		}
	})
}

// TestG8_Read takes the answer of Omni into a snapshot whose watches are dead, and reads everything anew after it.
func TestG8_Read(t *testing.T) {
	locked := func(r resource.Resource) { r.Metadata().Annotations().Set(omni.ClusterLocked, "") }

	for name, change := range map[string]func(b *bench){
		"changed": func(b *bench) {
			if _, err := b.own.UpdateWithConflicts(b.Context(), newCluster("a").Metadata(), func(r resource.Resource) error {
				locked(r)

				return nil
			}); err != nil {
				b.Fatal(err)
			}
		},
		"gone": func(b *bench) { b.destroy(newCluster("a")) },
		"another life": func(b *bench) {
			b.destroy(newCluster("a"))
			b.pass(time.Second)

			again := newCluster("a")
			locked(again)
			b.create(again)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, SnapshotConfig{}, func(b *bench) {
				b.kill()
				change(b)
				b.change("p", "unseen")

				before, _ := b.snapshot.Get(omni.ClusterType, "a")

				now, err := b.own.Get(b.Context(), newCluster("a").Metadata())
				if err != nil && !NotFound(err) {
					t.Fatal(err)
				}

				b.snapshot.Read(before, now)

				held, there := b.snapshot.Get(omni.ClusterType, "a")
				if there != (now != nil) || there && differs(held, now) {
					t.Errorf("held %v, there is %v", held, now)
				}

				if told := b.take(); len(told) != 1 {
					t.Errorf("told %v", told)
				}

				// An answer that was overtaken.
				b.snapshot.Read(before, before)

				if again, _ := b.snapshot.Get(omni.ClusterType, "a"); again != held {
					t.Errorf("an old answer was taken: %v", again)
				}

				// Nothing is waited for if there was no news.
				b.snapshot.Read(held, now)

				b.watches()
				b.pass(echoWithin)

				if bootstraps, _ := b.watches(); bootstraps != 1 {
					t.Errorf("%d kinds were read anew, want that of the clusters", bootstraps)
				}

				synctest.Wait()

				if n := len(b.snapshot.watchers[omni.ClusterType].own); n != 0 {
					t.Errorf("%d answers still pending", n)
				}
			})
		})
	}
}

// An Omni that was away for a minute was told 26 times in the log, once for each kind, and not at all in the status.
func TestAway(t *testing.T) {
	seen, logs := observer.New(zapcore.InfoLevel)

	inBubble(t, SnapshotConfig{Logger: zap.New(seen)}, func(b *bench) {
		lost := time.Now().Truncate(time.Second)

		b.set(func() { b.refuse = errAway })
		b.breakStreams(errAway)
		b.pass(awayAfter - time.Millisecond)

		if away := b.snapshot.Away(); away != (Away{}) {
			b.Errorf("a server that restarts is away: %+v", away)
		}

		b.pass(time.Minute)

		if away := b.snapshot.Away(); !away.Since.Equal(lost) || away.Reason != "connection refused" {
			b.Errorf("%+v", away)
		}

		b.set(func() { b.refuse = nil })
		b.pass(time.Minute)

		if away := b.snapshot.Away(); away != (Away{}) {
			b.Errorf("it is back: %+v", away)
		}

		var told []string
		for _, entry := range logs.All() {
			told = append(told, entry.Message)
		}

		want := []string{"Omni cannot be followed; nothing is written until it is back", "Omni is followed again"}
		if !slices.Equal(told, want) {
			b.Errorf("the log says %q", told)
		}
	})
}
