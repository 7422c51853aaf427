package chaos

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

// trapPartialRevision takes a cluster out of Git in a revision that is not whole, and
// makes it whole afterwards: only then may the cluster go (G2).
func trapPartialRevision(ctx context.Context, w *world) string {
	t := w.repo.now
	if len(t.clusters) < 2 {
		return "there is only one cluster"
	}

	name := w.anyCluster()
	gone := t.clusters[name]
	other := t.clusters[w.clusterBut([]string{name})]
	how := w.rng.IntN(8)

	switch how {
	case 0:
		t.empty = true
	case 1:
		t.missing = true
	case 2, 3: // the file itself is damaged, not removed
		gone.damage = emptied
	default:
		delete(t.clusters, name)
		other.damage = 1 + damage(w.rng.IntN(int(damages)-1))
	}

	w.push(ctx)
	w.linger(ctx)

	if w.rng.IntN(2) == 0 && how > 3 {
		t.clusters[name] = gone
	}

	t.mend()
	w.push(ctx)

	return fmt.Sprintf("%s (%d)", name, how)
}

// trapLockedLeaves takes a locked machine out of its template. One that somebody locked in
// the UI stays until it is unlocked there; a lock that came from Git goes along.
func trapLockedLeaves(ctx context.Context, w *world) string {
	node := w.worker(ctx)
	if node == nil {
		return "there are no workers"
	}

	id, c := node.Metadata().ID(), w.repo.now.clusters[clusterOf(node)]
	c.workers = slices.DeleteFunc(c.workers, func(other string) bool { return other == id })

	fromGit := w.rng.IntN(2) == 0
	if fromGit {
		c.workers = slices.Insert(c.workers, 0, id)
		c.locked = true
		w.push(ctx)
		w.converge(ctx)

		c.workers, c.locked = c.workers[1:], false
		w.push(ctx)

		return id + " was locked in Git"
	}

	w.edit(ctx, node, func(r resource.Resource) { r.Metadata().Annotations().Set(omni.MachineLocked, "") })
	w.push(ctx)
	w.linger(ctx)

	if now, err := w.st.Get(ctx, node.Metadata()); err != nil || now.Metadata().Phase() != resource.PhaseRunning {
		w.fail("%s is locked in the UI and does not stay (%v)", refOf(node), err)
	}

	w.unlock(ctx, node)

	return id + " was locked in the UI"
}

// trapTooMany takes out more clusters than maxDelete allows, also one by one, and takes
// that back (G11).
func trapTooMany(ctx context.Context, w *world) string {
	t := w.repo.now
	if len(t.clusters) < 3 {
		return "there are too few clusters"
	}

	names := w.some(t.names(), 2)
	before := t.clone()

	for _, name := range names {
		delete(t.clusters, name)
	}

	w.push(ctx)
	w.linger(ctx)
	w.repo.now = before.clone()
	w.push(ctx)

	return fmt.Sprint(names)
}

// trapQuorum replaces a control plane of three at once, which would cost etcd its quorum.
func trapQuorum(ctx context.Context, w *world) string {
	for _, name := range w.repo.now.names() {
		c := w.repo.now.clusters[name]
		if len(c.control) < 3 {
			continue
		}

		c.control = controlPlane(name, true)
		w.push(ctx)
		w.linger(ctx)
		c.control = controlPlane(name, false)
		w.push(ctx)

		return name
	}

	return "there is no control plane of three"
}

// trapCreateFails changes the names of a cluster's patches while Omni does not take one of
// the new ones: none of the old ones may go (G7).
func trapCreateFails(ctx context.Context, w *world) string {
	name := w.anyCluster()
	c := w.repo.now.clusters[name]
	c.patches = 2 + w.rng.IntN(2)
	c.generation++
	w.push(ctx)
	w.converge(ctx)
	w.settle(ctx) // what was torn down just now excuses nothing

	answers := append([]codes.Code{codes.InvalidArgument, codes.PermissionDenied}, transient...)
	code := answers[w.rng.IntN(len(answers))]
	remove := w.omni.Faults().Add(embedded.Fault{
		Match: embedded.Match{Verb: embedded.VerbCreate, Type: omni.ConfigPatchType}, Skip: w.rng.IntN(2), Code: code,
		Hit: func() { w.tally("fault", "create before a destroy fails") },
	})

	c.generation++
	w.push(ctx)
	w.linger(ctx)
	w.linger(ctx)
	remove()

	// What Omni refuses is not tried again before Git or Omni change.
	c.note++
	w.push(ctx)

	return fmt.Sprintf("%s: %s", name, code)
}

// trapPassingFailure has the writes of a commit fail once or twice, in ways that pass.
// Nothing but the daemon itself brings them about after that.
func trapPassingFailure(ctx context.Context, w *world) string {
	name := w.anyCluster()
	c := w.repo.now.clusters[name]
	code := transient[w.rng.IntN(len(transient))]
	verb := []string{embedded.VerbCreate, embedded.VerbUpdate, embedded.VerbTeardown}[w.rng.IntN(3)]

	w.omni.Faults().Add(embedded.Fault{
		Match: embedded.Match{Verb: verb}, Times: 1 + w.rng.IntN(2), Code: code, Applied: w.rng.IntN(3) == 0,
		Hit: func() { w.tally("fault", "passing failure") },
	})

	c.note++
	c.patches = 1 + (c.patches+1)%3
	c.extension = !c.extension
	c.generation += w.rng.IntN(2)
	w.push(ctx)
	w.converge(ctx)
	w.omni.Faults().Clear()

	return fmt.Sprintf("%s: %s %s", name, verb, code)
}

// trapRestored puts back a database from before the last commit. Nobody tells the daemon.
func trapRestored(ctx context.Context, w *world) string {
	backup, err := w.omni.Backup(ctx)
	w.must(err)

	name := w.anyCluster()
	c := w.repo.now.clusters[name]
	c.note++
	c.generation++
	c.extension = !c.extension
	w.push(ctx)
	w.converge(ctx)
	w.restore(ctx, backup)
	w.tally("fault", "restored database (trap)")

	return name
}

// restart kills the daemon and returns when the next one is there.
func (w *world) restart(ctx context.Context, starts int) {
	w.t.Helper()
	w.daemon.signal(syscall.SIGKILL)
	w.until(ctx, "the daemon is not started again", func() []string {
		if w.daemon.started() > starts {
			return nil
		}

		return []string{fmt.Sprint(starts, " starts")}
	})
}

// took adds up where the time goes.
func (w *world) took(what string, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.spent[what] += d
}
