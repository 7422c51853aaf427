package sync

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
)

// restarted returns an engine that has just started with a ledger.
func restarted(t *testing.T, file *LedgerFile) (*Engine, *target) {
	t.Helper()

	ledger, err := file.Load()
	if err != nil {
		t.Fatal(err)
	}

	e, _ := inMemory(nil)
	e.KeepLedger = file.Keep
	e.absences.restore(ledger)
	t.Cleanup(e.queue.ShutDown)

	return e, leavingTarget(e)
}

// G11: each restart had a whole budget: a daemon that was restarted every six minutes deleted a cluster each time.
func TestG11_RestartKeepsTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := &LedgerFile{Path: filepath.Join(t.TempDir(), "deletions.json")}
		e, first := restarted(t, file)
		origin := diff.Origin{Place: place, File: "clusters/a.yaml", Commit: "3f2a1c"}
		put(e, fromOrigin("a", origin))

		r, _ := e.Snapshot.Get(omnires.ClusterType, "a")
		if fate := e.begin(first, r, diff.DepartureOf(r), false); fate.Mark.State != diff.Destroying {
			t.Fatalf("%+v", fate)
		}

		time.Sleep(6 * time.Minute)

		e, next := restarted(t, file)
		next.Target = "b"
		put(e, fromOrigin("b", origin))

		b, _ := e.Snapshot.Get(omnires.ClusterType, "b")
		if fate := e.begin(next, b, diff.DepartureOf(b), false); fate.Mark.State != diff.Kept || !strings.Contains(fate.Reason, "2 clusters left Git within 1h") {
			t.Errorf("%+v", fate)
		}

		time.Sleep(54 * time.Minute)

		e, last := restarted(t, file)
		last.Target = "b"
		put(e, fromOrigin("b", origin))

		if fate := e.begin(last, b, diff.DepartureOf(b), false); fate.Mark.State != diff.Destroying {
			t.Errorf("an hour later: %+v", fate)
		}
	})
}

// G11: what cannot be written down is not begun, this time and the next.
func TestG11_NothingBeginsUnwritten(t *testing.T) {
	full := errors.New("no space left")
	e, _ := inMemory(nil)
	e.KeepLedger = func(func(Ledger) Ledger) error { return full }
	seen := leavingTarget(e)
	put(e, fromOrigin("a", diff.Origin{Place: place, File: "clusters/a.yaml", Commit: "3f2a1c"}))

	r, _ := e.Snapshot.Get(omnires.ClusterType, "a")
	for range 2 {
		if fate := e.begin(seen, r, diff.DepartureOf(r), false); fate.Step != diff.StepWait || !strings.Contains(fate.Reason, "no space left") {
			t.Errorf("%+v", fate)
		}
	}

	if fate := e.begin(seen, r, diff.DepartureOf(r), true); fate.Mark.State != diff.Destroying {
		t.Errorf("confirmed: %+v", fate)
	}
}

// G11: a confirmation that a lock kept in Omni while its template was back meant something again after a restart.
func TestG11_VoidMarkOutlivesARestart(t *testing.T) {
	file := &LedgerFile{Path: filepath.Join(t.TempDir(), "deletions.json")}
	e, seen := restarted(t, file)
	marked := diff.Departing(fromOrigin("a", diff.Origin{Place: place, File: "clusters/a.yaml", Commit: "3f2a1c"}),
		diff.Departure{State: diff.Leaving, ID: "1", Repository: place.Repository, Confirmed: true})
	put(e, marked)

	if mark := e.markOf(seen, marked); !mark.Confirmed {
		t.Fatalf("%+v", mark)
	}

	e.noteBack(marked)

	e, seen = restarted(t, file)
	put(e, marked)

	if mark := e.markOf(seen, marked); mark.ID != "" {
		t.Errorf("%+v", mark)
	}

	// It goes with the mark.
	if next := e.absences.ledger(Ledger{Void: []VoidMark{{omnires.ClusterType, "b", "2"}}}, func(v VoidMark) bool { return v.ID != "b" }); len(next.Void) != 1 || next.Void[0].ID != "a" {
		t.Error(next.Void)
	}
}

// Local files never stop the daemon, and what was in a damaged one is taken for the whole budget, until the window ends.
func TestG11_DamagedLedger(t *testing.T) {
	whole, err := EncodeLedger(Ledger{Begun: []BegunDeletion{{Source: "s", Type: omnires.ClusterType, ID: "x", Mark: "1", At: time.Now()}}})
	if err != nil {
		t.Fatal(err)
	}

	for name, data := range map[string]string{
		"empty": "", "null": "null", "object": "{}", "cut": string(whole[:len(whole)/2]), "doubled": string(whole) + string(whole),
		"another cluster": strings.Replace(string(whole), `"x"`, `"y"`, 1), "no checksum": `{"deletions":{"begun":[]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			file := &LedgerFile{Path: filepath.Join(t.TempDir(), "deletions.json")}
			if err := os.WriteFile(file.Path, []byte(data), 0o600); err != nil {
				t.Fatal(err)
			}

			ledger, err := file.Load()
			if err == nil || ledger.Lost.IsZero() {
				t.Fatalf("%+v, %v", ledger, err)
			}

			if again, err := file.Load(); err != nil || !again.Lost.Equal(ledger.Lost) {
				t.Errorf("the next start: %+v, %v", again, err)
			}

			if aside, err := os.ReadFile(file.Path + ".damaged"); string(aside) != data {
				t.Error(string(aside), err)
			}

			e, seen := restarted(t, file)
			put(e, fromOrigin("a", diff.Origin{Place: place, File: "clusters/a.yaml", Commit: "3f2a1c"}))

			r, _ := e.Snapshot.Get(omnires.ClusterType, "a")
			if fate := e.decide(seen, r); fate.Step != diff.StepKeep || !fate.Asks || !strings.Contains(fate.Reason, "could not be read, so nothing goes by itself for") {
				t.Errorf("%+v", fate)
			}
		})
	}
}

// Shards write to one place, and none forgets what another one began.
func TestLedger_OfSeveral(t *testing.T) {
	at := time.Now().UTC().Truncate(time.Second)
	file := &LedgerFile{Path: filepath.Join(t.TempDir(), "deletions.json")}

	for _, id := range []string{"a", "b", "a"} {
		e, _ := inMemory(nil)
		e.KeepLedger = file.Keep
		e.absences.note(begunKey{"s", ref{omnires.ClusterType, id}}, "1")

		if err := e.keepLedger(); err != nil {
			t.Fatal(err)
		}
	}

	ledger, err := file.Load()
	if err != nil {
		t.Fatal(err)
	}

	for i := range ledger.Begun {
		if ledger.Begun[i].At.Before(at) {
			t.Error(ledger.Begun[i])
		}

		ledger.Begun[i].At = at
	}

	if d := cmp.Diff([]BegunDeletion{{"s", omnires.ClusterType, "a", "1", at}, {"s", omnires.ClusterType, "b", "1", at}}, ledger.Begun); d != "" {
		t.Error(d)
	}
}

// A clock that was set back since makes what is written down new, and never old.
func TestLedger_ClockSetBack(t *testing.T) {
	for name, test := range map[string]struct {
		at   time.Time
		want int
	}{
		"a minute ago": {time.Now().Add(-time.Minute), 1},
		"tomorrow":     {time.Now().Add(24 * time.Hour), 1},
		"yesterday":    {time.Now().Add(-24 * time.Hour), 0},
		"never":        {time.Time{}, 0},
	} {
		a := newAbsences(time.Hour)
		a.restore(Ledger{Begun: []BegunDeletion{{"s", omnires.ClusterType, "x", "1", test.at}}})

		if n := a.spent("s", true, nil); n != test.want {
			t.Errorf("%s: %d", name, n)
		}
	}
}

func FuzzDecodeLedger(f *testing.F) {
	whole, err := EncodeLedger(Ledger{Begun: []BegunDeletion{{"s", omnires.ClusterType, "x", "1", time.Unix(1, 0).UTC()}}, Lost: time.Unix(2, 0).UTC()})
	if err != nil {
		f.Fatal(err)
	}

	f.Add(whole)
	f.Add([]byte(`{"deletions":null,"checksum":""}`))

	f.Fuzz(func(t *testing.T, data []byte) {
		ledger, err := DecodeLedger(data)
		if err != nil {
			return
		}

		again, err := EncodeLedger(ledger)
		if err != nil {
			t.Fatal(err)
		}

		if _, err := DecodeLedger(again); err != nil {
			t.Error(err)
		}
	})
}

// On a shared Omni what another team's daemon destroyed took from the budget of this one.
func TestG11_OthersDeletionsCostNothing(t *testing.T) {
	elsewhere := place
	elsewhere.Repository = "github.com/rival/fleet"

	for name, test := range map[string]struct {
		source string
		place  diff.Place
		want   int
	}{
		"another shard's":                   {"s", place, 1},
		"a source that is not ours":         {"theirs", place, 0},
		"the same name, another repository": {"s", elsewhere, 0},
	} {
		e, _ := inMemory(nil)
		leavingTarget(e)

		r := fromOrigin("x", diff.Origin{Place: test.place, File: "x.yaml", Commit: "1"})
		r.Metadata().Annotations().Set(diff.MarkSource, test.source)
		put(e, diff.Departing(r, diff.Departure{State: diff.Destroying, ID: "1", Repository: test.place.Repository}))
		e.countBegun(omni.Change{Type: omnires.ClusterType, ID: "x"})

		if n := e.absences.spent("", true, nil); n != test.want {
			t.Errorf("%s: %d", name, n)
		}
	}
}
