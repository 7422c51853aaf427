package sync

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/omni-syncd/omni-syncd/pkg/render"
)

const settle = 5 * time.Second

func newTestBoard(sources ...string) *board {
	b := newBoard()
	for _, name := range sources {
		b.updateSource(name, func(*SourceStatus) {})
	}

	return b
}

func TestTearing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, key := newTestBoard("s"), Key{"s", "a"}
		began := time.Now()

		for age, want := range []bool{false, false, true, false} {
			since, first := b.tearing(key, true, 2*time.Minute)
			if !since.Equal(began) || first != want {
				t.Errorf("after %d minutes: since %s, first warning %v", age, since, first)
			}

			time.Sleep(time.Minute)
		}

		b.tearing(key, false, time.Minute)

		if r := b.get(key); !r.TeardownSince.IsZero() || r.warned {
			t.Error("the end of a teardown is not noted")
		}
	})
}

// A reader that applies the changes it is told, at whatever speed, ends with the status.
func TestBoard_Changes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))

	for range 50 {
		b := newBoard()
		seen := map[string]string{}
		version := uint64(0)

		catchUp := func() {
			changes, _ := b.read(version)
			if changes.All {
				clear(seen)
			}

			for _, key := range changes.RemovedTargets {
				delete(seen, key.Source+"/"+key.Target)
			}

			for _, name := range changes.RemovedSources {
				delete(seen, name)
			}

			for i := range changes.Sources {
				seen[changes.Sources[i].Name] = changes.Sources[i].Revision
			}

			for i := range changes.Targets {
				seen[changes.Targets[i].Source+"/"+changes.Targets[i].Target] = changes.Targets[i].Message + changes.Targets[i].Revision
			}

			version = changes.Version
		}

		for n := range 300 {
			source := fmt.Sprint("s", rng.IntN(3))
			key := Key{source, fmt.Sprint("t", rng.IntN(5))}

			switch rng.IntN(12) {
			case 0:
				b.dropSource(source)
			case 10:
				b.advance(source, fmt.Sprint(n))
			case 11:
				b.update(key, func(r *record) { r.Sync, r.Settled, r.Revision = Synced, true, b.sources[source].head })
			case 1, 2:
				b.remove(&target{Key: key, from: &desired{}})
			case 3:
				b.updateSource(source, func(s *SourceStatus) { s.Revision = fmt.Sprint(n) })
			case 4:
				catchUp()
			default:
				b.update(key, func(r *record) { r.Message = fmt.Sprint(n) })
			}
		}

		catchUp()

		want := map[string]string{}
		all, _ := b.read(0)

		for i := range all.Sources {
			want[all.Sources[i].Name] = all.Sources[i].Revision
		}

		for i := range all.Targets {
			want[all.Targets[i].Source+"/"+all.Targets[i].Target] = all.Targets[i].Message + all.Targets[i].Revision
		}

		if d := cmp.Diff(want, seen); d != "" {
			t.Fatal(d)
		}
	}
}

// A revision that changes nothing is noted once, with its source. It is as if it were noted with every target that is
// Synced, at rest and at the revision before; the others are restless.
func TestBoard_Follows(t *testing.T) {
	type known struct {
		sync     SyncStatus
		settled  bool
		revision string
	}

	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	b, want, head, followed := newTestBoard("s", "other"), map[Key]known{}, "", 0

	for n := range 5000 {
		key := Key{"s", fmt.Sprint("t", rng.IntN(8))}
		revision := []string{head, head, "older"}[rng.IntN(3)]
		k := known{[]SyncStatus{Synced, Synced, OutOfSync}[rng.IntN(3)], rng.IntN(3) > 0, revision}

		switch rng.IntN(8) {
		case 0, 1:
			head = fmt.Sprint(n)

			var restless []Key

			for key, k := range want {
				if k.sync == Synced && k.settled && k.revision == b.sources["s"].head {
					k.revision = head
					want[key] = k
					followed++
				} else {
					restless = append(restless, key)
				}
			}

			got := b.advance("s", head)
			sortKeys(got)
			sortKeys(restless)

			if d := cmp.Diff(restless, got, cmpopts.EquateEmpty()); d != "" {
				t.Fatalf("seed %d, step %d: restless: %s", seed, n, d)
			}
		case 2:
			if b.remove(&target{Key: key, from: &desired{}}) {
				delete(want, key)
			}
		case 3:
			b.advance("other", "o")

			if k, ok := want[key]; ok {
				want[key] = known{k.sync, false, k.revision}
				b.update(key, func(r *record) { r.Settled = false })
			}
		default:
			b.update(key, func(r *record) { r.Sync, r.Settled, r.Revision = k.sync, k.settled, k.revision })
			want[key] = k
		}

		got := map[Key]known{}
		all, _ := b.read(0)

		for i := range all.Targets {
			r := &all.Targets[i]
			got[r.Key] = known{r.Sync, r.Settled, r.Revision}

			if one := b.get(r.Key); one.TargetStatus != *r {
				t.Fatalf("seed %d, step %d: %+v when asked for alone, %+v among all", seed, n, one.TargetStatus, *r)
			}
		}

		if d := cmp.Diff(want, got, cmp.AllowUnexported(known{})); d != "" {
			t.Fatalf("seed %d, step %d: %s", seed, n, d)
		}
	}

	if followed < 500 {
		t.Errorf("seed %d: only %d followed", seed, followed)
	}
}

func sortKeys(keys []Key) {
	slices.SortFunc(keys, func(a, b Key) int { return strings.Compare(a.Target, b.Target) })
}

// What is found by walking along two revisions is what is found by looking each target up.
func TestSince(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	revision := func() (*desired, map[string]string) {
		d, digests := &desired{broken: map[string]error{}}, map[string]string{}

		for n := range 6 {
			name := fmt.Sprint(n)

			switch digest := rng.IntN(4); digest {
			case 0:
			case 1:
				d.broken[name] = errors.New("a typo")
			default:
				digests[name] = fmt.Sprint(digest)
				d.targets = append(d.targets, &render.Target{Name: name, Digest: digests[name]})
			}
		}

		return d, digests
	}

	previous, before := &desired{}, map[string]string{}

	for range 3000 {
		next, now := revision()
		if rng.IntN(3) == 0 { // some are the very same
			for i := range next.targets {
				if t := previous.targets.get(next.targets[i].Name); t != nil && t.Digest == next.targets[i].Digest {
					next.targets[i] = t
				}
			}
		}

		var changed, left []string

		for n := range 6 {
			name := fmt.Sprint(n)
			if now[name] != "" && now[name] != before[name] {
				changed = append(changed, name)
			}

			if (before[name] != "" || previous.broken[name] != nil) && now[name] == "" && next.broken[name] == nil {
				left = append(left, name)
			}
		}

		gotChanged, gotLeft := next.since(previous)
		slices.Sort(gotLeft)

		if d := cmp.Diff([][]string{changed, left}, [][]string{gotChanged, gotLeft}, cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}

		previous, before = next, now
	}
}

// Who lagged so far behind that removals were forgotten is told everything anew, and a
// version of another process is no version.
func TestBoard_Lagging(t *testing.T) {
	b := newTestBoard("s")
	before, _ := b.read(0)

	for n := range maxTombstones + 1 {
		key := Key{"s", fmt.Sprint(n)}
		b.ensure(key)
		b.remove(&target{Key: key, from: &desired{}})
	}

	if changes, _ := b.read(before.Version); !changes.All {
		t.Error("removals were forgotten, and the reader is not told to begin anew")
	}

	now, _ := b.read(0)
	if changes, _ := b.read(now.Version + 1); !changes.All {
		t.Error("a version from the future is believed")
	}

	if changes, _ := b.read(now.Version); changes.All || len(changes.Targets)+len(changes.RemovedTargets) > 0 {
		t.Errorf("nothing changed, told: %+v", changes)
	}
}

// A pass without news wakes nobody.
func TestBoard_NoNewsWakesNobody(t *testing.T) {
	b, key := newTestBoard("s"), Key{"s", "a"}
	b.ensure(key)

	_, newer := b.read(0)
	b.ensure(key)
	b.tearing(key, false, time.Minute)

	select {
	case <-newer:
		t.Error("woken for nothing")
	default:
	}
}
