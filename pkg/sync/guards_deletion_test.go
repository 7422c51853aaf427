package sync

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// G2, G11: what an annotation in Omni says is a protection as long as nobody can tell what it
// means; also what the source says holds for a cluster that is gone from Git.
func TestG11_PolicyOfWhatLeftGit(t *testing.T) {
	for name, test := range map[string]struct {
		annotation string
		policy     Policy
		want       bool
	}{
		"protected":                            {"protected", Policy{}, true},
		"allowed":                              {"allowed", Policy{}, false},
		"allowed, and protected by the source": {"allowed", Policy{Protected: true}, true},
		"a typo":                               {"protectd", Policy{}, true},
		"nothing":                              {"", Policy{}, false},
		"nothing, by the source":               {"", Policy{Protected: true}, true},
	} {
		e, seen := inMemory(nil)
		seen.src.Policy = test.policy

		cluster := omnires.NewCluster("a")
		if test.annotation != "" {
			cluster.Metadata().Annotations().Set(AnnotationDeletion, test.annotation)
		}

		put(e, cluster)

		if policy, err := e.policy(seen); err != nil || policy.Protected != test.want {
			t.Errorf("%s: protected %v, %v", name, policy.Protected, err)
		}
	}
}

// leavingTarget returns a target that left Git: the cluster a of a source that prunes, from the place that is read.
func leavingTarget(e *Engine) *target {
	src := e.sources.get("s")
	src.Prune, src.MaxDelete, src.MaxDeleteResources, src.DeleteAfter = true, 1, 1, 5*time.Minute
	from := &desired{whole: true, files: fstest.MapFS{"other.yaml": {}}, place: place, targets: targets{{Name: "other", Path: "other.yaml"}}, revision: "main@sha1:3f2a1c"}
	src.desired.Store(from)

	return &target{Key: Key{"s", "a"}, src: src, from: from}
}

var place = diff.Place{Repository: "github.com/acme/fleet", Ref: "main", Path: "clusters"}

// G2, G11, G13: what keeps a cluster that left Git, one guard at a time, and which of that is written down.
func TestG11_Keeps(t *testing.T) {
	with := func(change func(*diff.Origin)) func(*Engine, *target) {
		return func(e *Engine, _ *target) {
			origin := diff.Origin{Place: place, File: "clusters/a.yaml", Commit: "3f2a1c"}
			change(&origin)
			put(e, fromOrigin("a", origin))
		}
	}

	for name, test := range map[string]struct {
		change func(e *Engine, seen *target)
		step   diff.Step
		state  diff.State
		reason string
	}{
		"nothing":                        {func(*Engine, *target) {}, diff.StepMark, diff.Leaving, "destroyed in 5m (removed in 3f2a1c)"},
		"prune is off":                   {func(_ *Engine, seen *target) { seen.src.Prune = false }, diff.StepMark, diff.Kept, "prune is off"},
		"not whole":                      {func(_ *Engine, seen *target) { seen.from.whole = false }, diff.StepKeep, "", "not whole"},
		"no templates":                   {func(_ *Engine, seen *target) { seen.from.targets = nil }, diff.StepKeep, "", "no templates at all"},
		"protected":                      {func(_ *Engine, seen *target) { seen.src.Policy.Protected = true }, diff.StepKeep, "", "protected"},
		"deletions are paused":           {func(_ *Engine, seen *target) { seen.src.DeletionsPaused = true }, diff.StepKeep, "", "paused"},
		"maxDelete is 0":                 {func(_ *Engine, seen *target) { seen.src.MaxDelete = 0 }, diff.StepMark, diff.Kept, "maxDelete allows 0"},
		"another one left":               {func(e *Engine, _ *target) { put(e, marked("b", resource.PhaseRunning)) }, diff.StepMark, diff.Kept, "2 clusters left Git"},
		"another one is deleted by hand": {func(e *Engine, _ *target) { put(e, marked("b", resource.PhaseTearingDown)) }, diff.StepMark, diff.Leaving, ""},
		"another one is being destroyed": {func(e *Engine, _ *target) {
			b := diff.Departing(marked("b", resource.PhaseTearingDown), diff.Departure{State: diff.Destroying, ID: "1"})
			put(e, b)
		}, diff.StepMark, diff.Kept, "2 clusters left Git"},
		"another one was confirmed": {func(e *Engine, _ *target) {
			put(e, diff.Departing(marked("b", resource.PhaseRunning), diff.Departure{State: diff.Leaving, ID: "1", Confirmed: true}))
		}, diff.StepMark, diff.Leaving, ""},
		"another one is kept for its place": {func(e *Engine, _ *target) {
			put(e, diff.Departing(marked("b", resource.PhaseRunning), diff.Departure{State: diff.Kept, ID: "1", Cause: keptPlace}))
		}, diff.StepMark, diff.Leaving, ""},
		"another one is kept since too many left": {func(e *Engine, _ *target) {
			put(e, diff.Departing(marked("b", resource.PhaseRunning), diff.Departure{State: diff.Kept, ID: "1", Cause: keptBudget}))
		}, diff.StepMark, diff.Kept, "2 clusters left Git"},
		"another one was begun a moment ago":                  {func(e *Engine, _ *target) { e.absences.note(begunKey{"s", ref{omnires.ClusterType, "b"}}, "9") }, diff.StepMark, diff.Kept, "2 clusters left Git"},
		"a fleet resource was begun a moment ago":             {func(e *Engine, _ *target) { e.absences.note(begunKey{"s", ref{omnires.MachineClassType, "b"}}, "9") }, diff.StepMark, diff.Leaving, ""},
		"one of another source was begun":                     {func(e *Engine, _ *target) { e.absences.note(begunKey{"z", ref{omnires.ClusterType, "b"}}, "9") }, diff.StepMark, diff.Kept, "in all sources together"},
		"another folder":                                      {with(func(o *diff.Origin) { o.Path = "" }), diff.StepMark, diff.Kept, "this source now reads github.com/acme/fleet@main clusters/"},
		"another branch":                                      {with(func(o *diff.Origin) { o.Ref = "dev" }), diff.StepMark, diff.Kept, "it came from github.com/acme/fleet@dev clusters/"},
		"other globs":                                         {with(func(o *diff.Origin) { o.Include = []string{"*.yaml"} }), diff.StepMark, diff.Kept, "it came from"},
		"another repository":                                  {with(func(o *diff.Origin) { o.Repository = "github.com/acme/old" }), diff.StepKeep, "", "it came from github.com/acme/old@main clusters/"},
		"a checkout, of any branch":                           {with(func(o *diff.Origin) { o.Ref = "" }), diff.StepMark, diff.Leaving, ""},
		"a folder that nothing is known of":                   {with(func(o *diff.Origin) { o.Repository = "" }), diff.StepMark, diff.Kept, "no checkout of a known repository"},
		"this source reads a folder that nothing is known of": {func(_ *Engine, seen *target) { seen.from.place = diff.Place{} }, diff.StepKeep, "", "set `origin`"},
		"no origin": {func(e *Engine, _ *target) {
			r := marked("a", resource.PhaseRunning)
			r.Metadata().Annotations().Delete(diff.MarkOrigin)
			put(e, r)
		}, diff.StepMark, diff.Kept, "an earlier release"},
		"a broken origin": {func(e *Engine, _ *target) {
			r := marked("a", resource.PhaseRunning)
			r.Metadata().Annotations().Set(diff.MarkOrigin, "{")
			put(e, r)
		}, diff.StepMark, diff.Kept, "an earlier release"},
		"its file is there": {func(_ *Engine, seen *target) { seen.from.files = fstest.MapFS{"clusters/a.yaml": {}} }, diff.StepKeep, "", "clusters/a.yaml is still there"},
		// It was not marked as kept, and destroyed when the source read everything again without the file.
		"its file is there, in a folder that is not read any more": {func(_ *Engine, seen *target) {
			seen.from.files = fstest.MapFS{"clusters/a.yaml": {}}
			seen.from.place.Path = "prod"
		}, diff.StepMark, diff.Kept, "it came from github.com/acme/fleet@main clusters/"},
		"its file cannot be looked at": {func(_ *Engine, seen *target) { seen.from.files = oddFiles{errors.New("i/o error")} }, diff.StepKeep, "", "is still there"},
		"its file is another's": {func(_ *Engine, seen *target) {
			seen.from.files = fstest.MapFS{"clusters/a.yaml": {}}
			seen.from.targets = targets{{Name: "c", Path: "clusters/a.yaml"}}
		}, diff.StepMark, diff.Leaving, "renamed: destroys a, creates c"},
		"its file had a name that none can have": {func(_ *Engine, seen *target) { seen.from.files = oddFiles{fs.ErrInvalid} }, diff.StepMark, diff.Leaving, ""},
		"a source was not read": {func(e *Engine, seen *target) {
			e.Reconfigure([]SourceConfig{seen.src.SourceConfig, {Name: "unread", Source: idle{}}})
		}, diff.StepKeep, "", "was not read yet"},
		"another source describes it": {func(e *Engine, seen *target) {
			e.Reconfigure([]SourceConfig{seen.src.SourceConfig, {Name: "z", Source: other{}}})
			e.sources.get("z").desired.Store(&desired{whole: true, targets: targets{{Name: "a"}}})
		}, diff.StepKeep, "", "allow.takeFrom"},
		"it may not be this source's": {func(_ *Engine, seen *target) { seen.src.Allow.Clusters = []string{"b*"} }, diff.StepKeep, "", "allow.clusters"},
		"it is an orphan": {func(e *Engine, _ *target) {
			r := marked("a", resource.PhaseRunning)
			r.Metadata().Annotations().Set(AnnotationDeletion, "orphan")
			put(e, r)
		}, diff.StepRelease, "", ""},
		"the history is another one": {func(_ *Engine, seen *target) {
			seen.src.Follows = func(string, string) (bool, bool) { return false, true }
		}, diff.StepMark, diff.Kept, "not in the history"},
		"the history is unknown": {func(_ *Engine, seen *target) {
			seen.src.Follows = func(string, string) (bool, bool) { return false, false }
		}, diff.StepMark, diff.Leaving, ""},
		"forced in a revision before, and unknown": {func(_ *Engine, seen *target) {
			seen.from.astray = true
			seen.src.Follows = func(string, string) (bool, bool) { return false, false }
		}, diff.StepMark, diff.Kept, "nobody can tell"},
		"forced in a revision before, and newer by now": {func(_ *Engine, seen *target) {
			seen.from.astray, seen.from.commit = true, "head"
			seen.src.Follows = func(head, _ string) (bool, bool) { return head == "head", true }
		}, diff.StepMark, diff.Leaving, ""},
		"after a forced push":     {func(_ *Engine, seen *target) { seen.from.rewound = true }, diff.StepMark, diff.Kept, "forced push"},
		"one-shot, not agreed to": {func(e *Engine, _ *target) { e.OneShot = true }, diff.StepKeep, "", "nobody agreed"},
		"one-shot, agreed to":     {func(e *Engine, _ *target) { e.OneShot, e.Approved = true, map[string]bool{"Cluster a": true} }, diff.StepMark, diff.Destroying, ""},
		"one-shot, agreed to and from elsewhere": {func(e *Engine, seen *target) {
			e.OneShot, e.Approved = true, map[string]bool{"Cluster a": true}
			seen.from.place.Path = "x"
		}, diff.StepKeep, "", "it came from"},
		"a destroying mark of another leader": {func(e *Engine, _ *target) {
			put(e, diff.Departing(marked("a", resource.PhaseRunning), diff.Departure{State: diff.Destroying, ID: "1", Confirmed: true}))
		}, diff.StepMark, diff.Leaving, ""},
		"confirmed": {func(e *Engine, _ *target) {
			put(e, diff.Departing(marked("a", resource.PhaseRunning), diff.Departure{State: diff.Leaving, ID: "1", Confirmed: true}))
		}, diff.StepMark, diff.Destroying, ""},
		"kept and confirmed, from another place": {func(e *Engine, seen *target) {
			seen.from.place.Path = "x"
			put(e, diff.Departing(marked("a", resource.PhaseRunning), diff.Departure{State: diff.Kept, ID: "1", Confirmed: true, By: seen.from.place.String()}))
		}, diff.StepMark, diff.Destroying, ""},
		"kept and confirmed at a source of the same name that reads another place": {func(e *Engine, seen *target) {
			seen.from.place.Path = "x"
			put(e, diff.Departing(marked("a", resource.PhaseRunning), diff.Departure{State: diff.Leaving, ID: "1", Confirmed: true}))
		}, diff.StepMark, diff.Kept, "it came from"},
		"confirmed and protected": {func(e *Engine, seen *target) {
			seen.src.Policy.Protected = true
			put(e, diff.Departing(marked("a", resource.PhaseRunning), diff.Departure{State: diff.Leaving, ID: "1", Confirmed: true}))
		}, diff.StepKeep, "", "protected"},
		"confirmed, and no templates are left": {func(e *Engine, seen *target) {
			seen.from.targets = nil
			put(e, diff.Departing(marked("a", resource.PhaseRunning), diff.Departure{State: diff.Kept, ID: "1", Confirmed: true}))
		}, diff.StepMark, diff.Destroying, ""},
		"confirmed, and back since": {func(e *Engine, _ *target) {
			r := diff.Departing(marked("a", resource.PhaseRunning), diff.Departure{State: diff.Leaving, ID: "1", Confirmed: true})
			put(e, r)
			e.absences.back(r)
		}, diff.StepMark, diff.Leaving, ""},
		"kept before": {func(e *Engine, _ *target) {
			put(e, diff.Departing(marked("a", resource.PhaseRunning), diff.Departure{State: diff.Kept, ID: "1", Reason: "prune was off"}))
		}, diff.StepKeep, "", "prune was off; `omni-syncd confirm a` to delete it"},
		"the confirmation of another mark": {func(e *Engine, _ *target) {
			r := diff.Departing(marked("a", resource.PhaseRunning), diff.Departure{State: diff.Kept, ID: "1", Reason: "x"})
			r.Metadata().Annotations().Set(diff.MarkConfirmed, "2")
			put(e, r)
		}, diff.StepKeep, "", "x"},
	} {
		t.Run(name, func(t *testing.T) {
			e := idleEngine()
			seen := leavingTarget(e)
			put(e, marked("a", resource.PhaseRunning))
			test.change(e, seen)

			fate := e.fate(seen, heldCluster(e))
			if fate.Step != test.step || fate.Mark.State != test.state || !strings.Contains(fate.Reason, test.reason) {
				t.Errorf("step %d %s: %q", fate.Step, fate.Mark.State, fate.Reason)
			}
		})
	}
}

// G11: it goes after DeleteAfter without a break, and only this leader's own mark permits the teardown.
func TestG11_Waits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := idleEngine()
		defer e.queue.ShutDown()

		seen := leavingTarget(e)

		look := func(after time.Duration) diff.Fate {
			time.Sleep(after)

			seen.fates = nil

			return e.fate(seen, heldCluster(e))
		}

		write := func(fate diff.Fate) { put(e, diff.Departing(heldCluster(e), fate.Mark)) }

		put(e, marked("a", resource.PhaseRunning))

		first := look(0)
		if first.Mark.State != diff.Leaving {
			t.Fatalf("%+v", first)
		}

		write(first)

		for name, disturb := range map[string]func(){
			"a disturbance": e.disturb,
			"suspended": func() {
				seen.policy.Suspended = true
				look(0)
				seen.policy.Suspended = false
			},
			"not whole": func() {
				seen.from.whole = false
				look(0)
				seen.from.whole = true
			},
			"locked": func() {
				r := heldCluster(e).DeepCopy()
				r.Metadata().Annotations().Set(omnires.ClusterLocked, "")
				put(e, r)
				look(0)

				r = r.DeepCopy()
				r.Metadata().Annotations().Delete(omnires.ClusterLocked)
				put(e, r)
			},
		} {
			look(0)

			if fate := look(5*time.Minute - time.Second); fate.Step != diff.StepWait {
				t.Fatalf("too early: %+v", fate)
			}

			disturb()

			if fate := look(2 * time.Second); fate.Step != diff.StepWait {
				t.Fatalf("%s does not begin the time again: %+v", name, fate)
			}
		}

		begun := look(5 * time.Minute)
		if begun.Step != diff.StepMark || begun.Mark.State != diff.Destroying {
			t.Fatalf("it does not go: %+v", begun)
		}

		// The update was lost: nothing is torn down.
		if fate := look(0); fate.Step == diff.StepDestroy {
			t.Fatalf("torn down without its mark: %+v", fate)
		}

		write(begun)

		if fate := look(0); fate.Step != diff.StepDestroy {
			t.Fatalf("%+v", fate)
		}

		// What was begun is spent for an hour, whatever became of it.
		e.Snapshot.Removed(heldCluster(e).Metadata())
		b := marked("b", resource.PhaseRunning)
		put(e, b)

		if over := e.overBudget(seen, b); over == "" {
			t.Error("the budget is not spent")
		}

		time.Sleep(time.Hour)

		if over := e.overBudget(seen, b); over != "" {
			t.Error(over)
		}
	})
}

// G11: what the budget forbids is not allowed one by one.
func TestG11_BudgetIsForAll(t *testing.T) {
	e := idleEngine()
	seen := leavingTarget(e)

	for _, name := range []string{"a", "b", "c"} {
		put(e, marked(name, resource.PhaseRunning))
	}

	for _, name := range []string{"a", "b", "c"} {
		r, _ := e.Snapshot.Get(omnires.ClusterType, name)
		fate := e.fate(&target{Key: Key{"s", name}, src: seen.src, from: seen.from}, r)

		if fate.Mark.State != diff.Kept || fate.Mark.Cause != keptBudget {
			t.Fatalf("%s: %+v", name, fate)
		}

		put(e, diff.Departing(r, fate.Mark))
	}
}
