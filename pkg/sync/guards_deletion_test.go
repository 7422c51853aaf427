package sync

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/cosi-project/runtime/pkg/resource"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// G11: n/2+1 of n members must stay; what comes is there before what leaves has gone, and what is
// on its way out already leaves with the rest, but is not asked for by itself.
func TestG11_QuorumArithmetic(t *testing.T) {
	for _, test := range []struct {
		stay, leave, create, gone, workers int
		refused                            bool
	}{
		{stay: 3},
		{stay: 2, leave: 1},
		{stay: 1, leave: 2, refused: true},
		{stay: 3, leave: 2},
		{stay: 2, leave: 3, refused: true},
		{stay: 3, leave: 1},
		{stay: 2, leave: 2, refused: true}, // 2 of 4 are no majority
		{stay: 4, leave: 3},
		{stay: 3, leave: 4, refused: true},
		{stay: 1, leave: 1},
		{leave: 2, refused: true},
		{leave: 1, refused: true},
		{leave: 1, create: 1}, // one of two
		{leave: 2, create: 2, refused: true},
		{leave: 1, create: 2},
		{stay: 1, leave: 2, create: 2}, // 3 of 5
		{stay: 2, gone: 3},
		{stay: 1, leave: 1, gone: 1, refused: true}, // with the one that is going already, 2 of 3
		{stay: 1, workers: 5},
		{stay: 3, leave: 1, workers: 5},
		{stay: 1, leave: 2, workers: 5, refused: true},
		{stay: 1, leave: 2, gone: 2, refused: true},
	} {
		t.Run(fmt.Sprintf("%+v", test), func(t *testing.T) {
			e := idleEngine()
			plan := &diff.Plan{Target: "a"}
			machines := 0

			add := func(n int, phase resource.Phase, controlPlane bool, action diff.Action) {
				for range n {
					machines++
					r := member(fmt.Sprintf("m%02d", machines), phase, controlPlane)

					if action != diff.Create {
						put(e, r)
					}

					switch action {
					case diff.Destroy:
						plan.Changes = append(plan.Changes, diff.Change{Action: action, Old: r})
					case diff.Create:
						plan.Changes = append(plan.Changes, diff.Change{Action: action, New: r})
					}
				}
			}

			add(test.stay, resource.PhaseRunning, true, "")
			add(test.leave, resource.PhaseRunning, true, diff.Destroy)
			add(test.create, resource.PhaseRunning, true, diff.Create)
			add(test.gone, resource.PhaseTearingDown, true, diff.Destroy)
			add(test.workers, resource.PhaseRunning, false, diff.Destroy)
			put(e, controlPlaneSet())

			src := e.sources.get("s")
			if why := src.quorum(plan, e.Snapshot.Cluster("a")); (why != "") != test.refused {
				t.Errorf("refused %v: %q", why != "", why)
			}

			if plan.Removed = true; src.quorum(plan, e.Snapshot.Cluster("a")) != "" {
				t.Error("the deletion of a cluster is guarded as such")
			}
		})
	}
}

// G11: a digest stands for one deletion: of these names, of this kind, in this source. The
// order of the names does not matter.
func TestG11_DigestNamesTheDeletion(t *testing.T) {
	digests := map[string]string{}

	for name, digest := range map[string]string{
		"two":                digestOf("s", "clusters", []string{"a", "b"}),
		"another name":       digestOf("s", "clusters", []string{"a", "c"}),
		"one more":           digestOf("s", "clusters", []string{"a", "b", "c"}),
		"one less":           digestOf("s", "clusters", []string{"a"}),
		"joined":             digestOf("s", "clusters", []string{"ab"}),
		"another source":     digestOf("s2", "clusters", []string{"a", "b"}),
		"a control plane":    digestOf("s", "control plane of a", []string{"a", "b"}),
		"of another cluster": digestOf("s", "control plane of b", []string{"a", "b"}),
	} {
		if other, ok := digests[digest]; ok {
			t.Errorf("%s and %s have the same digest", name, other)
		}

		digests[digest] = name
	}

	if digestOf("s", "clusters", []string{"b", "a"}) != digestOf("s", "clusters", []string{"a", "b"}) {
		t.Error("the digest depends on the order")
	}
}

// G11: the confirmation of a control plane is for the one cluster that it was given for.
func TestG11_QuorumConfirmedForOneCluster(t *testing.T) {
	plan := func(cluster string) *diff.Plan {
		return &diff.Plan{Target: cluster, Changes: []diff.Change{
			{Action: diff.Destroy, Old: member("m1", resource.PhaseRunning, true)},
			{Action: diff.Destroy, Old: member("m2", resource.PhaseRunning, true)},
		}}
	}

	src := newSourceState(SourceConfig{Name: "s", Confirm: []string{digestOf("s", "control plane of a", []string{"m1", "m2"})}}, &confirmations{})

	live := func(cluster string) []resource.Resource {
		members := []resource.Resource{member("m1", resource.PhaseRunning, true), member("m2", resource.PhaseRunning, true), member("m3", resource.PhaseRunning, true)}
		for _, m := range members {
			m.Metadata().Labels().Set(omnires.LabelCluster, cluster)
		}

		return members
	}

	if why := src.quorum(plan("a"), live("a")); why != "" {
		t.Errorf("confirmed, and refused: %s", why)
	}

	if src.quorum(plan("b"), live("b")) == "" {
		t.Error("what was confirmed for a holds for b")
	}
}

// G11: maxDelete clusters may go, and no more.
func TestG11_MaxDeleteBoundary(t *testing.T) {
	for _, test := range []struct {
		maxDelete, left int
		refused         bool
	}{{0, 0, false}, {0, 1, true}, {1, 1, false}, {1, 2, true}, {3, 3, false}, {3, 4, true}} {
		src := newSourceState(SourceConfig{Name: "s", MaxDelete: test.maxDelete}, &confirmations{})
		left := map[string]bool{}

		for i := range test.left {
			left[fmt.Sprint(i)] = true
		}

		if why := src.tooMany(left); (why != "") != test.refused {
			t.Errorf("%+v: %q", test, why)
		}
	}
}

// G12: what a reader of the network may make the daemon remember has a bound, and what is
// remembered already costs nothing.
func TestG12_Confirmations(t *testing.T) {
	var c confirmations

	for i := range maxConfirmations {
		if !c.add(fmt.Sprint(i)) {
			t.Fatalf("no %d is refused", i)
		}
	}

	if c.add("one more") || c.has("one more") {
		t.Error("there is no bound")
	}

	if !c.add("0") || len(c.digests) != maxConfirmations {
		t.Error("the same confirmation counts twice")
	}

	e := idleEngine()
	e.sources.get("s").confirmations.digests = c.digests

	if e.Confirm("s", "one more") == nil {
		t.Error("a confirmation that is not remembered is not refused")
	}
}

// G2, G11: what an annotation in Omni says is a protection as long as nobody can tell what it
// means; also what the source says holds for a cluster that is gone from Git.
func TestG11_PolicyOfWhatLeftGit(t *testing.T) {
	for name, test := range map[string]struct {
		annotation string
		policy     Policy
		want       bool
	}{
		"protected":              {"protected", Policy{}, true},
		"allowed":                {"allowed", Policy{Protected: true}, false},
		"a typo":                 {"protectd", Policy{}, true},
		"nothing":                {"", Policy{}, false},
		"nothing, by the source": {"", Policy{Protected: true}, true},
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

// G2, G11: what keeps a cluster that left Git, one guard at a time.
func TestG11_Keeps(t *testing.T) {
	for name, test := range map[string]struct {
		change func(e *Engine, seen *target)
		kept   bool
	}{
		"nothing":                       {func(*Engine, *target) {}, false},
		"prune is off":                  {func(_ *Engine, seen *target) { seen.src.Prune = false }, true},
		"not whole":                     {func(_ *Engine, seen *target) { seen.from.whole = false }, true},
		"protected":                     {func(_ *Engine, seen *target) { seen.policy.Protected = true }, true},
		"maxDelete is 0":                {func(_ *Engine, seen *target) { seen.src.MaxDelete = 0 }, true},
		"another one left":              {func(e *Engine, _ *target) { put(e, marked("b", resource.PhaseRunning)) }, true},
		"another one is on its way out": {func(e *Engine, _ *target) { put(e, marked("b", resource.PhaseTearingDown)) }, false},
		"another one left and was deleted by hand": {func(e *Engine, seen *target) {
			b := marked("b", resource.PhaseRunning)
			put(e, b)
			e.keep(seen)
			e.Snapshot.Removed(b.Metadata())
		}, true},
		"the fleet resources, beside clusters that are kept": {func(e *Engine, seen *target) {
			seen.Target = ""
			put(e, marked("b", resource.PhaseRunning))
		}, false},
		"its file is there":            {func(_ *Engine, seen *target) { seen.from.files = fstest.MapFS{"a.yaml": {}} }, true},
		"its file cannot be looked at": {func(_ *Engine, seen *target) { seen.from.files = oddFiles{errors.New("i/o error")} }, true},
		"its file is another's": {func(_ *Engine, seen *target) {
			seen.from.files = fstest.MapFS{"a.yaml": {}}
			seen.from.targets = targets{{Name: "c", Path: "a.yaml"}}
		}, false},
		"its file is there, beside others": {func(_ *Engine, seen *target) {
			seen.from.files = fstest.MapFS{"a.yaml": {}, "c.yaml": {}}
			seen.from.targets = targets{{Name: "c", Path: "c.yaml"}}
		}, true},
		"its file had a name that none can have": {func(_ *Engine, seen *target) { seen.from.files = oddFiles{fs.ErrInvalid} }, false},
		"a source was not read": {func(e *Engine, seen *target) {
			e.Reconfigure([]SourceConfig{seen.src.SourceConfig, {Name: "unread", Source: idle{}}})
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			e := idleEngine()
			src := e.sources.get("s")
			src.Prune, src.MaxDelete = true, 1
			seen := &target{Key: Key{"s", "a"}, src: src, from: &desired{whole: true, files: fstest.MapFS{}, left: map[string]bool{}}}
			src.desired.Store(seen.from)
			put(e, marked("a", resource.PhaseRunning))
			test.change(e, seen)

			if why := e.keep(seen); (why != "") != test.kept {
				t.Errorf("kept %v: %q", why != "", why)
			}
		})
	}
}

// G11: what was confirmed by request stays confirmed when the configuration is read again.
func TestG11_ConfirmationsOutliveTheConfiguration(t *testing.T) {
	for name, cfg := range map[string]SourceConfig{
		"another policy": {Name: "s", Source: idle{}, Prune: true}, "another folder": {Name: "s", Source: idle{}, Scope: template.Scope{Root: "x"}},
	} {
		e := idleEngine()
		if err := e.Confirm("s", "0123456789ab"); err != nil {
			t.Fatal(err)
		}

		e.Reconfigure([]SourceConfig{cfg})

		if src := e.sources.get("s"); !src.confirmed("0123456789ab") || src.confirmed("ba9876543210") {
			t.Errorf("%s: %v", name, src.confirmations.digests)
		}
	}
}

// A confirmation makes what waits for one unsettled at once: whoever waits for the end must
// not take the refusal for it.
func TestG11_ConfirmationUnsettles(t *testing.T) {
	e := idleEngine()
	revision(e, "s", "1", map[string]string{"a": "1"})

	key := drain(e)
	e.board.waiting(e.lookup(key), "confirm: 0123456789ab", true)

	if err := e.Confirm("s", "0123456789ab"); err != nil || e.board.get(key).Settled || e.queue.Len() != 1 {
		t.Errorf("%v, settled %v, queued: %d", err, e.board.get(key).Settled, e.queue.Len())
	}

	drain(e)
	e.board.waiting(e.lookup(key), "on request", true)

	if err := e.Reconcile(key); err != nil || e.board.get(key).Settled || e.queue.Len() != 1 {
		t.Errorf("%v, settled %v, queued: %d", err, e.board.get(key).Settled, e.queue.Len())
	}
}
