package chaos

import (
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

// What is wrong with a mark that begins a deletion, each case beside one where it is right.
func TestJudgeMark(t *testing.T) {
	at := time.Now()
	ago := func(d time.Duration) time.Time { return at.Add(-d) }
	here, there := diff.Place{Repository: "file:/fleet", Ref: "main", Path: folder}, diff.Place{Repository: "file:/mirror", Ref: "main", Path: folder}
	key := ref{omni.ClusterType, "c1"}

	mark := func(state diff.State, confirmed bool, first time.Time) departing {
		return departing{at: first, first: first, Departure: diff.Departure{State: state, ID: string(state), Confirmed: confirmed}, ours: true, place: here}
	}
	from := func(place diff.Place, m departing) departing {
		m.place = place

		return m
	}

	open, locked, torn := omni.NewCluster("c1"), omni.NewCluster("c1"), omni.NewCluster("c1")
	locked.Metadata().Annotations().Set(omni.ClusterLocked, "")
	torn.Metadata().SetPhase(resource.PhaseTearingDown)

	other := func(id string, since time.Duration, confirmed bool) begun {
		return begun{key: ref{omni.ClusterType, id}, departing: mark(diff.Destroying, confirmed, ago(since))}
	}

	for _, test := range []struct {
		name        string
		old         resource.Resource
		before, now departing
		begun       []begun
		born        time.Time
		want        string
	}{
		{name: "in its time", before: mark(diff.Leaving, false, ago(time.Minute)), now: mark(diff.Destroying, false, at)},
		{name: "confirmed", before: mark(diff.Kept, true, ago(time.Second)), now: mark(diff.Destroying, true, at)},
		{name: "confirmed from elsewhere", before: from(there, mark(diff.Kept, true, ago(time.Second))), now: from(there, mark(diff.Destroying, true, at))},
		{name: "never marked", now: mark(diff.Destroying, false, at), want: "not marked as leaving"},
		{name: "kept", before: mark(diff.Kept, false, ago(time.Minute)), now: mark(diff.Destroying, false, at), want: "not marked as leaving"},
		{name: "too early", before: mark(diff.Leaving, false, ago(deleteAfter/2)), now: mark(diff.Destroying, false, at), want: "only"},
		{name: "confirmed by nobody", before: mark(diff.Leaving, false, ago(time.Minute)), now: mark(diff.Destroying, true, at), want: "nobody confirmed"},
		{name: "from elsewhere", before: from(there, mark(diff.Leaving, false, ago(time.Minute))), now: from(there, mark(diff.Destroying, false, at)), want: "did not read"},
		{name: "from nowhere", before: from(diff.Place{}, mark(diff.Leaving, false, ago(time.Minute))), now: from(diff.Place{}, mark(diff.Destroying, false, at)), want: "nobody knows where"},
		{name: "under a lock", old: locked, before: mark(diff.Leaving, false, ago(time.Minute)), now: mark(diff.Destroying, false, at), want: "locked"},
		{name: "marked as leaving under a lock", old: locked, now: mark(diff.Leaving, false, at), want: "locked"},
		{name: "torn down", old: torn, before: mark(diff.Leaving, false, ago(time.Minute)), now: mark(diff.Destroying, false, at), want: "torn down"},
		{
			name: "one too many", before: mark(diff.Leaving, false, ago(time.Minute)), now: mark(diff.Destroying, false, at),
			begun: []begun{other("c2", deleteWindow-2*underWay, false)}, want: "without a confirmation",
		},
		{name: "after the window", before: mark(diff.Leaving, false, ago(time.Minute)), now: mark(diff.Destroying, false, at), begun: []begun{other("c2", deleteWindow, false)}},
		{name: "beside a confirmed one", before: mark(diff.Leaving, false, ago(time.Minute)), now: mark(diff.Destroying, false, at), begun: []begun{other("c2", time.Second, true)}},
		{
			name: "after a restart", before: mark(diff.Leaving, false, ago(time.Minute)), now: mark(diff.Destroying, false, at),
			begun: []begun{other("c2", deleteWindow-2*underWay, false)}, born: ago(time.Second),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newShadow(nil)
			s.begun, s.born = test.begun, func() time.Time { return test.born }
			s.places = []reading{{span{from: ago(time.Hour)}, here}}

			old := test.old
			if old == nil {
				old = open
			}

			expect(t, s.judgeMark(key, old, test.before, test.now), test.want)
		})
	}
}

// What is wrong with a deletion that began, by the revisions that the daemon had.
func TestJudgeBegun(t *testing.T) {
	at := time.Now()
	ago := func(d time.Duration) time.Time { return at.Add(-d) }
	key, other := ref{omni.ClusterType, "c1"}, ref{omni.ClusterType, "c2"}

	revisions := map[string]*head{
		"with":    {whole: true, names: map[string]bool{"c1": true}},
		"without": {whole: true, names: map[string]bool{}},
		"partial": {names: map[string]bool{}},
	}
	took := func(hash string, since time.Duration) moment {
		return moment{at: ago(since), what: accepted, hash: hash}
	}
	between := (deleteAfter + underWay) / 2

	for _, test := range []struct {
		name      string
		moments   []moment
		confirmed bool
		others    []ref
		recent    []*head
		want      string
	}{
		{name: "gone for long", moments: []moment{took("without", time.Hour)}},
		{name: "gone in two revisions", moments: []moment{took("without", time.Hour), took("without", between)}},
		{name: "there all along", moments: []moment{took("with", time.Hour)}, want: "describes it"},
		{name: "there a moment ago", moments: []moment{took("with", time.Hour), took("without", between)}, want: "describes it"},
		{name: "back for a moment", moments: []moment{took("without", time.Hour), took("with", between)}, want: "describes it"},
		{name: "back too late", moments: []moment{took("without", time.Hour), took("with", underWay/2)}},
		{name: "not whole", moments: []moment{took("without", time.Hour), took("partial", between)}, want: "not whole"},
		{name: "restarted", moments: []moment{{at: ago(between), what: ended}, took("without", between)}, want: "restarted"},
		{name: "configured", moments: []moment{took("without", time.Hour), {at: ago(between), what: configured}}, want: "configuration"},
		{name: "confirmed", moments: []moment{took("with", time.Hour)}, confirmed: true},
		{
			name: "two left", moments: []moment{took("without", time.Hour)}, others: []ref{other}, want: "left, too",
			recent: []*head{{at: ago(time.Minute), whole: true, names: map[string]bool{}}},
		},
		{
			name: "the other came back", moments: []moment{took("without", time.Hour)}, others: []ref{other},
			recent: []*head{{at: ago(time.Hour), whole: true, names: map[string]bool{}}, {at: ago(time.Minute), whole: true, names: map[string]bool{"c2": true}}},
		},
		{
			name: "the other left just now", moments: []moment{took("without", time.Hour)}, others: []ref{other},
			recent: []*head{{at: ago(time.Second), whole: true, names: map[string]bool{}}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := &begun{key: key, departing: departing{at: at, Departure: diff.Departure{Confirmed: test.confirmed}}, others: test.others}
			expect(t, judgeBegun(b, test.moments, revisions, test.recent), test.want)
		})
	}
}

// The shadow reads the marks from the versions that the database keeps.
func TestShadowOfMarks(t *testing.T) {
	cluster := omni.NewCluster("c1")
	cluster.Metadata().Annotations().Set(diff.MarkSource, sourceName)

	s := newShadow(nil)
	s.see(cluster, false)
	s.see(diff.Departing(cluster, diff.Departure{State: diff.Kept, ID: "1"}), false)

	if len(s.broken) > 0 {
		t.Fatalf("keeping is right: %v", s.broken)
	}

	s.see(diff.Departing(cluster, diff.Departure{State: diff.Destroying, ID: "2"}), false)

	if len(s.broken) != 1 || len(s.begun) != 1 {
		t.Errorf("a deletion began that nobody confirmed, and the shadow says %v and %v", s.broken, s.begun)
	}
}

// The second daemon may write to its own clusters and to what nobody has yet.
func TestStrayed(t *testing.T) {
	w := &world{shadow: newShadow(nil)}

	w.strayed(embedded.Write{Verb: embedded.VerbCreate, Type: omni.ClusterType, ID: "x0"})
	w.shadow.see(omni.NewCluster("x0"), false)
	w.strayed(embedded.Write{Verb: embedded.VerbUpdate, Type: omni.ClusterType, ID: "x0"})

	if len(w.shadow.broken) > 0 {
		t.Fatalf("that is its own: %v", w.shadow.broken)
	}

	w.shadow.see(omni.NewCluster("c0"), false)
	w.strayed(embedded.Write{Verb: embedded.VerbUpdate, Type: omni.ClusterType, ID: "c0"})

	if len(w.shadow.broken) != 1 {
		t.Error("it wrote to a cluster of another repository, and the shadow does not say so")
	}
}

// The daemon's log tells which revision was in force.
func TestMoments(t *testing.T) {
	var l log

	now := time.Now()
	l.moments = []moment{
		{now.Add(-4 * time.Second), accepted, "a"}, {now.Add(-3 * time.Second), accepted, "b"},
		{now.Add(-2 * time.Second), configured, ""}, {now.Add(-time.Second), accepted, "c"},
	}

	var got []string
	for _, m := range l.since(now.Add(-2500 * time.Millisecond)) {
		got = append(got, m.hash)
	}

	if text := strings.Join(got, " "); text != "b  c" {
		t.Errorf("got %q", text)
	}

	l.moments[2].what = ended

	if got := l.since(now.Add(-1500 * time.Millisecond)); len(got) != 1 || got[0].hash != "c" {
		t.Errorf("a new daemon knows no revision of the old one: %v", got)
	}
}

func expect(t *testing.T, got, want string) {
	t.Helper()

	if want == "" && got != "" || !strings.Contains(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
