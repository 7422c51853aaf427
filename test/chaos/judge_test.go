package chaos

import (
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/render"
)

// An invariant that nothing can break proves nothing: each is broken here once, beside the
// same write where it is right.
func TestJudge(t *testing.T) {
	at := time.Now()
	ago := func(d time.Duration) time.Time { return at.Add(-d) }
	always := []span{{from: ago(time.Hour)}}
	ours := func(cluster string) *life {
		marks := []departing{{at: ago(time.Minute), first: ago(time.Minute), Departure: diff.Departure{State: diff.Destroying, ID: "1"}, ours: true}}

		return &life{place: place{cluster: cluster}, ours: always, running: always, marks: marks}
	}
	marked := func(l *life, marks ...departing) *life {
		l.marks = marks

		return l
	}
	fleet := func(l *life) *life {
		l.fleet = true

		return l
	}

	clusterKey, patchKey := func(id string) ref { return ref{omni.ClusterType, id} }, ref{omni.ConfigPatchType, "patch"}
	revision := func(whole bool, names ...string) *head {
		h := &head{at: ago(time.Minute), whole: whole, names: map[string]bool{}, targets: map[string]*render.Target{}, keys: map[ref]place{}}
		for _, name := range names {
			h.names[name], h.targets[name] = true, &render.Target{Name: name}
		}

		return h
	}

	teardown := func(key ref) write {
		return write{Write: embedded.Write{Verb: embedded.VerbTeardown, Type: key.typ, ID: key.id}, at: at}
	}
	update := func(key ref) write {
		return write{Write: embedded.Write{Verb: embedded.VerbUpdate, Type: key.typ, ID: key.id}, at: at}
	}

	younger := func(w write, born time.Time) write {
		w.born = born

		return w
	}
	onFleet := func(w write) write {
		w.fleet = true

		return w
	}

	described := revision(true, "c1")
	described.keys[patchKey] = place{cluster: "c1"}

	moved := revision(true, "c1", "c2")
	moved.keys[patchKey] = place{cluster: "c2"}

	incomplete := revision(true, "c1")
	incomplete.targets["c1"].Resources = []resource.Resource{omni.NewConfigPatch("new")}

	lockedCluster := func(since time.Duration) *life {
		l := ours("c1")
		l.locked = []span{{from: ago(since)}}

		return l
	}

	for _, test := range []struct {
		name  string
		write write
		lives map[ref]*life
		head  *head
		blind []span
		// known is since when the lock on c1 must be known, and disowned since when the
		// patch is not ours.
		known, disowned time.Time
		want            string // "" is that nothing is wrong
	}{
		{name: "left Git", write: teardown(clusterKey("c1")), lives: map[ref]*life{clusterKey("c1"): ours("c1")}, head: revision(true, "c2")},
		{name: "still in Git", write: teardown(clusterKey("c1")), lives: map[ref]*life{clusterKey("c1"): ours("c1")}, head: revision(true, "c1"), want: "no revision"},
		{name: "partial view", write: teardown(clusterKey("c1")), lives: map[ref]*life{clusterKey("c1"): ours("c1")}, head: revision(false, "c2"), want: "no revision"},
		{name: "without marks", write: teardown(clusterKey("c1")), lives: map[ref]*life{clusterKey("c1"): marked(ours("c1"))}, head: revision(true, "c2"), want: "not marked as destroying"},
		{
			name: "leaving only", write: teardown(clusterKey("c1")), head: revision(true, "c2"), want: "not marked as destroying",
			lives: map[ref]*life{clusterKey("c1"): marked(ours("c1"), departing{at: ago(time.Minute), Departure: diff.Departure{State: diff.Leaving}, ours: true})},
		},
		{
			name: "marked after it", write: teardown(clusterKey("c1")), head: revision(true, "c2"), want: "not marked as destroying",
			lives: map[ref]*life{clusterKey("c1"): marked(ours("c1"), departing{at: at.Add(time.Second), Departure: diff.Departure{State: diff.Destroying}, ours: true})},
		},
		{
			name: "marked by an earlier daemon", write: younger(teardown(clusterKey("c1")), ago(10*time.Second)), head: revision(true, "c2"), want: "another daemon",
			lives: map[ref]*life{clusterKey("c1"): ours("c1")},
		},
		{
			name: "taken off again for long", write: teardown(clusterKey("c1")), head: revision(true, "c2"), want: "not marked as destroying",
			lives: map[ref]*life{clusterKey("c1"): marked(ours("c1"), departing{at: ago(time.Hour), Departure: diff.Departure{State: diff.Destroying}, ours: true}, departing{at: ago(time.Minute), ours: true})},
		},
		{name: "a fleet resource leaves", write: onFleet(teardown(patchKey)), lives: map[ref]*life{patchKey: fleet(ours("c1"))}, head: revision(true, "c1")},
		{name: "a fleet resource leaves a partial view", write: onFleet(teardown(patchKey)), lives: map[ref]*life{patchKey: fleet(ours("c1"))}, head: revision(false, "c1"), want: "no revision"},
		{name: "a fleet resource without marks", write: onFleet(teardown(patchKey)), lives: map[ref]*life{patchKey: fleet(marked(ours("c1")))}, head: revision(true, "c1"), want: "not marked"},
		{
			name: "labelled with a locked cluster", write: onFleet(update(patchKey)), head: described, known: ago(time.Second), want: "is locked",
			lives: map[ref]*life{clusterKey("c1"): lockedCluster(time.Minute), patchKey: fleet(ours("c1"))},
		},
		{name: "of another repository", write: update(patchKey), lives: map[ref]*life{patchKey: ours(secondPrefix + "0")}, head: described, want: "another repository"},
		{name: "labelled with a cluster of another source", write: onFleet(update(patchKey)), lives: map[ref]*life{patchKey: fleet(ours(ownedByOther))}, head: described, want: "another source"},
		{name: "left its template", write: teardown(patchKey), lives: map[ref]*life{patchKey: ours("c1")}, head: revision(true, "c1")},
		{name: "left its template beside a broken one", write: teardown(patchKey), lives: map[ref]*life{patchKey: ours("c1")}, head: revision(false, "c1")},
		{name: "in its template", write: teardown(patchKey), lives: map[ref]*life{patchKey: ours("c1")}, head: described, want: "no revision"},
		{name: "in the template of another cluster", write: teardown(patchKey), lives: map[ref]*life{patchKey: ours("c1")}, head: moved},
		{name: "unmarked", write: teardown(patchKey), lives: map[ref]*life{patchKey: {place: place{cluster: "c1"}}}, head: revision(true, "c1"), want: "our mark"},
		{
			name: "mark gone for long", write: teardown(patchKey), head: revision(true, "c1"), want: "our mark",
			lives: map[ref]*life{patchKey: {place: place{cluster: "c1"}, ours: []span{{from: ago(time.Hour), to: ago(time.Minute)}}}},
		},
		{
			name: "mark gone unseen", write: teardown(patchKey), head: revision(true, "c1"), blind: []span{{from: ago(2 * time.Minute)}},
			lives: map[ref]*life{patchKey: {place: place{cluster: "c1"}, ours: []span{{from: ago(time.Hour), to: ago(time.Minute)}}}},
		},
		{name: "destroying what is unmarked", write: write{Write: embedded.Write{Verb: embedded.VerbDestroy, Type: patchKey.typ, ID: patchKey.id}, at: at}, head: revision(true), want: "our mark"},
		{name: "foreign", write: update(ref{omni.ConfigPatchType, foreignPrefix + "patch"}), head: revision(true), want: "foreign"},
		{name: "locked", write: update(clusterKey("c1")), lives: map[ref]*life{clusterKey("c1"): lockedCluster(time.Minute)}, head: revision(true), known: ago(time.Second), want: "is locked"},
		{name: "locked, not yet known", write: update(clusterKey("c1")), lives: map[ref]*life{clusterKey("c1"): lockedCluster(time.Minute)}, head: revision(true)},
		{
			name: "part of a locked cluster", write: update(patchKey), head: revision(true, "c1"), known: ago(time.Second), want: "is locked",
			lives: map[ref]*life{clusterKey("c1"): lockedCluster(time.Minute), patchKey: ours("c1")},
		},
		{
			name: "locked again", write: update(clusterKey("c1")), lives: map[ref]*life{clusterKey("c1"): lockedCluster(time.Second)},
			head: revision(true), known: ago(time.Minute),
		},
		{
			name: "mark taken off for certain", write: teardown(patchKey), head: revision(true, "c1"), disowned: ago(time.Second), want: "our mark",
			lives: map[ref]*life{patchKey: {place: place{cluster: "c1"}, ours: []span{{from: ago(time.Hour), to: ago(time.Second)}}}},
		},
		{
			name: "mark just taken off", write: teardown(patchKey), head: revision(true, "c1"),
			lives: map[ref]*life{patchKey: {place: place{cluster: "c1"}, ours: []span{{from: ago(time.Hour), to: ago(time.Second)}}}},
		},
		{name: "before what is new is there", write: teardown(patchKey), lives: map[ref]*life{patchKey: ours("c1")}, head: incomplete, want: "no revision"},
		{
			name: "when what is new is there", write: teardown(patchKey), head: incomplete,
			lives: map[ref]*life{patchKey: ours("c1"), {omni.ConfigPatchType, "new"}: {there: always}},
		},
		{
			name: "creating what is there", write: write{Write: embedded.Write{Verb: embedded.VerbCreate, Type: patchKey.typ, ID: patchKey.id}, at: at, born: ago(time.Minute)},
			lives: map[ref]*life{patchKey: ours("c1")}, head: described, want: "has been there",
		},
		{
			name: "creating what came after", write: write{Write: embedded.Write{Verb: embedded.VerbCreate, Type: patchKey.typ, ID: patchKey.id}, at: at, born: ago(2 * time.Hour)},
			lives: map[ref]*life{patchKey: ours("c1")}, head: described,
		},
		{name: "half a view", write: write{Write: update(patchKey).Write, at: at, forbidden: "not yet"}, head: described, want: "not yet"},
		{
			name: "quorum", write: teardown(ref{omni.MachineSetNodeType, controlPlane("c0", false)[0]}), head: revision(true, "c0"), want: "no revision",
			lives: map[ref]*life{{omni.MachineSetNodeType, controlPlane("c0", false)[0]}: ours("c0")},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := past{lives: test.lives, heads: []*head{test.head}, blind: test.blind}

			if !test.known.IsZero() {
				p.known = map[string]time.Time{"c1": test.known}
			}

			if !test.disowned.IsZero() {
				p.disowned = map[ref]time.Time{patchKey: test.disowned}
			}

			got := p.judge(&test.write)
			if test.want == "" && got != "" || !strings.Contains(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// A lock that goes is noticed, whoever took it, unless the UI said so or it came from Git.
func TestLostLock(t *testing.T) {
	lockedCluster, open := omni.NewCluster("c1"), omni.NewCluster("c1")
	lockedCluster.Metadata().Annotations().Set(omni.ClusterLocked, "")

	s := newShadow(nil)
	s.see(lockedCluster, false)
	s.unlocking[refOf(open)] = true
	s.see(open, false)

	if len(s.broken) > 0 {
		t.Errorf("the UI may unlock: %v", s.broken)
	}

	s.see(lockedCluster, false)
	s.see(open, false)

	if len(s.broken) != 1 {
		t.Errorf("a lock was lost, and the shadow says %v", s.broken)
	}
}

// The same seed gives the same steps.
func TestDrawIsDeterministic(t *testing.T) {
	one, two := newRNG(7, 0), newRNG(7, 0)

	for n := range 1000 {
		if a, b := draw(one, n).String(), draw(two, n).String(); a != b {
			t.Fatalf("%s, then %s", a, b)
		}
	}
}
