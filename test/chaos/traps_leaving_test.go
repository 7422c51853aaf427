package chaos

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// cluster returns what Omni holds of one; nil if it is gone.
func (w *world) cluster(ctx context.Context, name string) resource.Resource {
	r, err := w.st.Get(ctx, omni.NewCluster(name).Metadata())
	if state.IsNotFoundError(err) {
		return nil
	}

	w.must(err)

	return r
}

// budget waits until what was destroyed does not count any more.
func (w *world) budget(ctx context.Context) {
	w.shadow.mu.Lock()
	last := time.Time{}

	for _, b := range w.shadow.begun {
		last = b.at
	}
	w.shadow.mu.Unlock()

	wait(ctx, time.Until(last.Add(deleteWindow+underWay)))
}

// leave takes a cluster out of Git, waits until it is marked, and returns its template.
func (w *world) leave(ctx context.Context, name string) *cluster {
	w.t.Helper()

	gone := w.repo.now.clusters[name]
	delete(w.repo.now.clusters, name)
	w.push(ctx)
	w.until(ctx, name+" left Git and is not marked", func() []string {
		if r := w.cluster(ctx, name); r == nil || diff.DepartureOf(r).State != "" || r.Metadata().Phase() != resource.PhaseRunning {
			return nil
		}

		return []string{"no mark"}
	})

	return gone
}

// stays lets the daemon act for longer than what left has to be gone, and fails if a cluster goes.
func (w *world) stays(ctx context.Context, name, why string) {
	w.t.Helper()
	w.spare(why)
	wait(ctx, deleteAfter+underWay)
	w.check(time.Now().Add(-shadowLag))
	w.spare("")

	if r := w.cluster(ctx, name); r == nil || r.Metadata().Phase() != resource.PhaseRunning {
		w.fail("%s is gone: %s", name, why)
	}
}

// few reports whether there are too few clusters to take some out.
func (w *world) few(n int) bool { return len(w.repo.now.clusters) < n+1 }

// trapOneLeaves takes out one cluster, which goes without anybody's word (G11).
func trapOneLeaves(ctx context.Context, w *world) string {
	if w.few(1) {
		return "there are too few clusters"
	}

	w.budget(ctx)

	name := w.anyCluster()
	w.leave(ctx, name)
	w.until(ctx, name+" left Git and stays", func() []string {
		r := w.cluster(ctx, name)
		if r == nil {
			return nil
		}

		if mark := diff.DepartureOf(r); mark.State == diff.Kept {
			w.fail("%s left Git alone and is kept: %s", name, mark.Reason)
		}

		return []string{string(diff.DepartureOf(r).State)}
	})

	return name
}

// trapPace takes out clusters one after another, faster than they may go. At most one goes; the
// shadow sees it (G11).
func trapPace(ctx context.Context, w *world) string {
	if w.few(2) {
		return "there are too few clusters"
	}

	names := w.some(w.repo.now.names(), min(3, len(w.repo.now.clusters)-1))
	before := w.repo.now.clone()

	for _, name := range names {
		delete(w.repo.now.clusters, name)
		w.must(w.repo.commit(ctx))
		wait(ctx, time.Duration(200+w.rng.IntN(1500))*time.Millisecond)
		w.check(time.Now().Add(-shadowLag))
	}

	w.accepted(ctx)
	wait(ctx, deleteAfter+underWay)
	w.check(time.Now().Add(-shadowLag))

	left := 0

	for _, name := range names {
		if r := w.cluster(ctx, name); r != nil && r.Metadata().Phase() == resource.PhaseRunning {
			left++
		}
	}

	if left < len(names)-2 { // the first may be gone before the window of the next begins
		w.fail("of %v, which left one after another, %d are left", names, left)
	}

	if w.rng.IntN(2) == 0 {
		w.repo.now = before
		w.push(ctx)
	}

	return fmt.Sprintf("%v, of which %d stayed", names, left)
}

// trapBack puts a cluster back before its time is over, also through a change of its name's file.
func trapBack(ctx context.Context, w *world) string {
	if w.few(1) {
		return "there are too few clusters"
	}

	w.budget(ctx)

	name := w.anyCluster()
	gone := w.leave(ctx, name)
	wait(ctx, time.Duration(w.rng.IntN(400))*time.Millisecond)

	w.repo.now.clusters[name] = gone
	if w.rng.IntN(2) == 0 {
		gone.file = fmt.Sprintf("%s/back-%d.yaml", name, w.quiets)
	}

	w.push(ctx)
	w.linger(ctx)

	if r := w.cluster(ctx, name); r == nil || r.Metadata().Phase() != resource.PhaseRunning {
		return name + " came back too late"
	}

	w.stays(ctx, name, "its template is back")

	return name
}

// trapRestartLeaves kills the daemon while a cluster leaves: its time begins again, and the mark
// of the one before permits nothing. The shadow sees it.
func trapRestartLeaves(ctx context.Context, w *world) string {
	if w.few(1) {
		return "there are too few clusters"
	}

	w.budget(ctx)

	name := w.anyCluster()
	gone := w.leave(ctx, name)
	wait(ctx, time.Duration(w.rng.Int64N(int64(deleteAfter))))

	back := w.rng.IntN(2) == 0
	if back {
		w.repo.now.clusters[name] = gone
		w.must(w.repo.commit(ctx))
	}

	w.daemon.signal(syscall.SIGKILL)

	return fmt.Sprintf("%s, back: %v", name, back)
}

// trapLockLeaves locks a cluster while it leaves. It stays as it is, with its mark, and its time
// begins again with the end of the lock.
func trapLockLeaves(ctx context.Context, w *world) string {
	if w.few(1) {
		return "there are too few clusters"
	}

	w.budget(ctx)

	name := w.anyCluster()
	w.leave(ctx, name)

	if !w.edit(ctx, omni.NewCluster(name), func(r resource.Resource) { r.Metadata().Annotations().Set(omni.ClusterLocked, "") }) {
		return name + " is gone already"
	}

	if r := w.cluster(ctx, name); r == nil || !locked(r) {
		return name + " is gone already"
	}

	if w.rng.IntN(2) == 0 {
		w.confirm(ctx, omni.NewCluster(name)) // no confirmation covers a lock
	}

	w.stays(ctx, name, "it is locked")
	w.unlock(ctx, omni.NewCluster(name))

	return name
}

// trapConfirmed takes out two clusters and confirms one of them, also with a confirmation for
// something else: just that one goes.
func trapConfirmed(ctx context.Context, w *world) string {
	if w.few(2) {
		return "there are too few clusters"
	}

	names := w.some(w.repo.now.names(), 2)
	gone := w.repo.now.clusters[names[1]]
	delete(w.repo.now.clusters, names[1])
	w.leave(ctx, names[0])

	w.edit(ctx, omni.NewCluster(names[1]), func(r resource.Resource) { r.Metadata().Annotations().Set(diff.MarkConfirmed, "0123456789abcdef") })

	r := w.cluster(ctx, names[0])
	if r == nil {
		return names[0] + " is gone already"
	}

	w.confirm(ctx, r)
	w.until(ctx, names[0]+" is confirmed and stays", func() []string {
		switch r := w.cluster(ctx, names[0]); {
		case r == nil || r.Metadata().Phase() != resource.PhaseRunning:
			return nil
		case diff.DepartureOf(r).Confirmed:
			return []string{"confirmed"}
		default:
			w.confirm(ctx, r) // the mark was another one by then

			return []string{"confirmed again"}
		}
	})

	if w.rng.IntN(2) == 0 {
		w.repo.now.clusters[names[1]] = gone
		w.push(ctx)
	}

	return fmt.Sprint(names)
}

// trapLink takes a cluster out of Git in a revision with a link that leads nowhere (G2).
func trapLink(ctx context.Context, w *world) string {
	if w.few(1) {
		return "there are too few clusters"
	}

	name := w.anyCluster()
	gone := w.repo.now.clusters[name]
	delete(w.repo.now.clusters, name)

	w.repo.now.link = true
	w.push(ctx)
	w.stays(ctx, name, "a link leads nowhere")

	w.repo.now.clusters[name], w.repo.now.link = gone, false
	w.push(ctx)

	return name
}

// trapLabelled describes ConfigPatches with the label of a locked cluster and of another source's:
// neither may be written. The shadow sees it (G8, G1).
func trapLabelled(ctx context.Context, w *world) string {
	if w.few(1) {
		return "there is only one cluster"
	}

	name := w.anyCluster()
	w.lockClusters(ctx, []string{name})

	for i := range 2 {
		w.repo.now.patches["labelled-"+name] = patch{cluster: name, note: w.rng.Uint64N(1000)}
		w.repo.now.patches["stray"] = patch{cluster: ownedByOther, note: uint64(i)}
		w.push(ctx)
		w.linger(ctx)
	}

	delete(w.repo.now.patches, "stray")
	w.must(w.repo.commit(ctx))
	w.forgetLock(name)
	w.unlock(ctx, omni.NewCluster(name))
	w.converge(ctx)

	if w.rng.IntN(2) == 0 { // and now it is there, and changes or leaves under a lock
		w.lockClusters(ctx, []string{name})

		if delete(w.repo.now.patches, "labelled-"+name); w.rng.IntN(2) == 0 {
			w.repo.now.patches["labelled-"+name] = patch{cluster: name, note: w.rng.Uint64N(1000)}
		}

		w.push(ctx)
		w.stays(ctx, name, "it is locked")
		w.forgetLock(name)
		w.unlock(ctx, omni.NewCluster(name))
	}

	return name
}

// forgetLock ends what [world.lockClusters] began.
func (w *world) forgetLock(names ...string) {
	w.check(time.Now().Add(-shadowLag))
	w.mu.Lock()
	defer w.mu.Unlock()

	for name := range w.known {
		if slices.Contains(names, name) {
			delete(w.known, name)
		}
	}
}
