package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/render"
)

// A trap is a coincidence that random steps meet too rarely: exactly the case that a guard
// is for. It starts with an Omni that is what Git says and a daemon that sees everything,
// so nothing excuses a wrong write. Some are in traps_git_test.go.
type trap struct {
	name   string
	times  int // in a deck
	spring func(context.Context, *world) string
}

// trapsPerQuiet is how many traps each quiet point sets.
const trapsPerQuiet = 3

// traps is not initialised in place: its functions reach it.
func traps() []trap {
	return []trap{
		{"machine locked before changes", 2, trapMachineLock},
		{"locked machine leaves", 1, trapLockedLeaves},
		{"locked while a write is under way", 2, trapLockRace},
		{"mark lost unseen", 2, trapLostMark},
		{"taken by another source", 1, trapOtherSource},
		{"start with half a view", 1, trapPartialSnapshot},
		{"a deletion is held", 1, trapHeld},
		{"partial revision", 3, trapPartialRevision},
		{"too many deletions", 1, trapTooMany},
		{"quorum", 1, trapQuorum},
		{"create fails before a destroy", 1, trapCreateFails},
		{"passing failure", 2, trapPassingFailure},
		{"restored database", 1, trapRestored},
		{"one deletion", 1, trapOneLeaves},
		{"deletions at a pace", 2, trapPace},
		{"back in time", 2, trapBack},
		{"restart while it leaves", 2, trapRestartLeaves},
		{"locked while it leaves", 1, trapLockLeaves},
		{"confirmed", 1, trapConfirmed},
		{"narrower scope", 2, trapScope},
		{"another branch", 1, trapBranch},
		{"another repository", 1, trapRepository},
		{"labelled patch", 2, trapLabelled},
		{"dangling link", 1, trapLink},
		{"a folder without identity", 1, trapFolder},
		{"marks of an old daemon", 1, trapOldMarks},
		{"a second daemon", 1, trapSecondDaemon},
	}
}

// trap takes the next trap of the deck, springs it, and waits until all is well again.
func (w *world) trap(ctx context.Context) {
	w.t.Helper()

	if len(w.deck) == 0 {
		w.deck = deck(w.rng)
	}

	t := w.deck[0]
	w.deck = w.deck[1:]

	start := time.Now()
	detail := t.spring(ctx, w)
	w.note("trap %q: %s", t.name, detail)
	w.converge(ctx)
	w.settle(ctx)
	w.tally("trap", t.name)
	w.took("trap "+t.name, time.Since(start))
}

// deck returns all traps in a random order, so that even a short run meets each of them.
func deck(rng *rand.Rand) []trap {
	var all []trap

	for _, t := range traps() {
		all = append(all, slices.Repeat([]trap{t}, t.times)...)
	}

	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })

	return all
}

// act is how long a daemon that is about to do something wrong gets to do it.
const act = 150 * time.Millisecond

// linger lets the daemon act, and looks at what it did.
func (w *world) linger(ctx context.Context) {
	w.t.Helper()
	wait(ctx, act)
	w.check(time.Now().Add(-shadowLag))
}

// worker returns a worker's node of our own; nil if there is none.
func (w *world) worker(ctx context.Context) resource.Resource {
	return w.pick(ctx, omni.MachineSetNodeType, w.rng.Uint64N(1<<16), func(r resource.Resource) bool {
		set, _ := r.Metadata().Labels().Get(omni.LabelMachineSet)

		return strings.HasSuffix(set, "-workers") && !locked(r)
	})
}

// trapMachineLock locks a machine in the UI and then has its node written, by an edit that
// is undone and by commits. The shadow sees whether the lock is lost (G8).
func trapMachineLock(ctx context.Context, w *world) string {
	node := w.worker(ctx)
	if node == nil {
		return "there are no workers"
	}

	w.edit(ctx, node, func(r resource.Resource) { r.Metadata().Annotations().Set(omni.MachineLocked, "") })
	w.undone(ctx, node, "ui/under-lock")

	c := w.repo.now.clusters[clusterOf(node)]
	if len(c.workers) > 0 { // the template can only tell of its first worker
		c.workers = slices.DeleteFunc(c.workers, func(id string) bool { return id == node.Metadata().ID() })
		c.workers = slices.Insert(c.workers, 0, node.Metadata().ID())
	}

	c.locked = false
	c.machineNote = 1 + (c.machineNote+1)%100
	c.note++
	w.push(ctx)
	w.converge(ctx)

	if now, err := w.st.Get(ctx, node.Metadata()); err != nil || !locked(now) {
		w.fail("the lock on %s is gone (%v)", refOf(node), err)
	}

	if w.rng.IntN(2) == 0 {
		w.unlock(ctx, node)
	}

	return refOf(node).String()
}

// trapLockRace locks a cluster or machine while the daemon's write to it is on its way. The
// write comes too late, and the next plan has to know of the lock (G5).
func trapLockRace(ctx context.Context, w *world) string {
	r, lock := resource.Resource(omni.NewCluster(w.anyCluster())), omni.ClusterLocked

	if node := w.worker(ctx); node != nil && w.rng.IntN(2) == 0 {
		r, lock = node, omni.MachineLocked
	}

	held, hit := make(chan struct{}), make(chan struct{}, 1)
	remove := w.omni.Faults().Add(embedded.Fault{
		Match: embedded.Match{Verb: embedded.VerbUpdate, Type: r.Metadata().Type(), ID: r.Metadata().ID()},
		Times: 1, Until: held, Hit: func() { hit <- struct{}{} },
	})

	defer remove()

	w.edit(ctx, r, func(r resource.Resource) { r.Metadata().Labels().Set("ui/race", "") })
	w.until(ctx, "the daemon does not undo an edit of "+refOf(r).String(), func() []string {
		select {
		case <-hit:
			return nil
		default:
			return []string{"no write"}
		}
	})
	w.edit(ctx, r, func(r resource.Resource) { r.Metadata().Annotations().Set(lock, "") })
	close(held)
	w.tally("fault", "write overtaken by a lock")
	w.linger(ctx)

	if now, err := w.st.Get(ctx, r.Metadata()); err != nil || !locked(now) {
		w.fail("the lock on %s is gone (%v)", refOf(r), err)
	}

	w.unlock(ctx, r)

	return refOf(r).String()
}

// trapLostMark takes our mark off a patch that the daemon cannot see, and drops the patch
// from Git: what it is about to destroy is not ours any more (G1).
func trapLostMark(ctx context.Context, w *world) string {
	name := w.anyCluster()
	patches := w.patchesOf(ctx, name)

	if len(patches) == 0 {
		return "no patches"
	}

	n := w.omni.Faults().SilenceWatches(embedded.Match{Type: omni.ConfigPatchType})
	to := []string{"", otherSource}[w.rng.IntN(2)]

	for _, r := range patches {
		w.mark(ctx, r, to)
		w.disown(refOf(r))
	}

	w.blindUntilHealed()

	c := w.repo.now.clusters[name]
	c.generation++
	w.push(ctx)
	w.linger(ctx)
	w.must(w.proxy.heal(true))
	w.sighted()

	for _, r := range patches {
		if to != "" {
			w.mark(ctx, r, "")
		}
	}

	return fmt.Sprintf("%d of %s, now %q; %d watches", len(patches), name, to, n)
}

// patchesOf returns our running patches of a cluster.
func (w *world) patchesOf(ctx context.Context, name string) []resource.Resource {
	list, err := w.st.List(ctx, omni.NewConfigPatch("").Metadata(), state.WithLabelQuery(resource.LabelEqual(omni.LabelCluster, name)))
	w.must(err)

	return slices.DeleteFunc(list.Items, func(r resource.Resource) bool {
		return diff.SourceOf(r) != sourceName || diff.IsFleet(r) || r.Metadata().Phase() != resource.PhaseRunning
	})
}

// mark gives a resource to another source, or to nobody.
func (w *world) mark(ctx context.Context, r resource.Resource, source string) {
	w.edit(ctx, r, func(r resource.Resource) {
		if source == "" {
			r.Metadata().Annotations().Delete(diff.MarkSource)
		} else {
			r.Metadata().Annotations().Set(diff.MarkSource, source)
		}
	})
}

// trapOtherSource lets another source take parts of a cluster, or all of it, and changes
// the template: nothing may be taken back by force (G1). The shadow sees it.
func trapOtherSource(ctx context.Context, w *world) string {
	name := w.anyCluster()
	taken := w.patchesOf(ctx, name)

	if w.rng.IntN(2) == 0 || len(taken) == 0 {
		taken = append(taken, omni.NewCluster(name))
	}

	for _, r := range taken {
		w.mark(ctx, r, otherSource)
	}

	w.linger(ctx) // what was under way

	for _, r := range taken {
		w.disown(refOf(r))
	}

	c := w.repo.now.clusters[name]
	c.note++
	c.extension = !c.extension
	c.generation += w.rng.IntN(2)
	w.push(ctx)
	w.linger(ctx)

	for _, r := range taken {
		w.mark(ctx, r, "")
	}

	return fmt.Sprintf("%d resources of %s", len(taken), name)
}

// trapPartialSnapshot starts the daemon while Omni does not show it one of the kinds: it
// must not write a thing (G2).
func trapPartialSnapshot(ctx context.Context, w *world) string {
	kinds := slices.DeleteFunc(render.Kinds(), func(k render.Kind) bool { return !w.server().Has(k.Since) })
	kind := kinds[w.rng.IntN(len(kinds))].Type

	if w.rng.IntN(2) == 0 {
		kind = editable[w.rng.IntN(len(editable))]
	}

	held := make(chan struct{})
	remove := w.omni.Faults().Add(embedded.Fault{Match: embedded.Match{Verb: embedded.VerbWatch, Type: kind}, Until: held})

	defer remove()

	starts := w.daemon.started()
	w.restart(ctx, starts)
	w.forbid("the daemon has not seen any " + diff.Kind(kind) + " yet")
	w.tamper(ctx)
	w.accepted(ctx)
	w.linger(ctx)
	w.forbid("")
	close(held)
	w.tally("fault", "start with half a view")

	return diff.Kind(kind)
}

// tamper gives the daemon something to do.
func (w *world) tamper(ctx context.Context) {
	uiLabel(ctx, w, step{a: w.rng.Uint64N(1 << 16), b: w.rng.Uint64N(1 << 16), c: w.rng.Uint64N(1 << 16)})
}

// trapHeld has a patch torn down, which something holds for a while; meanwhile the daemon
// may be killed. It must come back as Git has it.
func trapHeld(ctx context.Context, w *world) string {
	patches := w.patchesOf(ctx, w.anyCluster())
	if len(patches) == 0 {
		return "no patches"
	}

	r := patches[w.rng.IntN(len(patches))]
	w.must(w.st.AddFinalizer(ctx, r.Metadata(), "ui/hold"))

	if _, err := w.st.Teardown(ctx, r.Metadata()); err != nil {
		w.must(err)
	}

	w.linger(ctx)

	killed := w.rng.IntN(2) == 0
	if killed {
		w.daemon.signal(syscall.SIGKILL)
	}

	w.must(w.st.RemoveFinalizer(ctx, r.Metadata(), "ui/hold"))

	return fmt.Sprintf("%s, killed: %v", refOf(r), killed)
}

// transient is what Omni answers when it may take the same call a moment later.
var transient = []codes.Code{codes.Unavailable, codes.Internal, codes.DeadlineExceeded, codes.Aborted, codes.ResourceExhausted}
